"""Numbers: what is kept of a measurement, and what is said of several."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Round = dict[str, Any]
_PREFIXES = {
    "upkeep": ("reindex", "open", "snapshot", "lists"),
    "warm": ("warm", "floor"),
    "warm10m": ("warm-10000000",),
}


@dataclass(frozen=True, slots=True)
class Spread:
    """The middle of some numbers, and their ends."""

    median: float
    least: float
    most: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.least:.2f} to {self.most:.2f})"


def spread(numbers: Sequence[float]) -> Spread:
    """Return median, least and most; numbers that are not there (None) do not count.

    Raises:
        ValueError: there are none.
    """
    there = [number for number in numbers if number is not None]
    if not there:
        raise ValueError("no numbers")
    return Spread(statistics.median(there), min(there), max(there))


def ratios(rounds: Sequence[Round], over: str, under: str, field: str) -> Spread | None:
    """Return how many times more `over` has of a field than `under`, paired round by round.

    Pairs of one round ran minutes apart on the same machine: what slowed both is in neither ratio. Rounds
    in which one is missing do not count; None when none is left.
    """
    pairs = [
        (one[over][field], one[under][field])
        for one in rounds
        if one.get(over, {}).get(field) and one.get(under, {}).get(field)
    ]
    return spread([a / b for a, b in pairs]) if pairs else None


def spread_of(rounds: Sequence[Round], name: str, *fields: str) -> Spread | None:
    """Return the spread over rounds of a competitor's number, found by the names that lead to it."""
    found = []
    for one in rounds:
        value: Any = one
        for field in (name, *fields):
            value = value.get(field) if isinstance(value, dict) else None
        if value is not None:
            found.append(value)
    return spread(found) if found else None


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Return p50, p95 and p99 in ms (nearest rank), and questions a second one after the other."""
    ordered = sorted(seconds)
    rank = {
        f"p{share}_ms": 1000 * ordered[max(0, -(-len(ordered) * share // 100) - 1)] for share in (50, 95, 99)
    }
    return {**rank, "per_s": len(ordered) / sum(ordered)}


class Store:
    """Results on disk, a JSON file each, so that a run that was cut goes on where it was.

    A result stands for the code it was made with: another `revision` measures it again, except where it is
    said to last, because it does not depend on pixseek.
    """

    def __init__(self, folder: Path, revision: str) -> None:
        self.folder, self.revision = folder, revision
        folder.mkdir(parents=True, exist_ok=True)

    def read(self, key: str) -> dict[str, Any] | None:
        """Return what is kept under a key, whichever code it was measured with."""
        try:
            kept: dict[str, Any] = json.loads((self.folder / f"{key}.json").read_text())
        except (OSError, ValueError):
            return None
        return kept

    def write(self, key: str, value: dict[str, Any]) -> None:
        """Keep a result: whole or not at all."""
        partial = self.folder / f"{key}.json.new"
        partial.write_text(json.dumps({"revision": self.revision, **value}, indent=1) + "\n")
        os.replace(partial, self.folder / f"{key}.json")

    def current(self, key: str, *, lasting: bool = False) -> dict[str, Any] | None:
        """Return what is kept under a key if it still holds."""
        kept = self.read(key)
        return kept if kept and (lasting or kept["revision"] == self.revision) else None

    def once(
        self, key: str, measure: Callable[[], dict[str, Any]], *, lasting: bool = False
    ) -> dict[str, Any]:
        """Return the result of that key, measured if it does not hold."""
        kept = self.current(key, lasting=lasting)
        if kept is None:
            self.write(key, measure())
            kept = self.read(key)
            assert kept is not None
        return kept

    def rounds(self, key: str, count: int, measure: Callable[[int], Round]) -> list[Round]:
        """Return `count` rounds, those that are not kept yet measured one by one."""
        kept = self.current(key)
        done: list[Round] = kept["rounds"] if kept else []
        while len(done) < count:
            done = [*done, measure(len(done))]
            self.write(key, {"rounds": done})
        return done

    def drop(self, key: str) -> None:
        """Forget one result."""
        (self.folder / f"{key}.json").unlink(missing_ok=True)

    def forget(self, part: str) -> None:
        """Forget what a part measured; builds of peers stay."""
        for prefix in _PREFIXES.get(part, (part,)):
            for path in self.folder.glob(f"{prefix}-*.json"):
                path.unlink()

    def rounds_of(self, key: str) -> list[Round]:
        """Return the rounds kept under a key, whichever code they were measured with."""
        kept = self.read(key)
        return kept["rounds"] if kept else []

    def sizes_of(self, prefix: str) -> list[int]:
        """Return the sizes that `PREFIX-SIZE` was measured at, smallest first."""
        found_keys = self.keys()
        found = (key.removeprefix(f"{prefix}-") for key in found_keys if key.startswith(f"{prefix}-"))
        return sorted(int(rows) for rows in found if rows.isdigit())

    def keys(self) -> list[str]:
        """Return the keys there are, in order."""
        return sorted(path.stem for path in self.folder.glob("*.json"))
