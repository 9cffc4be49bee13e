"""`group_hits`: which hits are one picture or one moment, so that one of them stands for the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from search.duplicates import likeness

if TYPE_CHECKING:
    from indexer import FrameRecord, Look

Labels = npt.NDArray[np.int64]


def group_hits(
    records: Sequence[FrameRecord],
    embeddings: npt.NDArray[np.float32],
    looks: Mapping[int, Look],
    by: Literal["burst", "near-duplicate"],
) -> Labels:
    """Return (n,) labels: the place of the first hit of each hit's group, its own when it stands alone.

    Unlike `find_duplicates` this opens no file: what is grouped here is shown together, not removed.

    Args:
        records: hits, best first.
        embeddings: (n, dim) float32, unit L2 norm, of their frames.
        looks: by frame id, from `Index.copies.looks_of`; where one is missing embeddings alone decide.
    """
    labels = np.arange(len(records), dtype=np.int64)
    clocks = [_clock(record) for record in records] if by == "burst" else []
    chains = _chains(clocks) if by == "burst" else []
    hashes = np.array([_hash(looks, record) for record in records], np.uint64)
    for place in range(1, len(records)):
        firsts = np.flatnonzero(labels[:place] == np.arange(place))
        cosines = embeddings[firsts] @ embeddings[place]
        if by == "burst":
            near = cosines >= likeness.BURST_COSINE
        else:
            near = _near(hashes[firsts], hashes[place], cosines)
        for first in firsts[near].tolist():
            if by == "burst":
                together = chains[place] is not None and chains[place] == chains[first]
            else:
                together = likeness.may_be_one(records[first], records[place])
            if together:
                labels[place] = first
                break
    return labels


def _near(hashes: likeness.Hashes, own: np.uint64, cosines: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    seen = (hashes != likeness.PLAIN) & (own != likeness.PLAIN)
    by_hash = likeness.are_near(likeness.distances(hashes, np.asarray(own)), cosines)
    return np.where(seen, by_hash, cosines >= likeness.GUESS_COSINE)


def _hash(looks: Mapping[int, Look], record: FrameRecord) -> int:
    """Return the hash of a whole picture; `PLAIN` for tiles and frames of videos, which have none."""
    look = looks.get(record.frame_id)
    return look.phash if look and record.region is None and record.timestamp_ms is None else likeness.PLAIN


def _clock(record: FrameRecord) -> tuple[str, float] | None:
    when = likeness.seconds(record.taken_at) if record.taken_at else None
    return None if when is None or record.camera is None else (record.camera, when)


def _chains(clocks: Sequence[tuple[str, float] | None]) -> list[int | None]:
    """Return the number of the run of shots that each belongs to; None for what is undated."""
    chains: list[int | None] = [None] * len(clocks)
    timed = sorted((clock, place) for place, clock in enumerate(clocks) if clock is not None)
    before: tuple[str, float] | None = None
    begun, number = 0.0, 0
    for clock, place in timed:
        follows = before is not None and likeness.follows(before, clock, begun)
        if not follows:
            begun, number = clock[1], number + 1
        chains[place], before = number, clock
    return chains
