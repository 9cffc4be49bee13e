"""The words of the query language: names, weights, quotes, tokens; and `QuerySyntaxError`."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal, TypeAlias

from encoders import UsageError

MAX_NESTING = 45
"""Brackets and negations around one condition; the tree is at most about twice as deep."""
MAX_TERMS, MAX_CONDITIONS = 100, 200
MIN_WEIGHT, MAX_WEIGHT = 0.001, 1000.0

# Names of parts and conditions with what people call them elsewhere.
NAMES = {
    "image": "image", "img": "image", "picture": "image", "id": "id", "concept": "concept",
    "taken": "taken", "date": "taken", "created": "taken", "after": "after", "before": "before",
    "camera": "camera", "lens": "lens", "keyword": "keyword", "keywords": "keyword", "tag": "keyword",
    "path": "path", "in": "in", "folder": "in", "near": "near", "type": "type", "ext": "type",
    "format": "type", "kind": "type", "size": "size", "width": "width", "height": "height", "iso": "iso",
    "rating": "rating", "orientation": "orientation",
}  # fmt: skip
PARTS = frozenset({"image", "id", "concept"})

_WEIGHT = re.compile(
    r"[-+]?(?:[0-9]{1,30}(?:\.[0-9]{0,30})?|\.[0-9]{1,30})(?:e[-+]?[0-9]{1,9})?|[-+]?(?:inf|infinity|nan)",
    re.I,
)
PREFIX = re.compile(r"([0-9]{1,3}(?:\.[0-9]{0,9})?|\.[0-9]{1,9}):")
"""A weight in front, as rclip has it: `2:golden retriever`."""
_AREA = r"[0-9]{1,9}(?:\.[0-9]{1,20})?(?:e-?[0-9]{1,3})?"
CROP = re.compile(rf"\[({_AREA}),({_AREA}),({_AREA}),({_AREA})\]")
_PICTURE = re.compile(
    r"(?:https?://|file:///).+|(?:\.{1,2}|~)?/.*\.[A-Za-z0-9]{2,5}", re.IGNORECASE | re.DOTALL
)


class QuerySyntaxError(UsageError):
    """A query that cannot be read.

    Attributes:
        query: as it was typed.
        column: where it goes wrong; 1 is the first character, one past the last when something is missing.
        problem: what is wrong and what would be right; the message is this with the column.
    """

    def __init__(self, query: str, column: int, problem: str) -> None:
        self.query, self.column, self.problem = query, column, problem
        super().__init__(f"column {column} of the query: {problem}")

    def pointer(self, width: int = 76) -> tuple[str, str]:
        """Return the query around the column, and a line with `^` under it, for a terminal `width` wide."""
        before, after = "", ""
        at, cells = self.column - 1, 0
        while at > 0 and cells < width // 2 - 2:
            at -= 1
            shown = _cell(self.query[at])
            before, cells = shown + before, cells + _cells(shown)
        if at > 0:
            before, cells = "…" + before, cells + 1
        caret, at = cells, self.column - 1
        while at < len(self.query) and cells < width - 3:
            shown = _cell(self.query[at])
            after, cells, at = after + shown, cells + _cells(shown), at + 1
        if at < len(self.query):
            after += "…"
        return before + after, " " * caret + "^"


def _cell(character: str) -> str:
    """Return what may stand for a character on a terminal: itself unless it is hidden or moves the line."""
    if character.isspace() or ord(character) < 32:
        return " "
    hidden = unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn")
    return "\ufffd" if hidden and character not in "\u200c\u200d" else character


def _cells(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


@dataclass(slots=True)
class Piece:
    """One value behind a name; `at` counts from 0."""

    text: str
    quoted: bool
    at: int


Kind: TypeAlias = Literal["word", "quoted", "part", "condition", "open", "close"]


@dataclass(slots=True)
class Token:
    """One piece of a query.

    Attributes:
        at: where it starts, from 0, with its sign.
        text: as typed; of a word and a quoted string without sign and weight.
        value: what a quoted string says.
        sign: `+`, `-` or none.
        weight: None when none was typed.
        prefixed: the weight stood in front: `2:golden retriever`.
        name: of parts and conditions, one of the values of `NAMES`.
        pieces: the values of a part or condition.
        crop: of a picture.
    """

    kind: Kind
    at: int
    text: str = ""
    value: str = ""
    sign: str = ""
    weight: float | None = None
    prefixed: bool = False
    name: str = ""
    pieces: tuple[Piece, ...] = ()
    crop: tuple[float, float, float, float] | None = None


def weight_of(text: str) -> float | None:
    """Return the number that a weight is written as, None for anything else; it may be out of bounds."""
    return float(text) if len(text) < 80 and _WEIGHT.fullmatch(text) else None


def weight_problem(weight: float) -> str | None:
    """Return what is wrong with a weight, None when nothing is."""
    if MIN_WEIGHT <= abs(weight) <= MAX_WEIGHT:
        return None
    return f"a weight is a number from {MIN_WEIGHT:g} to {MAX_WEIGHT:g}, such as ^2; below 0 it subtracts"


def is_picture(text: str) -> bool:
    """Tell whether a bare text can only be a picture: an address, or `./`, `../`, `~/`, `/` and a suffix."""
    return text[0] in "./~hHfF" and _PICTURE.fullmatch(text) is not None if text else False


def quote(text: str) -> str:
    """Return a text in double quotes, such that the string says exactly the text."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def shown(text: str) -> str:
    """Return a typed text for an error message: one line, not long."""
    text = "".join(map(_cell, text[:60]))
    return repr(text[:37] + "..." if len(text) > 40 else text)


def weightless(word: str) -> tuple[str, float | None]:
    """Return a word without the weight at its end, and the weight."""
    head, caret, tail = word.rpartition("^")
    weight = weight_of(tail) if caret and head else None
    return (word, None) if weight is None else (head, weight)


def cropless(name: str) -> str:
    """Return the name of a picture without the crop at its end."""
    at = name.rfind("[")
    return name[:at] if at > 0 and CROP.fullmatch(name, at) else name
