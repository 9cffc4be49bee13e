"""When two pictures count as the same one: how far apart their hashes, how close their embeddings; and which
pairs are worth asking about, without asking about all."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

PLAIN: Final = 0
"""`Look.phash` of a picture that is too plain for a hash."""
LEAST_COSINE: Final = np.array([0.2] * 5 + [0.7] * 4 + [0.85] * 4, np.float32)
"""Cosine from which pictures whose hashes differ in 0, 1, 2 ... bits are one; further apart never.

Chosen on 1,141 photos (Unsplash, Flickr8k) in 13 variants, 325,779 pairs of different ones, and 480 drawn
documents, screenshots and scenes; see `docs/duplicates.md`.
"""
MAX_DISTANCE: Final = len(LEAST_COSINE) - 1
SAME_SHAPE: Final = 1.15
"""Largest quotient of two aspect ratios: a slight crop changes it by less."""
GUESS_COSINE: Final = 0.97
"""Without hashes only embeddings this close make a candidate."""
BURST_STEP_S: Final = 3.0
BURST_SPAN_S: Final = 60.0
BURST_COSINE: Final = 0.7
_EXACT_UP_TO: Final = 20_000
"""So many hashes are compared all with all, exactly."""
_BANDS: Final = 4
_TWO_FLIPS_UP_TO: Final = 300_000
_BLOCK: Final = 1 << 22
"""Pairs looked at in one numpy step: some 100 MB."""


class Shot(Protocol):
    """The part of a record that says what picture it is."""

    @property
    def path(self) -> bytes: ...
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def format(self) -> str: ...
    @property
    def taken_at(self) -> str | None: ...
    @property
    def camera(self) -> str | None: ...


def are_near(distances: npt.NDArray[Any], cosines: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Return (n,) whether pictures with these distances (bits) and cosines are one."""
    place = np.minimum(distances, MAX_DISTANCE).astype(np.int64)
    return np.asarray((distances <= MAX_DISTANCE) & (cosines >= LEAST_COSINE[place]), np.bool_)


def may_be_one(one: Shot, two: Shot) -> bool:
    """Return False when what two pictures say about themselves tells them apart: shape or moment."""
    if min(one.width, one.height, two.width, two.height) < 1:
        return False
    quotient = (one.width * two.height) / (one.height * two.width)
    if not 1 / SAME_SHAPE <= quotient <= SAME_SHAPE:
        return False
    dated = one.taken_at is not None and two.taken_at is not None
    if dated and one.camera == two.camera and one.camera is not None:
        return seconds(str(one.taken_at)) == seconds(str(two.taken_at))
    return True


def seconds(taken_at: str) -> float | None:
    """Return the camera's clock as seconds, None when it does not tell the time of day.

    Two pictures are compared by the clock that both cameras showed: a time zone is left out.
    """
    match = re.match(r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d)(?::(\d\d(?:\.\d+)?))?", taken_at)
    if match is None:
        return None
    year, month, day, hour, minute = (int(number) for number in match.groups()[:5])
    try:
        days = np.datetime64(f"{year:04}-{month:02}-{day:02}", "D").astype(np.int64)
    except ValueError:
        return None
    return float(days) * 86400 + hour * 3600 + minute * 60 + float(match[6] or 0)


def follows(before: tuple[str, float], now: tuple[str, float], begun: float) -> bool:
    """Return whether a shot, (camera, seconds), goes on with the burst that began at `begun`."""
    step, span = now[1] - before[1], now[1] - begun
    return before[0] == now[0] and step <= BURST_STEP_S and span <= BURST_SPAN_S


def distances(one: Hashes, two: Hashes) -> npt.NDArray[np.uint8]:
    """Return how many bits differ, broadcast."""
    return np.asarray(np.bitwise_count(one ^ two), np.uint8)


