"""Looking after an index: check, repair, prune, backup. None of them touches a photo."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Engine, Row, Table, delete, exists, func, select, text

from encoders import UsageError
from indexer import snapshots, words
from indexer import tables as t
from indexer.catalog import Catalog, row_is_intact
from indexer.database import CATALOG_NAME, verify_header
from indexer.errors import IndexDamagedError, IndexMissingError, storage_errors
from indexer.ledger import Ledger, publish_file, writing
from indexer.lock import WriterLock
from indexer.records import RepairReport
from indexer.salvage import salvage

_CHECKED_TABLES = (t.space, t.content, t.frame, t.embedding, t.file, t.look, t.concept, t.verdict)
_NUMBERED = tuple(table for table in _CHECKED_TABLES if table is not t.look)
"""Those whose ids are given out by AUTOINCREMENT."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `kind`: catalog, row, vector, words, snapshot or lists."""

    kind: str
    where: str
    remedy: str


@dataclass(slots=True)
class CheckReport:
    """What `check` found; `rows` were read."""

    rows: int = 0
    problems: list[Problem] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems


@dataclass(frozen=True, slots=True)
class PruneReport:
    """What `prune` removes, or would remove."""

    contents: int
    embeddings: int
    applied: bool


def check(folder: Path) -> CheckReport:
    """Read everything and compare it with its checksums; finds any flipped bit in rows, vectors, snapshots.

    Raises:
        IndexMissingError, IndexNewerError, IndexStorageError. Damage is reported, not raised.
    """
    report = CheckReport()
    rebuild = "pixseek repair"
    try:
        catalog = Catalog.open(folder)
    except IndexDamagedError as error:
        report.problems.append(Problem("catalog", error.what, rebuild))
        return report
    with catalog:
        try:
            with storage_errors(folder), catalog.engine.connect() as connection:
                for (line,) in connection.execute(text("PRAGMA integrity_check(20)")):
                    if line != "ok":
                        report.problems.append(Problem("catalog", str(line), rebuild))
                for row in connection.execute(text("PRAGMA foreign_key_check")):
                    report.problems.append(
                        Problem("catalog", f"row {row[1]} of {row[0]} points nowhere", rebuild)
                    )
            space = catalog.space()
            dims = {space.id: space.dim} if space else {}
            for table in _tables_of(catalog.version):
                for row in _rows(catalog.engine, table, folder):
                    report.rows += 1
                    trouble = _row_trouble(table, row, dims)
                    if trouble:
                        kind = "vector" if table is t.embedding else "row"
                        report.problems.append(Problem(kind, f"{table.name} {row[0]}: {trouble}", rebuild))
            _check_sequences(catalog, report)
            if catalog.version >= 2 and all(problem.kind != "catalog" for problem in report.problems):
                trouble = _words_trouble(catalog)
                if trouble:
                    report.problems.append(Problem("words", trouble, rebuild))
            for record in catalog.snapshots()[:1]:
                trouble = snapshots.snapshot_trouble(folder, record, always_hash=True)
                if trouble:
                    report.problems.append(
                        Problem("snapshot", trouble, "pixseek repair, or the next pixseek index")
                    )
            for tier in catalog.tiers():
                trouble = snapshots.snapshot_trouble(folder, tier, always_hash=True)
                if trouble:
                    report.problems.append(
                        Problem("lists", trouble, "pixseek repair, or the next pixseek index")
                    )
        except IndexDamagedError as error:
            report.problems.append(Problem("catalog", error.what, rebuild))
    return report


def _row_trouble(table: Table, row: Row[Any], dims: dict[int, int]) -> str | None:
    if not row_is_intact(table.name, row):
        return "its bits have changed"
    if table is t.embedding or table is t.concept:
        vector = np.frombuffer(row.vector, np.float16).astype(np.float32)
        if len(vector) != dims.get(row.space_id):
            return "its length is not the space's"
        if not abs(float(np.linalg.norm(vector)) - 1.0) < 1e-2:
            return "its norm is not 1"
    return None


