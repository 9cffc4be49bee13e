"""One filter of the query language: `read_condition` reads what was typed, `shown_condition` types it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal, cast

from indexer import (
    Filter,
    Kind,
    Like,
    Near,
    Not,
    Number,
    Or,
    Orientation,
    Taken,
    TakenOn,
    Under,
)
from search.language.dates import EXPECTED, read_taken, shown_taken
from search.language.syntax import Piece, quote, shown
from search.query import clean_text

_MAX_PATTERN = 1000
_MOST = 2**63 - 1
_SIZES = {
    "b": 1, "k": 1000, "kb": 1000, "m": 1000**2, "mb": 1000**2, "g": 1000**3, "gb": 1000**3, "t": 1000**4,
    "tb": 1000**4, "kib": 1024, "mib": 1024**2, "gib": 1024**3, "tib": 1024**4,
}  # fmt: skip
_DISTANCES = {"m": 1.0, "km": 1000.0, "mi": 1609.344, "ft": 0.3048, "": 1000.0}
_FARTHEST_M = 20_100_000.0  # a little more than to the other side of the earth
_EVERYWHERE = Near(0.0, 0.0, _FARTHEST_M)
_NUMBER = r"(?:[0-9]{1,18}(?:\.[0-9]{0,30})?|\.[0-9]{1,30})"
_REAL = rf"{_NUMBER}(?:e[-+]?[0-9]{{1,3}})?"
_QUANTITY = re.compile(rf"({_NUMBER})[ ]?([a-z]*)", re.IGNORECASE)
_DEGREES = re.compile(rf"[-+]?{_REAL}", re.IGNORECASE)
_DISTANCE = re.compile(rf"({_REAL})[ ]?([a-z]*)", re.IGNORECASE)
_COMPARED = re.compile(r"(>=|<=|≥|≤|>|<|=)[ ]*(.*)", re.DOTALL)

_FORMATS = {
    "jpeg": "JPEG", "jpg": "JPEG", "jpe": "JPEG", "jfif": "JPEG", "png": "PNG", "apng": "PNG", "gif": "GIF",
    "webp": "WEBP", "bmp": "BMP", "dib": "BMP", "tiff": "TIFF", "tif": "TIFF", "avif": "AVIF",
    "heif": "HEIF", "heic": "HEIF", "hif": "HEIF", "jxl": "JXL", "jpegxl": "JXL", "jpeg-xl": "JXL",
    "mpo": "MPO",
}  # fmt: skip
_KINDS = {
    "raw": "raw", "video": "video", "videos": "video", "photo": "photo", "photos": "photo",
    "animation": "animation", "animated": "animation",
}  # fmt: skip
_VIDEO_SUFFIXES = frozenset(
    {"mp4", "mov", "m4v", "avi", "mkv", "webm", "mpg", "mpeg", "mts", "m2ts", "3gp", "wmv"}
)
_SHAPES = {
    "landscape": "landscape", "horizontal": "landscape", "portrait": "portrait", "vertical": "portrait",
    "square": "square",
}  # fmt: skip
_PLAIN = re.compile(r"[\w./@%+:*?~-]++")

_EXPECTED = {
    "taken": EXPECTED,
    "after": "a date: after:2023, after:2023-06-09 (later than all of it)",
    "before": "a date: before:2023, before:2023-06-09 (earlier than all of it)",
    "camera": 'a name or a part of one: camera:canon, camera:"EOS R*"',
    "lens": 'a name or a part of one: lens:50mm, lens:"EF*IS"',
    "keyword": 'a whole keyword, or one with *: keyword:holiday, keyword:"new york", keyword:holi*',
    "path": "a part of the path, or one with *: path:italy, path:*/2023/*.jpg",
    "in": 'a folder: in:~/Pictures, in:"My Pictures"',
    "near": "a place and how far from it, without blanks: near:48.86,2.35 or near:48.86,2.35,5km (m, km, mi)",
    "type": "raw, video, photo, animation, or a format such as jpeg or heic: type:raw,video",
    "size": "a size with its unit: size:>10MB, size:1MB..5MB, size:<500kB",
    "width": "pixels: width:>=4000, width:1000..2000",
    "height": "pixels: height:>=4000, height:1000..2000",
    "iso": "a number: iso:>=800, iso:100..400",
    "rating": "stars: rating:5, rating:>=3, rating:any",
    "orientation": "landscape, portrait or square: orientation:portrait",
}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where and when a query is typed.

    Attributes:
        cwd: where relative folders start; None is the process's own.
        home: what `~` stands for; None leaves it as it is.
        today: None is the day it is.
    """

    cwd: str | None = None
    home: str | None = None
    today: date | None = None

    def day(self) -> date:
        return self.today or date.today()

    def path(self, name: str) -> str:
        """Return a name with `~` as the home folder."""
        if self.home is not None and (name == "~" or name.startswith("~/")):
            return self.home.rstrip("/") + name[1:] if name != "~" else self.home
        return name