def close_pairs(hashes: Hashes) -> tuple[Ids, Ids]:
    """Return (i, j), i < j, of hashes that differ in at most MAX_DISTANCE bits; plain ones pair with none.

    Up to 20,000 hashes all pairs are found; up to 300,000 those whose hashes have a word of 16 bits, of
    four, that differs in at most two bits (all pairs up to 11 bits); beyond that in at most one (all up to 7
    bits, and most of the others). Of more than 256 equal hashes, each is paired with the first 256 only.

    Source: Norouzi, Punjani and Fleet 2012, "Fast search in Hamming space with multi-index hashing".
    """
    values, first_of = np.unique(hashes[hashes != PLAIN], return_inverse=True)
    places = np.flatnonzero(hashes != PLAIN)
    order = np.argsort(first_of, kind="stable")
    places = places[order]  # grouped by value, in their own order within
    starts = np.concatenate([[0], np.cumsum(np.bincount(first_of, minlength=len(values)))]).astype(np.int64)
    found: list[npt.NDArray[np.int64]] = []
    for left, right in _close_values(values):
        found.append(np.stack([left, right]))
    same = np.flatnonzero(np.diff(starts) > 1)
    found.append(np.stack([same, same]))
    pairs = np.unique(np.concatenate(found, axis=1), axis=1) if found else np.empty((2, 0), np.int64)
    lefts, rights = [], []
    for a, b in pairs.T.tolist():
        some, others = places[starts[a] : starts[a + 1]], places[starts[b] : starts[b + 1]]
        left = np.repeat(some[:256], len(others))
        right = np.tile(others, min(256, len(some)))
        kept = left < right if a == b else np.ones(len(left), np.bool_)
        lefts.append(np.minimum(left, right)[kept])
        rights.append(np.maximum(left, right)[kept])
    if not lefts:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    return np.concatenate(lefts), np.concatenate(rights)


def _close_values(values: Hashes) -> Iterator[tuple[Ids, Ids]]:
    """Yield (i, j), i < j, of distinct values within MAX_DISTANCE; a pair may come more than once."""
    count = len(values)
    if count <= _EXACT_UP_TO:
        rows = max(1, _BLOCK // max(1, count))
        for start in range(0, count, rows):
            near = distances(values[start : start + rows, None], values[None, start:]) <= MAX_DISTANCE
            left, right = np.nonzero(near)
            kept = right > left
            yield left[kept] + start, right[kept] + start
        return
    flips = 2 if count <= _TWO_FLIPS_UP_TO else 1
    masks = [mask for mask in range(1 << 16) if mask.bit_count() <= flips]
    for band in range(_BANDS):
        words = ((values >> np.uint64(16 * band)) & np.uint64(0xFFFF)).astype(np.int64)
        order = np.argsort(words, kind="stable").astype(np.int64)
        ends = np.searchsorted(words[order], np.arange(65537))
        for mask in masks:
            # Of the bits that differ, the side whose lowest is unset asks: each pair once.
            asking = order if mask == 0 else order[(words[order] & mask & -mask) == 0]
            yield from _joined(values, words[asking] ^ mask, asking, order, ends)


def _joined(values: Hashes, wanted: Ids, asking: Ids, order: Ids, ends: Ids) -> Iterator[tuple[Ids, Ids]]:
    """Yield the close pairs between each asking value and all that have the word it wants."""
    counts = ends[wanted + 1] - ends[wanted]
    total = np.cumsum(counts)
    start = 0
    while start < len(asking):
        done = total[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(total, done + _BLOCK, side="right")))
        block = counts[start:stop]
        left = np.repeat(asking[start:stop], block)
        inside = np.arange(len(left)) - np.repeat(np.cumsum(block) - block, block)
        right = order[np.repeat(ends[wanted[start:stop]], block) + inside]
        kept = (left != right) & (distances(values[left], values[right]) <= MAX_DISTANCE)
        yield np.minimum(left, right)[kept], np.maximum(left, right)[kept]
        start = stop
