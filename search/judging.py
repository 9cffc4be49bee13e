"""How probably a file matches, and which files are worth showing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from search.aims import Aim, Embedded, Embedding, rows_of
from search.calibration import Calibration, auto_cut
from search.narrowing import Found
from search.query import Query
from search.ranking import Question

DOUBTFUL = 0.3
"""Probability that anything matches below which the answer comes with a warning (docs/scores.md)."""
_WRITTEN = 0.64
"""Probability that a picture shows what its caption says: how often one of four other people, asked to
describe the same picture of Flickr8k, uses a word that the first one used."""
_LEAST = 1e-6
Floats: TypeAlias = npt.NDArray[np.floating]


class Judge:
    """Says how probably each file answers one question in one library.

    A question of one part is judged by its cosine. One of several is judged by the weighted geometric mean of
    what each wanted part says by itself: the cosine to a sum of a text and a picture has no scale of its own.

    Args:
        wanted: the aims of the question, examples not among them.
        files: how many files are searched.
    """

    def __init__(
        self,
        question: Question,
        wanted: Sequence[Aim],
        index: Embedded,
        calibration: Calibration,
        sample: Embedding,
        files: int,
    ) -> None:
        self._index = index
        self._parts = [aim for aim in wanted if aim.weight > 0]
        self.of_text = bool(self._parts) and all(aim.kind == "text" for aim in self._parts)
        """Whether words are asked for and nothing else."""
        self._nulls = [
            calibration.null(
                aim.vector, sample, aim.kind if aim.plain else "mixed", words=aim.words, files=files
            )
            for aim in self._parts
        ]
        # Of examples alone: what they say together.
        self._whole = None if self._parts else calibration.null(question.vector, sample, "mixed", files=files)
        self._simple = len(wanted) == 1 and len(question.parts.vectors) == 1 and bool(self._parts)

    def probabilities(self, found: Sequence[Found]) -> list[Found]:
        """Return the found ones with their probabilities, in their order."""
        scores = np.array([one.score for one in found], np.float32)
        if self._simple:
            (null,), (aim,) = self._nulls, self._parts
            likely = _with_words(null.probabilities(scores), found, aim)
        elif self._whole is None:
            likely = self._of_parts(found)
        else:
            likely = self._whole.probabilities(scores)
        return [replace(one, probability=_even(p)) for one, p in zip(found, likely, strict=True)]

    def _of_parts(self, found: Sequence[Found]) -> Floats:
        frames = [one.record.frame_id for one in found]
        rows = rows_of(frames, self._index, len(self._parts[0].vector))
        log = np.zeros(len(found))
        total = sum(aim.weight for aim in self._parts)
        for aim, null in zip(self._parts, self._nulls, strict=True):
            likely = _with_words(null.probabilities(rows @ aim.vector), found, aim)
            log += aim.weight / total * np.log(np.maximum(likely, _LEAST))
        return np.exp(log)

    def anything(self, found: Sequence[Found]) -> float:
        """Return the probability that any of the judged ones, the best of a library, matches."""
        each = [one.probability or 0.0 for one in found]
        if self._simple:
            each.append(self._nulls[0].anything([one.score for one in found]))
        return _even(max(each, default=0.0))


def _with_words(likely: Floats, found: Sequence[Found], aim: Aim) -> Floats:
    """Return the probabilities of a part, where it is a text with what stands beside the picture."""
    written = np.array([one.written for one in found], bool)
    return np.where(written, 1 - (1 - likely) * (1 - _WRITTEN), likely) if aim.words else likely


def probable(found: Sequence[Found], query: Query, *, nothing: bool) -> list[Found]:
    """Return the judged ones that are worth showing, in their order.

    Args:
        nothing: nothing in the library matches; then none is, unless the question says how low it goes.
    """
    lowest = query.min_probability
    if lowest is None and nothing:
        return []
    kept = [one for one in found if lowest is None or (one.probability or 0.0) >= lowest]
    if query.auto_cut:
        order = sorted(kept, key=lambda one: -(one.probability or 0.0))
        stays = {one.record.file_id for one in order[: auto_cut([one.probability or 0.0 for one in order])]}
        kept = [one for one in kept if one.record.file_id in stays]
    return kept


def _even(probability: float) -> float:
    """Return four decimals: more are not known, and float32 has others on another processor."""
    return round(float(probability), 4)
