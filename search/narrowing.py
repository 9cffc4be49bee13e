"""From ranked files to the ones that are shown: what is excluded, unsure, or stands behind another."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from search.aims import Aim, Embedded, Embedding, Examples, rows_of
from search.calibration import Calibration
from search.query import Grouping

# Hits of which look-alikes are told; each is held against every group.
_COMPARED = 2_000
_SHOWS = 0.5
"""Probability from which a picture shows what is excluded."""


@dataclass(frozen=True, slots=True)
class Found:
    """One file by its best frame.

    Attributes:
        key: what ranks it, higher first.
        score: cosine to the question.
        record: its `indexer.FrameRecord`.
        written: all words of the question stand in its caption, keywords or names.
        probability: that it matches, None before it was asked.
    """

    key: float
    score: float
    record: Any
    written: bool = False
    probability: float | None = None


class Looks(Embedded, Protocol):
    """The part of `indexer.Index` that knows what pictures look like."""

    @property
    def copies(self) -> Any: ...
    @property
    def space(self) -> Any: ...


class Doorman:
    """Turns away files of which a frame that matched, or the whole picture, shows what is excluded.

    A picture is asked once, however often it is met.
    """

    def __init__(
        self, index: Examples, calibration: Calibration, unwanted: Sequence[Aim], sample: Embedding
    ) -> None:
        self._index, self._calibration, self._unwanted, self._sample = index, calibration, unwanted, sample
        self._shows: dict[int, bool] = {}
        self.turned_away: set[int] = set()
        """File ids."""

    @property
    def is_idle(self) -> bool:
        """Whether nothing is excluded."""
        return not self._unwanted

    def showing(self, frames: Collection[int]) -> set[int]:
        """Return those of the frames that show something unwanted."""
        self._look_at(set(frames))
        return {frame for frame in frames if self._shows.get(frame, False)}

    def admit(self, found: Sequence[Found]) -> list[Found]:
        """Return those that show nothing unwanted, in their order."""
        if not self._unwanted:
            return list(found)
        whole = self._index.whole_frames([one.record.file_id for one in found])
        self._look_at({one.record.frame_id for one in found} | set(whole.values()))
        admitted = []
        for one in found:
            frames = (one.record.frame_id, whole.get(one.record.file_id, one.record.frame_id))
            if any(self._shows.get(frame, False) for frame in frames):
                self.turned_away.add(one.record.file_id)
            else:
                admitted.append(one)
        return admitted

    def _look_at(self, frames: set[int]) -> None:
        new = self._index.vectors_of(sorted(frames - self._shows.keys()))
        if not new:
            return
        embeddings = np.stack(list(new.values()))
        shown = np.zeros(len(new), bool)
        for aim in self._unwanted:
            if aim.threshold is not None:
                shown |= embeddings @ aim.vector >= aim.threshold
                continue
            kind = aim.kind if aim.plain else "mixed"
            likely = self._calibration.shows(aim.vector, embeddings, self._sample, kind, words=aim.words)
            shown |= likely > _SHOWS
        self._shows.update(zip(new, shown.tolist(), strict=True))


def grouped(found: Sequence[Found], labels: Sequence[object]) -> list[list[Found]]:
    """Return the found ones of each label together, the label of the best first, the best of each first."""
    groups: dict[object, list[Found]] = {}
    for one, label in zip(found, labels, strict=True):
        groups.setdefault(label, []).append(one)
    return list(groups.values())


def labels_of(found: Sequence[Found], by: Grouping | None, index: Looks) -> list[object]:
    """Return what each belongs to: its day (its own when undated), folder, look-alikes, or only itself.

    Args:
        found: best first; of look-alikes the first ones count.
    """
    if by == "folder":
        return [os.path.dirname(one.record.path) for one in found]
    if by == "day":
        return [one.record.taken_at[:10] if one.record.taken_at else one.record.file_id for one in found]
    if by is None or not found:
        return [one.record.file_id for one in found]
    from search.duplicates.grouping import group_hits

    records = [one.record for one in found[:_COMPARED]]
    frames = [record.frame_id for record in records]
    looks = index.copies.looks_of(frames)
    embeddings = rows_of(frames, index, index.space.dim)
    near = group_hits(records, embeddings, looks, by).tolist()
    return [*near, *(-1 - place for place in range(len(found) - len(near)))]
