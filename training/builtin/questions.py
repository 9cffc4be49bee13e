"""Questions to libraries of which it is known what is right: what scores are calibrated and judged by.

| kind | question | right |
|---|---|---|
| labels | "a photo of a CLASS", half of the classes are not in the library | pictures of the class |
| words | "a bicycle", in libraries without half of the words | two of five captions name it; none: wrong |
| captions | a caption; half of the pictures are not in the library | its own picture, and those that the teacher says are described alike; those in between are left out |
| own | the same | its own picture alone: what else fits counts as wrong |
| pictures | a picture that is not in the library | those of its class, or described alike |

Half of the questions of every kind but `pictures` have nothing right in their library, as nearly as the
labels allow.
"""  # noqa: E501

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from encoders import Embeddings, Encoder
from search import encode_prompted
from training.builtin.collection import class_names, read_set
from training.builtin.teacher import teacher_embeddings
from training.sets.datasets import decoded
from training.sets.samples import in_words

Truth = npt.NDArray[np.float32]

LABELLED = ("caltech101/dev", "imagenet_samples", "pacs", "flowers")
DESCRIBED = ("flickr8k/dev", "coco/dev")
PROMPTS = (
    "{}",
    "a {}",
    "the {}",
    "a photo of {}",
    "{} in a picture",
    "a picture of a {}",
    "a close-up of {}",
    "people and {}",
)
"""Phrases that a name is put into; the last ones stand for photos in which it is not alone."""
FORMS = ("{}", "a {}", "a photo of a {}")
_ROUNDS = {"caltech101/dev": 8, "imagenet_samples": 3, "pacs": 10, "flowers": 6}
_SAME, _OTHER = 0.65, 0.5
"""Teacher cosines from which two sentences say the same of a picture, and below which they do not."""
_PEOPLE = {
    "people": "people|men|women|crowd|children|kids|group",
    "man": "man|men|guy|male",
    "woman": "woman|women|lady|female",
    "child": "child|children|kid|kids|boy|boys|girl|girls|toddler",
    "bicycle": "bicycle|bicycles|bike|bikes|bicyclist|cyclist|biker",
    "sea": "sea|ocean|beach|waves",
    "dog": "dog|dogs|puppy|puppies",
}
_SCENES = frozenset(
    re.findall(
        r"\S+",
        "boy girl baby beach ocean lake river mountain rock snow grass field forest tree street road city "
        "building house room kitchen bathroom car plane soccer football baseball basketball tennis flower "
        "sand park water fence wall sunset sky playground toy food ski wave rope",
    )
)
"""Words that people ask photos for and that LVIS, a set of things, has not."""


@dataclass(frozen=True, slots=True)
class Collection:
    """One set, encoded.

    Attributes:
        images: (n, dim) embeddings; labels, styles: (n,) names, empty where there are none.
        captions: every caption; owner: (m,) its picture; texts: (m, dim) its embedding.
        alike: (m, n) highest teacher cosine of a caption and any caption of a picture; no rows without
            captions.
    """

    name: str
    images: Embeddings
    labels: npt.NDArray[np.str_]
    styles: npt.NDArray[np.str_]
    captions: npt.NDArray[np.str_]
    owner: npt.NDArray[np.int64]
    texts: Embeddings
    alike: Truth


@dataclass(frozen=True, slots=True)
class Questions:
    """Questions to one library.

    Attributes:
        name: set and kind; base: the set alone.
        library: (n, dim); queries: (q, dim).
        words: the texts, none where pictures ask.
        truth: (q, n) 1 right, 0 wrong, NaN not known.
        answered: (q,) bool, whether anything in the library is right.
    """

    name: str
    base: str
    library: Embeddings
    queries: Embeddings
    words: tuple[str, ...]
    truth: Truth
    answered: npt.NDArray[np.bool_]


