"""A catalog that SQLite cannot read through, copied row by row into a new one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, Row, Table, delete, exists, insert, select, text
from sqlalchemy.exc import DBAPIError

from indexer import tables as t
from indexer import words
from indexer.catalog import row_is_intact
from indexer.database import CATALOG_NAME, check_version, reading_engine
from indexer.errors import storage_errors
from indexer.ledger import Ledger, publish_file
from indexer.records import RepairReport

_SALVAGE_ROWS = 4096
_SALVAGE_FAILURES = 512


def salvage(folder: Path, report: RepairReport) -> str:
    """Copy the sound rows of a damaged catalog into a new one and return where the damaged one is kept."""
    damaged = folder / CATALOG_NAME
    staging = folder / "salvage"
    shutil.rmtree(staging, ignore_errors=True)
    with storage_errors(folder):
        staging.mkdir()
        with Ledger.open_or_create(staging) as ledger:
            if damaged.is_file():
                _copy_sound_rows(damaged, ledger, report)
        number = 1
        while (aside := folder / f"{CATALOG_NAME}.damaged-{number}").exists():
            number += 1
        if os.path.lexists(damaged):
            os.rename(damaged, aside)
        for tail in ("-wal", "-shm"):
            if (folder / (CATALOG_NAME + tail)).exists():
                os.rename(folder / (CATALOG_NAME + tail), f"{aside}{tail}")
        publish_file(staging / CATALOG_NAME, damaged)
        shutil.rmtree(staging, ignore_errors=True)
    return str(aside)


def _copy_sound_rows(damaged: Path, ledger: Ledger, report: RepairReport) -> None:
    engine = reading_engine(damaged)
    try:
        try:
            version = check_version(ledger.folder, engine)
        except (DBAPIError, UnicodeDecodeError):
            return  # SQLite cannot even find its tables
        with ledger.engine.begin() as target:
            target.execute(text("PRAGMA defer_foreign_keys=ON"))
            newer = t.FORMAT_2 if version >= 2 else ()
            for table in (t.space, t.root, t.content, t.frame, t.embedding, t.file, *newer):
                for row in _readable_rows(engine, table, report):
                    values = dict(row._mapping)
                    if table is not t.root and not row_is_intact(table.name, row):
                        report.lost_rows += 1
                        continue
                    if table is t.file and row.content_id is not None:
                        known = select(t.content.c.id).where(t.content.c.id == row.content_id)
                        if target.execute(known).first() is None:
                            report.to_encode.append(row.path)
                            continue
                    target.execute(insert(table).prefix_with("OR IGNORE"), values)
            for table, parent, key in (
                (t.frame, t.content, t.frame.c.content_id),
                (t.embedding, t.frame, t.embedding.c.frame_id),
                (t.look, t.content, t.look.c.content_id),
                (t.concept, t.space, t.concept.c.space_id),
            ):
                target.execute(delete(table).where(~exists().where(parent.c.id == key)))
            words.create(target)
            words.fill(target)
    finally:
        engine.dispose()


def _readable_rows(engine: Engine, table: Table, report: RepairReport) -> Iterator[Row[Any]]:
    """Yield the rows that can still be read, stepping over broken pages by ids.

    A read that fails is made smaller until a single row fails; then ids are passed over, in growing steps.
    """
    key = t.key_of(table)
    ordered = select(table).order_by(key)
    start, width, failures = 1, _SALVAGE_ROWS, 0
    with engine.connect() as connection:
        while failures < _SALVAGE_FAILURES:
            try:
                rows = connection.execute(ordered.where(key >= start).limit(width)).all()
            except DBAPIError:
                if width > 1:
                    width = max(1, width // 8)
                else:
                    start += 1 << (failures // 16)
                    failures += 1
                    report.lost_rows += 1
                continue
            yield from rows
            if len(rows) < width:
                return
            start, width, failures = rows[-1][0] + 1, min(_SALVAGE_ROWS, width * 2), 0
