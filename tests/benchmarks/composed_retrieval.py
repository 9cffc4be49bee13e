"""Questions of several parts: how often each way of fusing them finds the right pictures.

`python -m tests.benchmarks.composed_retrieval --data DATA [--held-out caltech101-held-back.tar]`: constants
were chosen on one half of the questions (`--tune` shows how), what is printed is the other half; the tables
are in docs/fusion.md. The built-in encoder learned from pacs/train; flickr8k/dev, coco/dev and the held-out
tar are new to it.
"""

from __future__ import annotations

import argparse
import itertools
import sqlite3
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from indexer.words import TABLES, content_texts, phrases_of
from search import fusion
from search.fusion import Parts, fuse_late
from tests.benchmarks import composed_questions as questions
from tests.benchmarks.composed_questions import Embeddings, Ints, Task
from tests.benchmarks.embedded import Embedded, Floats, encode, read, recall, said


def parts_of(asked: Task, query: int) -> Parts:
    vectors = np.stack([part[query] for part in asked.parts])
    return Parts.of(vectors, asked.weights, asked.kinds, asked.images)


def ways(asked: Task, text_mean: Embeddings) -> dict[str, Floats]:
    """Return {way: (q, n) scores}."""
    images, signs = asked.images.astype(np.float64), asked.weights
    found: dict[str, Floats] = {}
    cosines = [part @ images.T for part in asked.parts]
    found["first part alone"], found["second part alone"] = (
        c * s for c, s in zip(cosines, signs, strict=True)
    )
    found["naive sum"] = sum(s * c for s, c in zip(signs, cosines, strict=True))  # type: ignore[assignment]
    means = {"image": images.mean(axis=0), "text": text_mean}
    apart = [part - means[kind] for part, kind in zip(asked.parts, asked.kinds, strict=True)]
    found["gap: centred sum"] = sum(s * a for s, a in zip(signs, apart, strict=True)) @ images.T
    even = sum(s * unit(a) for s, a in zip(signs, apart, strict=True))
    found["gap: centred, equal norms"] = even @ images.T
    found["gap: the same, back on the image side"] = (unit(even) + means["image"]) @ images.T
    standard = [(c - c.mean(axis=1, keepdims=True)) / c.std(axis=1, keepdims=True) for c in cosines]
    turned = [s * z for s, z in zip(signs, standard, strict=True)]
    rank = [np.argsort(np.argsort(-z, axis=1, kind="stable"), axis=1) + 1 for z in turned]
    found["early: standard deviations"] = sum(turned)  # type: ignore[assignment]
    found["early"] = fused(asked, "early")
    if asked.joined is not None:
        found["joined sentence"] = asked.joined @ images.T
    found["late: RRF, k 60"] = sum(1 / (60 + r) for r in rank)  # type: ignore[assignment]
    found["late: RRF, k 10"] = sum(1 / (10 + r) for r in rank)  # type: ignore[assignment]
    least = [(z - z.min(axis=1, keepdims=True)) / np.ptp(z, axis=1, keepdims=True) for z in turned]
    found["late: CombSUM, min-max"] = sum(least)  # type: ignore[assignment]
    found["late: CombMNZ"] = sum(turned) * (1e-3 + sum((z > 1).astype(float) for z in turned))
    found["late: least z"] = np.minimum(*turned)
    found["late: product of rank shares"] = sum(np.log(1 - (r - 0.5) / len(images)) for r in rank)  # type: ignore[assignment]
    found["late"] = fused(asked, "late")
    return found


def unit(rows: Floats) -> Floats:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def judged(asked: Task, scores: Floats) -> Floats:
    return recall(np.where(asked.not_asked, -np.inf, scores), asked.right)


