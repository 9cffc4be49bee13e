"""The catalog: one SQLite file that is the truth. Opening it, and reading from it.

Readers open `mode=ro` and keep transactions short; one writer, which holds `indexer.lock`, begins IMMEDIATE.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, Engine, Row, exists, func, select

from indexer import tables as t
from indexer.database import CATALOG_NAME, cannot_open, check_version, reading_engine, verify_header
from indexer.errors import IndexDamagedError, storage_errors
from indexer.records import Failure, FrameRecord, KnownFile, SnapshotRecord, Space, TierRecord

_CHUNK = 500
"""Parameters in one IN list."""
_CHECKED_OF = {table: itemgetter(*columns) for table, columns in t.CHECKED.items()}
"""From a row's mapping to the values that its checksum covers."""
_CONTENT_AT, _FILE_AT = len(t.frame.columns), len(t.frame.columns) + len(t.content.columns)
_STATUS = list(t.file.columns.keys()).index("status")
_COLUMNS = ", ".join(
    f'{table.name}."{column.name}"' for table in (t.frame, t.content, t.file) for column in table.columns
)
_FRAMES = (
    f"SELECT {_COLUMNS} FROM json_each(?) AS asked CROSS JOIN frame ON frame.id = asked.value "
    "CROSS JOIN content ON content.id = frame.content_id "
    "LEFT JOIN file ON file.content_id = frame.content_id ORDER BY asked.key, file.path"
)


