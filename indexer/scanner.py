"""The walk in a thread of its own: it runs ahead of decoding, but not out of memory."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence

from indexer.scan import Candidate, FolderProblem, scan

Found = list[Candidate | FolderProblem]

_BATCH, _BATCH_S = 512, 0.2
_QUEUE = 40


class Scanner:
    """Iterates `scan` in the background. `finished` is true once everything found has been taken."""

    def __init__(self, roots: Sequence[bytes], skip_dirs: frozenset[tuple[int, int]]) -> None:
        self.finished = False
        self._batches: queue.Queue[Found | BaseException | None] = queue.Queue(_QUEUE)
        self._closing = False
        threading.Thread(target=self._run, args=(roots, skip_dirs), name="scan", daemon=True).start()

    def take(self, timeout_s: float) -> Found:
        """Return the next things found, empty when there are none within the time or the walk has ended.

        Raises:
            whatever ended the walk: it belongs to the caller's thread.
        """
        try:
            item = self._batches.get(timeout=timeout_s) if timeout_s else self._batches.get_nowait()
        except queue.Empty:
            return []
        if item is None:
            self.finished = True
            return []
        if isinstance(item, BaseException):
            raise item
        return item

    def close(self) -> None:
        """Let the thread end; it may still be inside one system call."""
        self._closing = True
        self.finished = True

    def _run(self, roots: Sequence[bytes], skip_dirs: frozenset[tuple[int, int]]) -> None:
        batch: Found = []
        started = time.monotonic()
        try:
            for item in scan(roots, skip_dirs=skip_dirs):
                batch.append(item)
                if len(batch) >= _BATCH or time.monotonic() - started > _BATCH_S:
                    if not self._put(batch):
                        return
                    batch, started = [], time.monotonic()
            self._put(batch)
            self._put(None)
        except BaseException as error:
            self._put(error)

    def _put(self, item: Found | BaseException | None) -> bool:
        while not self._closing:
            try:
                self._batches.put(item, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False
