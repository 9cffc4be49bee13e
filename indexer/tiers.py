"""A second tier for very many embeddings: inverted lists that name candidates, scored again exactly.

The embeddings are sorted into lists around centroids (IVF) as codes of 8 bits a dimension, in a FAISS file
beside the snapshot that is memory-mapped: a question reads only the lists nearest to it. What they bring is
scored again by the snapshot's own rows, so a score is that of the exact answer; only a frame can be missing.
Source: Jegou, Douze, Schmid 2011, Product Quantization for Nearest Neighbor Search, section IV (IVFADC).
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from indexer.catalog import Catalog
from indexer.records import Space, TierRecord, TierStatus
from indexer.scanning import Places, Rows, Scores
from indexer.snapshots import open_named, readable_name

FROM_ROWS = 1_000_000
"""Below it the exact scan takes 40 ms and needs no second file."""
GROWN_SHARE = 0.05
"""Embeddings past the lists, of those inside, from which new lists pay: until then they are scanned."""
MOST_HITS = 1_000
"""A question that wants more is answered exactly: recall was measured for far fewer."""
_FEW_SHARE = 0.1
"""Of the embeddings: among fewer than that the exact scan of these is right and fast enough."""
_MOST_MAPPED_BYTES = 512 * 2**20
"""Of the lists' file that questions bring into this process: those of ten million are 4 GB."""
_AROUND_BYTES = 128 * 2**10
"""The system maps 64 KB where one byte was asked for: at both ends of a list."""


class Tier:
    """Inverted lists opened for questions.

    Attributes:
        record: what the catalog says of them.
    """

    def __init__(self, index: Any, record: TierRecord) -> None:
        """Take over an IndexIVFScalarQuantizer that is memory-mapped."""
        import faiss

        self._index = index
        self.record = record
        # Of its own FAISS starts 32 threads a question that touch the lists ahead, 2 ms.
        lists: Any = faiss.downcast_InvertedLists(index.invlists)
        lists.prefetch_nthread = 0
        self._mapped: npt.NDArray[np.uint8] = faiss.rev_swig_ptr(lists.ptr, lists.totsize)
        self._touched_bytes = 0

    def covers(self, rows: Rows) -> bool:
        """Return whether place n of the lists is place n of these rows.

        Ids ascend, are never given out again, and embeddings are only ever deleted: the first `count` rows
        are the same ones when as many are left as there were.
        """
        at = int(np.searchsorted(rows.ids, self.record.through_id, side="right"))
        return at == self.record.count

    def nearest(
        self,
        query: npt.NDArray[np.float32],
        k: int,
        rows: Rows,
        *,
        bitmap: npt.NDArray[np.uint8] | None = None,
        probes: int | None = None,
    ) -> tuple[Places, Scores]:
        """Return about the k best (places, scores), in no order.

        Args:
            bitmap: a bit for each place: count only these.
            probes: lists to read; None: as many as were found to be enough for k.
        """
        import faiss

        wanted = self.candidates(k)
        parameters = faiss.SearchParametersIVF()
        parameters.nprobe = probes or self.probes_for(k, among=bitmap is not None)
        if bitmap is not None:
            parameters.sel = faiss.IDSelectorBitmap(len(rows), faiss.swig_ptr(bitmap))
        with _one_core():
            _, found = self._index.search(query[None], wanted, params=parameters)
        self._touch(parameters.nprobe)
        places = np.sort(found[0][found[0] >= 0])
        return places, rows.at(places) @ query

    def _touch(self, lists: int) -> None:
        """Count what a question mapped; when that is much, let go of all of it: it stays in the page cache,
        and is mapped again where it is asked for, 1 ms for 10 MB."""
        self._touched_bytes += lists * (self.record.size_bytes // self.record.lists + _AROUND_BYTES)
        if self._touched_bytes > _MOST_MAPPED_BYTES < self.record.size_bytes:
            self._touched_bytes = 0
            release(self._mapped)

    def candidates(self, k: int) -> int:
        """Return how many embeddings the lists are asked for, to be scored again."""
        return min(2 * k + 64, self.record.count)

    def probes_for(self, k: int, *, among: bool = False) -> int:
        """Return how many lists to read for k hits; among some embeddings the nearest lie farther."""
        probes = self.record.probes * (1 + k / 200) * (4 if among else 1)
        return max(1, min(self.record.lists, round(probes)))

    def serves(self, k: int, among: int | None = None) -> bool:
        """Return whether a question is answered by lists, not by reading all: few hits among many rows."""
        if among is not None and among < _FEW_SHARE * self.record.count:
            return False
        return k <= MOST_HITS and self.probes_for(k, among=among is not None) <= self.record.lists // 2


def open_tier(folder: Path, record: TierRecord, space: Space) -> tuple[Tier | None, str | None]:
    """Return (tier, None), or (None, why not)."""
    import faiss

    path = folder / Path(record.name).name
    fd, trouble = open_named(folder, record)
    if fd is None:
        return None, trouble
    try:
        index: Any = faiss.read_index(readable_name(fd, path), faiss.IO_FLAG_MMAP)
    except (OSError, RuntimeError, MemoryError) as error:
        return None, f"{path.name}: {str(error).splitlines()[0][:120]}"
    finally:
        os.close(fd)
    sound = isinstance(index, faiss.IndexIVFScalarQuantizer)
    lists: Any = index.invlists if sound else None
    sound = sound and isinstance(faiss.downcast_InvertedLists(lists), faiss.OnDiskInvertedLists)
    if not sound or (index.d, index.ntotal, index.nlist) != (space.dim, record.count, record.lists):
        return None, f"{path.name}: not lists of this space"
    return Tier(index, record), None


@contextlib.contextmanager
def _one_core() -> Iterator[None]:
    """Have FAISS use one core, in this thread only: it shares out one question among the cores where it looks
    for more than 100 lists, and two that wait for each other at every barrier take 15 ms for what one does
    in 0.8, wherever something else runs."""
    import faiss

    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)


def release(mapped: npt.NDArray[np.uint8]) -> None:
    """Take a mapped file out of this process's memory; reading it brings it back."""
    advice = getattr(mmap, "MADV_DONTNEED", None)
    if advice is not None and os.name == "posix":
        start = mapped.ctypes.data // mmap.PAGESIZE * mmap.PAGESIZE
        length = mapped.ctypes.data + mapped.nbytes - start
        ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), ctypes.c_int(advice))


def load_tier(catalog: Catalog, space: Space, rows: Rows) -> tuple[Tier | None, str | None]:
    """Return (the lists of these rows or None, why named ones could not be used or None)."""
    why: str | None = None
    for record in catalog.tiers():
        if record.space_id != space.id:
            continue
        tier, trouble = open_tier(catalog.folder, record, space)
        if tier is not None and tier.covers(rows):
            return tier, None
        why = why or trouble
    return None, why


def tier_status(record: TierRecord) -> TierStatus:
    """Return what a person is told of a tier."""
    return TierStatus(
        "IVF,SQ8", record.name, record.count, record.lists, record.probes, round(record.recall_at_10, 4),
        round(record.recall_at_100, 4), record.queries, record.own_queries, record.size_bytes,
    )  # fmt: skip
