"""Numbered steps from one on-disk format to the next. A step is never edited once it was released."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, text

from indexer import tables


def _first(connection: Connection) -> None:
    """Format 1: the tables of `indexer.tables`."""
    tables.metadata.create_all(connection)


STEPS: list[Callable[[Connection], None]] = [_first]
"""STEPS[n] takes format n to format n + 1."""
assert len(STEPS) == tables.VERSION


def migrate(connection: Connection, found: int) -> None:
    """Bring the catalog from format `found` to the newest, inside the caller's one transaction."""
    for step in STEPS[found:]:
        step(connection)
    connection.execute(text(f"PRAGMA application_id={tables.APPLICATION_ID}"))
    connection.execute(text(f"PRAGMA user_version={tables.VERSION}"))
