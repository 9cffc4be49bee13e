"""Functions that SQLite calls for a filter: patterns beyond ASCII, and the great circle on every build of it.

They are given to a connection, never to a schema: with trusted_schema=OFF only our own statements reach them.
"""

from __future__ import annotations

import json
import math
import re
import sqlite3
import unicodedata
from functools import lru_cache

EARTH_RADIUS_M = 6_371_008.8
"""Mean radius of the IUGG; the great circle is within 0.6 % of the ellipsoid's."""


def register_functions(connection: sqlite3.Connection) -> None:
    """Give a connection what SQL has not: patterns beyond ASCII, and the great circle on every build."""
    connection.create_function("pixseek_like", 3, _sql_like, deterministic=True)
    connection.create_function("pixseek_near", 5, _sql_near, deterministic=True)


def _sql_like(value: object, field: str, pattern: str) -> int:
    if not isinstance(value, bytes):
        return 0
    if field == "keyword":
        return int(_has_keyword(value, pattern))
    text = fold(value.decode("utf-8", "surrogateescape"))
    if field == "path":
        return int(_like_path(text, pattern))
    return int(matches(text, pattern, whole=False))


def _has_keyword(value: bytes, pattern: str) -> bool:
    try:
        words = json.loads(value)
    except ValueError:
        return False
    return isinstance(words, list) and any(
        isinstance(word, str) and matches(fold(word), pattern, whole=True) for word in words
    )


def _like_path(text: str, pattern: str) -> bool:
    return matches(text, pattern, whole=False) or matches(text.rpartition("/")[2], pattern, whole=False)


def fold(text: str) -> str:
    """Return a text for comparison: upper and lower case, composed and decomposed accents are the same."""
    return (
        text.lower()
        if text.isascii()
        else unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    )


def matches(folded: str, pattern: str, *, whole: bool) -> bool:
    """Return whether a folded text matches: one without `*` and `?` is held, or (whole) is all of it."""
    compiled = _compiled(pattern)
    if isinstance(compiled, str):
        return folded == compiled if whole else compiled in folded
    return compiled.fullmatch(folded) is not None


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> str | re.Pattern[str]:
    folded = fold(pattern)
    if "*" not in folded and "?" not in folded:
        return folded
    first, *rest = (re.escape(part).replace(r"\?", ".") for part in folded.split("*"))
    *middle, last = rest or [""]
    if not rest:
        return re.compile(first, re.DOTALL)
    # Each piece takes its first place and keeps it (atomic groups): no pattern makes matching slow.
    tail = f".*{last}" if last else ".*"
    return re.compile(first + "".join(f"(?>.*?{part})" for part in middle) + tail, re.DOTALL)


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
