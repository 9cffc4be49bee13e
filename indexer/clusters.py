"""Centroids that sort embeddings into lists, found and asked in two steps.

k-means with thousands of centroids compares every embedding with every one of them. Here a few dozen are
found first, and each one's embeddings are divided again: sorting ten million takes a minute, not a quarter of
an hour, and an embedding is compared with a hundred centroids instead of ten thousand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_ROUNDS = 8
_NEAREST_GROUPS = 2
"""An embedding near the border of two groups belongs to the nearest list of both."""

Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Clusters:
    """Unit centroids, the lists of a group side by side.

    Attributes:
        groups: (g, dim) centroids of the groups.
        first: (g + 1,) where the lists of each group begin.
        centroids: (lists, dim).
    """

    groups: Matrix
    first: npt.NDArray[np.int64]
    centroids: Matrix

    @classmethod
    def of(
        cls, rows: Matrix, lists: int, *, seed: int = 0, check: Callable[[], None] = lambda: None
    ) -> Clusters:
        """Return `lists` centroids of a sample of embeddings, at least as many rows as lists.

        Args:
            check: called every second or so; what it raises ends the work.
        Source: Lloyd 1982; two levels as in Nister, Stewenius 2006, Scalable Recognition with a Vocabulary
        Tree.
        """
        groups = _kmeans(rows[:: max(1, len(rows) // 65_536)], max(1, round(lists**0.5)), seed)
        member = np.argmax(rows @ groups.T, axis=1)
        counts = np.bincount(member, minlength=len(groups))
        shares = _shares(counts, lists)
        groups, shares_kept = groups[shares > 0], shares[shares > 0]
        kept = np.flatnonzero(shares > 0)
        centroids = []
        for group, share in zip(kept, shares_kept, strict=True):
            check()
            centroids.append(_kmeans(rows[member == group], int(share), seed))
        first = np.concatenate([[0], np.cumsum([len(part) for part in centroids])]).astype(np.int64)
        return cls(groups, first, np.concatenate(centroids))

    def assign(self, rows: Matrix) -> npt.NDArray[np.int64]:
        """Return (n,) the list of each embedding: the nearest centroid of its two nearest groups."""
        near = rows @ self.groups.T
        best, scores = np.zeros(len(rows), np.int64), np.full(len(rows), -np.inf, np.float32)
        for _ in range(min(_NEAREST_GROUPS, len(self.groups))):
            group = np.argmax(near, axis=1)
            order = np.argsort(group, kind="stable")
            edges = np.searchsorted(group[order], np.arange(len(self.groups) + 1))
            for number in np.flatnonzero(np.diff(edges)):
                places = order[edges[number] : edges[number + 1]]
                start = int(self.first[number])
                cosines = rows[places] @ self.centroids[start : int(self.first[number + 1])].T
                mine = np.argmax(cosines, axis=1)
                found = cosines[np.arange(len(places)), mine]
                better = found > scores[places]
                best[places[better]] = mine[better] + start
                scores[places[better]] = found[better]
            near[np.arange(len(rows)), group] = -np.inf
        return best


def _shares(counts: npt.NDArray[np.int64], lists: int) -> npt.NDArray[np.int64]:
    """Return how many lists each group gets: as its members are, never more than it has, none to none."""
    due = counts * lists / counts.sum()
    shares: npt.NDArray[np.int64] = np.minimum(counts, np.maximum(counts > 0, np.floor(due))).astype(np.int64)
    for group in np.argsort(shares - due, kind="stable"):
        if shares.sum() >= lists:
            break
        shares[group] += shares[group] < counts[group]
    return shares


def _kmeans(rows: Matrix, k: int, seed: int) -> Matrix:
    """Return (k', dim) unit centroids, k' = k unless the rows are fewer."""
    import faiss

    if len(rows) <= k:
        return np.ascontiguousarray(rows)
    # All rows that are given, however many a centroid: they are a sample already.
    means = faiss.Kmeans(
        rows.shape[1], k, niter=_ROUNDS, spherical=True, seed=seed + 1, min_points_per_centroid=1,
        max_points_per_centroid=len(rows),
    )  # fmt: skip
    means.train(np.ascontiguousarray(rows))
    return np.asarray(means.centroids, np.float32).reshape(k, rows.shape[1])
