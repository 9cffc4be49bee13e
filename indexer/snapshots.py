"""Files of embeddings beside the catalog: written whole, named by the catalog, checked when opened.

A snapshot is a cache. It is used only when the catalog names it and its content is what was written;
otherwise it is built again from the catalog, without encoding anything.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat as stat_module
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from indexer.catalog import Catalog
from indexer.errors import storage_errors
from indexer.records import SnapshotRecord, Space, snapshot_path
from indexer.scanning import Rows
from indexer.tables import signed

if TYPE_CHECKING:
    from indexer.ledger import Ledger

ALWAYS_HASHED_BYTES = 64 * 2**20
"""Below this a file is hashed at every open (60 ms); above, when its stat is not the one written."""
_TAIL_SHARE, _TAIL_ROWS = 0.02, 256
MID_RUN_ROWS = 50_000
_MID_RUN_SHARE = 0.5


class Written(Protocol):
    """What the catalog says of a file of ours."""

    @property
    def name(self) -> str: ...
    @property
    def hash(self) -> bytes: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def mtime_ns(self) -> int: ...
    @property
    def ctime_ns(self) -> int: ...
    @property
    def inode(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Seal:
    """A file as it was when it was whole: what the catalog keeps of it."""

    hash: bytes
    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    inode: int


# -- reading


def open_snapshot(folder: Path, record: SnapshotRecord, space: Space) -> tuple[Rows | None, str | None]:
    """Return (rows, None), or (None, why not). Never blocks on a FIFO, never trusts a name."""
    import faiss

    path = snapshot_path(folder, record)
    fd, trouble = open_named(folder, record)
    if fd is None:
        return None, trouble
    mapped = record.size_bytes > ALWAYS_HASHED_BYTES
    try:
        index = faiss.read_index(readable_name(fd, path), faiss.IO_FLAG_MMAP_IFC if mapped else 0)
        if index.d != space.dim or index.ntotal != record.count or not isinstance(index, faiss.IndexIDMap):
            return None, f"{path.name}: not an index of this space"
        return Rows(index, fd if mapped else None), None
    except (OSError, RuntimeError, MemoryError, AttributeError) as error:
        return None, f"{path.name}: {str(error).splitlines()[0][:120]}"
    finally:
        os.close(fd)


def open_named(
    folder: Path, record: Written, *, always_hash: bool = False
) -> tuple[int, None] | tuple[None, str]:
    """Return (a descriptor of the file that a record names, None), or (None, why it cannot be used)."""
    path = folder / Path(record.name).name
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        return None, f"{path.name}: {(error.strerror or '').lower()}"
    try:
        trouble = _content_trouble(fd, record, always_hash=always_hash)
    except OSError as error:
        trouble = (error.strerror or "").lower()
    if trouble is None:
        return fd, None
    os.close(fd)
    return None, f"{path.name}: {trouble}"


def readable_name(fd: int, path: Path) -> str:
    """Return a name under which FAISS opens the very file that was checked."""
    return f"/proc/self/fd/{fd}" if os.path.isdir("/proc/self/fd") else str(path)


def snapshot_trouble(folder: Path, record: Written, *, always_hash: bool = False) -> str | None:
    """Return why a named file cannot be used, or None when its content is what was written."""
    fd, trouble = open_named(folder, record, always_hash=always_hash)
    if fd is not None:
        os.close(fd)
    return trouble


def _content_trouble(fd: int, record: Written, *, always_hash: bool) -> str | None:
    info = os.fstat(fd)
    if not stat_module.S_ISREG(info.st_mode) or info.st_size != record.size_bytes:
        return "not the file that was written"
    as_written = (info.st_mtime_ns, info.st_ctime_ns, signed(info.st_ino)) == (
        record.mtime_ns, record.ctime_ns, record.inode,
    )  # fmt: skip
    if as_written and info.st_size > ALWAYS_HASHED_BYTES and not always_hash:
        return None
    return None if _hash(fd) == record.hash else "its content has changed"


def _hash(fd: int) -> bytes:
    digest = hashlib.blake2b(digest_size=32)
    for block in _blocks(fd):
        digest.update(block)
    return digest.digest()


def _blocks(fd: int, size: int = 1 << 20) -> Iterator[bytes]:
    offset = 0
    while block := os.pread(fd, size, offset):
        offset += len(block)
        yield block


# -- writing


def wants_publishing(base: int, tail: int, *, mid_run: bool) -> bool:
    """Return whether a tail of so many embeddings after a snapshot of `base` makes a new snapshot pay.

    During a run only when it is half of the base, so that all snapshots together write at most three
    times the final size; at the end of a run when it would slow queries.
    """
    if mid_run:
        return tail > max(MID_RUN_ROWS, _MID_RUN_SHARE * base)
    return tail > 0 and (base == 0 or tail > max(_TAIL_ROWS, _TAIL_SHARE * base))


def publish(ledger: Ledger, space: Space) -> SnapshotRecord | None:
    """Write all embeddings of a space as a new snapshot and make it the named one.

    The rows go from the catalog to the file as they are: memory holds a chunk of them and the ids.
    Order: temp file -> flush -> hash of what is there -> fsync -> rename -> fsync of the folder ->
    transaction that names it -> unlink of what is older than the previous one.
    """
    name = f"vectors-{ledger.last_embedding(space)}-{secrets.token_hex(4)}.faiss"
    path = ledger.folder / name
    partial = path.with_name(name + ".tmp")
    with storage_errors(ledger.folder):
        try:
            through, count = _write_rows(partial, ledger, space)
            if not count:
                partial.unlink()
                return None
            seal = seal_file(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    record = SnapshotRecord(
        0, space.id, name, seal.hash, seal.size_bytes, seal.mtime_ns, seal.ctime_ns, seal.inode,
        through, count,
    )  # fmt: skip
    for old in ledger.name_snapshot(record):
        snapshot_path(ledger.folder, old).unlink(missing_ok=True)
    sweep_strays(ledger)
    return record


def _write_rows(path: Path, catalog: Catalog, space: Space) -> tuple[int, int]:
    """Write a file that `faiss.write_index` would write, and return (last id, count)."""
    ids: list[Any] = []
    rows = 0
    with path.open("wb") as stream:
        stream.write(_header(space.dim, 0))
        for chunk, vectors in catalog.embeddings_after(space, 0):
            ids.append(chunk)
            rows += len(chunk)
            stream.write(vectors.tobytes())
        stream.write(rows.to_bytes(8, "little"))
        for chunk in ids:
            stream.write(chunk.tobytes())
        stream.seek(0)
        stream.write(_header(space.dim, rows))
    return (int(ids[-1][-1]) if ids else 0), rows


def _header(dim: int, count: int) -> bytes:
    """Return what stands before the rows of an IndexIDMap over an fp16 index."""
    import faiss

    flat = faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    index = faiss.IndexIDMap(flat)
    flat.ntotal = index.ntotal = count
    # Without rows it ends with two empty vectors, a length of 8 bytes each: of the rows and of the ids.
    return bytes(faiss.serialize_index(index))[:-16] + (count * 2 * dim).to_bytes(8, "little")


def build_rows(catalog: Catalog, space: Space) -> Rows | None:
    """Return all embeddings in memory, where no snapshot can be used; None when there are none."""
    import faiss

    flat = faiss.IndexScalarQuantizer(space.dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    index = faiss.IndexIDMap(flat)
    for ids, vectors in catalog.embeddings_after(space, 0):
        index.add_with_ids(vectors.astype(np.float32), ids)
    return Rows(index) if index.ntotal else None


def seal_file(partial: Path, path: Path) -> Seal:
    """Give a complete file its name and return what the catalog is to know of it."""
    from indexer.ledger import publish_file

    fd = os.open(partial, os.O_RDONLY | os.O_CLOEXEC)
    try:
        digest = _hash(fd)
    finally:
        os.close(fd)
    publish_file(partial, path)
    info = os.stat(path)
    return Seal(digest, info.st_size, info.st_mtime_ns, info.st_ctime_ns, signed(info.st_ino))


def sweep_strays(ledger: Ledger) -> None:
    """Delete temp files and files that the catalog does not name; only the lock's holder may."""
    named = {one.name for one in ledger.snapshots()} | {one.name for one in ledger.tiers()}
    with storage_errors(ledger.folder):
        for pattern in ("vectors-*", "lists-*", "asked-*.tmp"):
            for path in ledger.folder.glob(pattern):
                if path.name not in named and not path.is_dir():
                    path.unlink(missing_ok=True)
