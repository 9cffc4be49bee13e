"""A filter (`indexer.filters`) becomes SQL, and SQL the set of files it leaves: a `Selection`.

Every leaf compiles to an expression that is true or false and never NULL, so that `Not` is the complement:
SQL's own NOT would lose the pictures that do not say.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import (
    ColumnClause,
    ColumnElement,
    Connection,
    Integer,
    LargeBinary,
    and_,
    cast,
    func,
    literal,
    not_,
    or_,
    select,
    type_coerce,
)
from sqlalchemy.sql import visitors

from encoders import UsageError
from indexer import filters as f
from indexer import tables as t
from indexer.catalog import Catalog
from indexer.errors import storage_errors
from indexer.functions import EARTH_RADIUS_M

Ids = npt.NDArray[np.int64]

_PARTS_AT_ONCE = 100
"""Leaves in one statement: SQLite takes expressions 1,000 deep, and a chain of OR is as deep as long."""
_DEEPEST = 100
_AFTER_ANY = "~"
"""Sorts after every character of a date, so `2023-06~` ends June."""


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """The files a filter leaves.

    Attributes:
        files: how many match.
        total: how many there are.
        where: the filter; None leaves all.
        file_ids: (files,) int64, sorted; None when all are left.
        content_ids: int64, sorted, each once: the contents of these files; None when all are left.
    """

    files: int
    total: int
    where: f.Filter | None = None
    file_ids: Ids | None = None
    content_ids: Ids | None = None

    def has(self, file_id: int) -> bool:
        """Return whether a file is among those left."""
        if self.file_ids is None:
            return True
        at = int(np.searchsorted(self.file_ids, file_id))
        return at < len(self.file_ids) and int(self.file_ids[at]) == file_id


def select_files(catalog: Catalog, where: f.Filter | None, total: int | None = None) -> Selection:
    """Return the files that have a picture and match; `refuse_deep` was asked before.

    Args:
        total: how many files have a picture, where that is known.
    """
    if total is None:
        total = _count(catalog)
    if where is None:
        return Selection(total, total)
    file_ids, content_ids = _evaluate(catalog, where)
    # Sorted by hand: np.unique makes a hash table first, which takes ten times as long.
    content_ids = np.sort(content_ids)
    distinct = np.ones(len(content_ids), bool)
    np.not_equal(content_ids[1:], content_ids[:-1], out=distinct[1:])
    return Selection(len(file_ids), total, where, file_ids, content_ids[distinct])


def _count(catalog: Catalog) -> int:
    """Return how many files have a picture, 5 ms a million: SQLite counts whole pages, not rows."""
    with storage_errors(catalog.folder), catalog.engine.connect() as connection:
        query = "SELECT (SELECT count(*) FROM file) - (SELECT count(*) FROM file WHERE content_id IS NULL)"
        return int(connection.exec_driver_sql(query).scalar_one())


def refuse_deep(where: f.Filter | None) -> None:
    """Raise UsageError for a tree that would take more calls within calls than Python and SQLite allow."""
    if where is None:
        return
    level, depth = [where], 0
    while level:
        depth += 1
        if depth > _DEEPEST:
            raise UsageError(f"the conditions are nested more than {_DEEPEST} deep; use fewer brackets")
        below: list[f.Filter] = []
        for node in level:
            below += (
                [node.part]
                if isinstance(node, f.Not)
                else node.parts
                if isinstance(node, f.And | f.Or)
                else ()
            )
        level = below


def _leaves(node: f.Filter) -> int:
    if isinstance(node, f.Not):
        return _leaves(node.part)
    if isinstance(node, f.And | f.Or):
        return sum(_leaves(part) for part in node.parts)
    return 1


def _evaluate(catalog: Catalog, node: f.Filter) -> tuple[Ids, Ids]:
    """Return (file ids sorted, content id of each): one statement, or sets of several when it is long."""
    if _leaves(node) <= _PARTS_AT_ONCE:
        return _query(catalog, compile_filter(node))
    if isinstance(node, f.Not):
        ids, contents = _query(catalog, literal(1) == 1)
        kept = ~np.isin(ids, _evaluate(catalog, node.part)[0], assume_unique=True)
        return ids[kept], contents[kept]
    assert isinstance(node, f.And | f.Or)
    # Small parts share statements; large ones are taken apart by themselves.
    groups: list[list[f.Filter]] = [[]]
    count = 0
    for part in node.parts:
        size = _leaves(part)
        if groups[-1] and count + size > _PARTS_AT_ONCE:
            groups.append([])
            count = 0
        groups[-1].append(part)
        count += size
    found: tuple[Ids, Ids] | None = None
    for group in groups:
        new = _evaluate(catalog, group[0] if len(group) == 1 else type(node)(tuple(group)))
        if found is None:
            found = new
        elif isinstance(node, f.And):
            kept = np.isin(found[0], new[0], assume_unique=True)
            found = found[0][kept], found[1][kept]
        else:
            ids, first = np.unique(np.concatenate([found[0], new[0]]), return_index=True)
            found = ids, np.concatenate([found[1], new[1]])[first]
    assert found is not None
    return found


def _query(catalog: Catalog, condition: ColumnElement[bool]) -> tuple[Ids, Ids]:
    columns = func.group_concat(t.file.c.id), func.group_concat(t.file.c.content_id)
    if any(column.table is t.content for column in _columns_of(condition)):
        query = select(*columns).join(t.content, t.content.c.id == t.file.c.content_id)
    else:
        # A folder and a name are of the file alone: no look-up for each of its contents.
        query = select(*columns).where(func.typeof(t.file.c.content_id) == "integer")
    with storage_errors(catalog.folder), catalog.engine.connect() as connection:
        pairs = parse_pairs(connection.execute(query.where(condition)).one())
    pairs = pairs[np.argsort(pairs[:, 0])]
    return pairs[:, 0], pairs[:, 1]


def _columns_of(condition: ColumnElement[bool]) -> list[ColumnClause[Any]]:
    return [element for element in visitors.iterate(condition) if isinstance(element, ColumnClause)]


def read_pairs(connection: Connection, first: str, second: str, source: str, *parameters: object) -> Ids:
    """Return (n, 2) int64 of two columns of integers that are never NULL, in any order.

    Args:
        source: the rest of the statement, from FROM on.
    """
    statement = f"SELECT group_concat({first}), group_concat({second}) {source}"
    return parse_pairs(connection.exec_driver_sql(statement, parameters).one())


def parse_pairs(lists: Sequence[str | None]) -> Ids:
    """Return (n, 2) int64 of two lists as group_concat writes them: half the time that rows take in Python.

    SQLite's longest text, 10^9 bytes, holds 90 million ids.
    """
    return np.stack([np.fromstring(one or "", np.int64, sep=",") for one in lists], axis=1)


# -- compiling


def compile_filter(node: f.Filter) -> ColumnElement[bool]:
    """Return the condition over `file` joined with `content`: true or false, never NULL."""
    if isinstance(node, f.Not):
        return not_(compile_filter(node.part))
    if isinstance(node, f.And | f.Or) and not node.parts:
        # All of none hold, and none of none does; SQLAlchemy would leave either condition out.
        return literal(int(isinstance(node, f.And))) == 1
    if isinstance(node, f.And):
        return and_(*(compile_filter(part) for part in node.parts))
    if isinstance(node, f.Or):
        return or_(*(compile_filter(part) for part in node.parts))
    return _LEAVES[type(node)](node)


def _taken(node: f.Taken) -> ColumnElement[bool]:
    column = t.content.c.taken_at
    parts: list[ColumnElement[bool]] = [column.is_not(None)]
    if node.first is not None:
        parts.append(column >= node.first)
    if node.last is not None:
        # The offset from UTC at the end is not compared: June is June by the camera's clock.
        parts.append(column < node.last + _AFTER_ANY)
    return and_(*parts)


def _taken_on(node: f.TakenOn) -> ColumnElement[bool]:
    column = t.content.c.taken_at
    parts: list[ColumnElement[bool]] = [column.is_not(None)]
    for start, width, number in ((1, 4, node.year), (6, 2, node.month), (9, 2, node.day)):
        if number is not None:
            parts.append(func.substr(column, start, width) == f"{number:0{width}}")
    return and_(*parts)


def _number(node: f.Number) -> ColumnElement[bool]:
    column = t.content.c[node.field]
    parts: list[ColumnElement[bool]] = [column.is_not(None)]
    # A bound outside of 64 bits is beyond every number SQLite holds.
    if node.low is not None:
        parts.append(literal(0) == 1 if node.low > _MOST else column >= max(node.low, -_MOST - 1))
    if node.high is not None:
        parts.append(literal(0) == 1 if node.high < -_MOST - 1 else column <= min(node.high, _MOST))
    return and_(*parts)


_MOST = 2**63 - 1


def _like(node: f.Like) -> ColumnElement[bool]:
    column = {
        "camera": t.content.c.camera, "lens": t.content.c.lens, "keyword": t.content.c.keywords,
        "path": t.file.c.path,
    }[node.field]  # fmt: skip
    # As bytes: a text with changed bits is no UTF-8, and would end the question instead of not matching.
    value = cast(type_coerce(column, LargeBinary), LargeBinary)
    called = func.pixseek_like(value, node.field, node.pattern, type_=Integer)
    return and_(column.is_not(None), called == 1)


def _near(node: f.Near) -> ColumnElement[bool]:
    latitude, longitude = t.content.c.latitude, t.content.c.longitude
    parts: list[ColumnElement[bool]] = [latitude.is_not(None), longitude.is_not(None)]
    # First a box, which needs no trigonometry: a little wider than the circle, for rounding.
    reach = math.degrees(node.radius_m / EARTH_RADIUS_M) * (1 + 1e-9) + 1e-9
    parts.append(latitude.between(node.latitude - reach, node.latitude + reach))
    if abs(node.latitude) + reach < 90:
        ratio = math.sin(math.radians(min(reach, 90))) / math.cos(math.radians(node.latitude))
        if ratio < 1:
            width = math.degrees(math.asin(ratio)) * (1 + 1e-9) + 1e-9
            low, high = node.longitude - width, node.longitude + width
            around: list[ColumnElement[bool]] = [longitude.between(low, high)]
            if low < -180:
                around.append(longitude >= low + 360)
            if high > 180:
                around.append(longitude <= high - 360)
            parts.append(or_(*around))
    called = func.pixseek_near(
        latitude, longitude, node.latitude, node.longitude, node.radius_m, type_=Integer
    )
    return and_(*parts, called == 1)


_VIDEO_FORMATS = ("3GP", "AVI", "M4V", "MKV", "MOV", "MP4", "MPEG", "MTS", "WEBM", "WMV")
_MOVING_SUFFIXES = (".apng", ".avifs", ".heics", ".heifs")
"""Of formats that hold stills as well; the catalog does not say how many pictures a file has."""
_FORMAT_NAMES = {
    "JPG": "JPEG", "HEIC": "HEIF", "TIF": "TIFF", "AVIFS": "AVIF", "APNG": "PNG", "JPEGXL": "JXL",
}  # fmt: skip


def _kind(node: f.Kind) -> ColumnElement[bool]:
    name = node.name.upper()
    if name == "RAW":
        return _has_format("RAW")
    if name == "VIDEO":
        return _has_format(*_VIDEO_FORMATS)
    if name == "ANIMATION":
        return _is_animation()
    if name == "PHOTO":
        return and_(not_(_has_format("RAW", *_VIDEO_FORMATS)), not_(_is_animation()))
    name = _FORMAT_NAMES.get(name, name)
    # Cameras write a JPEG with a second picture behind it, which is called .jpg all the same.
    return _has_format("JPEG", "MPO") if name == "JPEG" else _has_format(name)


def _is_animation() -> ColumnElement[bool]:
    endings = (func.lower(func.substr(t.file.c.path, -len(suffix))) == suffix for suffix in _MOVING_SUFFIXES)
    return or_(_has_format("GIF"), and_(_has_format("PNG", "AVIF", "HEIF"), or_(*endings)))


def _has_format(*names: str) -> ColumnElement[bool]:
    return t.content.c.format.in_(names)


def _orientation(node: f.Orientation) -> ColumnElement[bool]:
    width, height = t.content.c.width, t.content.c.height
    return {"landscape": width > height, "portrait": width < height, "square": width == height}[node.name]


def _under(node: f.Under) -> ColumnElement[bool]:
    path, folder = t.file.c.path, node.folder.rstrip(b"/")
    # One range of the index; between the folder and what is in it lie `folder-x` and `folder.jpg`.
    return and_(path >= folder, path < folder + b"0", or_(path == folder, path >= folder + b"/"))


_LEAVES: dict[type, Callable[..., ColumnElement[bool]]] = {
    f.Taken: _taken, f.TakenOn: _taken_on, f.Number: _number, f.Like: _like, f.Near: _near, f.Kind: _kind,
    f.Orientation: _orientation, f.Under: _under,
}  # fmt: skip