def _words_trouble(catalog: Catalog) -> str | None:
    """Return why the text tables are not what the catalog says, or None; a damaged one is such a reason."""
    try:
        with storage_errors(catalog.folder), catalog.engine.connect() as connection:
            own = connection.connection.dbapi_connection
            assert isinstance(own, sqlite3.Connection)
            # The database stays read-only; what is compared with it goes to temporary files.
            own.execute("PRAGMA temp_store=FILE")
            own.execute("PRAGMA query_only=OFF")
            # One transaction: what a writer adds meanwhile must not look like a difference.
            own.execute("BEGIN")
            return words.trouble(own)
    except IndexDamagedError as error:
        return error.what


def _check_sequences(catalog: Catalog, report: CheckReport) -> None:
    """AUTOINCREMENT's memory must not lie below a living id, or an id would be given out twice."""
    with storage_errors(catalog.folder), catalog.engine.connect() as connection:
        for table in set(_NUMBERED) & set(_tables_of(catalog.version)):
            query = text("SELECT seq FROM sqlite_sequence WHERE name = :name")
            remembered = connection.execute(query, {"name": table.name}).scalar() or 0
            highest = connection.execute(select(func.max(table.c.id))).scalar() or 0
            if highest > remembered:
                report.problems.append(
                    Problem("catalog", f"{table.name}: ids could be reused", "pixseek repair")
                )


def _tables_of(version: int) -> tuple[Table, ...]:
    """Return the tables with checksums that a catalog of this format has."""
    return tuple(table for table in _CHECKED_TABLES if version >= 2 or table not in t.FORMAT_2)


def _rows(engine: Engine, table: Table, folder: Path, chunk: int = 5_000) -> Iterator[Row[Any]]:
    key, after = t.key_of(table), -(2**63)
    while True:
        query = select(table).where(key > after).order_by(key).limit(chunk)
        with storage_errors(folder), engine.connect() as connection:
            rows = connection.execute(query).all()
        yield from rows
        if len(rows) < chunk:
            return
        after = rows[-1][0]


def repair(folder: Path) -> RepairReport:
    """Rebuild what can be rebuilt and list what must be encoded again.

    A catalog that SQLite cannot read through is copied row by row into a new one; only rows with a right
    checksum are taken over. The damaged file is kept beside it.
    Raises:
        IndexLockedError, IndexMissingError, IndexNewerError, IndexStorageError.
    """
    if not folder.is_dir():
        raise IndexMissingError(folder)
    lock = WriterLock(folder)
    try:
        report = RepairReport()
        try:
            verify_header(folder)
            kinds = {problem.kind for problem in check(folder).problems}
            sound = "catalog" not in kinds and ("words" not in kinds or _renew_words(folder, report))
        except IndexDamagedError:
            sound = False
        if not sound:
            report.set_aside = salvage(folder, report)
        with Ledger.open_or_create(folder) as ledger:
            _drop_bad_rows(ledger, report)
            space = ledger.space()
            if space is not None:
                newest = next(iter(ledger.snapshots()), None)
                if newest is None or snapshots.snapshot_trouble(folder, newest, always_hash=True):
                    report.snapshot_rebuilt = snapshots.publish(ledger, space) is not None
                report.kept = ledger.count_after(space, 0)
            if any(snapshots.snapshot_trouble(folder, tier, always_hash=True) for tier in ledger.tiers()):
                ledger.forget_tiers()
                report.lists_dropped = True
            snapshots.sweep_strays(ledger)
        return report
    finally:
        lock.close()


def _renew_words(folder: Path, report: RepairReport) -> bool:
    """Make the text tables again and return True, or False when SQLite cannot even drop the old ones."""
    try:
        with (
            Ledger.open_or_create(folder) as ledger,
            storage_errors(folder),
            ledger.engine.begin() as connection,
        ):
            words.create(connection)
            words.fill(connection)
    except IndexDamagedError:
        return False
    report.words_rebuilt = True
    return True


