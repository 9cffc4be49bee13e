"""`index_folders`: from folders of pictures to rows and vectors, without losing work.

scan (a thread) -> what is stale? (catalog) -> decode (spawned processes) -> encode (a thread; its runtime
uses the cores) -> one transaction per batch -> sweep what is gone -> snapshot -> report. This thread only
hands on: whoever decodes or encodes never waits for the other, nor for a commit.
"""

from __future__ import annotations

import os
import stat as stat_module
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from encoders import Embeddings, Encoder, EncoderMismatchError, UsageError
from indexer import snapshots as vector_files
from indexer.encoding import Encoding
from indexer.errors import storage_errors
from indexer.ledger import FileUpdate, Ledger, NewContent
from indexer.lock import WriterLock
from indexer.metadata import Metadata
from indexer.records import Failure, IndexReport, KnownFile, Look, Progress, Space
from indexer.resources import default_workers
from indexer.scan import Candidate, FolderProblem, kind_of, minimal_roots
from indexer.scanner import Found, Scanner
from indexer.sweep import Sightings, sweep
from indexer.tables import signed
from indexer.tier_building import build_tier
from indexer.workers import Decoded, DecodeFailure, DecodePool, DecodeTask, FileStat

COMMIT_ROWS = 256
COMMIT_S = 1.0
ENCODE_FRAMES = 32
"""Frames in one call of an encoder that names no `batch_size`: more gain nothing on a CPU and hold the next
commit back."""

EncoderFor = Callable[[Space | None], Encoder]


def index_folders(
    folders: Sequence[bytes],
    *,
    index_dir: Path,
    encoder: EncoderFor,
    workers: int | None = None,
    verify: bool = False,
    retry_failed: bool = False,
    prune: bool = False,
    wait_s: float | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
) -> IndexReport:
    """Bring an index up to date with folders and return what was done.

    Args:
        folders: what to index, `os.fsencode`d; a single picture is taken as well.
        encoder: called once with the index's space (None for a new index), returns the encoder to use.
        verify: read and hash every file, also unchanged ones; pictures that have no look yet get theirs.
        retry_failed: try files again that failed before.
        prune: forget vanished files also where it looks as if a drive was not mounted.
        stop: when set, the current batch is committed and the report says `stopped`.
    Raises:
        UsageError: a folder does not exist and nothing is known below it.
        IndexLockedError, IndexDamagedError, IndexNewerError, IndexStorageError, EncoderError.
    """
    started = time.monotonic()
    roots = minimal_roots(folders)
    new_index = not index_dir.exists()
    first: Encoder | None = None
    if new_index:
        for path in roots:
            if not os.path.lexists(path):
                raise UsageError(f"no such folder: {os.fsdecode(path)}")
        first = encoder(None)  # before anything is made: an encoder that is not there leaves nothing behind
        with storage_errors(index_dir):
            index_dir.mkdir(parents=True, exist_ok=True)
    lock = WriterLock(index_dir, wait_s)
    try:
        with Ledger.open_or_create(index_dir) as ledger:
            vector_files.sweep_strays(ledger)
            known_roots = ledger.roots()
            for path in roots:
                if (
                    not os.path.lexists(path)
                    and path not in known_roots
                    and not any(ledger.files_under(path, 1))
                ):
                    raise UsageError(f"no such folder: {os.fsdecode(path)}")
            space = ledger.space()
            chosen = first if first is not None and space is None else encoder(space)
            if space is None:
                space = ledger.set_space(chosen.spec, chosen.fingerprint, chosen.dim, chosen.image_size)
            elif space.fingerprint != chosen.fingerprint:
                raise EncoderMismatchError(space.spec, space.fingerprint, chosen.spec, chosen.fingerprint)
            run = _Run(
                ledger, lock, chosen, space, roots, known_roots, on_progress, stop or threading.Event()
            )
            run.verify, run.retry_failed, run.prune = verify, retry_failed, prune
            run.work(workers or default_workers())
            run.report.seconds = round(time.monotonic() - started, 3)
            return run.report
    finally:
        lock.close()


