"""The rows of a snapshot where they lie, and an exact scan of them on every core.

FAISS gives one query one thread. Two halves of the rows, scanned by two threads with FAISS's own kernels,
take half the time: a scan is as fast as the memory can be read.
"""

from __future__ import annotations

import os
import weakref
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

_LEAST_ROWS = 32_768
"""Of a part: below it a thread costs more than it saves."""
_PARTS = 8
"""Of the rows, for each thread."""
_LOWEST = np.float32(-3.4e38)

Places = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float32]


class Rows:
    """Embeddings by place, 0 to n - 1 in the order of their ids, in memory or memory-mapped.

    Attributes:
        ids: (n,) int64 ascending embedding ids.
        codes: (n, 2 * dim) uint8, a float16 row each.
    """

    def __init__(self, index: Any, fd: int | None = None) -> None:
        """Take over an IndexIDMap over an fp16 IndexScalarQuantizer.

        Args:
            fd: the file it is mapped from, duplicated here: what is read row by row does not stay in memory.
        """
        import faiss

        self._index = index  # the memory that the two arrays show is its own
        inner: Any = faiss.downcast_index(index.index)
        self._quantizer = inner.sq
        count, width = int(index.ntotal), 2 * int(index.d)
        self.ids: npt.NDArray[np.int64] = faiss.rev_swig_ptr(index.id_map.data(), count)
        self.codes: npt.NDArray[np.uint8] = faiss.rev_swig_ptr(inner.codes.data(), count * width).reshape(
            count, width
        )
        self._fd: int | None = None
        if fd is not None:
            self._fd = os.dup(fd)
            weakref.finalize(self, os.close, self._fd)
            # Behind the rows stand the number of ids and the ids.
            self._offset = os.fstat(fd).st_size - 8 * (count + 1) - count * width

    def __len__(self) -> int:
        return len(self.ids)

    def at(self, places: Places) -> npt.NDArray[np.float32]:
        """Return (n, dim) float32 embeddings at these places."""
        if self._fd is None:
            return self.codes[places].view(np.float16).astype(np.float32)
        # Through the map each row would bring its neighbours into memory, 64 KB of them.
        width = self.codes.shape[1]
        found = np.empty((len(places), width), np.uint8)
        offsets = (self._offset + places * width).tolist()
        if hasattr(os, "posix_fadvise"):
            # What is not in memory is read by the disk at once, not row by row: 4,096 rows 100 ms, not 450.
            for offset in offsets:
                os.posix_fadvise(self._fd, offset, width, os.POSIX_FADV_WILLNEED)
        for row, offset in zip(found, offsets, strict=True):
            os.preadv(self._fd, [row.data], offset)
        return found.view(np.float16).astype(np.float32)

    def read(self, first: int, last: int) -> npt.NDArray[np.float32]:
        """Return (last - first, dim) float32 embeddings from place `first` on."""
        if self._fd is None:
            return self.codes[first:last].view(np.float16).astype(np.float32)
        width = self.codes.shape[1]
        found = np.empty((last - first, width), np.uint8)
        view = found.data.cast("B")
        offset = self._offset + first * width
        while view:
            done = os.preadv(self._fd, [view[: 1 << 26]], offset)
            if not done:
                raise OSError(5, "the snapshot was cut while it was read")
            view, offset = view[done:], offset + done
        return found.view(np.float16).astype(np.float32)

    def scan(
        self,
        query: npt.NDArray[np.float32],
        k: int,
        *,
        first: int = 0,
        bitmap: npt.NDArray[np.uint8] | None = None,
    ) -> tuple[Places, Scores]:
        """Return the k best (places, scores) from place `first` on, in no order; exact.

        Args:
            query: (dim,) float32.
            bitmap: a bit for each place, lowest bit first: count only these. FAISS passes over the others,
                2 ms a million on one core.
        """
        query = np.ascontiguousarray(query, np.float32)
        edges = _edges(first, len(self))
        if len(edges) <= 2:
            found = [self._scan(query, k, first, len(self), bitmap)]
        else:
            tasks = [
                _pool().submit(self._scan, query, k, start, end, bitmap) for start, end in pairwise(edges)
            ]
            found = [task.result() for task in tasks]
        return (
            np.concatenate([places for places, _ in found]),
            np.concatenate([scores for _, scores in found]),
        )

    def _scan(
        self,
        query: npt.NDArray[np.float32],
        k: int,
        start: int,
        end: int,
        bitmap: npt.NDArray[np.uint8] | None,
    ) -> tuple[Places, Scores]:
        import faiss

        k = min(k, end - start)
        scores, places = np.full(k, _LOWEST, np.float32), np.full(k, -1, np.int64)
        if not k:
            return places, scores
        chosen = None
        if bitmap is not None:
            # A part begins at a whole byte, but for the first, which may begin within one.
            start_bit = start % 8
            bits = bitmap[start // 8 : (end + 7) // 8]
            if start_bit:
                bits = np.packbits(np.unpackbits(bits, bitorder="little")[start_bit:], bitorder="little")
            chosen = faiss.IDSelectorBitmap(end - start, faiss.swig_ptr(bits))
        scanner = self._quantizer.select_InvertedListScanner(
            faiss.METRIC_INNER_PRODUCT, None, True, chosen, False
        )
        scanner.set_query(faiss.swig_ptr(query))
        scanner.set_list(0, 0.0)
        scanner.scan_codes(
            end - start, faiss.swig_ptr(self.codes[start:end].reshape(-1)), None,
            faiss.swig_ptr(scores), faiss.swig_ptr(places), k,
        )  # fmt: skip
        kept = places >= 0
        return places[kept] + start, scores[kept]


def threads() -> int:
    """Return how many threads one question may use: FAISS's own number, which OMP_NUM_THREADS sets."""
    import faiss

    return max(1, int(faiss.omp_get_max_threads()))


def _edges(first: int, last: int) -> list[int]:
    # More parts than threads: one whose core is busy with something else leaves its share to the others.
    parts = max(1, min(_PARTS * threads(), (last - first) // _LEAST_ROWS)) if threads() > 1 else 1
    inner = [(first + (last - first) * part // parts) // 8 * 8 for part in range(1, parts)]
    return [first, *inner, last]


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads(), thread_name_prefix="scan")
