"""A question beside a library: each fusion against ranking every picture there is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from indexer import Neighbor, WordHit
from search.aims import Aim
from search.fusion import Parts, fuse_words
from search.query import Fusion
from search.ranking import Question

RNG = np.random.default_rng(7)


def unit(rows: Any) -> Any:
    rows = np.asarray(rows, np.float32)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


LIBRARY = unit(RNG.normal(size=(900, 24)) + 0.4)


@dataclass
class Shelf:
    """A library in memory: frame ids are 100 + row."""

    words: dict[int, float] = field(default_factory=dict)
    damaged: frozenset[int] = frozenset()

    def nearest(self, query: Any, k: int, among: Any = None) -> list[Neighbor]:
        scores = LIBRARY @ query
        return [
            Neighbor(100 + int(row), float(scores[row])) for row in np.argsort(-scores, kind="stable")[:k]
        ]

    def vectors_of(self, frame_ids: Sequence[int]) -> dict[int, Any]:
        return {number: LIBRARY[number - 100] for number in frame_ids if number not in self.damaged}

    def matching_words(self, words: str, k: int, among: Any = None) -> list[WordHit]:
        best = sorted(self.words.items(), key=lambda item: -item[1])
        return [WordHit(number, score) for number, score in best[:k]]


def aims(*weights: float) -> list[Aim]:
    vectors = unit(RNG.normal(size=(len(weights), 24)) - 0.2)
    return [
        Aim(vector, "text", weight, words=f"word{n}")
        for n, (weight, vector) in enumerate(zip(weights, vectors, strict=True))
    ]


@pytest.mark.parametrize("weights", [(1.0,), (1.0, 1.0), (2.0, 0.5, 1.0), (1.0, -0.7)])
@pytest.mark.parametrize("fusion", ["early", "late"])
def test_the_first_are_those_of_ranking_everything(weights: tuple[float, ...], fusion: Fusion) -> None:
    for _ in range(5):
        asked = aims(*weights)
        question = Question.of(asked, LIBRARY, fusion)
        ranked, exhausted = question.best_frames(Shelf(), 20, None)
        rank = question.parts.late if fusion == "late" and len(weights) > 1 else question.parts.early
        expected = 100 + np.argsort(-rank(LIBRARY), kind="stable")[:20]
        assert [one.frame_id for one in ranked[:20]] == expected.tolist()
        assert not exhausted


def test_scores_are_cosines_to_the_whole_question_whatever_ranks() -> None:
    for fusion in ("early", "late", "hybrid"):
        question = Question.of(aims(1.0, 2.0), LIBRARY, fusion)  # type: ignore[arg-type]
        ranked, _ = question.best_frames(Shelf(words={105: 3.0}), 10, None)
        for one in ranked:
            assert one.score == pytest.approx(float(LIBRARY[one.frame_id - 100] @ question.vector), abs=1e-5)


def test_words_lift_a_picture_that_the_encoder_ranks_far_below() -> None:
    question = Question.of(aims(1.0), LIBRARY, "hybrid")
    last = question.best_frames(Shelf(), 900, None)[0][600].frame_id
    ranked = [one.frame_id for one in question.best_frames(Shelf(words={last: 20.0}), 300, None)[0]]
    place = ranked.index(last)
    assert place < 300
    assert len(ranked) == 300
    expected = fuse_words(question.parts.early(LIBRARY), np.where(np.arange(900) == last - 100, 20.0, 0.0))
    assert ranked == (100 + np.argsort(-expected, kind="stable")[:300]).tolist()


def test_without_words_a_hybrid_is_the_early_ranking() -> None:
    asked = aims(1.0, 0.5)
    both = [
        [one.frame_id for one in Question.of(asked, LIBRARY, fusion).best_frames(Shelf(), 50, None)[0]][:50]
        for fusion in ("early", "hybrid")
    ]
    assert both[0] == both[1]


def test_a_damaged_embedding_ends_nothing() -> None:
    asked = aims(1.0, 1.0)
    best = Question.of(asked, LIBRARY, "late").best_frames(Shelf(), 5, None)[0][0].frame_id
    ranked, _ = Question.of(asked, LIBRARY, "late").best_frames(Shelf(damaged=frozenset({best})), 5, None)
    assert ranked[0].frame_id != best


def test_all_there_are_is_told_from_more_to_come() -> None:
    question = Question.of(aims(1.0, 1.0), LIBRARY, "late")
    assert question.best_frames(Shelf(), 900, None)[1] is False
    assert question.best_frames(Shelf(), 901, None)[1] is True


def test_parts_that_cancel_out_are_wrong_usage() -> None:
    from encoders import UsageError

    one = aims(1.0)[0]
    against = Aim(one.vector, "text", -1.0, words="word0")
    with pytest.raises(UsageError, match="cancel out"):
        Question.of([one, against], LIBRARY, "early")


def test_only_what_is_wanted_is_looked_for_in_the_words() -> None:
    question = Question.of(aims(1.0, -1.0), LIBRARY, "hybrid")
    assert question.words == "word0"
    assert isinstance(question.parts, Parts)


def test_a_text_and_a_picture_are_fused_late_with_their_words() -> None:
    text, picture = aims(1.0, 1.0)
    asked = [text, Aim(picture.vector, "image", 1.0)]
    question = Question.of(asked, LIBRARY, "hybrid")
    ranked, _ = question.best_frames(Shelf(words={105: 3.0, 400: 18.0}), 60, None)
    bm25 = np.zeros(900)
    bm25[[5, 300]] = 3.0, 18.0
    expected = fuse_words(question.parts.late(LIBRARY), bm25)
    assert [one.frame_id for one in ranked] == (100 + np.argsort(-expected, kind="stable")[:60]).tolist()
