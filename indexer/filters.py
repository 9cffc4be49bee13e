"""What a picture must be, apart from what it shows: one small tree, compiled to SQL by `indexer.selection`.

A condition is about one file and what its picture says about itself. What a picture does not say (no date, no
place) matches no condition about it, and so matches its `Not`: `Not(Taken(...))` holds undated pictures, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

NumberField: TypeAlias = Literal["iso", "size_bytes", "width", "height", "rating"]
TextField: TypeAlias = Literal["camera", "lens", "keyword", "path"]
KindName: TypeAlias = Literal["photo", "raw", "video", "animation"]
OrientationName: TypeAlias = Literal["landscape", "portrait", "square"]


@dataclass(frozen=True, slots=True)
class Taken:
    """Taken within [first, last], both included, by the camera's clock.

    Attributes:
        first, last: `2023`, `2023-06`, `2023-06-09` or `2023-06-09T18:30`; a year, month or day is all
            of it. None: open on that side. Both None: the picture says when it was taken.
    """

    first: str | None
    last: str | None


@dataclass(frozen=True, slots=True)
class TakenOn:
    """Taken on a day that comes again: `*-12-25` is year None, month 12, day 25."""

    year: int | None
    month: int | None
    day: int | None


@dataclass(frozen=True, slots=True)
class Number:
    """A number within [low, high], both included; None is open. Both None: the picture has the number."""

    field: NumberField
    low: int | None
    high: int | None


@dataclass(frozen=True, slots=True)
class Like:
    """A text that holds the pattern, upper and lower case alike.

    Attributes:
        pattern: `*` is any run of characters, `?` one; with either, it is about the whole text, and of a
            `path` about all of it or the file's name alone. Without either, `camera`, `lens` and `path` need
            only contain it; a `keyword` must be equal to it as a whole. The empty pattern never occurs.
    """

    field: TextField
    pattern: str


@dataclass(frozen=True, slots=True)
class Near:
    """Taken within `radius_m` metres of a place, along the great circle. Degrees, north and east positive."""

    latitude: float
    longitude: float
    radius_m: float


@dataclass(frozen=True, slots=True)
class Kind:
    """Of a kind of file, or (`format`) of one format: JPEG, PNG, HEIF ... as `Hit.format` names it.

    `animation`: GIF, and what is called .apng, .avifs, .heics or .heifs; the catalog does not count pictures.
    `photo`: all that is none of the other three.
    """

    name: KindName | str


@dataclass(frozen=True, slots=True)
class Orientation:
    """Wider than high, higher than wide, or neither, as the upright picture stands."""

    name: OrientationName


@dataclass(frozen=True, slots=True)
class Under:
    """At or below a folder. `folder` is `os.fsencode` of an absolute path without a slash at its end."""

    folder: bytes


@dataclass(frozen=True, slots=True)
class Not:
    part: Filter


@dataclass(frozen=True, slots=True)
class And:
    """All of two or more parts; no part is an `And` itself."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """Any of two or more parts; no part is an `Or` itself."""

    parts: tuple[Filter, ...]


Filter: TypeAlias = Taken | TakenOn | Number | Like | Near | Kind | Orientation | Under | Not | And | Or
