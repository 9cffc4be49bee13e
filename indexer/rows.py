"""Rows of chosen files: their embeddings, their words, their order. Reads only."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, func, select, text

from indexer import tables as t
from indexer import words as text_tables
from indexer.catalog import Catalog
from indexer.errors import IndexDamagedError, storage_errors
from indexer.records import Space, WordHit
from indexer.selection import Ids, Selection, read_pairs

Order: TypeAlias = Literal["taken", "name", "size"]
Written: TypeAlias = tuple[int, float, bool]
"""A content id, what its words are worth, and whether it has all of them."""
MOST_WORD_ROWS = 20_000


@dataclass(frozen=True, slots=True)
class Embedded:
    """Embeddings of chosen files: ids (n,) int64 sorted, and the frame of each."""

    ids: Ids
    frames: Ids


def embeddings_of(catalog: Catalog, among: Selection, space: Space) -> Embedded:
    """Return the embeddings of a space that at least one of the chosen files shows."""
    assert among.content_ids is not None
    # CROSS JOIN keeps this order: two look-ups for each content, in indexes that hold all that is asked.
    source = (
        "FROM json_each(?) AS chosen CROSS JOIN frame ON frame.content_id = chosen.value "
        "CROSS JOIN embedding ON embedding.frame_id = frame.id AND embedding.space_id = ?"
    )
    with storage_errors(catalog.folder), catalog.engine.connect() as connection:
        asked = _listed(among.content_ids)
        pairs = read_pairs(connection, "embedding.id", "frame.id", source, asked, space.id)
    pairs = pairs[np.argsort(pairs[:, 0])]
    return Embedded(pairs[:, 0].copy(), pairs[:, 1].copy())


def embeddings_of_frames(catalog: Catalog, frame_ids: Sequence[int], space: Space) -> Embedded:
    """Return the embeddings of a space that belong to these frames."""
    source = (
        "FROM json_each(?) AS chosen "
        "CROSS JOIN embedding ON embedding.frame_id = chosen.value AND embedding.space_id = ?"
    )
    with storage_errors(catalog.folder), catalog.engine.connect() as connection:
        asked = json.dumps(sorted(set(map(int, frame_ids))))
        pairs = read_pairs(connection, "embedding.id", "embedding.frame_id", source, asked, space.id)
    pairs = pairs[np.argsort(pairs[:, 0])]
    return Embedded(pairs[:, 0].copy(), pairs[:, 1].copy())


def files_of(catalog: Catalog, frame_ids: Sequence[int]) -> Ids:
    """Return (n, 2) int64, each of these frames with each file that shows it; no row is checked."""
    source = (
        "FROM json_each(?) AS chosen CROSS JOIN frame ON frame.id = chosen.value "
        "CROSS JOIN file ON file.content_id = frame.content_id"
    )
    with storage_errors(catalog.folder), catalog.engine.connect() as connection:
        return read_pairs(connection, "frame.id", "file.id", source, json.dumps(list(map(int, frame_ids))))


def living(catalog: Catalog, embedding_ids: Ids) -> npt.NDArray[np.bool_]:
    """Return for each embedding whether a file shows it."""
    query = (
        "SELECT group_concat(embedding.id) FROM json_each(?) AS chosen "
        "CROSS JOIN embedding ON embedding.id = chosen.value "
        "CROSS JOIN frame ON frame.id = embedding.frame_id "
        "WHERE EXISTS (SELECT 1 FROM file WHERE file.content_id = frame.content_id)"
    )
    with storage_errors(catalog.folder), catalog.engine.connect() as connection:
        alive = connection.exec_driver_sql(query, (_listed(embedding_ids),)).scalar_one()
    return np.isin(embedding_ids, np.fromstring(alive or "", np.int64, sep=","))


def whole_frames(catalog: Catalog, file_ids: Sequence[int]) -> dict[int, int]:
    """Return {file id: its first frame that is the whole picture, else its first}."""
    query = (
        "SELECT file.id, frame.id FROM json_each(?) AS chosen CROSS JOIN file ON file.id = chosen.value "
        "CROSS JOIN frame ON frame.content_id = file.content_id "
        "ORDER BY frame.x IS NULL, frame.position DESC"
    )
    # SQLite takes no number of more than 64 bits; no picture has one.
    asked = json.dumps([int(file_id) for file_id in file_ids if abs(file_id) < 1 << 63])
    with storage_errors(catalog.folder), catalog.engine.connect() as connection:
        return _last_of_each(connection, query, asked)


def _last_of_each(connection: Connection, query: str, asked: str) -> dict[int, int]:
    """Return {first column: second} of rows of two; of several with one key, the last."""
    result = connection.exec_driver_sql(query, (asked,))
    cursor: Any = result.cursor
    found: dict[int, int] = dict(cursor.fetchall())
    result.close()
    return found


def ranked_words(
    catalog: Catalog, words: str, k: int, among: Selection | None
) -> tuple[list[Written], str | None]:
    """Return (contents by their words, at least the best k; why the text tables were not asked or None)."""
    contents = files = None
    if among is not None and among.file_ids is not None and among.content_ids is not None:
        contents, files = set(among.content_ids.tolist()), set(among.file_ids.tolist())
    try:
        with storage_errors(catalog.folder), catalog.engine.connect() as connection:
            if not text_tables.is_ours(connection):
                return [], "its text tables are not pixseek's"
            most = max(MOST_WORD_ROWS, k)
            scores = complete = text_tables.search(connection, words, most, contents, files)
            if len(text_tables.phrases_of(words)) > 1:
                complete = text_tables.search(connection, words, most, contents, files, every=True)
                # One that has all the words may be beyond the best by any of them.
                scores = {**complete, **scores}
    except IndexDamagedError as error:
        return [], error.what
    content_ids = np.fromiter(scores.keys(), np.int64, len(scores))
    values = np.fromiter(scores.values(), np.float64, len(scores))
    every = np.isin(content_ids, np.fromiter(complete.keys(), np.int64, len(complete)))
    order = np.lexsort((content_ids, -values, ~every))
    best = zip(content_ids[order].tolist(), values[order].tolist(), every[order].tolist(), strict=True)
    return list(best), None


def word_hits(catalog: Catalog, written: Sequence[Written]) -> list[WordHit]:
    """Return a hit by its first frame for each content that has one, in their order."""
    query = (
        "SELECT frame.content_id, frame.id FROM json_each(?) AS chosen "
        "CROSS JOIN frame ON frame.content_id = chosen.value ORDER BY frame.position DESC"
    )
    asked = json.dumps([content_id for content_id, _, _ in written])
    with storage_errors(catalog.folder), catalog.engine.connect() as connection:
        frames = _last_of_each(connection, query, asked)
    return [
        WordHit(frames[content_id], score, complete)
        for content_id, score, complete in written
        if content_id in frames
    ]


def listed_files(catalog: Catalog, among: Selection, k: int, sort: Order) -> list[int]:
    """Return up to k file ids in the order asked for; ties by path."""
    order = {
        "taken": (
            t.content.c.taken_at.is_(None),
            func.substr(t.content.c.taken_at, 1, 19).desc(),
            t.file.c.path,
        ),
        "name": (t.file.c.path,),
        "size": (t.content.c.size_bytes.desc(), t.file.c.path),
    }[sort]
    query = (
        select(t.file.c.id)
        .join(t.content, t.content.c.id == t.file.c.content_id)
        .order_by(*order)
        .limit(max(0, k))
    )
    parameters = {}
    if among.file_ids is not None:
        query = query.where(t.file.c.id.in_(text("SELECT value FROM json_each(:ids)")))
        parameters["ids"] = _listed(among.file_ids)
    with storage_errors(catalog.folder), catalog.engine.connect() as connection:
        return list(connection.execute(query, parameters).scalars())


def _listed(ids: Ids) -> str:
    """Return ids as one parameter for json_each: there may be a million."""
    return json.dumps(ids.tolist())
