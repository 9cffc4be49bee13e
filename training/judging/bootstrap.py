"""95 % intervals by the bootstrap: the pictures of a set are drawn again with replacement.

Pictures, not captions: five sentences about one picture are not five independent trials. What a query is
compared with stays the whole set; only who is counted is drawn. Weights of a draw are how often each
picture came, so every mean is one matrix product.

Source: Efron 1979; percentile intervals as in Efron and Tibshirani 1993, chapter 13.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from training.judging.metrics import Floats, Ints

DRAWS = 1000
_BLOCK = 1 << 23
"""Weights held at a time."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and its 95 % interval, in the same unit."""

    value: float
    low: float
    high: float


def _weights(pictures: int, seed: int, draws: int) -> Iterator[Floats]:
    """Yield (b, pictures) float64 blocks of how often each picture was drawn; `draws` rows in all."""
    rng = np.random.default_rng(seed)
    step = max(1, _BLOCK // max(1, pictures))
    for start in range(0, draws, step):
        size = min(step, draws - start)
        drawn = rng.integers(0, pictures, (size, pictures)) + np.arange(size)[:, None] * pictures
        yield np.bincount(drawn.ravel(), minlength=size * pictures).reshape(size, pictures).astype(np.float64)


def _estimate(value: float, drawn: Floats) -> Estimate:
    low, high = np.percentile(drawn, (2.5, 97.5))
    return Estimate(float(value), float(min(low, value)), float(max(high, value)))


def means(
    columns: Mapping[str, Floats],
    item_of: Ints,
    picture_of: Ints,
    pictures: int,
    *,
    seed: int,
    draws: int = DRAWS,
) -> dict[str, Estimate]:
    """Return the mean of each column over its items, with intervals.

    Args:
        columns: values, one per item (a query), `(items,)` each.
        item_of, picture_of: which item hangs on which picture; one on several is drawn with each in part.
        pictures: how many there are; those without an item count for nothing.
    """
    names, values = list(columns), np.stack(list(columns.values()), 1)
    share = 1 / np.bincount(item_of, minlength=len(values))
    sums = np.zeros((pictures, len(names) + 1))
    with_one = np.concatenate([values, np.ones((len(values), 1))], 1)
    np.add.at(sums, picture_of, with_one[item_of] * share[item_of, None])
    sums = sums[sums[:, -1] > 0]  # pictures nobody asks for do not thin the draws
    drawn = np.concatenate([weights @ sums for weights in _weights(len(sums), seed, draws)])
    drawn = drawn[drawn[:, -1] > 0]
    return {name: _estimate(values[:, i].mean(), drawn[:, i] / drawn[:, -1]) for i, name in enumerate(names)}


def median(
    values: Ints, item_of: Ints, picture_of: Ints, pictures: int, *, seed: int, draws: int = DRAWS
) -> Estimate:
    """Return the median of one value per item, with its interval; arguments as for `means`."""
    asked = np.unique(picture_of)
    picture_of = np.searchsorted(asked, picture_of)
    order = np.argsort(values, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    share = 1 / np.bincount(item_of, minlength=len(values))
    found: list[float] = []
    for weights in _weights(len(asked), seed, draws):
        for row in weights:
            weight = np.bincount(place[item_of], row[picture_of] * share[item_of], len(values))
            total = np.cumsum(weight)
            found.append(float(values[order[np.searchsorted(total, total[-1] / 2)]]))
    return _estimate(float(np.median(values)), np.array(found))


def statistic(
    compute: Callable[[Floats], Floats], pictures: int, *, seed: int, draws: int = DRAWS
) -> list[Estimate]:
    """Return what `compute` makes of the weights of the pictures, each value with its interval.

    Args:
        compute: (pictures,) float64 weights, 1 each for the value itself, to (values,).
    """
    value = compute(np.ones(pictures))
    drawn = np.stack([compute(row) for weights in _weights(pictures, seed, draws) for row in weights])
    return [_estimate(value[i], drawn[:, i]) for i in range(len(value))]
