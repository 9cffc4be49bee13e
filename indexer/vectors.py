"""The nearest vectors: the rows of a snapshot, searched together with the tail written since."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from indexer.catalog import Catalog
from indexer.records import Space
from indexer.scanning import Rows
from indexer.snapshots import MID_RUN_ROWS, build_rows, open_snapshot
from indexer.tiers import Tier, load_tier

_SPARE = 16
"""Fetched beyond k, so that equal scores at the border are told apart by their ids."""
_NO_SCORES = np.empty(0, np.float32)
_NO_PLACES = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Among:
    """Some of the embeddings in `Vectors`.

    Attributes:
        count: how many of them the snapshot holds.
        bitmap: a bit for each place of the snapshot, lowest bit first.
        tail: (n,) places in the tail.
    """

    count: int
    bitmap: npt.NDArray[np.uint8]
    tail: npt.NDArray[np.int64]


@dataclass(slots=True)
class Vectors:
    """What a query is compared with, in memory or memory-mapped.

    Attributes:
        rows: of the snapshot; None when there is none.
        tier: lists that spare a question most of the rows; None when there are none, or too few rows.
        tail_ids, tail: (n,) int64 and (n, dim) float32, embeddings newer than the snapshot.
        rebuilt: why the snapshot was not usable, or None.
        slower: why the lists were not usable, or None.
    """

    dim: int
    rows: Rows | None = None
    tier: Tier | None = None
    tail_ids: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    tail: npt.NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32))
    rebuilt: str | None = None
    slower: str | None = None

    def __len__(self) -> int:
        return self._base() + len(self.tail_ids)

    def nearest(
        self, query: npt.NDArray[np.float32], k: int, among: Among | None = None, *, exact: bool = False
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Return the k best (embedding ids, scores), best first, ties by id.

        Args:
            query: (dim,) float32, unit L2 norm.
            among: count only these.
            exact: read every row that counts, also where there are lists. Without lists it always is so.
        """
        ids, tail = self.tail_ids, self.tail
        if among is not None:
            ids, tail = ids[among.tail], tail[among.tail] if len(among.tail) else tail
        scores = tail @ query if len(ids) else _NO_SCORES
        if self.rows is not None and (among is None or among.count):
            places, near = self._snapshot_nearest(query, k + _SPARE, among, exact)
            ids = np.concatenate([self.rows.ids[places], ids])
            scores = np.concatenate([near, scores])
        scores = np.where(np.isfinite(scores), scores, -2.0)
        order = np.lexsort((ids, -scores))[:k]
        return ids[order], np.asarray(scores[order], np.float32)

    def _snapshot_nearest(
        self, query: npt.NDArray[np.float32], k: int, among: Among | None, exact: bool
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        assert self.rows is not None
        bitmap, count = (None, None) if among is None else (among.bitmap, among.count)
        if self.tier is None or exact or not self.tier.serves(k, count):
            return self.rows.scan(query, k, bitmap=bitmap)
        listed, scores = self.tier.nearest(query, k, self.rows, bitmap=bitmap)
        # A selection may lie elsewhere than the question: lists that hold few of it are the wrong ones.
        enough = min(k, self.tier.record.count) if count is None else min(self.tier.candidates(k), count)
        if len(listed) < enough:
            return self.rows.scan(query, k, bitmap=bitmap)
        newer = self.rows.scan(query, k, first=self.tier.record.count, bitmap=bitmap)
        return np.concatenate([listed, newer[0]]), np.concatenate([scores, newer[1]])

    def among(self, ids: npt.NDArray[np.int64]) -> Among:
        """Return the embeddings `ids` (sorted) as `nearest` wants them; unknown ids are left out."""
        base = self._base()
        places = self.places_of(ids)
        bits = np.zeros(base, bool)
        bits[places[(places >= 0) & (places < base)]] = True
        tail = places[places >= base] - base
        return Among(int(np.count_nonzero(bits)), np.packbits(bits, bitorder="little"), tail)

    # -- by place: rows of the snapshot first, then those of the tail; ids ascend in both

    def _base(self) -> int:
        return 0 if self.rows is None else len(self.rows)

    def ids_at(self, places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the embedding ids at these places."""
        base = self._base()
        inside = places < base
        found = np.empty(len(places), np.int64)
        if self.rows is not None:
            found[inside] = self.rows.ids[places[inside]]
        found[~inside] = self.tail_ids[places[~inside] - base]
        return found

    def places_of(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return where embeddings are, -1 where they are not."""
        base = self.rows.ids if self.rows is not None else _NO_PLACES
        found = np.full(len(ids), -1, np.int64)
        for known, offset in ((base, 0), (self.tail_ids, len(base))):
            if len(known):
                at = np.minimum(np.searchsorted(known, ids), len(known) - 1)
                there = known[at] == ids
                found[there] = at[there] + offset
        return found

    def rows_at(self, places: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Return (n, dim) float32 embeddings at these places."""
        base = self._base()
        inside = places < base
        found = np.empty((len(places), self.dim), np.float32)
        if self.rows is not None and inside.any():
            found[inside] = self.rows.at(places[inside])
        if not inside.all():
            found[~inside] = self.tail[places[~inside] - base]
        return found


def load(catalog: Catalog, space: Space) -> Vectors:
    """Return the vectors of a space: the newest sound snapshot and the tail, or all from the catalog."""
    why: str | None = None
    for attempt in range(2):
        records = [record for record in catalog.snapshots() if record.space_id == space.id]
        for record in records:
            rows, trouble = open_snapshot(catalog.folder, record, space)
            if rows is not None:
                vectors = Vectors(space.dim, rows, rebuilt=why)
                vectors.tier, vectors.slower = load_tier(catalog, space, rows)
                _read_tail(vectors, catalog, space, record.through_id)
                return vectors
            why = why or trouble
        if not records or attempt:
            break
        # The writer may have replaced both between our two reads: look once more.
    vectors = Vectors(space.dim, rebuilt=why)
    if catalog.count_after(space, 0) > MID_RUN_ROWS:
        vectors.rows = build_rows(catalog, space)
    else:
        _read_tail(vectors, catalog, space, 0)
    return vectors


def _read_tail(vectors: Vectors, catalog: Catalog, space: Space, after_id: int) -> None:
    parts = list(catalog.embeddings_after(space, after_id))
    if parts:
        vectors.tail_ids = np.concatenate([ids for ids, _ in parts])
        vectors.tail = np.concatenate([rows for _, rows in parts]).astype(np.float32)
