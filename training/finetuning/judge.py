"""Two encoders on the same held-out pictures: every number before and after, and what the change is worth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from encoders import Embeddings, EncoderError
from training.finetuning.examples import HELD_OUT, Examples
from training.judging.bootstrap import statistic
from training.judging.metrics import (
    RANKS,
    Floats,
    Queries,
    class_embeddings,
    classify,
    macro,
    retrieve,
    tallies,
)

OVERALL = "mean of these"
"""The number that decides which of two encoders is the better one."""

Compute = Callable[[Floats], Floats]


@dataclass(frozen=True, slots=True)
class Embedded:
    """The held-out pictures and all texts by one encoder.

    Attributes:
        images: (held out, dim) unit rows.
        prompts: (templates, texts, dim) unit rows.
    """

    images: Embeddings
    prompts: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Change:
    """One number before and after, in percent; low and high: 95 % interval of the difference."""

    metric: str
    before: float
    after: float
    difference: float
    low: float
    high: float


def compare(examples: Examples, before: Embedded, after: Embedded, *, seed: int) -> list[Change]:
    """Return every number of the held-out pictures, `OVERALL` last.

    Captions and keywords: recall@1/5/10 both ways among the held-out pictures. Labels: zero-shot accuracy and
    macro F1. Intervals are of the difference: both encoders are asked about the same drawn pictures.
    Source: paired bootstrap, Koehn 2004; see `bootstrap`.
    """
    names, first = _measure(examples, before)
    _, second = _measure(examples, after)

    def compute(weights: Floats) -> Floats:
        old, new = first(weights), second(weights)
        old, new = np.append(old, old.mean()), np.append(new, new.mean())
        return np.concatenate([old, new, new - old]) * 100

    found = statistic(compute, len(before.images), seed=seed)
    count = len(names) + 1
    return [
        Change(
            name,
            round(found[i].value, 4),
            round(found[count + i].value, 4),
            round(found[2 * count + i].value, 4),
            round(found[2 * count + i].low, 4),
            round(found[2 * count + i].high, 4),
        )
        for i, name in enumerate([*names, OVERALL])
    ]


def _measure(examples: Examples, embedded: Embedded) -> tuple[list[str], Compute]:
    """Return the names of the numbers, and what computes them, in [0, 1], from weights of the pictures."""
    if not (np.isfinite(embedded.images).all() and np.isfinite(embedded.prompts).all()):
        raise EncoderError("the adapted encoder gives NaN; learn from more pictures, or with another --seed")
    templates, texts, dim = embedded.prompts.shape
    asked = class_embeddings(embedded.prompts.transpose(1, 0, 2).reshape(-1, dim), templates)
    right = [examples.right[picture] for picture in examples.pictures(HELD_OUT)]
    if examples.kind == "labels":
        truth = np.array([names[0] for names in right], dtype=np.int64)
        said, _ = classify(embedded.images, asked, truth)

        def classes(weights: Floats) -> Floats:
            table = tallies(truth, said, texts, weights)
            return np.array([table[0].sum() / table[1].sum(), macro(table)[2]])

        return ["zero-shot accuracy", "macro F1"], classes
    used, text_of = np.unique(np.array([t for names in right for t in names]), return_inverse=True)
    text_of = text_of.astype(np.int64)
    picture_of = np.repeat(np.arange(len(right)), [len(names) for names in right]).astype(np.int64)
    by_text = retrieve(asked[used], embedded.images, text_of, picture_of)
    by_picture = retrieve(embedded.images, asked[used], picture_of, text_of)
    share = 1 / np.bincount(text_of)[text_of]
    sums = np.concatenate(
        [
            _sums(by_text, text_of, picture_of, share, len(right)),
            _sums(by_picture, picture_of[_firsts(picture_of)], by_picture.query, None, len(right)),
        ],
        axis=1,
    )
    half = len(RANKS) + 1

    def recalls(weights: Floats) -> Floats:
        total = weights @ sums
        return np.concatenate(
            [total[: half - 1] / total[half - 1], total[half : 2 * half - 1] / total[2 * half - 1]]
        )

    return [f"{way} recall@{k}" for way in ("text-to-image", "image-to-text") for k in RANKS], recalls


def _firsts(picture_of: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.unique(picture_of, return_index=True)[1]


def _sums(
    queries: Queries,
    item_of: npt.NDArray[np.int64],
    picture_of: npt.NDArray[np.int64],
    share: Floats | None,
    pictures: int,
) -> Floats:
    """Return (pictures, len(RANKS) + 1): what each picture adds to the hits at each rank, and to their count.

    A text of several pictures is added by each of them in part.
    """
    hits = np.stack([queries.rank <= k for k in RANKS] + [np.ones(len(queries.rank), bool)], axis=1)
    sums = np.zeros((pictures, len(RANKS) + 1))
    parts = hits[item_of].astype(np.float64)
    np.add.at(sums, picture_of, parts if share is None else parts * share[:, None])
    return sums