def collect(encoder: Encoder, data: Path, cache: Path, name: str) -> Collection | None:
    """Return a set, encoded, from the cache where it is there; None when the set is not."""
    path = cache / f"{name.replace('/', '-')}-{encoder.fingerprint[:16]}.npz"
    if not path.exists():
        samples = read_set(data, name)
        if samples is None:
            return None
        pairs = list(decoded(samples, min_side=encoder.image_size))
        images = np.concatenate(
            [
                encoder.encode_images([picture for _, picture in pairs[start : start + 64]])
                for start in range(0, len(pairs), 64)
            ]
        )
        captions = [caption for sample, _ in pairs for caption in sample.captions]
        owner = np.repeat(np.arange(len(pairs)), [len(sample.captions) for sample, _ in pairs])
        alike = np.empty((0, len(pairs)), np.float32)
        if captions:
            meant = teacher_embeddings(captions, cache / "teacher").astype(np.float32)
            starts = np.searchsorted(owner, np.arange(len(pairs)))
            alike = np.maximum.reduceat(meant @ meant.T, starts, axis=1)
        cache.mkdir(parents=True, exist_ok=True)
        np.savez(
            path,
            images=images,
            labels=np.array([in_words(sample.label).lower() for sample, _ in pairs]),
            styles=np.array([str(sample.meta.get("style", "")) for sample, _ in pairs]),
            captions=np.array(captions, dtype=str),
            owner=owner,
            texts=encoder.encode_texts(captions),
            alike=alike,
        )
    with np.load(path) as archive:
        return Collection(name, **{key: archive[key] for key in archive.files})


def of_labels(encoder: Encoder, pictures: Collection, seed: int = 1) -> Iterator[Questions]:
    """Yield questions for every class, to libraries that lack half of them."""
    rng = np.random.default_rng(seed)
    classes = np.unique(pictures.labels)
    for turn in range(_ROUNDS.get(pictures.name, 4)):
        there = rng.permutation(len(classes)) < round(len(classes) / 2)
        kept = np.isin(pictures.labels, classes[there])
        words = tuple(
            FORMS[(number + turn) % len(FORMS)].format(label) for number, label in enumerate(classes)
        )
        truth = (classes[:, None] == pictures.labels[kept][None]).astype(np.float32)
        library, queries = pictures.images[kept], encode_prompted(encoder, words, PROMPTS)
        yield Questions(
            f"{pictures.name} labels", pictures.name, library, queries, words, truth, truth.max(1) > 0
        )


def of_words(encoder: Encoder, data: Path, pictures: Collection, seed: int = 1) -> Iterator[Questions]:
    """Yield questions for single words, to libraries that lack half of them."""
    rng = np.random.default_rng(seed)
    known = mentions(pictures, _nouns(data))
    names, shown = list(known), np.stack(list(known.values()))
    for turn in range(6):
        kept, gone = np.ones(len(pictures.images), bool), 0
        for number in rng.permutation(len(names)):
            left = kept & (shown[number] == 0)
            if left.sum() >= 0.3 * len(kept) and gone < 0.6 * len(names):
                kept, gone = left, gone + 1
        truth = shown[:, kept]
        chosen = _half(rng, (truth == 1).any(1), (truth == 0).all(1))
        words = tuple(FORMS[(number + turn) % len(FORMS)].format(names[number]) for number in chosen)
        yield Questions(
            f"{pictures.name} words",
            pictures.name,
            pictures.images[kept],
            encode_prompted(encoder, words, PROMPTS),
            words,
            truth[chosen],
            (truth[chosen] == 1).any(1),
        )


