"""The file under the catalog: what is looked at before SQLite is, and how its connections are made."""

from __future__ import annotations

import os
import sqlite3
import struct
import urllib.parse
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event, func, select, text
from sqlalchemy.pool import NullPool, Pool, StaticPool

from indexer import tables as t
from indexer.errors import IndexDamagedError, IndexMissingError, IndexNewerError, storage_errors
from indexer.functions import register_functions

CATALOG_NAME = "catalog.sqlite"


def verify_header(folder: Path) -> None:
    """Look at the first 100 bytes before SQLite does: a file that is not ours is not touched.

    Raises:
        IndexMissingError, IndexDamagedError, IndexNewerError.
    Source: https://www.sqlite.org/fileformat2.html, section 1.3.
    """
    path = folder / CATALOG_NAME
    with storage_errors(folder):
        if not path.exists() and not path.is_symlink():
            if any(folder.glob("vectors-*.faiss")):
                raise IndexDamagedError(folder, f"{CATALOG_NAME} is missing")
            raise IndexMissingError(folder)
        if not path.is_file():
            raise IndexDamagedError(folder, f"{CATALOG_NAME} is not a file")
        with path.open("rb") as stream:
            header = stream.read(100)
            size = os.fstat(stream.fileno()).st_size
        wal = path.with_name(CATALOG_NAME + "-wal")
        quiet = not wal.exists() or wal.stat().st_size == 0
    if len(header) < 100 or header[:16] != b"SQLite format 3\0":
        raise IndexDamagedError(folder, f"{CATALOG_NAME} is not a database")
    page_size, pages = struct.unpack(">H", header[16:18])[0], struct.unpack(">I", header[28:32])[0]
    version, application = struct.unpack(">I", header[60:64])[0], struct.unpack(">I", header[68:72])[0]
    if application != t.APPLICATION_ID:
        raise IndexDamagedError(folder, f"{CATALOG_NAME} is not a pixseek catalog")
    if version > t.VERSION:
        raise IndexNewerError(folder, version, t.VERSION)
    if quiet and size < pages * (65536 if page_size == 1 else page_size):
        raise IndexDamagedError(folder, f"{CATALOG_NAME} is cut short")


def check_version(folder: Path, engine: Engine) -> int:
    """Return the format of an open catalog; raise IndexNewerError when it is past ours."""
    with engine.connect() as connection:
        version = int(connection.execute(text("PRAGMA user_version")).scalar_one())
        connection.execute(select(func.count()).select_from(t.space)).scalar_one()
    if version > t.VERSION:
        raise IndexNewerError(folder, version, t.VERSION)
    return version


def reading_engine(path: Path, immutable: bool = False) -> Engine:
    uri = f"file:{urllib.parse.quote(os.fsencode(path.absolute()))}?mode=ro" + (
        "&immutable=1" if immutable else ""
    )
    return _engine(uri, "BEGIN", ("PRAGMA query_only=ON",), NullPool)


def writing_engine(path: Path, pragmas: Sequence[str] = ()) -> Engine:
    uri = f"file:{urllib.parse.quote(os.fsencode(path.absolute()))}?mode=rwc"
    return _engine(
        uri, "BEGIN IMMEDIATE", ("PRAGMA foreign_keys=ON", "PRAGMA synchronous=FULL", *pragmas), StaticPool
    )


def _engine(uri: str, begin: str, pragmas: Sequence[str], pool: type[Pool]) -> Engine:
    """Return an engine whose transactions begin when told to (pysqlite begins late of its own).

    The writer keeps one connection: the last one to close would checkpoint the WAL after every batch.
    """

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(uri, uri=True, timeout=10, isolation_level=None, check_same_thread=False)
        try:
            # The file may come from a friend: no functions or views of its own run, and nothing maps it.
            # Changed bits in a text must reach its checksum, not end the query.
            connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
            for pragma in ("trusted_schema=OFF", "cell_size_check=ON", "mmap_size=0", "temp_store=MEMORY"):
                connection.execute(f"PRAGMA {pragma}")
            for pragma in pragmas:
                connection.execute(pragma)
            register_functions(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    engine = create_engine("sqlite://", creator=connect, poolclass=pool)

    @event.listens_for(engine, "begin")
    def _(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def cannot_open(error: Exception) -> bool:
    code = getattr(getattr(error, "orig", error), "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR)
