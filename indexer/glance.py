"""What an index says of itself before it is opened: a hint, to be begun with while it is opened properly.

The standard library alone: a question begins to open its encoder while SQLAlchemy is still imported.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import urllib.parse
from contextlib import closing
from pathlib import Path

APPLICATION_ID = 0x70697873
"""'pixs': tells our catalog from any other SQLite file."""


def spec_of(folder: Path) -> str | None:
    """Return the spec of the encoder an index was made with; None where anything at all is in the way.

    Nothing is checked but that the file is a catalog of ours: who acts on it compares with `Index.space`.
    """
    path = folder / "catalog.sqlite"
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return None
        with path.open("rb") as stream:
            header = stream.read(100)
        if header[:16] != b"SQLite format 3\0" or header[68:72] != APPLICATION_ID.to_bytes(4, "big"):
            return None
        uri = f"file:{urllib.parse.quote(os.fsencode(path.absolute()))}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=0, isolation_level=None)) as connection:
            connection.execute("PRAGMA trusted_schema=OFF")
            row = connection.execute("SELECT spec FROM space WHERE active = 1").fetchone()
    except (OSError, sqlite3.Error, ValueError):
        return None
    return row[0] if row is not None and isinstance(row[0], str) else None