class ValueProblem(ValueError):
    """A value that its field cannot have.

    Attributes:
        piece: which one.
    """

    def __init__(self, name: str, piece: Piece, expected: str | None = None) -> None:
        self.piece = piece
        super().__init__(f"cannot read {name}:{shown(piece.text)}; expected {expected or _EXPECTED[name]}")


def read_condition(name: str, pieces: Sequence[Piece], around: Surroundings) -> Filter:
    """Return the filter of a field and its alternatives.

    Args:
        name: of `syntax.NAMES`, one that is no part.
        pieces: one or more.
    Raises:
        ValueProblem: a value means nothing to the field; the message says what would.
    """
    if name == "near":
        nowhere = [piece.text.lower() for piece in pieces] == ["none"]
        return Not(_EVERYWHERE) if nowhere else _near(pieces)
    found = tuple(_one(name, piece, around) for piece in pieces)
    return Or(found) if len(found) > 1 else found[0]


def shown_condition(condition: Filter) -> str:
    """Return what to type for one condition without parts; `read_condition` reads it as the same."""
    match condition:
        case Taken() | TakenOn():
            return f"taken:{shown_taken(condition)}"
        case Number():
            return (
                f"{'size' if condition.field == 'size_bytes' else condition.field}:{_shown_number(condition)}"
            )
        case Like():
            literal = condition.pattern.lower() in ("any", "none")
            return (
                f"{condition.field}:{quote(condition.pattern) if literal else shown_value(condition.pattern)}"
            )
        case Near():
            if condition == _EVERYWHERE:
                return "near:any"
            radius = condition.radius_m
            distance = f"{radius / 1000:.0f}km" if radius % 1000 == 0 else f"{radius!r}m"
            return f"near:{condition.latitude!r},{condition.longitude!r},{distance}"
        case Kind():
            return f"type:{shown_value(condition.name.lower())}"
        case Orientation():
            return f"orientation:{condition.name}"
        case Under():
            return f"in:{shown_value(os.fsdecode(condition.folder))}"
    raise TypeError(f"{type(condition).__name__} is no condition by itself")


def shown_value(text: str) -> str:
    """Return a value as it may stand behind a colon: quoted where it needs to be."""
    return text if _PLAIN.fullmatch(text) else quote(text)


def _one(name: str, piece: Piece, around: Surroundings) -> Filter:
    text = piece.text.strip() if piece.quoted and name != "in" else piece.text
    word = "" if piece.quoted else text.lower()
    if word == "none" and name in ("taken", "camera", "lens", "keyword", "iso", "rating"):
        return Not(_one(name, Piece("any", False, piece.at), around))
    match name:
        case "taken" | "after" | "before":
            sign = {"taken": "", "after": ">", "before": "<"}[name]
            try:
                return read_taken(sign + text, around.day)
            except ValueError as error:
                expected = str(error) if name == "taken" or error.args[0] != EXPECTED else None
                raise ValueProblem(name, piece, expected) from None
        case "camera" | "lens" | "keyword" | "path":
            return _like(name, piece, any=word == "any")
        case "in":
            return _under(piece, around)
        case "type":
            return _kind(text, piece)
        case "orientation":
            if text.lower() not in _SHAPES:
                raise ValueProblem(name, piece)
            return Orientation(cast('Literal["landscape", "portrait", "square"]', _SHAPES[text.lower()]))
    return _number(name, text, piece)


# -- numbers