def compare(tasks: list[Task], text_mean: Embeddings) -> None:
    """Print recall@1, 10, 50 of each way, and what it is above the naive sum."""
    mean: dict[str, list[float]] = {}
    for whole in tasks:
        asked = whole.half(True)
        print(f"\n{asked.name}: {len(asked.right)} questions, {len(asked.images)} pictures")
        found = {way: judged(asked, scores) for way, scores in ways(asked, text_mean).items()}
        for way, values in found.items():
            paired = values[:, 1] - found["naive sum"][:, 1]
            mean.setdefault(way, []).append(values[:, 1].mean())
            cells = "  ".join(said(column, asked.unit) for column in values.T)
            print(f"  {way:38} {cells}  @10 over naive {said(paired, asked.unit)}")
        paired = found["late"] - found["early"]
        cells = "  ".join(said(column, asked.unit) for column in paired.T)
        print(f"  {'late over early':38} {cells}")
    print("\nmean recall@10 over the questions above that have the way")
    for way, values in mean.items():
        if len(values) == len(tasks):
            print(f"  {way:38} {100 * np.mean(values):5.1f}")


def tune(tasks: list[Task]) -> None:
    """Print mean recall@10 of `early` and `late` on the first halves for what could be the constants."""
    halves = [asked.half(False) for asked in tasks]
    worth, enough = dict(fusion.WORTH), dict(fusion.ENOUGH)
    grid = itertools.product(("early", "late"), (0.5, 0.6, 0.7, 0.8, 1.0), (4.0, 5.0), (2.0, 3.0, 4.0))
    for way, image_worth, text, image in grid:
        fusion.WORTH.update(image=image_worth)
        fusion.ENOUGH.update(text=text, image=image)
        if way == "early" and (text, image) != (4.0, 2.0):
            continue  # it has no bend
        means = [judged(asked, fused(asked, way))[:, 1].mean() for asked in halves]
        row = " ".join(f"{100 * value:5.1f}" for value in means)
        print(f"{way:5} image worth {image_worth} enough {text} {image}: {100 * np.mean(means):5.2f} | {row}")
    fusion.WORTH.update(worth)
    fusion.ENOUGH.update(enough)


def fused(asked: Task, way: str) -> Floats:
    """Return (q, n) scores of the code itself."""
    return np.stack([getattr(parts_of(asked, row), way)(asked.images) for row in range(len(asked.right))])


# --- with words, with weights, with fewer candidates


def word_scores(captions: dict[int, str], queries: list[str], count: int) -> tuple[Floats, questions.Bools]:
    """Return (q, count) bm25 as the index has it, 0 where no word matched; and where all of them do."""
    base = sqlite3.connect(":memory:")
    base.execute(TABLES["words"])
    rows = [(picture + 1, *content_texts(caption, None)) for picture, caption in captions.items()]
    base.executemany("INSERT INTO words(rowid, caption, keywords) VALUES (?, ?, ?)", rows)
    found, complete = np.zeros((len(queries), count)), np.zeros((len(queries), count), bool)
    asking = "SELECT rowid, bm25(words, 2.0, 4.0) FROM words WHERE words MATCH ? ORDER BY 2 LIMIT 1000"
    for row, query in enumerate(queries):
        phrases = [f'"{phrase}"' for phrase in phrases_of(query)] or ['""']
        for number, score in base.execute(asking, (" OR ".join(phrases),)):
            found[row, number - 1] = -score
        for number, _ in base.execute(asking, (" AND ".join(phrases),)):
            complete[row, number - 1] = True
    return found, complete


