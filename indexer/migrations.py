"""Numbered steps from one on-disk format to the next. A step is never edited once it was released."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, text

from indexer import tables, words


def _first(connection: Connection) -> None:
    """Format 1: pictures, their files and their embeddings."""
    tables.metadata.create_all(connection, tables=tables.FORMAT_1)


def _second(connection: Connection) -> None:
    """Format 2: full text, perceptual hashes, concepts and verdicts."""
    tables.metadata.create_all(connection, tables=tables.FORMAT_2)
    # Few pictures say where they were taken or are rated: conditions on these read only those.
    connection.exec_driver_sql(
        "CREATE INDEX content_place ON content (latitude, longitude) WHERE latitude IS NOT NULL"
    )
    connection.exec_driver_sql("CREATE INDEX content_rating ON content (rating) WHERE rating IS NOT NULL")
    words.create(connection)
    words.fill(connection)


def _third(connection: Connection) -> None:
    """Format 3: inverted lists for very many embeddings."""
    tables.metadata.create_all(connection, tables=tables.FORMAT_3)


STEPS: list[Callable[[Connection], None]] = [_first, _second, _third]
"""STEPS[n] takes format n to format n + 1."""
assert len(STEPS) == tables.VERSION


def migrate(connection: Connection, found: int) -> None:
    """Bring the catalog from format `found` to the newest, inside the caller's one transaction."""
    for step in STEPS[found:]:
        step(connection)
    connection.execute(text(f"PRAGMA application_id={tables.APPLICATION_ID}"))
    connection.execute(text(f"PRAGMA user_version={tables.VERSION}"))
