"""The writer's half of the catalog: creation, batches, sweeping. One transaction per call.

Only a process that holds `indexer.lock.WriterLock` may make a Ledger; `writing` sees to both.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, Table, delete, insert, select, text
from sqlalchemy.dialects.sqlite import insert as upsert

from indexer import tables as t
from indexer import words
from indexer.catalog import Catalog, parts
from indexer.database import CATALOG_NAME, check_version, verify_header, writing_engine
from indexer.errors import IndexMissingError, storage_errors
from indexer.images import Region
from indexer.lock import WriterLock
from indexer.metadata import Metadata
from indexer.migrations import migrate
from indexer.records import Look, SnapshotRecord, Space, TierRecord
from indexer.workers import FileStat

_NETWORK_FILESYSTEMS = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "fuse.sshfs", "fuse.rclone"}
_UNKNOWN_STAT = FileStat(-1, -1, -1, -1, -1)


@dataclass(slots=True)
class NewContent:
    """A decoded and embedded picture, ready to be written.

    Attributes:
        vectors: (frames, dim) float16, unit L2 norm, one row per region.
        look: what near duplicates are found by, None when the decoder gave nothing.
    """

    hash: bytes
    size_bytes: int
    width: int
    height: int
    format: str
    warning: str | None
    metadata: Metadata
    regions: list[Region | None]
    vectors: npt.NDArray[np.float16]
    look: Look | None = None


@dataclass(slots=True)
class FileUpdate:
    """What was found at a path. Without `stat` the file is tried again in the next run."""

    path: bytes
    stat: FileStat | None
    status: str
    reason: str | None = None
    content_hash: bytes | None = None


class Ledger(Catalog):
    """The catalog opened for writing."""

    @classmethod
    def open_or_create(cls, folder: Path) -> Ledger:
        """Return the ledger of an index folder, made whole before it gets its name.

        A kill during creation leaves `catalog.sqlite.new`, which the next run throws away.
        """
        path = folder / CATALOG_NAME
        journal = "TRUNCATE" if filesystem_type(folder) in _NETWORK_FILESYSTEMS else "WAL"
        try:
            verify_header(folder)
        except IndexMissingError:
            _create(folder, journal)
        with storage_errors(folder):
            engine = writing_engine(
                path, (f"PRAGMA journal_mode={journal}", "PRAGMA journal_size_limit=67108864")
            )
            ledger = cls(folder, engine)
            found = check_version(folder, engine)
            if found < t.VERSION:
                ledger.backup(folder / f"{CATALOG_NAME}.v{found}")
                with engine.begin() as connection:
                    migrate(connection, found)
            # Of this migration, or of one that was killed right after its commit.
            for copy in folder.glob(f"{CATALOG_NAME}.v[0-9]*"):
                copy.unlink(missing_ok=True)
        return ledger

    def backup(self, target: Path) -> None:
        """Write a compact, consistent copy of the catalog; `target` appears whole or not at all."""
        partial = target.with_name(target.name + ".new")
        partial.unlink(missing_ok=True)
        with storage_errors(target.parent), self.engine.connect() as connection:
            connection.connection.dbapi_connection.execute("VACUUM INTO ?", (os.fspath(partial),))  # type: ignore[union-attr]
            publish_file(partial, target)

    def next_file_id(self) -> int:
        """Return the id the next new path will get: rows from it on were written after this call."""
        with storage_errors(self.folder), self.engine.connect() as connection:
            return next_id(connection, t.file)

    # -- batches

    def set_space(self, spec: str, fingerprint: str, dim: int, image_size: int) -> Space:
        """Record the encoder of a new index and return its space."""
        with storage_errors(self.folder), self.engine.begin() as connection:
            row_id = next_id(connection, t.space)
            fields = {
                "id": row_id,
                "spec": spec,
                "fingerprint": fingerprint,
                "dim": dim,
                "image_size": image_size,
            }
            connection.execute(insert(t.space), checked("space", [{**fields, "active": 1}]))
        return Space(row_id, spec, fingerprint, dim, image_size)

    def set_root(self, path: bytes, dev: int) -> None:
        statement = upsert(t.root).values(path=path, dev=t.signed(dev))
        statement = statement.on_conflict_do_update(index_elements=["path"], set_={"dev": t.signed(dev)})
        with storage_errors(self.folder), self.engine.begin() as connection:
            connection.execute(statement)

    def commit(
        self,
        space: Space,
        contents: Sequence[NewContent],
        files: Sequence[FileUpdate],
        looks: Mapping[int, Look] | None = None,
    ) -> None:
        """Write pictures and the files that show them in one transaction: all of it is kept, or nothing.

        Args:
            looks: of contents that are there and had none, by content id.
        """
        with storage_errors(self.folder), self.engine.begin() as connection:
            new_ids = self._insert_contents(connection, space, contents)
            self._upsert_files(connection, files, new_ids)
            rows = [_look_row(content_id, look) for content_id, look in (looks or {}).items()]
            if rows:
                connection.execute(upsert(t.look).on_conflict_do_nothing(), checked("look", rows))

    def _insert_contents(
        self, connection: Connection, space: Space, contents: Sequence[NewContent]
    ) -> dict[bytes, int]:
        if not contents:
            return {}
        content_id = next_id(connection, t.content)
        frame_id = next_id(connection, t.frame)
        embedding_id = next_id(connection, t.embedding)
        rows: dict[str, list[dict[str, Any]]] = {"content": [], "look": [], "frame": [], "embedding": []}
        ids: dict[bytes, int] = {}
        for content in contents:
            ids[content.hash] = content_id
            rows["content"].append(_content_row(content_id, content))
            if content.look is not None:
                rows["look"].append(_look_row(content_id, content.look))
            for position, region in enumerate(content.regions):
                box = (None,) * 4 if region is None else (region.x, region.y, region.width, region.height)
                rows["frame"].append(
                    dict(zip(t.CHECKED["frame"], (frame_id, content_id, position, None, *box), strict=True))
                )
                vector = content.vectors[position].tobytes()
                rows["embedding"].append(
                    {"id": embedding_id, "space_id": space.id, "frame_id": frame_id, "vector": vector}
                )
                frame_id += 1
                embedding_id += 1
            content_id += 1
        for table in (t.content, t.look, t.frame, t.embedding):
            if rows[table.name]:
                connection.execute(insert(table), checked(table.name, rows[table.name]))
        words.add_contents(connection, rows["content"])
        return ids

    def _upsert_files(
        self, connection: Connection, files: Sequence[FileUpdate], new_ids: dict[bytes, int]
    ) -> None:
        if not files:
            return
        by_path = {update.path: update for update in files}
        known: dict[bytes, int] = {}
        hashes = {update.content_hash for update in files if update.content_hash} - new_ids.keys()
        content_ids = dict(new_ids)
        for part in parts(list(by_path)):
            for row in connection.execute(select(t.file.c.path, t.file.c.id).where(t.file.c.path.in_(part))):
                known[row.path] = row.id
        for part in parts(list(hashes)):
            for row in connection.execute(
                select(t.content.c.hash, t.content.c.id).where(t.content.c.hash.in_(part))
            ):
                content_ids[row.hash] = row.id
        new_id = next_id(connection, t.file)
        rows = []
        for path, update in by_path.items():
            row_id = known.get(path)
            if row_id is None:
                row_id, new_id = new_id, new_id + 1
            stat = update.stat or _UNKNOWN_STAT
            content_id = content_ids[update.content_hash] if update.content_hash else None
            rows.append({
                "id": row_id, "path": path, "size_bytes": stat.size, "mtime_ns": stat.mtime_ns,
                "ctime_ns": stat.ctime_ns, "inode": t.signed(stat.inode), "dev": t.signed(stat.dev),
                "status": update.status, "reason": update.reason, "content_id": content_id,
            })  # fmt: skip
        statement = upsert(t.file)
        changed = {
            column.name: statement.excluded[column.name] for column in t.file.columns if column.name != "id"
        }
        connection.execute(
            statement.on_conflict_do_update(index_elements=["id"], set_=changed), checked("file", rows)
        )
        words.add_files(connection, [row for row in rows if row["path"] not in known])

    def remove_files(self, ids: Iterable[int]) -> None:
        """Forget paths. Their embeddings stay until `prune`: a file that comes back costs no encoding."""
        with storage_errors(self.folder), self.engine.begin() as connection:
            for part in parts(list(ids)):
                connection.execute(delete(t.file).where(t.file.c.id.in_(part)))
                words.remove_files(connection, part)

    # -- snapshots

    def name_snapshot(self, record: SnapshotRecord) -> list[SnapshotRecord]:
        """Make a snapshot file the newest and return the records that are now too old to keep."""
        with storage_errors(self.folder), self.engine.begin() as connection:
            fields = dict(zip(t.CHECKED["snapshot"], astuple(record), strict=True))
            fields["generation"] = next_id(connection, t.snapshot)
            connection.execute(insert(t.snapshot), checked("snapshot", [fields]))
            old = self.snapshots(connection)[2:]
            connection.execute(
                delete(t.snapshot).where(t.snapshot.c.generation.in_([r.generation for r in old]))
            )
        return old

    def name_tier(self, record: TierRecord) -> None:
        """Make a file of inverted lists the one that is used; older ones are no longer named."""
        with storage_errors(self.folder), self.engine.begin() as connection:
            fields = dict(zip(t.CHECKED["tier"], astuple(record), strict=True))
            fields["generation"] = next_id(connection, t.tier)
            connection.execute(delete(t.tier))
            connection.execute(insert(t.tier), checked("tier", [fields]))

    def forget_tiers(self) -> None:
        """Name no inverted lists any more."""
        with storage_errors(self.folder), self.engine.begin() as connection:
            connection.execute(delete(t.tier))


def _content_row(row_id: int, content: NewContent) -> dict[str, Any]:
    meta = content.metadata
    return {
        "id": row_id, "hash": content.hash, "size_bytes": content.size_bytes,
        "width": content.width, "height": content.height, "format": content.format,
        "warning": content.warning,
        "taken_at": meta.taken_at, "camera": meta.camera, "lens": meta.lens, "iso": meta.iso,
        "latitude": meta.latitude, "longitude": meta.longitude, "caption": meta.caption,
        "keywords": json.dumps(list(meta.keywords)) if meta.keywords else None, "rating": meta.rating,
    }  # fmt: skip


@contextmanager
def writing(folder: Path) -> Iterator[Ledger]:
    """Hold the writer's lock and yield the ledger of an index that is there.

    Raises:
        IndexMissingError, IndexLockedError, IndexDamagedError, IndexNewerError, IndexStorageError.
    """
    Catalog.open(folder).close()  # a folder without an index is not made one
    lock = WriterLock(folder)
    try:
        with Ledger.open_or_create(folder) as ledger:
            yield ledger
    finally:
        lock.close()


def _look_row(content_id: int, look: Look) -> dict[str, Any]:
    return {"content_id": content_id, "phash": t.signed(look.phash), "sharpness": float(look.sharpness)}


def checked(table: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "check": t.row_check(*(row[name] for name in t.CHECKED[table]))} for row in rows]


def next_id(connection: Connection, table: Table) -> int:
    """Return an id that was never given out. AUTOINCREMENT keeps the highest in sqlite_sequence."""
    query = text("SELECT seq FROM sqlite_sequence WHERE name = :name")
    return int(connection.execute(query, {"name": table.name}).scalar() or 0) + 1


# -- files and file systems


def _create(folder: Path, journal: str) -> None:
    """Make the catalog in its final journal mode: a change of mode on the live file could be cut in two."""
    path = folder / CATALOG_NAME
    partial = path.with_name(CATALOG_NAME + ".new")
    with storage_errors(folder):
        for tail in ("", "-journal", "-wal", "-shm"):
            Path(f"{partial}{tail}").unlink(missing_ok=True)
        engine = writing_engine(partial, (f"PRAGMA journal_mode={journal}",))
        with engine.begin() as connection:
            migrate(connection, 0)
        with engine.connect() as connection:
            # Closing would do this too, but say nothing when it fails.
            connection.connection.dbapi_connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # type: ignore[union-attr]
        engine.dispose()
        publish_file(partial, path)


def publish_file(partial: Path, target: Path) -> None:
    """Give a complete file its name: fsync, rename, fsync of the folder."""
    _fsync(partial, os.O_RDONLY)
    os.replace(partial, target)
    _fsync(target.parent, os.O_RDONLY | os.O_DIRECTORY)


def _fsync(path: Path, flags: int) -> None:
    fd = os.open(path, flags)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def filesystem_type(folder: Path) -> str:
    """Return the kernel's name of the file system under a folder, or "" where /proc does not tell."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return ""
    best, kind = -1, ""
    target = os.path.realpath(folder)
    for line in mounts:
        left, _, right = line.partition(" - ")
        point = left.split()[4].encode().decode("unicode_escape", "replace")
        inside = target == point or target.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= best:
            best, kind = len(point), right.split()[0]
    return kind