def of_captions(pictures: Collection, *, own: bool = False, seed: int = 1) -> Iterator[Questions]:
    """Yield captions as questions, to libraries of half of the pictures; see the module for what is right."""
    rng = np.random.default_rng(seed)
    count = len(pictures.images)
    for _ in range(2):
        kept = rng.permutation(count) < count // 2
        mine = pictures.owner[:, None] == np.flatnonzero(kept)[None]
        alike = pictures.alike[:, kept]
        truth = np.where(alike >= _SAME, 1.0, np.where(alike < _OTHER, 0.0, np.nan)).astype(np.float32)
        truth = mine.astype(np.float32) if own else np.where(mine, np.float32(1), truth)
        chosen = _half(rng, (truth == 1).any(1), (truth == 0).all(1))
        yield Questions(
            f"{pictures.name} {'own' if own else 'captions'}",
            pictures.name,
            pictures.images[kept],
            pictures.texts[chosen],
            tuple(str(text) for text in pictures.captions[chosen]),
            truth[chosen],
            (truth[chosen] == 1).any(1),
        )


def of_pictures(pictures: Collection, seed: int = 1) -> Iterator[Questions]:
    """Yield pictures as questions, to libraries without them and without half of the classes."""
    rng = np.random.default_rng(seed)
    count, classes = len(pictures.images), np.unique(pictures.labels)
    if pictures.captions.size:
        starts = np.searchsorted(pictures.owner, np.arange(count))
        alike = np.add.reduceat(pictures.alike, starts, axis=0)
        alike /= np.bincount(pictures.owner, minlength=count)[:, None]
        alike = (alike + alike.T) / 2
        same = np.where(alike >= 0.6, 1.0, np.where(alike < 0.45, 0.0, np.nan)).astype(np.float32)
    else:
        same = (pictures.labels[:, None] == pictures.labels[None]).astype(np.float32)
    for _ in range(4):
        inside = rng.permutation(count) < count // 2
        if not pictures.captions.size:
            inside &= np.isin(pictures.labels, rng.permutation(classes)[: (len(classes) + 1) // 2])
        kept, asked = np.flatnonzero(inside)[:1500], rng.permutation(np.flatnonzero(~inside))[:600]
        truth = same[np.ix_(asked, kept)]
        chosen = _half(rng, (truth == 1).any(1), (truth == 0).all(1))
        if len(chosen) < 20:  # a set with one picture of each class has next to no answers
            continue
        library, queries = pictures.images[kept], pictures.images[asked[chosen]]
        answered = (truth[chosen] == 1).any(1)
        yield Questions(
            f"{pictures.name} pictures", pictures.name, library, queries, (), truth[chosen], answered
        )


def mentions(pictures: Collection, words: Sequence[str], least: int = 3) -> dict[str, Truth]:
    """Return for each word (n,) 1 where two captions of a picture name it, 0 where none does, else NaN.

    Words that fewer than `least` pictures show are left out.
    """
    captions = [str(caption).lower() for caption in pictures.captions]
    found: dict[str, Truth] = {}
    for word in words:
        pattern = re.compile(rf"\b(?:{_PEOPLE.get(word, _forms(word))})\b")
        named = np.array([pattern.search(caption) is not None for caption in captions], np.float64)
        count = np.bincount(pictures.owner, named, len(pictures.images))
        if (count >= 2).sum() >= least:
            found[word] = np.where(count >= 2, 1.0, np.where(count == 0, 0.0, np.nan)).astype(np.float32)
    return found


def _nouns(data: Path) -> list[str]:
    plain = [name.split("(")[0].strip().lower() for name in class_names(data)[:1203]]
    return sorted({*_PEOPLE, *_SCENES, *(name for name in plain if len(name) > 2 and name.isascii())})


def _forms(word: str) -> str:
    if word.endswith(("s", "x", "ch", "sh")):
        return f"{re.escape(word)}|{re.escape(word)}es"
    if word.endswith("y") and word[-2:-1] not in "aeiou":
        return f"{re.escape(word)}|{re.escape(word[:-1])}ies"
    return f"{re.escape(word)}s?"


def _half(
    rng: np.random.Generator, yes: npt.NDArray[np.bool_], no: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    """Return as many of either, drawn, the questions that have an answer first."""
    first, second = np.flatnonzero(yes), np.flatnonzero(no)
    count = min(len(first), len(second))
    return np.concatenate([rng.permutation(first)[:count], rng.permutation(second)[:count]])