class _Run:
    """The state of one `index_folders` call."""

    verify = retry_failed = prune = False

    def __init__(
        self,
        ledger: Ledger,
        lock: WriterLock,
        encoder: Encoder,
        space: Space,
        roots: list[bytes],
        known_roots: dict[bytes, int],
        on_progress: Callable[[Progress], None] | None,
        stop: threading.Event,
    ) -> None:
        self.ledger, self.lock, self.encoder, self.space = ledger, lock, encoder, space
        self.sightings, self.known_roots = Sightings(roots, ledger.next_file_id()), known_roots
        self.on_progress, self.stop = on_progress, stop
        self.report = IndexReport()
        self.pending: deque[bytes] = deque()
        """Paths to be read. A million may wait here, so what few of them have is kept beside."""
        self.known: dict[bytes, KnownFile] = {}
        self.twins: dict[bytes, frozenset[bytes]] = {}
        """Hashes of embedded contents of the same size: perhaps it is one of these, renamed."""
        self.in_flight: dict[int, KnownFile | None] = {}
        """By task token."""
        self.encoding = Encoding(encoder, getattr(encoder, "batch_size", ENCODE_FRAMES))
        self.encoding_now: set[bytes] = set()
        """Contents that were handed to it and have not come back."""
        self.contents: list[NewContent] = []
        self.files: list[FileUpdate] = []
        self.fresh: set[bytes] = set()
        """Contents that are decoded but not committed yet."""
        self.followers: list[Decoded] = []
        """Copies of those."""
        self.looks: dict[int, Look] = {}
        """By content id: of contents that had none."""
        self.last_commit = time.monotonic()
        self.next_token = 1
        self.done = 0
        self._measure_tail()

    # -- the loop

    def work(self, workers: int) -> None:
        """Index everything the scanner finds, sweep, publish; ends early when `stop` is set."""
        own = os.stat(self.ledger.folder)
        scanner = Scanner(self.sightings.roots, frozenset({(own.st_dev, own.st_ino)}))
        pool: DecodePool | None = None
        try:
            while not self.stop.is_set():
                decoding = bool(self.pending) or (pool is not None and pool.outstanding > 0)
                busy = decoding or bool(self.encoding_now)
                if scanner.finished and not busy:
                    break
                self._take_scanned(scanner, wait=not busy)
                if self.pending and pool is None:
                    pool = DecodePool(self.encoder.preprocess, workers=workers)
                    self.encoding.on_done = pool.wake
                if pool is not None:
                    self._pump(pool)
                    if not self.pending and not pool.outstanding:
                        self._take_embeddings(self.encoding.take(0.2, flush=True))
                self._commit_if_due()
                self._tell(scanning=not scanner.finished)
            self.report.stopped = self.stop.is_set()
            self._take_embeddings(self.encoding.close())
            self._commit()
        finally:
            scanner.close()
            self.encoding.abandon()
            if pool is not None:
                pool.close()
        if not self.report.stopped:
            sweep(self.ledger, self.sightings, self.known_roots, self.report, prune=self.prune)
            if vector_files.wants_publishing(self.base, self.tail, mid_run=False):
                self._publish()
            self.lock.verify()
            build_tier(
                self.ledger, self.space, self.encoder.encode_texts, stop=self.stop,
                on_start=lambda count: self._tell(scanning=False, listing=count),
            )  # fmt: skip
            self.report.stopped = self.stop.is_set()
        self._tell(scanning=False)

    def _measure_tail(self) -> None:
        """Count what the newest sound snapshot holds and what came after it."""
        newest = next(iter(self.ledger.snapshots()), None)
        sound = newest is not None and vector_files.snapshot_trouble(self.ledger.folder, newest) is None
        self.base = newest.count if newest and sound else 0
        self.tail = self.ledger.count_after(self.space, newest.through_id if newest and sound else 0)

    def _publish(self) -> None:
        self.lock.verify()
        vector_files.publish(self.ledger, self.space)
        self._measure_tail()

    def _pump(self, pool: DecodePool) -> None:
        """Keep the workers fed and take in what they and the encoder finish, for at most 0.2 s."""
        until = time.monotonic() + 0.2
        while not self.stop.is_set():
            while self.pending and pool.outstanding < pool.capacity and not self.encoding.full:
                path = self.pending.popleft()
                token, self.next_token = self.next_token, self.next_token + 1
                self.in_flight[token] = self.known.pop(path, None)
                pool.submit(DecodeTask(token, path, self.twins.pop(path, frozenset())))
            left = until - time.monotonic()
            if left <= 0 or not (pool.outstanding or self.pending):
                return
            if pool.outstanding:
                self._take_results(pool.results(left))
                self._take_embeddings(self.encoding.take())
            else:  # as much waits for the encoder as may
                self._take_embeddings(self.encoding.take(left))
            self._commit_if_due()

    def _take_scanned(self, scanner: Scanner, *, wait: bool) -> None:
        """Take in what the scanner has found, for at most 50 ms so that encoding goes on."""
        until = time.monotonic() + 0.05
        while not scanner.finished and time.monotonic() < until and not self.stop.is_set():
            found = scanner.take(0.05 if wait else 0)
            if not found:
                return
            wait = False
            self._classify(found)
            self._commit_if_due()

    # -- what is stale?

    def _classify(self, items: Found) -> None:
        candidates = []
        for item in items:
            if isinstance(item, FolderProblem):
                if item.path in self.sightings.roots and not os.path.lexists(item.path):
                    continue  # the sweep says what becomes of its files
                self.sightings.unreadable.append(item.path)
                self.report.problems.append(f"{os.fsdecode(item.path)}: {item.reason}")
            else:
                candidates.append(item)
        known = self.ledger.lookup([candidate.path for candidate in candidates])
        stale: list[tuple[Candidate, KnownFile | None]] = []
        for candidate in candidates:
            self.report.scanned += 1
            self.sightings.count(candidate.path)
            row = known.get(candidate.path)
            if row is not None:
                self.sightings.mark(row.id)
            info = candidate.stat
            if info is None or not stat_module.S_ISREG(info.st_mode):
                reason = candidate.trouble or f"not a regular file ({kind_of(info.st_mode if info else 0)})"
                self._fail(candidate.path, reason, None if info is None else FileStat.of(info))
            elif row is not None and not self.verify and _same_identity(row, info):
                if row.status != "failed":
                    self.report.unchanged += 1
                    self.report.partial += row.status == "partial"
                    self.done += 1
                elif self.retry_failed:
                    stale.append((candidate, row))
                else:
                    self._count_failure(candidate.path, row.reason or "unknown")
            else:
                stale.append((candidate, row))
        sizes = [candidate.stat.st_size for candidate, _ in stale if candidate.stat]
        hashes = self.ledger.hashes_by_size(sizes, self.space.id, with_look=self.verify) if stale else {}
        for candidate, row in stale:
            if row is not None:
                self.known[candidate.path] = row
            if candidate.stat is not None and candidate.stat.st_size in hashes:
                self.twins[candidate.path] = hashes[candidate.stat.st_size]
            self.pending.append(candidate.path)

    # -- results of decoding

    def _take_results(self, results: list[Decoded | DecodeFailure]) -> None:
        hashes = [result.content_hash for result in results if isinstance(result, Decoded)]
        contents = self.ledger.contents_of(hashes) if hashes else {}
        for result in results:
            self._take_result(result, contents)

    def _take_result(
        self, result: Decoded | DecodeFailure, contents: dict[bytes, tuple[int, str | None]]
    ) -> None:
        row = self.in_flight.pop(result.token, None)
        if isinstance(result, DecodeFailure):
            if result.vanished:
                self.report.scanned -= 1
                if row is not None:
                    self.sightings.unmark(row.id)
                return
            stat = None if result.transient else result.stat
            self._fail(result.path, result.reason, stat)
            return
        if result.content_hash in self.fresh:
            self.followers.append(result)
            return
        content = contents.get(result.content_hash)
        if content is not None:
            if result.look is not None:
                self.looks[content[0]] = result.look
            self._attach(result, row, *content)
        else:
            self.fresh.add(result.content_hash)
            self.encoding_now.add(result.content_hash)
            self.encoding.add(result)

    def _attach(self, result: Decoded, row: KnownFile | None, content_id: int, warning: str | None) -> None:
        """A file whose content is embedded already: a rename, a copy, a touch, or one that came back."""
        if row is not None and row.content_id == content_id:
            self.report.unchanged += 1
        else:
            self.report.indexed += 1
            self.sightings.arrivals[content_id] += 1
        self.report.partial += warning is not None
        self._write(result, warning)

    def _write(self, result: Decoded, warning: str | None) -> None:
        status = "ok" if warning is None else "partial"
        self.files.append(FileUpdate(result.path, result.stat, status, warning, result.content_hash))
        self.done += 1

    def _fail(self, path: bytes, reason: str, stat: FileStat | None) -> None:
        self.files.append(FileUpdate(path, stat, "failed", reason))
        self._count_failure(path, reason)

    def _count_failure(self, path: bytes, reason: str) -> None:
        self.report.failed += 1
        self.report.failures.append(Failure(path, reason))
        self.done += 1

    # -- encoding and writing

    def _take_embeddings(self, embedded: list[tuple[Decoded, Embeddings]]) -> None:
        for result, rows in embedded:
            self.encoding_now.discard(result.content_hash)
            self.report.encoded += len(rows)
            self._take_embedded(result, rows)

    def _take_embedded(self, result: Decoded, rows: Embeddings) -> None:
        norms = np.linalg.norm(rows, axis=1)
        if (
            rows.shape[1] != self.space.dim
            or not np.all(np.isfinite(norms))
            or np.any(np.abs(norms - 1) > 1e-2)
        ):
            self.fresh.discard(result.content_hash)
            self._fail(result.path, "the encoder produced no valid embedding", result.stat)
            return
        self.contents.append(NewContent(
            result.content_hash, result.stat.size, result.width, result.height, result.format, result.warning,
            result.metadata or Metadata(), result.regions, rows.astype(np.float16), result.look,
        ))  # fmt: skip
        self.report.indexed += 1
        self.report.partial += result.warning is not None
        self._write(result, result.warning)

    def _commit_if_due(self) -> None:
        if len(self.files) >= COMMIT_ROWS or (self.files and time.monotonic() - self.last_commit >= COMMIT_S):
            self._commit()

    def _commit(self) -> None:
        waiting = self.encoding_now
        ready = [result for result in self.followers if result.content_hash not in waiting]
        self.followers = [result for result in self.followers if result.content_hash in waiting]
        embedded = {content.hash for content in self.contents}
        for result in ready:
            if result.content_hash in embedded:
                self.report.indexed += 1
                self.report.partial += result.warning is not None
                self._write(result, result.warning)
            else:
                self._fail(result.path, "the encoder produced no valid embedding", result.stat)
        if self.files:
            self.lock.verify()
            self.ledger.commit(self.space, self.contents, self.files, self.looks)
            self.tail += sum(len(content.vectors) for content in self.contents)
            self.contents, self.files, self.looks = [], [], {}
            self.fresh -= embedded
            if vector_files.wants_publishing(self.base, self.tail, mid_run=True):
                self._publish()
        self.last_commit = time.monotonic()

    def _tell(self, *, scanning: bool, listing: int = 0) -> None:
        if self.on_progress is not None:
            so_far = self.report.scanned, self.done, self.report.indexed, self.report.unchanged
            self.on_progress(Progress(*so_far, self.report.failed, scanning, listing))


def _same_identity(row: KnownFile, info: os.stat_result) -> bool:
    """Return whether the file is the one we read: compared for equality only, clocks are not trusted."""
    return (row.size_bytes, row.mtime_ns, row.ctime_ns, row.inode, row.dev) == (
        info.st_size, info.st_mtime_ns, info.st_ctime_ns, signed(info.st_ino), signed(info.st_dev),
    )  # fmt: skip