def hybrid(data: Embedded, share: float, *, tuning: bool) -> None:
    """Print recall of one caption where another one is written beside a share of the pictures."""
    count = len(data.images)
    rng = np.random.default_rng(0)
    captioned = np.isin(np.arange(count), rng.permutation(count)[: int(share * count)])
    asked = np.flatnonzero(rng.permutation(count) % 2 == (0 if tuning else 1))
    queries = [data.captions[picture][1] for picture in asked]
    written, complete = word_scores(
        {int(i): data.captions[i][0] for i in np.flatnonzero(captioned)}, queries, count
    )
    cosines = encode(queries) @ data.images.T
    standard = (cosines - cosines.mean(axis=1, keepdims=True)) / cosines.std(axis=1, keepdims=True)
    rank = np.argsort(np.argsort(-standard, axis=1), axis=1) + 1
    place = np.argsort(np.argsort(-written, axis=1, kind="stable"), axis=1) + 1
    found = {"pictures alone": standard, "words alone": written - 1e-9 * rng.permutation(count)}
    found["RRF, k 60"] = 1 / (60 + rank) + np.where(written > 0, 1 / (60 + place), 0)
    found["RRF, k 10"] = 1 / (10 + rank) + np.where(written > 0, 1 / (10 + place), 0)
    for weight in (0.03, 0.05, 0.07, 0.1, 0.15, 0.2) if tuning else ():
        found[f"{weight} bm25"] = standard + weight * written
    found["hybrid, but ALL_WORDS"] = fusion.fuse_words(standard, written)
    found["hybrid"] = fusion.fuse_words(standard, written, complete)
    print(f"\n{data.name}: a caption asked, another one written beside {share:.0%} of the pictures")
    right = np.zeros((len(asked), count), bool)
    right[np.arange(len(asked)), asked] = True
    for way, scores in found.items():
        values = recall(scores, right)
        with_, without = (
            values[of, 1].mean() if of.any() else np.nan for of in (captioned[asked], ~captioned[asked])
        )
        cells = "  ".join(said(column) for column in values.T)
        print(f"  {way:22} {cells}  @10 with a caption {100 * with_:5.1f}, without {100 * without:5.1f}")


def weights(asked: Task) -> None:
    """Print how much of a picture's and of a text's own first 50 a fused question keeps, by weight."""
    print(f"\n{asked.name}: of the first 50 of the picture alone / of the text alone, kept in the first 50")
    queries = range(min(200, len(asked.right)))
    alone = [np.argsort(-(part @ asked.images.T), axis=1)[:, :50] for part in asked.parts]
    for weight in (0.25, 0.5, 1.0, 2.0, 4.0):
        row = []
        for way in ("naive", "early", "late"):
            kept = np.zeros(2)
            for query in queries:
                vectors = np.stack([part[query] for part in asked.parts])
                parts = Parts.of(vectors, [weight, 1.0], asked.kinds, asked.images)
                if way == "naive":
                    scores = asked.images @ (weight * vectors[0] + vectors[1])
                else:
                    scores = parts.early(asked.images) if way == "early" else parts.late(asked.images)
                first = np.argsort(-scores)[:50]
                kept += [len(np.intersect1d(first, one[query])) / 50 for one in alone]
            row.append("{} {:4.1f}/{:4.1f}".format(way, *(100 * kept / len(queries))))
        print(f"  picture {weight:4} : text 1    " + "    ".join(row))


def candidates(asked: Task, k: int) -> None:
    """Print what is lost, and what it costs, when only candidates are fused."""
    images, queries = asked.images, range(min(200, len(asked.right)))
    searches = 0

    def nearest(probe: Embeddings, count: int) -> tuple[Ints, Embeddings]:
        nonlocal searches
        searches += 1
        scores = images @ probe
        first = np.argsort(-scores, kind="stable")[:count]
        return first, scores[first]

    print(f"\n{asked.name}: share of the {k} best of {len(images)} that fusing candidates loses")
    for count in (k, 4 * k, 16 * k, 0):
        lost, looked_at, searches, began = 0.0, 0, 0, time.perf_counter()
        for query in queries:
            parts = parts_of(asked, query)
            if count:
                ids = np.unique(np.concatenate([nearest(probe, count)[0] for probe in parts.probes()]))
                first = ids[np.argsort(-parts.late(images[ids]), kind="stable")]
            else:
                first, _ = fuse_late(parts, nearest, lambda ids: images[ids], k)
            late = parts.late(images)
            lost += 1 - np.mean(late[first[:k]] >= np.sort(late)[-k] - 1e-6)
            looked_at += len(first)
        title = f"{count} of each probe" if count else "until certain"
        ms = 1000 * (time.perf_counter() - began) / len(queries)
        print(
            f"  {title:18} {100 * lost / len(queries):6.2f} %  {looked_at / len(queries):6.0f} pictures  "
            f"{searches / len(queries):.1f} searches  {ms:.1f} ms"
        )


