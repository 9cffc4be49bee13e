"""Functions that SQLite calls for a filter: patterns beyond ASCII, and the great circle on every build of it.

They are given to a connection, never to a schema: with trusted_schema=OFF only our own statements reach them.
"""

from __future__ import annotations

import json
import math
import re
import sqlite3
import unicodedata
from collections.abc import Callable, Sequence
from functools import lru_cache

EARTH_RADIUS_M = 6_371_008.8
"""Mean radius of the IUGG; the great circle is within 0.6 % of the ellipsoid's."""


def register_functions(connection: sqlite3.Connection) -> None:
    """Give a connection what SQL has not: patterns beyond ASCII, and the great circle on every build."""
    connection.create_function("pixseek_like", 3, _sql_like, deterministic=True)
    connection.create_function("pixseek_near", 5, _sql_near, deterministic=True)


def _sql_like(value: object, field: str, pattern: str) -> int:
    return _test_of(field, pattern)(value) if isinstance(value, bytes) else 0


@lru_cache(maxsize=1024)
def _test_of(field: str, pattern: str) -> Callable[[bytes], int]:
    """Return the test of one pattern: called for every file, so all that can be done once is done here."""
    if field == "keyword":
        return lambda value: int(_has_keyword(value, pattern))
    anywhere = matcher(pattern, whole=False)
    if field == "path":
        if pattern[:1] in ("*", "") or not set(pattern) & set("*?"):
            return lambda value: anywhere(fold(value.decode("utf-8", "surrogateescape")))
        return lambda value: _is_path_or_name(fold(value.decode("utf-8", "surrogateescape")), anywhere)
    # A library has few cameras and lenses.
    return lru_cache(maxsize=1024)(
        lambda value: int(anywhere(fold(value.decode("utf-8", "surrogateescape"))))
    )


def _is_path_or_name(path: str, test: Callable[[str], bool]) -> int:
    return int(test(path) or test(path.rpartition("/")[2]))


def _has_keyword(value: bytes, pattern: str) -> bool:
    try:
        words = json.loads(value)
    except ValueError:
        return False
    test = matcher(pattern, whole=True)
    return isinstance(words, list) and any(isinstance(word, str) and test(fold(word)) for word in words)


def fold(text: str) -> str:
    """Return a text for comparison: upper and lower case, composed and decomposed accents are the same."""
    return (
        text.lower()
        if text.isascii()
        else unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    )


@lru_cache(maxsize=1024)
def matcher(pattern: str, *, whole: bool) -> Callable[[str], bool]:
    """Return the test of folded texts: one without `*` and `?` is held, or (whole) is all of the text."""
    first, *rest = fold(pattern).split("*")
    if not rest and "?" not in first:
        return first.__eq__ if whole else lambda text: first in text
    if not rest:
        return lambda text: _all_of(text, first, 0)
    *middle, last = rest
    if [first, last] == ["", ""] and len(middle) == 1 and "?" not in middle[0]:
        return lambda text: middle[0] in text
    return lambda text: _has_in_order(text, first, middle, last)


def _has_in_order(text: str, first: str, middle: Sequence[str], last: str) -> bool:
    """Return whether `first*middle*...*last` is all of the text.

    Each piece takes its first place and keeps it: no pattern makes matching slow.
    """
    at = len(first)
    if not _all_of(text[:at], first, 0):
        return False
    for piece in middle:
        found = text.find(piece, at) if "?" not in piece else _search(piece, text, at)
        if found < 0:
            return False
        at = found + len(piece)
    return len(text) - len(last) >= at and _all_of(text, last, len(text) - len(last))


def _all_of(text: str, piece: str, at: int) -> bool:
    """Return whether the text from `at` on is the piece."""
    if "?" not in piece:
        return len(text) - at == len(piece) and text.endswith(piece)
    return _expression(piece).fullmatch(text, at) is not None


def _search(piece: str, text: str, at: int) -> int:
    found = _expression(piece).search(text, at)
    return found.start() if found else -1


@lru_cache(maxsize=1024)
def _expression(piece: str) -> re.Pattern[str]:
    return re.compile(re.escape(piece).replace(r"\?", "."), re.DOTALL)


def _sql_near(latitude: object, longitude: object, north: float, east: float, radius_m: float) -> int:
    if not isinstance(latitude, int | float) or not isinstance(longitude, int | float):
        return 0
    return int(distance_m(latitude, longitude, north, east) <= radius_m)


def distance_m(latitude: float, longitude: float, north: float, east: float) -> float:
    """Return metres between two places in degrees along the great circle (haversine)."""
    phi, psi = math.radians(latitude), math.radians(north)
    half_north = math.sin((phi - psi) / 2) ** 2
    half_east = math.sin(math.radians(longitude - east) / 2) ** 2
    chord = half_north + math.cos(phi) * math.cos(psi) * half_east
    return 2 * EARTH_RADIUS_M * math.asin(math.sqrt(min(1.0, max(0.0, chord))))
