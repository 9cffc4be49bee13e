"""What finding duplicates needs of the catalog: files with their contents, shots by time, whole pictures."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Row, and_, exists, func, select

from indexer import tables as t
from indexer.catalog import Catalog, parts
from indexer.errors import storage_errors
from indexer.ledger import FileUpdate, Ledger
from indexer.lock import WriterLock
from indexer.outcomes import FileStat
from indexer.records import Look, Space

_AT_ONCE = 20_000
_UNSIGNED = (1 << 64) - 1
_WHOLE = and_(t.frame.c.x.is_(None), t.frame.c.timestamp_ms.is_(None))
"""The frame that is the whole still picture."""


@dataclass(frozen=True, slots=True)
class FileCopy:
    """One file that the index has, with what it shows.

    Attributes:
        content_hash: BLAKE2b, 32 bytes, of the file as it was read.
        size_bytes, mtime_ns, ctime_ns, inode, dev: of that moment, the last two as SQLite holds them.
        frame_id: the whole picture, None where there is none (a video).
        look: None when the file was indexed before there were looks.
    """

    file_id: int
    content_id: int
    content_hash: bytes
    path: bytes
    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    dev: int
    status: str
    width: int
    height: int
    format: str
    taken_at: str | None
    camera: str | None
    lens: str | None
    iso: int | None
    latitude: float | None
    longitude: float | None
    caption: str | None
    keywords: tuple[str, ...]
    rating: int | None
    frame_id: int | None
    look: Look | None


class Copies:
    """The catalog as a collection of copies; every method is one short read, like the catalog's own."""

    def __init__(self, catalog: Catalog, space: Space | None) -> None:
        self._catalog, self._space = catalog, space

    def shared_contents(self) -> list[int]:
        """Return the ids of contents that several files have."""
        query = (
            select(t.file.c.content_id)
            .where(t.file.c.content_id.is_not(None))
            .group_by(t.file.c.content_id)
            .having(func.count() > 1)
            .order_by(t.file.c.content_id)
        )
        with storage_errors(self._catalog.folder), self._catalog.engine.connect() as connection:
            return list(connection.execute(query).scalars())

    def living_contents(self, folders: Sequence[bytes] = ()) -> npt.NDArray[np.int64]:
        """Return the sorted ids (n,) of contents that a file has; given folders, one at or below these."""
        query = select(t.file.c.content_id).where(t.file.c.content_id.is_not(None))
        found: list[int] = []
        with storage_errors(self._catalog.folder), self._catalog.engine.connect() as connection:
            if not folders:
                found.extend(connection.execute(query.distinct()).scalars())
            for folder in folders:
                prefix = folder.rstrip(b"/") + b"/"
                inside = (t.file.c.path >= prefix) & (t.file.c.path < prefix[:-1] + b"0") | (
                    t.file.c.path == folder
                )
                found.extend(connection.execute(query.where(inside).distinct()).scalars())
        return np.unique(np.array(found, np.int64))

    def of(self, content_ids: Sequence[int]) -> dict[int, list[FileCopy]]:
        """Return {content id: the files that have it, by path}; damaged rows are left out."""
        found: dict[int, list[FileCopy]] = {}
        with storage_errors(self._catalog.folder), self._catalog.engine.connect() as connection:
            for part in parts(list(content_ids)):
                contents = _sound(self._catalog, "content", connection.execute(
                    select(t.content).where(t.content.c.id.in_(part))
                ))  # fmt: skip
                wholes: dict[int, int] = {}
                query = select(t.frame.c.content_id, t.frame.c.id).where(
                    t.frame.c.content_id.in_(part), _WHOLE
                )
                for number, frame_id in connection.execute(query.order_by(t.frame.c.position.desc())):
                    wholes[number] = frame_id
                seen: dict[int, Look] = {}
                if self._catalog.version >= 2:
                    looks = select(t.look).where(t.look.c.content_id.in_(part))
                    for row in _sound(self._catalog, "look", connection.execute(looks)):
                        seen[row.content_id] = Look(row.phash & _UNSIGNED, row.sharpness)
                about = {row.id: row for row in contents}
                paths = select(t.file).where(t.file.c.content_id.in_(part)).order_by(t.file.c.path)
                for row in _sound(self._catalog, "file", connection.execute(paths)):
                    if row.content_id in about:
                        copy = _copy(about[row.content_id], row, wholes, seen)
                        found.setdefault(row.content_id, []).append(copy)
        return found

    def shots(self) -> list[tuple[str, str, int]]:
        """Return (camera, taken at, content id), sorted, of living still pictures that say both."""
        alive = exists().where(t.file.c.content_id == t.content.c.id)
        whole = exists().where(t.frame.c.content_id == t.content.c.id, _WHOLE)
        query = select(t.content.c.camera, t.content.c.taken_at, t.content.c.id).where(
            t.content.c.camera.is_not(None), t.content.c.taken_at.is_not(None), alive, whole
        )
        with storage_errors(self._catalog.folder), self._catalog.engine.connect() as connection:
            return sorted(
                (camera, taken_at, number) for camera, taken_at, number in connection.execute(query)
            )

    def vectors(self, content_ids: Sequence[int]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float16]]:
        """Return (ids (n,) sorted, embeddings (n, dim)) of those contents that have a whole still picture."""
        if self._space is None:
            return np.empty(0, np.int64), np.empty((0, 0), np.float16)
        found: dict[int, bytes] = {}
        joined = t.embedding.join(t.frame, t.frame.c.id == t.embedding.c.frame_id)
        query = (
            select(t.frame.c.content_id, t.embedding.c.vector)
            .select_from(joined)
            .where(_WHOLE, t.embedding.c.space_id == self._space.id)
            .order_by(t.frame.c.position.desc())
        )
        with storage_errors(self._catalog.folder), self._catalog.engine.connect() as connection:
            for part in parts(sorted(content_ids)):
                for content_id, vector in connection.execute(query.where(t.frame.c.content_id.in_(part))):
                    if len(vector) == 2 * self._space.dim:
                        found[content_id] = vector
        ids = np.array(sorted(found), np.int64)
        flat = np.frombuffer(b"".join(found[number] for number in ids.tolist()), np.float16)
        return ids, flat.reshape(len(ids), self._space.dim)

    def at(self, paths: Sequence[bytes]) -> dict[bytes, FileCopy]:
        """Return {path: file} of those paths that the index has with a content."""
        known = self._catalog.lookup(paths)
        contents = self.of([row.content_id for row in known.values() if row.content_id is not None])
        return {copy.path: copy for found in contents.values() for copy in found if copy.path in known}

    def looks_of(self, frame_ids: Sequence[int]) -> dict[int, Look]:
        """Return {frame id: the look of its picture}, of those that have one."""
        found: dict[int, Look] = {}
        if self._catalog.version < 2:
            return found
        joined = t.frame.join(t.look, t.look.c.content_id == t.frame.c.content_id)
        with storage_errors(self._catalog.folder), self._catalog.engine.connect() as connection:
            for part in parts(list(frame_ids)):
                query = select(t.look, t.frame.c.id).select_from(joined).where(t.frame.c.id.in_(part))
                for row in connection.execute(query):
                    found[row.id] = Look(row.phash & _UNSIGNED, row.sharpness)
        return found

    def contents_by_hash(self, hashes: Sequence[bytes]) -> dict[bytes, int]:
        """Return {content hash: content id} of those the catalog has."""
        found: dict[bytes, int] = {}
        with storage_errors(self._catalog.folder), self._catalog.engine.connect() as connection:
            for part in parts(list(hashes)):
                query = select(t.content.c.hash, t.content.c.id).where(t.content.c.hash.in_(part))
                for content_hash, number in connection.execute(query):
                    found[content_hash] = number
        return found