class Catalog:
    """Reads; the writer's half is `indexer.ledger.Ledger`.

    Every method is one short transaction, so a reader never holds back the writer's checkpoint.
    """

    def __init__(self, folder: Path, engine: Engine, version: int = t.VERSION) -> None:
        self.folder = folder
        self.engine = engine
        self.version = version
        """The format on disk; a reader meets older ones on media that no writer has opened since."""
        self.bad_rows = 0
        """Rows whose checksum did not fit and that were left out of an answer."""

    @classmethod
    def open(cls, folder: Path) -> Catalog:
        """Return the catalog for reading, also from read-only media.

        Raises:
            IndexMissingError, IndexDamagedError, IndexNewerError, IndexStorageError.
        """
        path = folder / CATALOG_NAME
        verify_header(folder)
        with storage_errors(folder):
            engine = reading_engine(path)
            try:
                version = check_version(folder, engine)
            except Exception as error:
                logs = [path.with_name(CATALOG_NAME + tail) for tail in ("-wal", "-journal")]
                if not cannot_open(error) or any(log.exists() and log.stat().st_size for log in logs):
                    raise
                # A read-only medium has no room for the -shm file; without a -wal the catalog is complete.
                engine = reading_engine(path, immutable=True)
                version = check_version(folder, engine)
        return cls(folder, engine, version)

    def reread_version(self) -> None:
        """A writer may have brought the catalog to a newer format."""
        with storage_errors(self.folder):
            self.version = check_version(self.folder, self.engine)

    def close(self) -> None:
        self.engine.dispose()

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- the index as a whole

    def space(self) -> Space | None:
        """Return the active space, or None while nothing was embedded."""
        with storage_errors(self.folder), self.engine.connect() as connection:
            rows = connection.execute(select(t.space)).all()
        if not rows:
            return None
        row = next((row for row in rows if row.active == 1), None)
        if row is None or not row_is_intact("space", row):
            raise IndexDamagedError(self.folder, "the encoder's record has changed bits")
        return Space(row.id, row.spec, row.fingerprint, row.dim, row.image_size)

    def roots(self) -> dict[bytes, int]:
        """Return {canonical path: device number}."""
        with storage_errors(self.folder), self.engine.connect() as connection:
            rows = connection.execute(select(t.root).order_by(t.root.c.path)).all()
        return {row.path: row.dev for row in rows if isinstance(row.path, bytes)}

    def counts(self) -> dict[str, int]:
        """Return counts of files by status, frames, embeddings and dead embeddings."""
        # What no file has is little: looked for once, not beside each frame and each embedding.
        counting = (
            "WITH orphan AS MATERIALIZED (SELECT id FROM content WHERE NOT EXISTS "
            "(SELECT 1 FROM file WHERE file.content_id = content.id)) "
            "SELECT (SELECT count(*) FROM frame), (SELECT count(*) FROM embedding), "
            "(SELECT count(*) FROM orphan CROSS JOIN frame ON frame.content_id = orphan.id), "
            "(SELECT count(*) FROM orphan CROSS JOIN frame ON frame.content_id = orphan.id "
            "CROSS JOIN embedding ON embedding.frame_id = frame.id)"
        )
        with storage_errors(self.folder), self.engine.connect() as connection:
            query = select(t.file.c.status, func.count()).group_by(t.file.c.status)
            by_status = {row[0]: row[1] for row in connection.execute(query)}
            frames, embeddings, dead_frames, dead = connection.exec_driver_sql(counting).one()
        return {
            "ok": by_status.get("ok", 0),
            "partial": by_status.get("partial", 0),
            "failed": by_status.get("failed", 0),
            "frames": frames - dead_frames,
            "embeddings": embeddings,
            "dead": dead,
        }

    def failures(self) -> Iterator[Failure]:
        """Yield the files that failed or are partial, by path."""
        query = select(t.file).where(t.file.c.status.in_(("failed", "partial"))).order_by(t.file.c.path)
        with storage_errors(self.folder), self.engine.connect() as connection:
            for row in connection.execute(query):
                if self.intact("file", row):
                    yield Failure(row.path, row.reason or "unknown", row.status == "partial")

    # -- vectors

    def snapshots(self, connection: Connection | None = None) -> list[SnapshotRecord]:
        """Return the named snapshots, newest first; a damaged record names nothing."""
        if connection is None:
            with storage_errors(self.folder), self.engine.connect() as connection:
                return self.snapshots(connection)
        rows = connection.execute(select(t.snapshot).order_by(t.snapshot.c.generation.desc())).all()
        return [SnapshotRecord(*row[:-1]) for row in rows if row_is_intact("snapshot", row)]

    def tiers(self, connection: Connection | None = None) -> list[TierRecord]:
        """Return the named files of inverted lists, newest first; a damaged record names nothing."""
        if self.version < 3:
            return []
        if connection is None:
            with storage_errors(self.folder), self.engine.connect() as connection:
                return self.tiers(connection)
        rows = connection.execute(select(t.tier).order_by(t.tier.c.generation.desc())).all()
        return [TierRecord(*row[:-1]) for row in rows if row_is_intact("tier", row)]

    def last_embedding(self, space: Space) -> int:
        """Return the highest embedding id of a space, 0 when there is none."""
        query = select(func.max(t.embedding.c.id)).where(t.embedding.c.space_id == space.id)
        with storage_errors(self.folder), self.engine.connect() as connection:
            return int(connection.execute(query).scalar() or 0)

    def embeddings_after(
        self, space: Space, after_id: int, chunk: int = 20_000
    ) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float16]]]:
        """Yield (ids (n,) int64, vectors (n, dim) float16) in id order, damaged rows left out."""
        width = 2 * space.dim
        # Plain SQL: all of a large index goes through here when a snapshot is made.
        query = (
            'SELECT id, space_id, frame_id, vector, "check" FROM embedding '
            "WHERE id > ? AND space_id = ? ORDER BY id LIMIT ?"
        )
        while True:
            with storage_errors(self.folder), self.engine.connect() as connection:
                result: Any = connection.exec_driver_sql(query, (after_id, space.id, chunk))
                rows = result.cursor.fetchall()
                result.close()
            if not rows:
                return
            good = [row for row in rows if t.row_check(*row[:4]) == row[4] and len(row[3]) == width]
            self.bad_rows += len(rows) - len(good)
            if good:
                ids = np.fromiter((row[0] for row in good), np.int64, len(good))
                vectors = np.frombuffer(b"".join(row[3] for row in good), np.float16)
                yield ids, vectors.reshape(len(good), space.dim)
            after_id = rows[-1][0]

    def count_after(self, space: Space, after_id: int) -> int:
        query = (
            select(func.count())
            .select_from(t.embedding)
            .where(t.embedding.c.id > after_id, t.embedding.c.space_id == space.id)
        )
        with storage_errors(self.folder), self.engine.connect() as connection:
            return int(connection.execute(query).scalar_one())

    def live_frames(self, embedding_ids: Sequence[int]) -> dict[int, int]:
        """Return {embedding id: frame id} of those that belong to a file the index still has."""
        # One parameter and no rows of SQLAlchemy: several parts of a question ask for thousands.
        query = (
            "SELECT embedding.id, embedding.frame_id FROM json_each(?) AS asked "
            "CROSS JOIN embedding ON embedding.id = asked.value "
            "CROSS JOIN frame ON frame.id = embedding.frame_id "
            "WHERE EXISTS (SELECT 1 FROM file WHERE file.content_id = frame.content_id)"
        )
        with storage_errors(self.folder), self.engine.connect() as connection:
            result: Any = connection.exec_driver_sql(query, (json.dumps(list(embedding_ids)),))
            found = dict(result.cursor.fetchall())
            result.close()
        return found

    def vectors_of(self, frame_ids: Sequence[int], space: Space) -> dict[int, npt.NDArray[np.float32]]:
        """Return {frame id: (dim,) float32 unit embedding}."""
        found: dict[int, npt.NDArray[np.float32]] = {}
        with storage_errors(self.folder), self.engine.connect() as connection:
            for part in parts(frame_ids):
                query = select(t.embedding).where(
                    t.embedding.c.frame_id.in_(part), t.embedding.c.space_id == space.id
                )
                for row in connection.execute(query):
                    if row_is_intact("embedding", row):
                        found[row.frame_id] = np.frombuffer(row.vector, np.float16).astype(np.float32)
        return found

    def frames(self, frame_ids: Sequence[int]) -> dict[int, list[FrameRecord]]:
        """Return, for each frame, a record per file that shows it, by path. Damaged rows are left out."""
        # One statement and no rows of SQLAlchemy: ten thousand hits are 0.2 s instead of 1.5.
        with storage_errors(self.folder), self.engine.connect() as connection:
            result: Any = connection.exec_driver_sql(_FRAMES, (json.dumps(sorted(set(map(int, frame_ids)))),))
            rows = result.cursor.fetchall()
            result.close()
        found: dict[int, list[FrameRecord]] = {}
        frame_id, records, known = None, None, {}
        for row in rows:
            frame, content, file = row[:_CONTENT_AT], row[_CONTENT_AT:_FILE_AT], row[_FILE_AT:]
            if frame[0] != frame_id:
                frame_id, records = frame[0], None
                if self._intact_values(frame) and self._intact_values(content):
                    records = found[frame_id] = []
            if records is None or file[0] is None:
                continue
            if file[0] not in known:  # each tile of a panorama is shown by the same files
                known[file[0]] = self._intact_values(file)
            if known[file[0]]:
                records.append(_frame_record(frame, content, file))
        return found

    # -- files

    def lookup(self, paths: Sequence[bytes]) -> dict[bytes, KnownFile]:
        """Return what is known of these paths."""
        found: dict[bytes, KnownFile] = {}
        columns = "path, id, size_bytes, mtime_ns, ctime_ns, inode, dev, status, reason, content_id"
        with storage_errors(self.folder), self.engine.connect() as connection:
            for part in parts(paths):
                # Plain SQL: this is the whole cost of a file that did not change.
                query = f"SELECT {columns} FROM file WHERE path IN ({','.join('?' * len(part))})"
                for path, *fields in _fetch_all(connection, query, part):
                    found[path] = KnownFile(*fields)
        return found

    def hashes_by_size(
        self, sizes: Iterable[int], space_id: int, most: int = 256, *, with_look: bool = False
    ) -> dict[int, frozenset[bytes]]:
        """Return {size: hashes of embedded contents of that size}, without very common sizes.

        Args:
            with_look: only of contents that also have a look.
        """
        found: dict[int, list[bytes]] = {}
        embedded = exists().where(
            t.frame.c.content_id == t.content.c.id,
            t.embedding.c.frame_id == t.frame.c.id,
            t.embedding.c.space_id == space_id,
        )
        usable = embedded & exists().where(t.look.c.content_id == t.content.c.id) if with_look else embedded
        with storage_errors(self.folder), self.engine.connect() as connection:
            for part in parts(list(set(sizes))):
                query = select(t.content.c.size_bytes, t.content.c.hash).where(
                    t.content.c.size_bytes.in_(part), usable
                )
                for row in connection.execute(query):
                    found.setdefault(row.size_bytes, []).append(row.hash)
        return {size: frozenset(hashes) for size, hashes in found.items() if len(hashes) <= most}

    def contents_of(self, hashes: Sequence[bytes]) -> dict[bytes, tuple[int, str | None]]:
        """Return {hash: (content id, warning)} of those that are embedded bytes."""
        found: dict[bytes, tuple[int, str | None]] = {}
        with storage_errors(self.folder), self.engine.connect() as connection:
            for part in parts(hashes):
                query = f"SELECT hash, id, warning FROM content WHERE hash IN ({','.join('?' * len(part))})"
                for content_hash, content_id, warning in _fetch_all(connection, query, part):
                    found[content_hash] = content_id, warning
        return found

    def files_under(self, folder: bytes, chunk: int = 20_000) -> Iterator[tuple[int, bytes, int | None]]:
        """Yield (file id, path, content id) of what is known at or below a folder, by path."""
        prefix = folder.rstrip(b"/") + b"/"
        after, end = b"", prefix[:-1] + b"0"
        query = (
            "SELECT id, path, content_id FROM file "
            "WHERE (path >= ? AND path < ? OR path = ?) AND path > ? ORDER BY path LIMIT ?"
        )
        while True:
            with storage_errors(self.folder), self.engine.connect() as connection:
                rows = _fetch_all(connection, query, (prefix, end, folder, after, chunk))
            yield from rows
            if len(rows) < chunk:
                return
            after = rows[-1][1]

    def intact(self, table: str, row: Row[Any]) -> bool:
        """Return whether a row still has the checksum it was written with; one that has not is counted."""
        intact = row_is_intact(table, row)
        self.bad_rows += not intact
        return intact

    def _intact_values(self, row: tuple[Any, ...]) -> bool:
        """As `intact`, of the values of a row in the order of its table, the checksum last."""
        intact = bool(t.row_check(*row[:-1]) == row[-1])
        self.bad_rows += not intact
        return intact


