"""The log of a training: one csv row per interval, which pandas and gnuplot read as it is."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

_BEFORE = ("step", "epoch", "loss")
_AFTER = ("rate", "pictures_per_s", "seconds", "recall_1", "recall_5", "recall_10")


class TrainingLog:
    """Rows of step, epoch, losses, learning rate, speed, time, and recall where it was measured.

    Opened at a checkpoint's step it drops the rows after it, and a row cut by a kill: a training that goes on
    writes those again, so that no step is there twice.

    Attributes:
        seconds: the time of the last row kept, so that a training that goes on counts from there.
    """

    def __init__(self, path: Path, parts: Sequence[str], *, step: int) -> None:
        self.path = path
        self.columns = (*_BEFORE, *(f"loss_{part}" for part in parts), *_AFTER)
        kept = [row for row in read_log(path) if int(row["step"]) <= step]
        self.seconds = float(kept[-1]["seconds"]) if kept else 0.0
        partial = path.with_name(f"{path.name}.part")
        partial.write_text(
            self._lines(self.columns, *([row.get(c, "") for c in self.columns] for row in kept))
        )
        partial.replace(path)

    def row(self, values: Mapping[str, float | int]) -> None:
        """Append one row; a column that is not in `values` stays empty."""
        with self.path.open("a", encoding="ascii") as file:
            file.write(self._lines([_text(values.get(column)) for column in self.columns]))

    @staticmethod
    def _lines(*rows: Sequence[str]) -> str:
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows(rows)
        return out.getvalue()


def read_log(path: Path) -> list[dict[str, str]]:
    """Return the whole rows of a log by column, [] where there is none; the last may have been cut."""
    try:
        text = path.read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        return []
    whole = text[: text.rfind("\n") + 1]
    rows = []
    for row in csv.DictReader(io.StringIO(whole)):
        if (row.get("step") or "").isdigit() and None not in row.values() and None not in row:
            rows.append({key: str(value) for key, value in row.items()})
    return rows


def _text(value: float | int | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.6g}"
