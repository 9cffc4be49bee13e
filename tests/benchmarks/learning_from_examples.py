"""What examples bring: one round of relevance feedback, concepts from a few pictures, varied answers.

`python -m tests.benchmarks.learning_from_examples --data DATA [--held-out caltech101-held-back.tar]`; the
tables are in docs/fusion.md. Right answers: the class (PACS: class and style, asked by the class alone, as a
person does who has one style in mind), or a word that two captions of a picture say.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from search.feedback import concept_threshold, concept_vector, refine
from search.fusion import Kind, Parts, mmr
from tests.benchmarks.embedded import STYLES, Embedded, Floats, encode, read, said, shown, words

MARKED = 10
Refine = Callable[[Floats, Floats, Floats, Floats], Floats]


@dataclass(frozen=True, slots=True)
class Wish:
    """A question and the pictures that answer it, (n,) bool."""

    words: str
    right: np.ndarray


def wishes(data: Embedded) -> list[Wish]:
    """Return the questions of a set whose answers are known."""
    if any(data.captions):
        found = []
        for word, pictures in shown(data, 12, 1 / 8).items():
            found.append(Wish(word, np.isin(np.arange(len(data.images)), pictures)))
        return found
    pairs = {(label, style) for label, style in zip(data.labels.tolist(), data.styles.tolist(), strict=True)}
    every = [
        Wish(
            f"a photo of a {label}" if not style else f"a {label}",
            (data.labels == label) & (data.styles == style),
        )
        for label, style in sorted(pairs)
    ]
    return [wish for wish in every if wish.right.sum() >= 6]


# --- one round of feedback


def classical(query: Floats, liked: Floats, disliked: Floats, images: Floats) -> Floats:
    """Rocchio as it is printed: 1, 0.75, 0.15 on the embeddings as they are."""
    found = query.astype(np.float64)
    for rows, weight in ((liked, 0.75), (disliked, -0.15)):
        if len(rows):
            found = found + weight * rows.mean(axis=0)
    return found


def probe(query: Floats, liked: Floats, disliked: Floats, images: Floats) -> Floats:
    """A logistic regression pulled to the question, which is 0 where a picture stands 3 deviations out."""
    scores = images @ query
    prior = query / scores.std()
    rows = np.concatenate([liked, disliked]) - images.mean(axis=0)
    target = np.r_[np.ones(len(liked)), np.zeros(len(disliked))]
    kernel, offset, strength = rows @ rows.T, rows @ prior - 3.0, 0.3
    dual = np.zeros(len(rows))
    for _ in range(30):  # Newton
        chance = 1 / (1 + np.exp(-(offset + kernel @ dual)))
        slope = (chance * (1 - chance) + 1e-9)[:, None] * kernel + strength * np.eye(len(rows))
        dual -= np.linalg.solve(slope, chance - target + strength * dual)
    return prior + rows.T @ dual


def discriminant(query: Floats, liked: Floats, disliked: Floats, images: Floats) -> Floats:
    """The question plus means turned by the library's covariance, nine tenths shrunk."""
    mean, covariance = images.mean(axis=0), np.cov(images.T)
    shrunk = 0.1 * covariance + 0.9 * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    found = query / (images @ query).std()
    for rows, weight in ((liked, 1.0), (disliked, -0.5 if len(liked) else -0.1)):
        if len(rows):
            turned = np.linalg.solve(shrunk, rows.mean(axis=0) - mean)
            found = found + weight * turned / (images @ turned).std()
    return found


WAYS: dict[str, Refine] = {
    "Rocchio as printed": classical,
    "logistic probe": probe,
    "discriminant": discriminant,
    "refine": refine,  # type: ignore[dict-item]
}