def _copy(content: Row[Any], row: Row[Any], wholes: dict[int, int], looks: dict[int, Look]) -> FileCopy:
    return FileCopy(
        file_id=row.id, content_id=content.id, content_hash=content.hash, path=row.path,
        size_bytes=row.size_bytes, mtime_ns=row.mtime_ns, ctime_ns=row.ctime_ns, inode=row.inode, dev=row.dev,
        status=row.status, width=content.width, height=content.height, format=content.format,
        taken_at=content.taken_at, camera=content.camera, lens=content.lens, iso=content.iso,
        latitude=content.latitude, longitude=content.longitude, caption=content.caption,
        keywords=tuple(json.loads(content.keywords)) if content.keywords else (), rating=content.rating,
        frame_id=wholes.get(content.id), look=looks.get(content.id),
    )  # fmt: skip


class FileChanges:
    """Tells the catalog at once what was done to files; holds the writer's lock meanwhile.

    Raises:
        IndexMissingError, IndexLockedError, IndexDamagedError, IndexNewerError, IndexStorageError.
    """

    def __init__(self, folder: Path) -> None:
        Catalog.open(folder).close()
        self._lock = WriterLock(folder)
        try:
            self._ledger = Ledger.open_or_create(folder)
        except BaseException:
            self._lock.close()
            raise
        self._gone: list[int] = []

    def forget(self, file_id: int) -> None:
        """Take note that a file is gone; written every 64 files and at the end.

        When that is cut short, the next `pixseek index` finds out.
        """
        self._gone.append(file_id)
        if len(self._gone) >= 64:
            self._write()

    def relinked(self, path: bytes, content_hash: bytes) -> None:
        """Take note that a file is another inode now, with the content it had."""
        space = self._ledger.space()
        known = self._ledger.lookup([path]).get(path)
        if space is not None and known is not None:
            stat = FileStat.of(os.stat(path))
            self._lock.verify()
            self._ledger.commit(space, [], [FileUpdate(path, stat, known.status, known.reason, content_hash)])

    def _write(self) -> None:
        self._lock.verify()
        self._ledger.remove_files(self._gone)
        self._gone = []

    def __enter__(self) -> FileChanges:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self._gone:
                self._write()
        finally:
            self._ledger.close()
            self._lock.close()


def _sound(catalog: Catalog, table: str, rows: Iterable[Row[Any]]) -> list[Row[Any]]:
    return [row for row in rows if catalog.intact(table, row)]
