"""A question beside one library: its parts, and the frames that rank highest for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from search.aims import Aim, Embedded, Embedding, rows_of
from search.fusion import Ints, Parts, fuse_late, fuse_words
from search.query import Fusion

if TYPE_CHECKING:
    from indexer import Neighbor, Selection

Words: TypeAlias = Mapping[int, tuple[float, bool]]
"""{frame id: (bm25, whether all the words are there)}."""
# Files whose words match that are looked at beside the nearest ones.
_WORD_HITS = 1000


class Library(Embedded, Protocol):
    """The part of `indexer.Index` that ranks."""

    def nearest(self, query: Embedding, k: int, among: Selection | None = None) -> Sequence[Neighbor]: ...
    def matching_words(self, words: str, k: int, among: Selection | None = None) -> Sequence[Any]: ...


@dataclass(frozen=True, slots=True)
class Ranked:
    """A frame.

    Attributes:
        key: what ranks it, higher first.
        score: its cosine to the whole question.
        written: all words of the question stand in its caption, keywords or names.
    """

    frame_id: int
    key: float
    score: float
    written: bool = False


@dataclass(frozen=True, slots=True)
class Question:
    """What is wanted, excluded parts apart.

    Attributes:
        parts: the wanted ones beside a sample of the library.
        vector: (dim,) float32, unit: all parts in one.
        fusion: how the parts become one ranking.
        words: what is looked for in captions, keywords and names, for `hybrid`; "" for nothing.
    """

    parts: Parts
    vector: Embedding
    fusion: Fusion
    words: str

    @classmethod
    def of(cls, aims: Sequence[Aim], sample: Embedding, fusion: Fusion) -> Question:
        """Return the question of one or more wanted aims.

        Raises:
            UsageError: the parts cancel out.
        """
        vectors = np.stack([aim.vector for aim in aims])
        parts = Parts.of(vectors, [aim.weight for aim in aims], [aim.kind for aim in aims], sample)
        words = " ".join(aim.words for aim in aims if aim.words and aim.weight > 0)
        return cls(parts, parts.composed(), fusion, words)

    def best_frames(self, index: Library, count: int, among: Selection | None) -> tuple[list[Ranked], bool]:
        """Return (the `count` best frames of the library, best first; whether these are all there are)."""
        if self.fusion == "late" and len(self.parts.vectors) > 1:
            return self._late(index, count, among, {})
        if self.fusion == "hybrid" and self.words:
            hits = index.matching_words(self.words, max(count, _WORD_HITS), among)
            words = {one.frame_id: (float(one.score), bool(one.complete)) for one in hits}
            # Across the modality gap a picture must have both; texts alone are one sentence, mostly.
            return (self._late if self.parts.across else self._hybrid)(index, count, among, words)
        near = index.nearest(self.vector, count, among)
        scores = _even(np.array([one.score for one in near]))
        ranked = [Ranked(one.frame_id, score, score) for one, score in zip(near, scores, strict=True)]
        return ranked, len(near) < count

    def _late(
        self, index: Library, count: int, among: Selection | None, words: Words
    ) -> tuple[list[Ranked], bool]:
        def nearest(probe: Embedding, k: int) -> tuple[Ints, Embedding]:
            near = index.nearest(probe, k, among)
            return (
                np.array([one.frame_id for one in near], np.int64),
                np.array([one.score for one in near], np.float32),
            )

        dim = len(self.vector)
        ids, keys = fuse_late(
            self.parts, nearest, lambda ids: rows_of(ids.tolist(), index, dim), count, words
        )
        embeddings = rows_of(ids[:count].tolist(), index, dim)
        return self._ranked(ids[:count], keys[:count], embeddings, words), len(ids) < count

    def _hybrid(
        self, index: Library, count: int, among: Selection | None, words: Words
    ) -> tuple[list[Ranked], bool]:
        near = index.nearest(self.vector, count, among)
        ids = np.array(sorted({one.frame_id for one in near} | words.keys()), np.int64)
        embeddings = rows_of(ids.tolist(), index, len(self.vector))
        written = [words.get(number, (0.0, False)) for number in ids.tolist()]
        bm25 = np.array([score for score, _ in written])
        complete = np.array([every for _, every in written], bool)
        keys = fuse_words(self.parts.early(embeddings), bm25, complete)
        ranked = self._ranked(ids, keys, embeddings, words)
        ranked.sort(key=lambda one: (-one.key, one.frame_id))
        return (ranked, True) if len(near) < count else (ranked[:count], False)

    def _ranked(
        self, ids: Ints, keys: npt.NDArray[np.float64], embeddings: Embedding, words: Words
    ) -> list[Ranked]:
        scores = embeddings @ self.vector
        return [
            Ranked(number, key, score, words.get(number, (0.0, False))[1])
            for number, key, score in zip(ids.tolist(), _even(keys), _even(scores), strict=True)
        ]


def _even(numbers: npt.NDArray[np.floating]) -> list[float]:
    """float32 sums differ in the last bits with the order of storage; six decimals do not."""
    even: list[float] = np.round(numbers.astype(np.float64), 6).tolist()
    return even
