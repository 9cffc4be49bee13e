"""When a picture was taken, as people type it: `2023-06..2023-08`, `>2019`, `*-12-25`, `last-week`."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import TypeAlias

from indexer import Taken, TakenOn

EXPECTED = (
    "a date, a range or a day of every year: taken:2023, taken:2023-06..2023-08, taken:>2019, taken:*-12-25"
)

# Year, and as far as it was typed month, day, and hour with minute: 1, 2, 3 or 5 numbers.
_Moment: TypeAlias = tuple[int, ...]

_DATE = re.compile(r"([0-9]{4})(?:-([0-9]{1,2})(?:-([0-9]{1,2})(?:[Tt ]([0-9]{1,2}):([0-9]{2}))?)?)?")
_RECURRING = re.compile(r"([0-9]{4}|\*)(?:-([0-9]{1,2}|\*)(?:-([0-9]{1,2}|\*))?)?")
_COMPARED = re.compile(r"(>=|<=|≥|≤|>|<|=)[ ]*(.*)", re.DOTALL)


def read_taken(text: str, today: Callable[[], date]) -> Taken | TakenOn:
    """Return the condition that a value of `taken:` stands for.

    Args:
        today: asked only when the value speaks of today.
    Raises:
        ValueError: what is wrong with it, for a person.
    """
    if text.lower() in ("any", "*", "?"):
        return Taken(None, None)
    if "*" in text:
        return _recurring(text)
    if found := _COMPARED.fullmatch(text):
        return _compared(found[1], _span(found[2], today))
    first, dots, last = (part.strip() for part in text.partition(".."))
    if not dots:
        span = _span(text, today)
        return Taken(_text(span[0]), _text(span[1]))
    if not first and not last:
        raise ValueError(EXPECTED)
    start = _span(first, today)[0] if first else None
    end = _span(last, today)[1] if last else None
    if start and end and _padded(start, 0) > _padded(end, 1):
        raise ValueError(f"a range that starts before it ends: taken:{last}..{first}")
    return Taken(_text(start) if start else None, _text(end) if end else None)


def shown_taken(condition: Taken | TakenOn) -> str:
    """Return the value of `taken:` that reads as this condition."""
    if isinstance(condition, TakenOn):
        year, month, day = condition.year, condition.month, condition.day
        parts = (
            f"{year:04}" if year is not None else "*",
            f"{month:02}" if month is not None else "*",
            f"{day:02}" if day is not None else "*",
        )
        return "-".join(parts)
    first, last = condition.first, condition.last
    if first == last:
        return first or "any"
    return f"{first or ''}..{last or ''}"


def _compared(operator: str, span: tuple[_Moment, _Moment]) -> Taken:
    first, last = span
    match operator:
        case ">":
            return Taken(_text(_next(last, 1)), None)
        case ">=" | "≥":
            return Taken(_text(first), None)
        case "<":
            return Taken(None, _text(_next(first, -1)))
        case "<=" | "≤":
            return Taken(None, _text(last))
    return Taken(_text(first), _text(last))


def _span(text: str, today: Callable[[], date]) -> tuple[_Moment, _Moment]:
    """Return the first and the last moment of what the text names."""
    if found := _DATE.fullmatch(text):
        moment = tuple(int(number) for number in found.groups() if number is not None)
        _start(moment)
        return moment, moment
    unit = text.lower().removeprefix("this-").removeprefix("last-")
    if text.lower() in ("today", "yesterday"):
        day = today() - timedelta(days=text.lower() == "yesterday")
        return (day.year, day.month, day.day), (day.year, day.month, day.day)
    if unit == text.lower() or unit not in ("week", "month", "year"):
        raise ValueError(EXPECTED)
    now, back = today(), -1 if text.lower().startswith("last-") else 0
    if unit == "week":
        monday = now - timedelta(days=now.weekday() - 7 * back)
        sunday = monday + timedelta(days=6)
        return (monday.year, monday.month, monday.day), (sunday.year, sunday.month, sunday.day)
    moment = (now.year,) if unit == "year" else (now.year, now.month)
    moment = _next(moment, back) if back else moment
    return moment, moment


def _recurring(text: str) -> Taken | TakenOn:
    found = _RECURRING.fullmatch(text)
    if not found:
        raise ValueError("one day or month of every year at a time: taken:*-12-24,*-12-25 or taken:*-07")
    year, month, day = (int(part) if part not in (None, "*") else None for part in found.groups())
    if year is None and month is None and day is None:
        return Taken(None, None)
    # 2000 was a leap year, and every month of a year without one is as long.
    _start((2000 if year is None else year, 1 if month is None else month, 1 if day is None else day))
    return TakenOn(year, month, day)


def _start(moment: _Moment) -> datetime:
    year, month, day, hour, minute = _padded(moment, 0)
    try:
        return datetime(year, month, day, hour, minute)
    except ValueError:
        raise ValueError("a date that exists") from None


def _next(moment: _Moment, step: int) -> _Moment:
    """Return the year, month, day or minute after this one, or with step -1 before it."""
    try:
        if len(moment) == 1:
            return (_start((moment[0] + step,)).year,)
        if len(moment) == 2:
            year, month = divmod(moment[0] * 12 + moment[1] - 1 + step, 12)
            return _start((year, month + 1)).timetuple()[:2]
        unit = timedelta(days=1) if len(moment) == 3 else timedelta(minutes=1)
        return (_start(moment) + step * unit).timetuple()[: len(moment)]
    except (ValueError, OverflowError):
        raise ValueError("a date between the years 1 and 9999") from None


def _padded(moment: _Moment, end: int) -> _Moment:
    """Return all five numbers, of the first minute, or of one not before the last when `end` is 1."""
    return (*moment, *((1, 1, 0, 0), (12, 31, 23, 59))[end][len(moment) - 1 :])


def _text(moment: _Moment) -> str:
    day = "-".join(f"{number:0{4 if i == 0 else 2}}" for i, number in enumerate(moment[:3]))
    return f"{day}T{moment[3]:02}:{moment[4]:02}" if len(moment) == 5 else day
