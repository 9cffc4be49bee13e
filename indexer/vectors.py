"""The nearest vectors: an immutable FAISS snapshot, searched together with the tail written since.

A snapshot is a cache. It is used only when the catalog names it and its content is what was written;
otherwise it is built again from the catalog, without encoding anything.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat as stat_module
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from indexer.catalog import Catalog
from indexer.errors import storage_errors
from indexer.records import SnapshotRecord, Space, snapshot_path
from indexer.tables import signed

if TYPE_CHECKING:
    from indexer.ledger import Ledger

ALWAYS_HASHED_BYTES = 64 * 2**20
"""Below this a snapshot is hashed at every open (60 ms); above, when its stat is not the one written."""
_SPARE = 16
"""Fetched beyond k, so that equal scores at the border are told apart by their ids."""
_NO_SCORES = np.empty(0, np.float32)
_TAIL_SHARE, _TAIL_ROWS = 0.02, 256
_MID_RUN_SHARE, _MID_RUN_ROWS = 0.5, 50_000


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
        snapshot: FAISS IndexIDMap over fp16 inner product, ids are embedding ids; None when there is none.
        tail_ids, tail: (n,) int64 and (n, dim) float32, embeddings newer than the snapshot.
        rebuilt: why the snapshot was not usable, or None.
    """

    dim: int
    snapshot: Any | None = None
    tail_ids: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    tail: npt.NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32))
    rebuilt: str | None = None
    _ids: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return (self.snapshot.ntotal if self.snapshot is not None else 0) + len(self.tail_ids)

    def nearest(
        self, query: npt.NDArray[np.float32], k: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Return the k best (embedding ids, scores), best first, ties by id; exact up to fp16 storage.

        Args:
            query: (dim,) float32, unit L2 norm.
        """
        ids, scores = self.tail_ids, self.tail @ query if len(self.tail_ids) else np.empty(0, np.float32)
        if self.snapshot is not None and self.snapshot.ntotal:
            near, labels = self.snapshot.search(query[None], min(k, self.snapshot.ntotal))
            kept = labels[0] >= 0
            ids, scores = np.concatenate([labels[0][kept], ids]), np.concatenate([near[0][kept], scores])
        scores = np.where(np.isfinite(scores), scores, -2.0)
        order = np.lexsort((ids, -scores))[:k]
        return ids[order], np.asarray(scores[order], np.float32)

    def among(self, ids: npt.NDArray[np.int64]) -> Among:
        """Return the embeddings `ids` (sorted) as `nearest_among` wants them; unknown ids are left out."""
        base = self._snapshot_ids()
        places = self.places_of(ids)
        bits = np.zeros(len(base), bool)
        bits[places[(places >= 0) & (places < len(base))]] = True
        tail = places[places >= len(base)] - len(base)
        return Among(int(np.count_nonzero(bits)), np.packbits(bits, bitorder="little"), tail)

    def nearest_among(
        self, query: npt.NDArray[np.float32], k: int, among: Among
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Return the k best of some embeddings (ids, scores), best first, ties by id.

        Exact however few they are: FAISS passes over the rows that the bitmap does not hold and scores all
        others. A million bits cost 2 ms, so there is no other way for few rows.
        """
        ids, scores = (
            self.tail_ids[among.tail],
            self.tail[among.tail] @ query if len(among.tail) else _NO_SCORES,
        )
        if self.snapshot is not None and among.count:
            import faiss

            base = self._snapshot_ids()
            parameters = faiss.SearchParameters()
            parameters.sel = faiss.IDSelectorBitmap(len(base), faiss.swig_ptr(among.bitmap))
            wanted = min(k + _SPARE, among.count)
            near, places = self.snapshot.index.search(query[None], wanted, params=parameters)
            kept = places[0] >= 0
            ids = np.concatenate([base[places[0][kept]], ids])
            scores = np.concatenate([near[0][kept], scores])
        scores = np.where(np.isfinite(scores), scores, -2.0)
        order = np.lexsort((ids, -scores))[:k]
        return ids[order], np.asarray(scores[order], np.float32)

    # -- by place: rows of the snapshot first, then those of the tail; ids ascend in both

    def _snapshot_ids(self) -> npt.NDArray[np.int64]:
        import faiss

        if self.snapshot is None:
            return np.empty(0, np.int64)
        if self._ids is None:
            self._ids = faiss.vector_to_array(self.snapshot.id_map)
        return self._ids

    def ids_at(self, places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the embedding ids at these places."""
        base = self._snapshot_ids()
        inside = places < len(base)
        found = np.empty(len(places), np.int64)
        found[inside] = base[places[inside]]
        found[~inside] = self.tail_ids[places[~inside] - len(base)]
        return found

    def places_of(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return where embeddings are, -1 where they are not."""
        base = self._snapshot_ids()
        found = np.full(len(ids), -1, np.int64)
        for known, offset in ((base, 0), (self.tail_ids, len(base))):
            if len(known):
                at = np.minimum(np.searchsorted(known, ids), len(known) - 1)
                there = known[at] == ids
                found[there] = at[there] + offset
        return found

    def rows_at(self, places: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Return (n, dim) float32 embeddings at these places."""
        base = len(self._snapshot_ids())
        inside = places < base
        found = np.empty((len(places), self.dim), np.float32)
        if self.snapshot is not None and inside.any():
            found[inside] = self.snapshot.index.reconstruct_batch(places[inside])
        if not inside.all():
            found[~inside] = self.tail[places[~inside] - base]
        return found


def load(catalog: Catalog, space: Space) -> Vectors:
    """Return the vectors of a space: the newest sound snapshot and the tail, or all from the catalog."""
    why: str | None = None
    for attempt in range(2):
        records = [record for record in catalog.snapshots() if record.space_id == space.id]
        for record in records:
            index, trouble = _open_snapshot(snapshot_path(catalog.folder, record), record, space)
            if index is not None:
                vectors = Vectors(space.dim, index, rebuilt=why)
                _read_tail(vectors, catalog, space, record.through_id)
                return vectors
            why = why or trouble
        if not records or attempt:
            break
        # The writer may have replaced both between our two reads: look once more.
    vectors = Vectors(space.dim, rebuilt=why)
    if catalog.count_after(space, 0) > _MID_RUN_ROWS:
        vectors.snapshot, _, _ = _build(catalog, space)
    else:
        _read_tail(vectors, catalog, space, 0)
    return vectors


def _read_tail(vectors: Vectors, catalog: Catalog, space: Space, after_id: int) -> None:
    parts = list(catalog.embeddings_after(space, after_id))
    if parts:
        vectors.tail_ids = np.concatenate([ids for ids, _ in parts])
        vectors.tail = np.concatenate([rows for _, rows in parts]).astype(np.float32)


def _open_snapshot(path: Path, record: SnapshotRecord, space: Space) -> tuple[Any | None, str | None]:
    """Return (index, None), or (None, why not). Never blocks on a FIFO, never trusts a name."""
    import faiss

    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        return None, f"{path.name}: {(error.strerror or '').lower()}"
    try:
        trouble = _content_trouble(fd, record)
        if trouble:
            return None, f"{path.name}: {trouble}"
        flags = faiss.IO_FLAG_MMAP_IFC if record.size_bytes > ALWAYS_HASHED_BYTES else 0
        index = faiss.read_index(
            f"/proc/self/fd/{fd}" if os.path.isdir("/proc/self/fd") else str(path), flags
        )
    except (OSError, RuntimeError, MemoryError) as error:
        return None, f"{path.name}: {str(error).splitlines()[0][:120]}"
    finally:
        os.close(fd)
    if index.d != space.dim or index.ntotal != record.count or not isinstance(index, faiss.IndexIDMap):
        return None, f"{path.name}: not an index of this space"
    return index, None


def _content_trouble(fd: int, record: SnapshotRecord, *, always_hash: bool = False) -> str | None:
    """Return why an open file is not what the catalog says was written, or None."""
    info = os.fstat(fd)
    if not stat_module.S_ISREG(info.st_mode) or info.st_size != record.size_bytes:
        return "not the file that was written"
    as_written = (info.st_mtime_ns, info.st_ctime_ns, signed(info.st_ino)) == (
        record.mtime_ns, record.ctime_ns, record.inode,
    )  # fmt: skip
    if as_written and info.st_size > ALWAYS_HASHED_BYTES and not always_hash:
        return None
    digest = hashlib.blake2b(digest_size=32)
    for block in _blocks(fd):
        digest.update(block)
    return None if digest.digest() == record.hash else "its content has changed"


def snapshot_trouble(folder: Path, record: SnapshotRecord, *, always_hash: bool = False) -> str | None:
    """Return why a named snapshot cannot be used, or None when its content is what was written."""
    path = snapshot_path(folder, record)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        return f"{path.name}: {(error.strerror or '').lower()}"
    try:
        trouble = _content_trouble(fd, record, always_hash=always_hash)
    except OSError as error:
        trouble = (error.strerror or "").lower()
    finally:
        os.close(fd)
    return f"{path.name}: {trouble}" if trouble else None


def _blocks(fd: int, size: int = 1 << 20) -> Iterator[bytes]:
    offset = 0
    while block := os.pread(fd, size, offset):
        offset += len(block)
        yield block


def _build(catalog: Catalog, space: Space) -> tuple[Any, int, int]:
    """Return (index of all embeddings, last id, count), reading the catalog in chunks."""
    import faiss

    flat = faiss.IndexScalarQuantizer(space.dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    index = faiss.IndexIDMap(flat)
    last = 0
    for ids, vectors in catalog.embeddings_after(space, 0):
        index.add_with_ids(vectors.astype(np.float32), ids)
        last = int(ids[-1])
    return index, last, index.ntotal


def wants_publishing(base: int, tail: int, *, mid_run: bool) -> bool:
    """Return whether a tail of so many embeddings after a snapshot of `base` makes a new snapshot pay.

    During a run only when it is half of the base, so that all snapshots together write at most three
    times the final size; at the end of a run when it would slow queries.
    """
    if mid_run:
        return tail > max(_MID_RUN_ROWS, _MID_RUN_SHARE * base)
    return tail > 0 and (base == 0 or tail > max(_TAIL_ROWS, _TAIL_SHARE * base))


def publish(ledger: Ledger, space: Space) -> SnapshotRecord | None:
    """Write all embeddings of a space as a new snapshot and make it the named one.

    Order: temp file through a hashing writer -> flush -> fsync -> rename -> fsync of the folder ->
    transaction that names it -> unlink of what is older than the previous one. `faiss.write_index(path)`
    is not used: it reports no error when the disk fills at the last flush.
    """
    import faiss

    from indexer.ledger import publish_file

    index, through, count = _build(ledger, space)
    if not count:
        return None
    name = f"vectors-{through}-{secrets.token_hex(4)}.faiss"
    path = ledger.folder / name
    partial = path.with_name(name + ".tmp")
    digest = hashlib.blake2b(digest_size=32)
    failure: list[OSError] = []
    with storage_errors(ledger.folder):
        try:
            with partial.open("wb") as stream:

                def write(block: bytes) -> int:
                    try:
                        digest.update(block)
                        return stream.write(block)
                    except OSError as error:  # would be lost on its way through C++
                        failure.append(error)
                        raise

                try:
                    faiss.write_index(index, faiss.PyCallbackIOWriter(write, 1 << 20))  # type: ignore[attr-defined]
                except Exception:
                    if failure:
                        raise failure[0] from None
                    raise
                stream.flush()
            publish_file(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        info = os.stat(path)
    record = SnapshotRecord(
        0, space.id, name, digest.digest(), info.st_size, info.st_mtime_ns, info.st_ctime_ns,
        signed(info.st_ino), through, count,
    )  # fmt: skip
    for old in ledger.name_snapshot(record):
        snapshot_path(ledger.folder, old).unlink(missing_ok=True)
    sweep_strays(ledger)
    return record


def sweep_strays(ledger: Ledger) -> None:
    """Delete temp files and snapshots that the catalog does not name; only the lock's holder may."""
    named = {record.name for record in ledger.snapshots()}
    with storage_errors(ledger.folder):
        for path in ledger.folder.glob("vectors-*"):
            if path.name not in named and not path.is_dir():
                path.unlink(missing_ok=True)
