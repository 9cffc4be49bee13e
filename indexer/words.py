"""Words that stand in the catalog: captions, keywords and names, as FTS5 tables beside it.

`words` has a row per content with a caption or keywords (rowid = content.id), `names` one per file (rowid =
file.id). Both are derived from `content` and `file`, written in the same transactions, and can be made again.
"""

from __future__ import annotations

import json
import re
import sqlite3
import unicodedata
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise, zip_longest
from typing import Any

from sqlalchemy import Connection, select

from indexer import tables as t

# Marks are letters: without Mn and Mc, a Hindi word falls apart at its vowels.
_TOKENIZER = "tokenize=\"porter unicode61 remove_diacritics 2 categories 'L* N* Co Mn Mc'\""
TABLES = {
    "words": f"CREATE VIRTUAL TABLE words USING fts5(caption, keywords, {_TOKENIZER})",
    "names": f"CREATE VIRTUAL TABLE names USING fts5(name, {_TOKENIZER})",
}
"""Name to definition. A catalog whose definition reads otherwise (a friend's?) is not asked."""
_CAPTION_WEIGHT, _KEYWORD_WEIGHT, _NAME_WEIGHT = 2.0, 4.0, 0.5
"""A keyword was chosen for the picture, a caption describes it, a name may stand over a whole folder."""
_CHUNK = 5_000
_TOO_COMMON = 100_000
_MOST_TERMS = 64
"""A question is short; a pasted page would make a query that takes minutes."""