def gap(data: Embedded, texts: Embeddings, name: str) -> None:
    """Print where cosines of texts and of pictures lie."""
    images = data.images
    to_texts, to_images = images @ texts.T, (images @ images.T)[~np.eye(len(images), dtype=bool)]
    apart = float(np.linalg.norm(images.mean(axis=0) - texts.mean(axis=0)))
    spread = np.mean(to_texts.std(axis=0)), np.mean((images @ images.T).std(axis=0))
    print(
        f"{name:24} means apart {apart:.2f}; cosine text-picture {to_texts.mean():.2f}, picture-picture "
        f"{to_images.mean():.2f}; spread over the library: a text {spread[0]:.3f}, "
        f"a picture {spread[1]:.3f}, "
        f"ratio {spread[1] / spread[0]:.1f}"
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--held-out", type=Path, help="caltech101-held-back.tar")
    parser.add_argument("--kept", type=Path, default=Path(tempfile.gettempdir()) / "pixseek-embedded")
    parser.add_argument("--tune", action="store_true")
    given = parser.parse_args()
    flickr, coco, pacs = (
        read(given.data / source, name, given.kept)
        for name, source in (
            ("flickr8k-dev", "flickr8k/dev.tar"),
            ("coco-dev", "coco/dev.tar"),
            ("pacs", "pacs/train.tar"),
        )
    )
    mixed = [questions.picture_and_style(pacs)]
    mixed += [
        questions.picture_and_difference(data, whole=whole)
        for data in (flickr, coco)
        for whole in (False, True)
    ]
    pictures = [questions.two_pictures(pacs)]
    if given.held_out:
        caltech = read(given.held_out, "caltech101-held-out", given.kept)
        mixed.append(questions.picture_and_name(caltech))
        pictures.append(questions.two_pictures(caltech))
    texts = [questions.name_and_style(pacs, 1), questions.two_words(flickr), questions.two_words(coco)]
    if given.tune:
        tune([*mixed, *texts, *pictures])
        for data in (flickr, coco):
            for share in (0.1, 0.5, 1.0):
                hybrid(data, share, tuning=True)
        return
    bank = encode([captions[0] for captions in flickr.captions])
    gap(flickr, bank, "built-in, flickr8k-dev")
    real = given.data / "unsplash" / "clip_vit_b32_image_vectors.npz"
    if real.exists():
        vectors = np.load(real)["vectors"].astype(np.float32)
        names = np.load(given.data / "clip_text_vectors" / "lvis_v1_clip_a+cname.npy").astype(np.float32)
        vectors, names = (
            rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (vectors, names.reshape(-1, 512))
        )
        gap(Embedded("clip", vectors, *[np.array([])] * 2, []), names, "ViT-B/32, unsplash")
        rng = np.random.default_rng(0)
        pairs: list[Embeddings | list[str]] = [vectors[rng.permutation(len(vectors))[:200]], []]
        clip = questions.task(
            "ViT-B/32: picture + name", vectors, pairs[:1], [np.ones(len(vectors), bool)] * 200, [[]] * 200
        )
        weights(
            replace(
                clip, kinds=["image", "text"], parts=[*clip.parts, names[rng.permutation(len(names))[:200]]]
            )
        )
    for title, tasks in (("PICTURE AND TEXT", mixed), ("TEXTS", texts), ("PICTURES", pictures)):
        print(f"\n=== {title}")
        compare(tasks, bank.mean(axis=0))
    compare([questions.name_and_style(pacs, -1)], bank.mean(axis=0))
    for data in (flickr, coco):
        for share in (0.0, 0.1, 0.5, 1.0):
            hybrid(data, share, tuning=False)
    weights(mixed[1])
    for asked in (mixed[0], mixed[1], texts[1]):
        candidates(asked, 10)
        candidates(asked, 50)


if __name__ == "__main__":
    main()
