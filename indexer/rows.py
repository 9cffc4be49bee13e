"""Rows of chosen files: their embeddings, their words, their order. Reads only."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from sqlalchemy import func, select, text

from indexer import tables as t
from indexer import words as text_tables
from indexer.catalog import Catalog
from indexer.errors import IndexDamagedError, storage_errors
from indexer.records import Space, WordHit
from indexer.selection import Ids, Selection

Order: TypeAlias = Literal["taken", "name", "size"]
_CHUNK = 500
_FEW_CONTENTS = 20_000
"""Up to so many are looked up by id; for more, two scans over indexes that hold all of it are faster."""
_MOST_WORD_ROWS = 20_000


@dataclass(frozen=True, slots=True)
class Embedded:
    """Embeddings of chosen files: ids (n,) int64 sorted, and the frame of each."""

    ids: Ids
    frames: Ids


def embeddings_of(catalog: Catalog, among: Selection, space: Space) -> Embedded:
    """Return the embeddings of a space that at least one of the chosen files shows."""
    assert among.content_ids is not None
    frame, embedding = t.frame, t.embedding
    with storage_errors(catalog.folder), catalog.engine.connect() as connection:
        if len(among.content_ids) <= _FEW_CONTENTS:
            joined = frame.join(embedding, embedding.c.frame_id == frame.c.id)
            query = (
                select(embedding.c.id, frame.c.id).select_from(joined).where(embedding.c.space_id == space.id)
            )
            found = [
                tuple(row)
                for part in _parts(among.content_ids.tolist())
                for row in connection.execute(query.where(frame.c.content_id.in_(part)))
            ]
            pairs = np.array(found, np.int64).reshape(-1, 2)
        else:
            frames = _pairs(connection.exec_driver_sql("SELECT content_id, id FROM frame"))
            chosen = np.sort(frames[np.isin(frames[:, 0], among.content_ids), 1])
            pairs = _pairs(
                connection.exec_driver_sql(
                    "SELECT id, frame_id FROM embedding WHERE space_id = ?", (space.id,)
                )
            )
            pairs = pairs[np.isin(pairs[:, 1], chosen)]
    pairs = pairs[np.argsort(pairs[:, 0])]
    return Embedded(pairs[:, 0].copy(), pairs[:, 1].copy())


def _pairs(cursor: Iterable[Sequence[int]]) -> Ids:
    flat = np.fromiter((number for row in cursor for number in row), np.int64)
    return flat.reshape(-1, 2)


def whole_frames(catalog: Catalog, file_ids: Sequence[int]) -> dict[int, int]:
    """Return {file id: its first frame that is the whole picture, else its first}."""
    found: dict[int, int] = {}
    with storage_errors(catalog.folder), catalog.engine.connect() as connection:
        for part in _parts(list(file_ids)):
            query = (
                select(t.file.c.id, t.frame.c.id)
                .join(t.frame, t.frame.c.content_id == t.file.c.content_id)
                .where(t.file.c.id.in_(part))
                .order_by(t.frame.c.x.is_not(None), t.frame.c.position)
            )
            for file_id, frame_id in connection.execute(query):
                found.setdefault(file_id, frame_id)
    return found


def matching_words(
    catalog: Catalog, words: str, k: int, among: Selection | None
) -> tuple[list[WordHit], str | None]:
    """Return (the best k contents by their words, why the text tables could not be asked or None)."""
    expression, every = (text_tables.match_expression(words, every=every) for every in (False, True))
    if expression is None or every is None or k <= 0:
        return [], None
    contents = files = None
    if among is not None and among.file_ids is not None and among.content_ids is not None:
        contents, files = (json.dumps(ids.tolist()) for ids in (among.content_ids, among.file_ids))
    try:
        with storage_errors(catalog.folder), catalog.engine.connect() as connection:
            if not text_tables.is_ours(connection):
                return [], "its text tables are not pixseek's"
            most = max(_MOST_WORD_ROWS, k)
            scores = text_tables.search(connection, expression, most, contents, files)
            complete = text_tables.search(connection, every, most, contents, files)
            best = sorted(scores.items(), key=lambda item: (item[0] not in complete, -item[1], item[0]))[:k]
            frames: dict[int, int] = {}
            for part in _parts([content_id for content_id, _ in best]):
                query = select(t.frame.c.content_id, t.frame.c.id).where(t.frame.c.content_id.in_(part))
                for content_id, frame_id in connection.execute(query.order_by(t.frame.c.position)):
                    frames.setdefault(content_id, frame_id)
    except IndexDamagedError as error:
        return [], error.what
    hits = [
        WordHit(frames[content_id], score, content_id in complete)
        for content_id, score in best
        if content_id in frames
    ]
    return hits, None


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
        parameters["ids"] = json.dumps(among.file_ids.tolist())
    with storage_errors(catalog.folder), catalog.engine.connect() as connection:
        return list(connection.execute(query, parameters).scalars())


def _parts(items: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(items), _CHUNK):
        yield items[start : start + _CHUNK]