def feedback(sets: list[Embedded], marks: str) -> None:
    """Print recall@10 among the pictures that were not marked, before and after, and the gain."""
    print(f"\nfeedback, marked among the first {MARKED}: {marks}; recall@10 of the rest")
    gains: dict[str, list[float]] = {}
    for data in sets:
        before: list[float] = []
        after: dict[str, list[float]] = {way: [] for way in WAYS}
        for wish in wishes(data):
            query = encode([wish.words])[0]
            first = np.argsort(-(data.images @ query), kind="stable")[:MARKED]
            liked, disliked = first[wish.right[first]], first[~wish.right[first]]
            liked = liked[
                : {"right and wrong": MARKED, "right only": MARKED, "one right": 1, "wrong only": 0}[marks]
            ]
            disliked = disliked[: {"right and wrong": MARKED, "wrong only": MARKED}.get(marks, 0)]
            rest = ~np.isin(np.arange(len(data.images)), first)
            could = (wish.right & rest).sum()
            if not could or not len(liked) + len(disliked):
                continue

            before.append(of_the_rest(data, query, wish.right, rest))
            for way, change in WAYS.items():
                changed = change(query, data.images[liked], data.images[disliked], data.images)
                after[way].append(of_the_rest(data, changed, wish.right, rest))
        print(f"  {data.name}: {len(before)} questions, before {said(np.array(before))}")
        for way, values in after.items():
            gain = np.array(values) - before
            gains.setdefault(way, []).append(gain.mean())
            print(f"    {way:20} {said(np.array(values))}  gain {said(gain)}")
    print("  mean gain: " + ", ".join(f"{way} {100 * np.mean(values):.1f}" for way, values in gains.items()))


def of_the_rest(data: Embedded, vector: Floats, right: np.ndarray, rest: np.ndarray) -> float:
    """Return recall@10 among the pictures of `rest`."""
    first = np.argsort(-np.where(rest, data.images @ vector, -np.inf), kind="stable")[:10]
    return float(right[first].sum() / min(10, (right & rest).sum()))


# --- concepts


def concepts(sets: list[Embedded], repeats: int = 6) -> None:
    """Print precision@10 (over what there is) of concepts among the pictures that are no example."""
    print("\nconcepts; recall@10 of the rest")
    for data in sets:
        rng = np.random.default_rng(0)
        found: dict[str, list[float]] = {}
        f1: dict[str, list[float]] = {}
        for wish in wishes(data):
            if wish.right.sum() < 15:
                continue
            for _ in range(repeats):
                five = rng.choice(np.flatnonzero(wish.right), 5, replace=False)
                wrong = rng.choice(np.flatnonzero(~wish.right), 1)
                rest = ~np.isin(np.arange(len(data.images)), np.concatenate([five, wrong]))
                name, images = encode([wish.words])[0], data.images
                five_of = concept_vector(images[five], images)
                spoilt = images[np.concatenate([five[:4], wrong])]
                vectors = {
                    "its name": name,
                    "one example": concept_vector(images[five[:1]], images),
                    "mean of five": images[five].mean(axis=0),
                    "five examples": five_of,
                    "mean of four and a wrong one": spoilt.mean(axis=0),
                    "four examples and a wrong one": concept_vector(spoilt, images),
                    "five examples + its name": Parts.of(
                        np.stack([five_of, name]), [1.0, 1.0], ["image", "text"], images
                    ).composed(),
                }
                for way, vector in vectors.items():
                    order = np.argsort(-np.where(rest, images @ vector, -np.inf), kind="stable")
                    could = (wish.right & rest).sum()
                    found.setdefault(way, []).append(wish.right[order[:10]].sum() / min(10, could))
                scores = images @ five_of
                threshold = concept_threshold(images[five], images)
                assert threshold is not None
                order = np.argsort(-np.where(rest, scores, -np.inf), kind="stable")[: rest.sum()]
                hits = wish.right[order].cumsum()
                best = 2 * hits / (np.arange(1, len(order) + 1) + (wish.right & rest).sum())
                kept = int((scores[rest] >= threshold).sum())
                f1.setdefault("threshold from the examples", []).append(best[kept - 1] if kept else 0.0)
                kept = int((scores[rest] >= scores.mean() + 3 * scores.std()).sum())
                f1.setdefault("3 standard deviations", []).append(best[kept - 1] if kept else 0.0)
                f1.setdefault("the best there is", []).append(best.max())
        print(f"  {data.name}")
        for way, values in found.items():
            print(f"    {way:32} {said(np.array(values))}")
        print(
            "    F1 of 'it shows this': "
            + ", ".join(f"{way} {100 * np.mean(v):.1f}" for way, v in f1.items())
        )