def _drop_bad_rows(ledger: Ledger, report: RepairReport) -> None:
    """Delete rows whose bits changed; contents that lose a frame or a vector are encoded again."""
    bad: dict[str, list[int]] = {}
    space = ledger.space()
    dims = {space.id: space.dim} if space else {}
    for table in _CHECKED_TABLES[1:]:
        bad[table.name] = [
            row[0] for row in _rows(ledger.engine, table, ledger.folder) if _row_trouble(table, row, dims)
        ]
        report.lost_rows += len(bad[table.name])
    with storage_errors(ledger.folder), ledger.engine.begin() as connection:
        contents = set(bad["content"])
        for row_id in bad["embedding"]:
            query = select(t.frame.c.content_id).join(t.embedding, t.embedding.c.frame_id == t.frame.c.id)
            contents.update(connection.execute(query.where(t.embedding.c.id == row_id)).scalars())
        for row_id in bad["frame"]:
            contents.update(
                connection.execute(select(t.frame.c.content_id).where(t.frame.c.id == row_id)).scalars()
            )
        # A content without all its frames and vectors is not searchable as it should be.
        whole = exists().where(t.frame.c.content_id == t.content.c.id)
        contents.update(connection.execute(select(t.content.c.id).where(~whole)).scalars())
        bare = ~exists().where(t.embedding.c.frame_id == t.frame.c.id)
        contents.update(connection.execute(select(t.frame.c.content_id).where(bare)).scalars())
        for table in (t.file, t.look, t.concept, t.verdict):
            for row_id in bad[table.name]:
                connection.execute(delete(table).where(t.key_of(table) == row_id))
        dangling = t.file.c.content_id.is_not(None) & ~exists().where(t.content.c.id == t.file.c.content_id)
        report.to_encode += connection.execute(select(t.file.c.path).where(dangling)).scalars()
        connection.execute(delete(t.file).where(dangling))
        for content_id in contents:
            owned = t.file.c.content_id == content_id
            report.to_encode += connection.execute(select(t.file.c.path).where(owned)).scalars()
            connection.execute(delete(t.file).where(owned))
            connection.execute(delete(t.content).where(t.content.c.id == content_id))
        if contents:
            # A snapshot could still hold what was just deleted; its ids find no row, but count differs.
            connection.execute(delete(t.snapshot))
            connection.execute(delete(t.tier))
        words.remove_orphans(connection)
        for table in _NUMBERED:
            highest = connection.execute(select(func.max(table.c.id))).scalar() or 0
            raise_to = text("UPDATE sqlite_sequence SET seq = :seq WHERE name = :name AND seq < :seq")
            connection.execute(raise_to, {"seq": highest, "name": table.name})


def prune(folder: Path, *, apply: bool = False) -> PruneReport:
    """Remove embeddings that no file has any more, and give their space back; a dry run unless `apply`."""
    if not apply:
        with Catalog.open(folder) as catalog:
            return _count_orphans(catalog, False)
    with writing(folder) as ledger:
        report = _count_orphans(ledger, True)
        orphan = ~exists().where(t.file.c.content_id == t.content.c.id)
        with storage_errors(folder), ledger.engine.begin() as connection:
            connection.execute(delete(t.content).where(orphan))
            words.remove_orphans(connection)
        space = ledger.space()
        if space is not None and report.embeddings:
            snapshots.publish(ledger, space)
        with storage_errors(folder), ledger.engine.connect() as connection:
            connection.connection.dbapi_connection.execute("VACUUM")  # type: ignore[union-attr]
    return report


def _count_orphans(catalog: Catalog, applied: bool) -> PruneReport:
    orphan = ~exists().where(t.file.c.content_id == t.content.c.id)
    with storage_errors(catalog.folder), catalog.engine.connect() as connection:
        contents = connection.execute(select(func.count()).select_from(t.content).where(orphan)).scalar_one()
    return PruneReport(contents, catalog.counts()["dead"], applied)


def backup(folder: Path, target: Path) -> Path:
    """Write a consistent copy of the catalog into a new folder and return it; safe while indexing goes on.

    The copy is an index of its own: snapshots are caches and are built again from it.
    Raises:
        UsageError: the target holds an index already.
        IndexStorageError: it cannot be written.
    """
    with Catalog.open(folder) as catalog, storage_errors(target):
        target.mkdir(parents=True, exist_ok=True)
        copy = target / CATALOG_NAME
        if copy.exists():
            raise UsageError(f"{target} holds an index already; choose another folder")
        partial = copy.with_name(CATALOG_NAME + ".new")
        partial.unlink(missing_ok=True)
        with catalog.engine.connect() as connection:
            source: sqlite3.Connection = connection.connection.dbapi_connection
            destination = sqlite3.connect(partial)
            try:
                source.backup(destination)
            finally:
                destination.close()
        publish_file(partial, copy)
    return target


__all__ = ["CheckReport", "Problem", "PruneReport", "backup", "check", "prune", "repair"]