def _fetch_all(connection: Connection, query: str, values: Sequence[Any]) -> list[Any]:
    """Return the rows of plain SQL as tuples: SQLAlchemy's step per row is most of reading 100,000."""
    result: Any = connection.exec_driver_sql(query, tuple(values))
    rows: list[Any] = result.cursor.fetchall()
    result.close()
    return rows


def row_is_intact(table: str, row: Row[Any]) -> bool:
    """Return whether a row still has the checksum it was written with."""
    values = row._mapping
    return bool(t.row_check(*_CHECKED_OF[table](values)) == values["check"])


def _frame_record(frame: tuple[Any, ...], content: tuple[Any, ...], file: tuple[Any, ...]) -> FrameRecord:
    frame_id, _, _, timestamp_ms, x, y, w, h, _ = frame
    (
        _, _, size_bytes, width, height, format_, _, taken_at, camera, lens, iso, latitude, longitude,
        caption, keywords, rating, _,
    ) = content  # fmt: skip
    return FrameRecord(
        frame_id, file[0], file[1], timestamp_ms, None if x is None else (x, y, w, h), width, height, format_,
        size_bytes, taken_at, camera, lens, latitude, longitude, caption,
        tuple(json.loads(keywords)) if keywords else (), iso, rating, file[_STATUS],
    )  # fmt: skip


def parts(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Yield the items in order, as many at a time as one IN list takes."""
    for start in range(0, len(items), _CHUNK):
        yield items[start : start + _CHUNK]