def concept_and_text(data: Embedded, repeats: int = 20) -> None:
    """Print precision@10 of a concept from five pictures of one style and the name of another."""
    rng = np.random.default_rng(0)
    found: dict[str, list[float]] = {}
    kinds: list[Kind] = ["image", "text"]
    for label in np.unique(data.labels):
        for style in STYLES:
            for other in STYLES:
                of = np.flatnonzero((data.labels == label) & (data.styles == style))
                right = (data.labels == label) & (data.styles == other)
                if style == other or len(of) < 5 or right.sum() < 10:
                    continue
                for _ in range(repeats // 4):
                    five = rng.choice(of, 5, replace=False)
                    text, concept = (
                        encode([STYLES[other][0]])[0],
                        concept_vector(data.images[five], data.images),
                    )
                    parts = Parts.of(np.stack([concept, text]), [1.0, 1.0], kinds, data.images)
                    picture = np.stack([data.images[five[0]], text])
                    scores = {
                        "naive sum of one picture and text": data.images @ picture.sum(axis=0),
                        "one picture + text": Parts.of(picture, [1.0, 1.0], kinds, data.images).early(
                            data.images
                        ),
                        "naive sum of concept and text": data.images @ (concept + text),
                        "concept + text, early": parts.early(data.images),
                        "concept + text, late": parts.late(data.images),
                    }
                    for way, values in scores.items():
                        values[five] = -np.inf
                        found.setdefault(way, []).append(
                            right[np.argsort(-values, kind="stable")[:10]].mean()
                        )
    print(f"\n{data.name}: a concept from five pictures of one style and the name of another; precision@10")
    for way, values in found.items():
        print(f"  {way:36} {said(np.array(values))}")


# --- diversity


def varied(asked: list[tuple[str, Floats, np.ndarray, list[set[str]]]]) -> None:
    """Print, by diversity, how much the first 10 cover, and how many of them are right.

    Args:
        asked: question, (n, dim) pictures, (n,) right, what each picture covers.
    """
    print(
        "  diversity: covered by right ones of the first 10, over what 10 could cover; right of 10; likeness"
    )
    for diversity in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0):
        covered, right_of, likeness = [], [], []
        for text, images, right, covers in asked:
            scores = images @ encode([text])[0]
            pool = np.argsort(-scores, kind="stable")[:200]
            chosen = pool[mmr(images[pool], scores[pool].astype(np.float64), 10, diversity)]
            there = set().union(*(covers[i] for i in np.flatnonzero(right)))
            covered.append(
                len(set().union(*(covers[i] for i in chosen if right[i]))) / min(len(there), most(covers))
            )
            right_of.append(right[chosen].mean())
            alike = images[chosen] @ images[chosen].T
            likeness.append(alike[~np.eye(10, dtype=bool)].mean())
        cells = "  ".join(said(np.array(values)) for values in (covered, right_of))
        print(f"    {diversity:3}   {cells}   {np.mean(likeness):.2f}")


def most(covers: list[set[str]]) -> int:
    """Return how much ten pictures can cover at most."""
    return sum(sorted((len(one) for one in covers), reverse=True)[:10])


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--held-out", type=Path, help="caltech101-held-back.tar")
    parser.add_argument("--kept", type=Path, default=Path(tempfile.gettempdir()) / "pixseek-embedded")
    given = parser.parse_args()
    sources = [("pacs", given.data / "pacs/train.tar"), ("flickr8k-dev", given.data / "flickr8k/dev.tar")]
    sources.append(("coco-dev", given.data / "coco/dev.tar"))
    if given.held_out:
        sources.insert(0, ("caltech101-held-out", given.held_out))
    sets = {name: read(source, name, given.kept) for name, source in sources}
    for marks in ("right and wrong", "right only", "one right", "wrong only"):
        feedback(list(sets.values()), marks)
    concepts(list(sets.values()))
    pacs, flickr = sets["pacs"], sets["flickr8k-dev"]
    concept_and_text(pacs)
    print("\npacs, asked for a style: classes")
    names = [{str(label)} for label in pacs.labels]
    varied(
        [(way, pacs.images, pacs.styles == style, names) for style, ways in STYLES.items() for way in ways]
    )
    print("\npacs, asked for a class: styles")
    styles = [{str(style)} for style in pacs.styles]
    varied([
        (text, pacs.images, pacs.labels == label, styles)
        for label in np.unique(pacs.labels)
        for text in (f"a {label}", str(label))
    ])  # fmt: skip
    print("\nflickr8k-dev, asked for a word: other words of the captions")
    for_words = [set(words(" ".join(captions))) for captions in flickr.captions]
    varied([(wish.words, flickr.images, wish.right, for_words) for wish in wishes(flickr)])


if __name__ == "__main__":
    main()
