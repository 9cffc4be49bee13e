"""`near_edges`: pairs of pictures whose hashes and embeddings are close; what is compared pixel by pixel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from search.duplicates import likeness

if TYPE_CHECKING:
    from indexer import Index

_GUESS_UP_TO: Final = 50_000
"""So many pictures without a hash are compared by embedding, all with all."""
_BLOCK: Final = 2048


@dataclass(frozen=True, slots=True)
class Edge:
    """How near two pictures are: bits, None where a hash is missing; and the cosine."""

    distance: int | None
    cosine: float


def near_edges(index: Index, alive: npt.NDArray[np.int64]) -> tuple[dict[tuple[int, int], Edge], int]:
    """Return {(content id, larger content id): how near} and how many pictures have no hash."""
    numbers: list[int] = []
    hashes: list[int] = []
    for number, look in index.looks():
        numbers.append(number)
        hashes.append(look.phash)
    ids, looks = np.array(numbers, np.int64), np.array(hashes, np.uint64)
    here = np.isin(ids, alive)
    ids, looks = ids[here], looks[here]
    edges: dict[tuple[int, int], Edge] = {}
    left, right = likeness.close_pairs(looks)
    for one, two, cosine in _cosines(index, ids[left], ids[right]):
        distance = likeness.distances(looks[np.searchsorted(ids, one)], looks[np.searchsorted(ids, two)])
        near = likeness.are_near(distance, cosine)
        for a, b, bits, score in zip(one[near], two[near], distance[near], cosine[near], strict=True):
            edges[min(int(a), int(b)), max(int(a), int(b))] = Edge(int(bits), round(float(score), 4))
    unseen = np.setdiff1d(alive, ids)
    if 0 < len(unseen) <= _GUESS_UP_TO:
        for a, b, score in _guesses(index, unseen):
            edges[a, b] = Edge(None, score)
    return edges, len(unseen)


def _cosines(
    index: Index, left: likeness.Ids, right: likeness.Ids
) -> Iterator[tuple[likeness.Ids, likeness.Ids, npt.NDArray[np.float32]]]:
    """Yield (left ids, right ids, cosines) in runs; pairs without embeddings are left out."""
    order = np.lexsort((right, left))
    left, right = left[order], right[order]
    for start in range(0, len(left), _BLOCK * 16):
        one, two = left[start : start + _BLOCK * 16], right[start : start + _BLOCK * 16]
        known, rows = index.copies.vectors(np.union1d(one, two).tolist())
        both = np.isin(one, known) & np.isin(two, known)
        one, two = one[both], two[both]
        scores = np.empty(len(one), np.float32)
        for at in range(0, len(one), _BLOCK):
            a = rows[np.searchsorted(known, one[at : at + _BLOCK])].astype(np.float32)
            b = rows[np.searchsorted(known, two[at : at + _BLOCK])].astype(np.float32)
            scores[at : at + _BLOCK] = (a * b).sum(axis=1)
        yield one, two, scores


def _guesses(index: Index, unseen: npt.NDArray[np.int64]) -> Iterator[tuple[int, int, float]]:
    """Yield (content id, larger content id, cosine) of embeddings as good as equal, at most 64 each."""
    ids, rows = index.copies.vectors(unseen.tolist())
    for start in range(0, len(ids), _BLOCK):
        scores = rows[start : start + _BLOCK].astype(np.float32) @ rows[start:].T.astype(np.float32)
        for row in range(len(scores)):
            near = np.flatnonzero(scores[row] >= likeness.GUESS_COSINE)
            for place in near[near > row][:64].tolist():
                yield int(ids[start + row]), int(ids[start + place]), round(float(scores[row, place]), 4)
