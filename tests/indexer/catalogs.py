"""Catalogs written without pictures: contents and files as the ledger takes them, vectors from a seed."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from encoders import normalize
from indexer.images import Region
from indexer.ledger import FileUpdate, Ledger, NewContent
from indexer.lock import WriterLock
from indexer.metadata import Metadata
from indexer.records import Look
from indexer.snapshots import publish
from indexer.workers import FileStat

DIM = 16


def content(
    number: int,
    metadata: Metadata | None = None,
    *,
    frames: int = 1,
    width: int = 40,
    height: int = 30,
    size: int | None = None,
    format: str = "JPEG",
    look: Look | None = None,
) -> NewContent:
    """Return a content whose vectors are drawn from its number; more frames are tiles."""
    vectors = normalize(np.random.default_rng(number).standard_normal((frames, DIM)).astype(np.float32))
    regions = [None, *(Region(part / 10, 0.0, 0.1, 1.0) for part in range(frames - 1))]
    return NewContent(
        number.to_bytes(32, "big"), number if size is None else size, width, height, format, None,
        metadata or Metadata(), regions, vectors.astype(np.float16), look,
    )  # fmt: skip


def shown_at(path: str | bytes, number: int | None) -> FileUpdate:
    """Return a file that shows content `number`, or (None) a file that could not be read."""
    stat = FileStat(1, 1, 1, 1, 1)
    if number is None:
        return FileUpdate(os.fsencode(path), stat, "failed", "damaged")
    return FileUpdate(os.fsencode(path), stat, "ok", None, number.to_bytes(32, "big"))


def write(
    folder: Path, contents: Iterable[NewContent], files: Iterable[FileUpdate], *, snapshot: bool = True
) -> Path:
    """Add to the index in a folder, made when it is not there, and return the folder."""
    folder.mkdir(exist_ok=True)
    lock = WriterLock(folder)
    try:
        with Ledger.open_or_create(folder) as ledger:
            space = ledger.space() or ledger.set_space("seed", "f" * 64, DIM, 8)
            ledger.commit(space, list(contents), list(files))
            if snapshot:
                publish(ledger, space)
    finally:
        lock.close()
    return folder


def migrate(folder: Path) -> None:
    """Open for writing, as `pixseek index` does."""
    lock = WriterLock(folder)
    try:
        Ledger.open_or_create(folder).close()
    finally:
        lock.close()


def take_back_to_format_1(folder: Path) -> None:
    """Make the catalog what the code of format 1 would have left."""
    database = sqlite3.connect(folder / "catalog.sqlite", isolation_level=None)
    for table in ("words", "names", "look", "concept", "verdict", "tier"):
        database.execute(f"drop table {table}")
    database.execute("delete from sqlite_sequence where name in ('concept', 'verdict', 'tier')")
    database.execute("drop index if exists content_place")
    database.execute("drop index if exists content_rating")
    database.execute("pragma user_version=1")
    database.execute("pragma wal_checkpoint(truncate)")
    database.close()
