"""From ranked files to the ones that are shown: what is excluded, unsure, or stands behind another."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from encoders import UsageError
from search.query import Grouping


@dataclass(frozen=True, slots=True)
class Found:
    """One file by its best frame.

    Attributes:
        key: what ranks it, higher first.
        score: cosine to the question.
        record: its `indexer.FrameRecord`.
    """

    key: float
    score: float
    record: Any


def grouped(found: Sequence[Found], labels: Sequence[object]) -> list[list[Found]]:
    """Return the found ones of each label together, the label of the best first, the best of each first."""
    groups: dict[object, list[Found]] = {}
    for one, label in zip(found, labels, strict=True):
        groups.setdefault(label, []).append(one)
    return list(groups.values())


def labels_of(found: Sequence[Found], by: Grouping | None) -> list[object]:
    """Return what each belongs to: its day (its own when undated), its folder, or only itself."""
    if by == "folder":
        return [os.path.dirname(one.record.path) for one in found]
    if by == "day":
        return [one.record.taken_at[:10] if one.record.taken_at else one.record.file_id for one in found]
    if by is None:
        return [one.record.file_id for one in found]
    raise UsageError(f"grouping by {by} is not there; group by day or folder")