def _number(name: str, text: str, piece: Piece) -> Number:
    field = cast(
        'Literal["iso", "size_bytes", "width", "height", "rating"]', "size_bytes" if name == "size" else name
    )
    if text.lower() in ("any", "*"):
        return Number(field, None, None)
    low: int | None
    high: int | None
    if found := _COMPARED.fullmatch(text):
        value = _quantity(name, found[2], piece)[0]
        low, high = {
            ">": (value + 1, None), ">=": (value, None), "≥": (value, None), "<": (None, value - 1),
            "<=": (None, value), "≤": (None, value), "=": (value, value),
        }[found[1]]  # fmt: skip
    elif ".." in text:
        first, _, last = (part.strip() for part in text.partition(".."))
        if not first and not last:
            raise ValueProblem(name, piece)
        # 1..5MB: both in MB.
        unit = found[2] if first and (found := _QUANTITY.fullmatch(last)) and first[-1].isdigit() else ""
        first += unit
        low = _quantity(name, first, piece)[0] if first else None
        high = _quantity(name, last, piece)[0] if last else None
        if low is not None and high is not None and low > high:
            raise ValueProblem(name, piece, f"a range that starts before it ends: {name}:{last}..{first}")
    else:
        value, step = _quantity(name, text, piece)
        low, high = (value, value) if step < 2 else (max(0, value - step // 2), value + step // 2 - 1)
    if high is not None and high < 0:
        raise ValueProblem(name, piece)
    if max(low or 0, high or 0) > _MOST:
        raise ValueProblem(name, piece)
    return Number(field, low, high)


def _quantity(name: str, text: str, piece: Piece) -> tuple[int, int]:
    """Return a number, and how far it reaches when nothing else is said: 10MB is 9.5 to 10.5 MB."""
    found = _QUANTITY.fullmatch(text)
    units = _SIZES if name == "size" else {"": 1, "px": 1} if name in ("width", "height") else {"": 1}
    if not found or found[2].lower() not in units:
        raise ValueProblem(name, piece)
    factor = units[found[2].lower()]
    whole, _, fraction = found[1].partition(".")
    exact, decimals = int(whole + fraction) * factor, 10 ** len(fraction)
    if factor == 1 and exact % decimals:
        raise ValueProblem(name, piece)
    return exact // decimals, factor // decimals if factor > 1 else 1


def _shown_number(number: Number) -> str:
    def amount(value: int) -> str:
        if number.field != "size_bytes":
            return str(value)
        for unit in ("TB", "GB", "MB", "kB"):
            if value and value % _SIZES[unit.lower()] == 0:
                return f"{value // _SIZES[unit.lower()]}{unit}"
        return f"{value}B"

    low, high = number.low, number.high
    if low is None and high is None:
        return "any"
    if low is None or high is None:
        value = cast(int, high if low is None else low)
        # >10MB was probably typed where 10,000,001 bytes are the least.
        beyond = value + 1 if low is None else value - 1
        exclusive = number.field == "size_bytes" and beyond % 1000 == 0 and beyond > 0
        sign = "<" if low is None else ">"
        return f"{sign}{amount(beyond)}" if exclusive else f"{sign}={amount(value)}"
    if low == high:
        return f"={amount(low)}" if number.field == "size_bytes" else amount(low)
    if number.field == "size_bytes":
        about = amount((low + high + 1) // 2)
        value, step = _quantity("size", about, Piece(about, False, 0))
        if (low, high) == (value - step // 2, value + step // 2 - 1):
            return about
    return f"{amount(low)}..{amount(high)}"


# -- texts


def _like(name: Literal["camera", "lens", "keyword", "path"], piece: Piece, *, any: bool) -> Like:
    if any:
        return Like(name, "*")
    if name == "path":
        # A byte that is no UTF-8 matches as any one character; the rest of a path is taken as it stands.
        pattern = re.sub("[\ud800-\udfff]", "?", piece.text)
        if "\0" in pattern:
            raise ValueProblem(name, piece)
    else:
        if not piece.text.strip():
            raise ValueProblem(name, piece)
        pattern = _cleaned(name, piece)
    if not 0 < len(pattern) <= _MAX_PATTERN:
        raise ValueProblem(name, piece, None if not pattern else f"at most {_MAX_PATTERN} characters")
    return Like(name, pattern)


def _cleaned(name: str, piece: Piece) -> str:
    from encoders import UsageError

    try:
        return clean_text(piece.text)
    except UsageError:
        raise ValueProblem(name, piece) from None


def _kind(text: str, piece: Piece) -> Kind | Like:
    word = text.lower().removeprefix("*").removeprefix(".")
    if word in _KINDS or word in _FORMATS:
        return Kind(_KINDS.get(word) or _FORMATS[word])
    from indexer import IMAGE_SUFFIXES

    # cr2, nef, mp4: the index knows the kind only, so the name has to tell.
    if "." + word in IMAGE_SUFFIXES or word in _VIDEO_SUFFIXES:
        return Like("path", "*." + word)
    raise ValueProblem("type", piece)


# -- places


def _under(piece: Piece, around: Surroundings) -> Under:
    folder = around.path(piece.text)
    if not folder or "\0" in folder:
        raise ValueProblem("in", piece)
    try:
        folder = os.path.abspath(os.path.join(around.cwd or "", folder))
        if folder.startswith("//"):  # POSIX lets two slashes mean something else; no folder of ours does
            folder = folder[1:]
        return Under(os.fsencode(folder))
    except UnicodeEncodeError:
        raise ValueProblem("in", piece) from None
    except OSError:
        raise ValueProblem("in", piece, "an absolute folder, as the working directory is gone") from None


def _near(pieces: Sequence[Piece]) -> Near:
    parts = [part.strip() for piece in pieces for part in piece.text.split(",")]
    problem = ValueProblem("near", Piece(",".join(piece.text for piece in pieces), False, pieces[0].at))
    if len(parts) == 1 and parts[0].lower() == "any":
        return _EVERYWHERE
    if len(parts) not in (2, 3) or not all(_DEGREES.fullmatch(part) for part in parts[:2]):
        raise problem
    latitude, longitude = float(parts[0]), float(parts[1])
    if not abs(latitude) <= 90 or not abs(longitude) <= 180:
        wrong = "a latitude within 90 and a longitude within 180 degrees: near:48.86,2.35,5km"
        raise ValueProblem("near", pieces[0 if abs(latitude) > 90 else -1], wrong)
    found = _DISTANCE.fullmatch(parts[2]) if len(parts) == 3 else None
    if len(parts) == 3 and (found is None or found[2].lower() not in _DISTANCES):
        raise problem
    radius = float(found[1]) * _DISTANCES[found[2].lower()] if found else 1000.0
    if not 0 < radius <= _FARTHEST_M:
        raise ValueProblem("near", pieces[-1], "a distance above 0 and below 20,100 km: near:48.86,2.35,5km")
    return Near(latitude, longitude, radius)