STOP_WORDS = frozenset({
    "a", "an", "and", "any", "are", "as", "at", "be", "been", "but", "by", "did", "do", "does", "for",
    "from", "had", "has", "have", "he", "her", "his", "i", "in", "into", "is", "it", "its", "me", "my",
    "no", "not", "of", "on", "or", "our", "she", "some", "that", "the", "their", "them", "there",
    "these", "they", "this", "those", "to", "up", "was", "we", "were", "what", "when", "where", "which",
    "who", "with", "you", "your",
})  # fmt: skip
# Unspaced scripts: each character is a token. Han, kana, and their extensions.
_UNSPACED = (
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_UNSPACED_RUN = re.compile(f"[{_UNSPACED}]+")
_UNSPACED_SMALL = re.compile("[的了和与在是の]")
"""Particles that stand between words and mean nothing alone."""
# fooBar, HTMLPage, beach2019, 2019beach
_SEAM = re.compile(
    r"(?<=[^\W\d_A-Z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])"
)
_NO_LETTER = re.compile(r"[\W_]+")
_BETWEEN = " \ue000 "
"""Stands between keywords as a word of its own, so that no phrase reaches over two of them."""


# -- writing


def text_of(value: object) -> str:
    """Return the words of a text as they are written: CJK characters apart, `beach2019` as its parts, too."""
    if not isinstance(value, str):
        return ""
    words: list[str] = []
    letters = _letters(value)
    if not letters.isascii():
        letters = _UNSPACED_RUN.sub(lambda run: f" {' '.join(run[0])} ", letters)
    for word in letters.split():
        if not (word.isdigit() or (word.isalpha() and (word.islower() or word.isupper()))):
            parts = _SEAM.split(word)
            words += parts if len(parts) > 1 else ()
        words.append(word)
    return " ".join(words)


def _letters(text: str) -> str:
    """Return the letters, marks and digits of a text, everything else as blanks."""
    if text.isascii():
        return _NO_LETTER.sub(" ", text)
    composed = unicodedata.normalize("NFKC", text)
    return "".join(one if one.isalnum() or unicodedata.category(one)[0] == "M" else " " for one in composed)


def content_texts(caption: object, keywords: object) -> tuple[str, str]:
    """Return what `words` holds of a content; keywords are JSON as in `content.keywords`."""
    try:
        listed = json.loads(keywords) if isinstance(keywords, str) else []
    except ValueError:
        listed = []
    listed = listed if isinstance(listed, list) else []
    texts = [text_of(word) for word in listed if isinstance(word, str)]
    return text_of(caption), _BETWEEN.join(filter(None, texts))


def name_text(path: object) -> str:
    """Return what `names` holds of a path: folders and the file's name without its suffix."""
    if not isinstance(path, bytes):
        return ""
    folder, _, name = path.rpartition(b"/")
    stem, _, _ = name.rpartition(b".")
    return text_of((folder + b"/" + (stem or name)).decode("utf-8", "ignore"))


def create(connection: Connection) -> None:
    """Make both tables, empty; older ones of these names are dropped."""
    for name, definition in TABLES.items():
        connection.exec_driver_sql(f"DROP TABLE IF EXISTS {name}")
        connection.exec_driver_sql(definition)


def fill(connection: Connection) -> None:
    """Write what the catalog holds into empty tables, a few thousand rows in memory at a time."""
    for rows in _chunked(connection, select(t.content.c.id, t.content.c.caption, t.content.c.keywords)):
        add_contents(connection, [row._mapping for row in rows])
    for rows in _chunked(connection, select(t.file.c.id, t.file.c.path)):
        add_files(connection, [row._mapping for row in rows])


def _chunked(connection: Connection, query: Any) -> Iterator[Sequence[Any]]:
    key = query.selected_columns[0]
    after = -(2**63)
    while rows := connection.execute(query.where(key > after).order_by(key).limit(_CHUNK)).all():
        yield rows
        after = rows[-1].id


def add_contents(connection: Connection, contents: Iterable[Mapping[str, Any]]) -> None:
    """Write rows of `content`; those without words leave none."""
    rows = [(row["id"], *content_texts(row["caption"], row["keywords"])) for row in contents]
    rows = [row for row in rows if row[1] or row[2]]
    if rows:
        connection.exec_driver_sql("INSERT INTO words(rowid, caption, keywords) VALUES (?, ?, ?)", rows)


def add_files(connection: Connection, files: Iterable[Mapping[str, Any]]) -> None:
    """Write the names of new rows of `file`."""
    rows = [(row["id"], name_text(row["path"])) for row in files]
    if rows:
        connection.exec_driver_sql("INSERT INTO names(rowid, name) VALUES (?, ?)", rows)


def remove_files(connection: Connection, ids: Sequence[int]) -> None:
    if ids:
        connection.exec_driver_sql("DELETE FROM names WHERE rowid = ?", [(file_id,) for file_id in ids])


def remove_orphans(connection: Connection) -> None:
    """Delete what belongs to contents and files that are gone."""
    connection.exec_driver_sql("DELETE FROM words WHERE rowid NOT IN (SELECT id FROM content)")
    connection.exec_driver_sql("DELETE FROM names WHERE rowid NOT IN (SELECT id FROM file)")


# -- asking


def phrases_of(words: str, *, pairs: bool = True) -> list[str]:
    """Return what to look for of what a person wrote: tokens, without stop words.

    A run of CJK characters is cut at particles and asked as a phrase, a long one also by its `pairs`.
    """
    clean = _letters(words)
    phrases: dict[str, None] = {}
    for run in _UNSPACED_RUN.findall(clean):
        for part in filter(None, _UNSPACED_SMALL.split(run)):
            phrases[" ".join(part)] = None
            for pair in pairwise(part) if pairs else ():
                phrases[" ".join(pair)] = None
    for word in _UNSPACED_RUN.sub(" ", clean).split():
        if word.lower() not in STOP_WORDS:
            phrases[word] = None
    return list(phrases)[:_MOST_TERMS]


def is_ours(connection: Connection) -> bool:
    """Return whether both tables are defined as this code defines them."""
    query = "SELECT name, sql FROM sqlite_master WHERE name IN ('words', 'names')"
    return {row[0]: row[1] for row in connection.exec_driver_sql(query)} == TABLES


def search(
    connection: Connection,
    words: str,
    most: int,
    contents: Container[int] | None,
    files: Container[int] | None,
    *,
    every: bool = False,
) -> dict[int, float]:
    """Return {content id: score} of contents with a living file, higher is better.

    Args:
        words: as a person wrote them; nothing in them is syntax.
        every: only where all of them stand together, in caption and keywords or in the names.
        most: rows taken from each table, the best.
        contents, files: the ids that count, None for all.
    Source: BM25 as SQLite has it, https://www.sqlite.org/fts5.html, section 5.1.1.
    """
    # A function is called for the rows that match; a list of ids would be read whole for each statement.
    database: Any = connection.connection.dbapi_connection
    for kind, ids in (("content", contents), ("file", files)):
        if ids is not None:
            database.create_function(f"pixseek_chosen_{kind}", 1, ids.__contains__)
    asked = phrases_of(words, pairs=not every)
    found: dict[int, float] = {}
    if expression := _expression(connection, "words", asked, every):
        chosen = "" if contents is None else "AND pixseek_chosen_content(words.rowid)"
        for content_id, score in _best(connection, _WORDS, chosen, expression, most):
            found[content_id] = -(score or 0.0)  # NULL where damage made it no number
    if expression := _expression(connection, "names", asked, every):
        chosen = "" if files is None else "AND pixseek_chosen_file(names.rowid)"
        best: dict[int, float] = {}
        for content_id, score in _best(connection, _NAMES, chosen, expression, most):
            best[content_id] = max(best.get(content_id, 0.0), -(score or 0.0) * _NAME_WEIGHT)
        for content_id, score in best.items():
            found[content_id] = found.get(content_id, 0.0) + score
    return found


_RANKED = "SELECT rowid AS id, {weighed} AS score FROM {table} WHERE {table} MATCH ? {chosen} "
_WORDS = (
    _RANKED.format(
        weighed=f"bm25(words, {_CAPTION_WEIGHT}, {_KEYWORD_WEIGHT})", table="words", chosen="{chosen}"
    ),
    "SELECT CASE WHEN EXISTS (SELECT 1 FROM file WHERE content_id = best.id) THEN best.id END, best.score "
    "FROM ({ranked}) AS best",
)
_NAMES = (
    _RANKED.format(weighed="bm25(names)", table="names", chosen="{chosen}"),
    "SELECT file.content_id, best.score FROM ({ranked}) AS best LEFT JOIN file ON file.id = best.id",
)


def _best(
    connection: Connection, queries: tuple[str, str], chosen: str, expression: str, most: int
) -> Iterator[tuple[int, float | None]]:
    """Yield (content id, bm25) of the best rows that a file still shows, best first."""
    ranked, shown = queries
    ranked = ranked.format(chosen=chosen)
    # A file is looked for behind the best rows only: each look-up costs as much as a row's bm25.
    first = shown.format(ranked=f"{ranked} ORDER BY score, rowid LIMIT ?")
    pairs = _pairs(connection, first, expression, most)
    living = [pair for pair in pairs if pair[0] is not None]
    if len(pairs) == most and len(living) < most:
        # Some of them stand for nothing: those behind them come up.
        every = shown.format(ranked=ranked) + " ORDER BY best.score, best.id"
        living = [pair for pair in _pairs(connection, every, expression) if pair[0] is not None][:most]
    yield from living


def _pairs(connection: Connection, query: str, *parameters: object) -> list[tuple[Any, float | None]]:
    """Return the rows of a query past SQLAlchemy's own, which take as long as the query."""
    result = connection.exec_driver_sql(query, parameters)
    cursor: Any = result.cursor
    pairs: list[tuple[Any, float | None]] = cursor.fetchall()
    result.close()
    return pairs


def _expression(connection: Connection, table: str, phrases: Sequence[str], every: bool) -> str:
    """Return an FTS5 query for any (or every one) of the phrases, quoted; "" when nothing is left.

    A word in more rows than `_TOO_COMMON` (the name of a folder over all) tells nothing and costs a second a
    million rows to weigh.
    """
    beyond = f"SELECT 1 FROM {table} WHERE {table} MATCH ? LIMIT 1 OFFSET {_TOO_COMMON}"
    quoted = [f'"{phrase}"' for phrase in phrases]
    telling = [one for one in quoted if connection.exec_driver_sql(beyond, (one,)).first() is None]
    if every:
        return " AND ".join(quoted) if telling else ""
    return " OR ".join(telling)


# -- checking


def trouble(connection: sqlite3.Connection) -> str | None:
    """Return why the text tables are not what content and file say, or None.

    FTS5's own integrity-check is a write, which a reader may not do. So the tables are made again beside the
    database, and the two lists of (term, row, column, place) must be equal.
    """
    found = connection.execute("SELECT name, sql FROM sqlite_master WHERE name IN ('words', 'names')")
    if dict(found.fetchall()) != TABLES:
        return "the text tables are missing or not as pixseek makes them"
    for name, columns, entries in (
        ("words", "caption, keywords", _content_entries(connection)),
        ("names", "name", _file_entries(connection)),
    ):
        marks = ", ".join("?" * (columns.count(",") + 2))
        connection.execute(
            f"CREATE VIRTUAL TABLE temp.fresh_{name} USING fts5({columns}, content='', {_TOKENIZER})"
        )
        add = f"INSERT INTO fresh_{name}(rowid, {columns}) VALUES ({marks})"
        stored = connection.execute(f"SELECT rowid, {columns} FROM main.{name} ORDER BY rowid")
        for kept, right in zip_longest(stored, entries):
            if kept != right:
                return f"{name} {(kept or right)[0]}: is not what the catalog says"
            connection.execute(add, right)
        if not _has_same_index(connection, name):
            return f"{name}: its index is not what its rows say"
    return None


def _has_same_index(connection: sqlite3.Connection, name: str) -> bool:
    """Return whether main.NAME and temp.fresh_NAME hold the same terms, lengths and totals."""
    for schema, table in (("main", name), ("temp", f"fresh_{name}")):
        for detail in ("instance", "row"):
            vocabulary = f"fts5vocab('{schema}', '{table}', '{detail}')"
            connection.execute(f"CREATE VIRTUAL TABLE temp.{table}_{detail} USING {vocabulary}")
    for query in (
        "SELECT term, doc, col, offset FROM temp.{}_instance",
        "SELECT id, sz FROM {}_docsize ORDER BY id",
        "SELECT block FROM {}_data WHERE id = 1",
    ):
        kept, right = (connection.execute(query.format(table)) for table in (name, f"fresh_{name}"))
        if any(one != other for one, other in zip_longest(kept, right)):
            return False
    # A term must also be found by itself: through the index of the index.
    lost = (
        f"SELECT 1 FROM temp.fresh_{name}_row AS right WHERE NOT EXISTS "
        f"(SELECT 1 FROM temp.{name}_row AS kept WHERE kept.term = right.term AND kept.doc = right.doc)"
    )
    return connection.execute(lost).fetchone() is None


def _content_entries(connection: sqlite3.Connection) -> Iterator[tuple[int, str, str]]:
    for row_id, caption, keywords in connection.execute(
        "SELECT id, caption, keywords FROM content ORDER BY id"
    ):
        texts = content_texts(caption, keywords)
        if any(texts):
            yield row_id, *texts


def _file_entries(connection: sqlite3.Connection) -> Iterator[tuple[int, str]]:
    for row_id, path in connection.execute("SELECT id, path FROM file ORDER BY id"):
        yield row_id, name_text(path)
