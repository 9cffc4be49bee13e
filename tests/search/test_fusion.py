"""One ranking from several parts, on made-up embeddings with a modality gap, and against slow references."""

from __future__ import annotations

import numpy as np
import pytest

from encoders import UsageError, normalize
from search import fusion
from search.fusion import (
    Kind,
    Parts,
    fuse_late,
    fuse_words,
    join_texts,
    mmr,
)
from tests.search.gap import STYLES, THINGS, Gap

SEEDS = range(5)


def rows(seed: int, count: int, dim: int = 24) -> np.ndarray:
    return normalize(np.random.default_rng(seed).normal(size=(count, dim)))


def compose(vectors: np.ndarray, weights: list[float], kinds: list[Kind], sample: np.ndarray) -> np.ndarray:
    return Parts.of(vectors, weights, kinds, sample).composed()


def precision(gap: Gap, scores: np.ndarray, thing: int, style: int, without: int) -> float:
    first = [i for i in np.argsort(-scores, kind="stable") if i != without][:9]
    return float(np.mean((gap.thing[first] == thing) & (gap.style[first] == style)))


def picture_and_style(gap: Gap, way: str) -> float:
    """Return the mean precision of a picture and the name of another style, as `way` fuses them."""
    found = []
    for thing in range(THINGS):
        for style in range(1, STYLES):
            own = int(np.flatnonzero((gap.thing == thing) & (gap.style == 0))[0])
            vectors = np.stack([gap.images[own], gap.styles[style]])
            parts = Parts.of(vectors, [1.0, 1.0], ["image", "text"], gap.images)
            scores = {
                "naive": lambda v=vectors: gap.images @ v.sum(axis=0),
                "early": lambda p=parts: p.early(gap.images),
                "late": lambda p=parts: p.late(gap.images),
            }[way]()
            found.append(precision(gap, scores, thing, style, own))
    return float(np.mean(found))


@pytest.mark.parametrize("way", ["early", "late"])
def test_across_the_modality_gap_the_sum_of_standard_deviations_beats_the_naive_sum(way: str) -> None:
    naive = np.mean([picture_and_style(Gap.make(seed), "naive") for seed in SEEDS])
    ours = np.mean([picture_and_style(Gap.make(seed), way) for seed in SEEDS])
    assert naive < 0.4, "the made-up gap is no gap"
    assert ours > naive + 0.2


def test_equal_weights_take_as_much_from_the_picture_as_from_the_text() -> None:
    gap = Gap.make(0)
    vectors = np.stack([gap.images[0], gap.styles[3]])
    composed = gap.images @ compose(vectors, [1.0, 1.0], ["image", "text"], gap.images)
    naive = gap.images @ vectors.sum(axis=0)
    alone = [gap.images @ vector for vector in vectors]

    def leaning(scores: np.ndarray) -> float:
        """Return how much more the scores go with the picture's than with the text's."""
        return float(np.corrcoef(scores, alone[0])[0, 1] - np.corrcoef(scores, alone[1])[0, 1])

    assert leaning(naive) > 0.5
    assert abs(leaning(composed)) < 0.35


def test_a_heavier_weight_moves_the_ranking_to_its_part() -> None:
    gap = Gap.make(1)
    vectors = np.stack([gap.images[0], gap.styles[3]])
    with_picture = [
        np.corrcoef(
            gap.images @ compose(vectors, [weight, 1.0], ["image", "text"], gap.images),
            gap.images @ vectors[0],
        )[0, 1]
        for weight in (0.1, 0.5, 1.0, 2.0, 10.0)
    ]
    assert with_picture == sorted(with_picture)
    assert with_picture[-1] > 0.95


def test_composed_ranks_as_early_does() -> None:
    for seed in SEEDS:
        images = rows(seed, 200)
        kinds: list[Kind] = ["text", "image", "text"]
        parts = Parts.of(rows(seed + 50, 3), [1.0, 0.5, -0.7], kinds, images)
        early, cosine = parts.early(images), images @ parts.composed()
        slow = sum(
            weight * ((images @ vector) - (images @ vector).mean()) / spread
            for weight, vector, spread in zip(parts.weights, parts.vectors, parts.spread, strict=True)
        )
        np.testing.assert_allclose(early, slow, atol=1e-3)
        assert np.corrcoef(early, cosine)[0, 1] > 1 - 1e-6


def test_one_part_is_its_own_vector() -> None:
    query = rows(1, 1)
    for kind in ("text", "image"):
        np.testing.assert_allclose(compose(query, [0.3], [kind], rows(2, 50)), query[0], atol=1e-6)
    np.testing.assert_allclose(compose(query, [-2.0], ["text"], rows(2, 50)), -query[0], atol=1e-6)


def test_only_the_proportion_of_weights_matters_even_of_absurd_ones() -> None:
    vectors, images = rows(1, 2), rows(2, 300)
    for weights in ([1.0, 2.0], [1.0, -2.0]):
        small = Parts.of(vectors, weights, ["text", "image"], images)
        for scale in (1e-300, 0.1, 1e300):
            large = Parts.of(vectors, [weight * scale for weight in weights], ["text", "image"], images)
            np.testing.assert_allclose(large.composed(), small.composed(), atol=1e-6)
            np.testing.assert_allclose(large.late(images), small.late(images), atol=1e-6)
    lopsided = Parts.of(vectors, [1.0, 1e-300], ["text", "image"], images)
    np.testing.assert_allclose(lopsided.composed(), vectors[0], atol=1e-6)
    assert np.isfinite(lopsided.most(np.array([0.1, 0.1, 0.1])))


def test_parts_that_cancel_out_are_a_usage_error() -> None:
    query = rows(1, 1)[0]
    with pytest.raises(UsageError, match="cancel out"):
        compose(np.stack([query, query]), [1.0, -1.0], ["text", "text"], rows(2, 50))


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_a_library_of_next_to_nothing_still_gets_a_vector(count: int) -> None:
    composed = compose(rows(1, 2), [1.0, 0.5], ["text", "image"], rows(2, count))
    assert np.isfinite(composed).all()
    assert np.linalg.norm(composed) == pytest.approx(1, abs=1e-5)


def test_a_library_of_one_picture_many_times_still_gets_a_vector() -> None:
    sample = np.repeat(rows(2, 1), 500, axis=0)
    parts = Parts.of(np.concatenate([sample[:1], rows(1, 1)]), [1.0, 1.0], ["image", "text"], sample)
    assert np.isfinite(parts.late(sample)).all()
    assert np.isfinite(parts.composed()).all()


def test_late_prefers_both_parts_to_much_of_one() -> None:
    parts = Parts.of(np.eye(8, dtype=np.float32)[:2], [1.0, 1.0], ["text", "text"], rows(0, 400, 8))
    spread = parts.spread.mean()
    both, much = np.zeros(8), np.zeros(8)
    both[:2] = 5 * spread
    much[0] = 10.5 * spread
    late, early = (way(np.stack([both, much])) for way in (parts.late, parts.early))
    assert early[0] < early[1]
    assert late[0] > late[1]


def test_what_is_pushed_away_ranks_lower() -> None:
    gap = Gap.make(2)
    vectors = np.stack([gap.things[4], gap.styles[2]])
    parts = Parts.of(vectors, [1.0, -1.0], ["text", "text"], gap.images)
    for scores in (parts.early(gap.images), parts.late(gap.images)):
        first = np.argsort(-scores)[:20]
        assert (gap.thing[first] == 4).mean() > 0.9
        assert (gap.style[first] == 2).mean() < 0.05


# --- candidates


@pytest.fixture
def few_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let candidates begin so small that a library of 3,000 has to be asked more than once."""
    monkeypatch.setattr(fusion, "_LEAST_CANDIDATES", 256)


def brute(images: np.ndarray):  # type: ignore[no-untyped-def]
    """Return `nearest` of a library held in memory, and how often it was asked for how many."""
    asked: list[int] = []

    def nearest(probe: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        asked.append(count)
        order = np.argsort(-(images @ probe), kind="stable")[:count]
        return order, (images @ probe)[order]

    return nearest, asked


@pytest.mark.usefixtures("few_candidates")
@pytest.mark.parametrize("weights", [[1.0, 1.0], [3.0, 0.4], [1.0, 1.0, 1.0], [1.0, -1.0], [1.0, 1.0, -0.5]])
@pytest.mark.parametrize("seed", SEEDS)
def test_fusing_candidates_finds_what_fusing_the_whole_library_finds(seed: int, weights: list[float]) -> None:
    images = rows(seed, 3000, 12)
    kinds: list[Kind] = ["text" if number % 2 else "image" for number in range(len(weights))]
    parts = Parts.of(rows(seed + 90, len(weights), 12), weights, kinds, images)
    nearest, asked = brute(images)
    ids, values = fuse_late(parts, nearest, lambda wanted: images[wanted], 20)
    whole = parts.late(images)
    np.testing.assert_allclose(values[:20], np.sort(whole)[::-1][:20], atol=1e-6)
    np.testing.assert_allclose(values[:20], whole[ids[:20]], atol=1e-6)
    assert max(asked) < 3000, "it looked at everything"


def test_what_no_probe_brought_is_never_above_the_bound() -> None:
    for seed in range(30):
        images = rows(seed, 400, 6)
        weights = [[1.0, 1.0], [0.2, 2.0, 1.0], [1.0, -1.0], [-1.0, -2.0]][seed % 4]
        parts = Parts.of(rows(seed + 7, len(weights), 6), weights, ["text"] * len(weights), images)
        nearest, _ = brute(images)
        brought = [nearest(probe, 40) for probe in parts.probes()]
        seen = np.unique(np.concatenate([ids for ids, _ in brought]))
        unseen = np.setdiff1d(np.arange(len(images)), seen)
        bound = parts.most(np.array([float(scores[-1]) for _, scores in brought]))
        assert parts.late(images[unseen]).max() <= bound + 1e-6


def test_a_library_smaller_than_a_fetch_is_fused_whole() -> None:
    images = rows(3, 7)
    parts = Parts.of(rows(4, 2), [1.0, 1.0], ["text", "image"], images)
    ids, values = fuse_late(parts, brute(images)[0], lambda wanted: images[wanted], 10)
    assert sorted(ids) == list(range(7))
    assert list(values) == sorted(values, reverse=True)
    none = np.zeros((0, 24), np.float32)
    ids, values = fuse_late(parts, brute(none)[0], lambda wanted: none[wanted], 10)
    assert len(ids) == len(values) == 0


# --- words


@pytest.mark.usefixtures("few_candidates")
@pytest.mark.parametrize("weights", [[1.0], [1.0, 1.0], [1.0, -1.0]])
@pytest.mark.parametrize("seed", SEEDS)
def test_fusing_candidates_with_words_finds_what_fusing_the_whole_library_finds(
    seed: int, weights: list[float]
) -> None:
    images = rows(seed, 3000, 12)
    parts = Parts.of(rows(seed + 90, len(weights), 12), weights, ["text"] * len(weights), images)
    rng = np.random.default_rng(seed)
    words = {int(i): (float(rng.uniform(0, 30)), bool(rng.integers(2))) for i in rng.choice(3000, 40)}
    bm25, complete = np.zeros(3000), np.zeros(3000, bool)
    for number, (score, whole) in words.items():
        bm25[number], complete[number] = score, whole
    slow = fuse_words(parts.late(images), bm25, complete)
    nearest, asked = brute(images)
    ids, values = fuse_late(parts, nearest, lambda wanted: images[wanted], 20, words)
    np.testing.assert_allclose(values[:20], np.sort(slow)[::-1][:20], atol=1e-6)
    np.testing.assert_allclose(values[:20], slow[ids[:20]], atol=1e-6)
    assert max(asked) < 3000


def test_words_lift_what_they_match_and_change_nothing_else() -> None:
    standing = np.array([2.0, 1.5, 1.0, 0.5])
    lifted = fuse_words(standing, np.array([0.0, 0.0, 12.0, 0.0]))
    assert np.argmax(lifted) == 2
    np.testing.assert_array_equal(np.delete(lifted, 2), np.delete(standing, 2))
    np.testing.assert_array_equal(fuse_words(standing, np.zeros(4)), standing)
    assert fuse_words(np.zeros(1), np.array([1e6]))[0] <= 3, "no caption outweighs every picture"


def test_texts_that_fit_one_sentence_are_joined() -> None:
    assert join_texts(["beach", "golden hour"], [1, 1]) == [("beach, golden hour", 2)]
    assert join_texts(["a dog.", "snow"], [2, 1]) == [("a dog, snow", 2), ("a dog.", 1)]
    assert join_texts(["beach", "people"], [1, -1]) == [("beach", 1), ("people", -1)]
    assert join_texts(["beach"], [0.5]) == [("beach", 0.5)]
    assert join_texts([], []) == []
    long = " ".join(["word"] * 15)
    assert join_texts([long, "a " + long], [1, 1]) == [(long, 1), ("a " + long, 1)]
    assert len(join_texts(["海滩上的狗在跑步玩耍", "一个人站在雪地里看着山"], [1, 1])) == 2
    assert join_texts(["...", "dog"], [1, 1])[0][0] == "..., dog"
    assert join_texts(["dog", "dog"], [1, 1]) == [("dog", 2)]


def test_joining_texts_keeps_the_sum_of_their_weights() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        weights = rng.choice([-1.0, 0.5, 1.0, 2.0, 3.0], rng.integers(1, 6)).tolist()
        joined = join_texts([f"thing {number}" for number in range(len(weights))], weights)
        assert sum(weight for _, weight in joined) == pytest.approx(sum(weights))
        assert all(weight for _, weight in joined)


# --- diversity


def slow_mmr(embeddings: np.ndarray, relevance: np.ndarray, k: int, diversity: float) -> list[int]:
    floor = (embeddings @ embeddings[np.argmax(relevance)]).min()
    worth = (relevance - relevance.min()) / np.ptp(relevance)
    chosen = [int(np.argmax(relevance))]
    while len(chosen) < min(k, len(relevance)):
        rest = [i for i in range(len(relevance)) if i not in chosen]
        like = {
            i: max(0.0, (max(embeddings[i] @ embeddings[j] for j in chosen) - floor) / (1 - floor))
            for i in rest
        }
        chosen.append(max(rest, key=lambda i: (1 - diversity) * worth[i] - diversity * like[i]))
    return chosen


@pytest.mark.parametrize("diversity", [0.1, 0.3, 0.7, 1.0])
def test_mmr_is_the_slow_greedy_choice(diversity: float) -> None:
    for seed in SEEDS:
        embeddings, relevance = rows(seed, 60), np.random.default_rng(seed).normal(size=60)
        assert mmr(embeddings, relevance, 15, diversity).tolist() == slow_mmr(
            embeddings, relevance, 15, diversity
        )


def test_no_diversity_keeps_the_order_and_all_of_it_spreads() -> None:
    embeddings = np.repeat(np.eye(3, dtype=np.float32), 4, axis=0)
    relevance = np.linspace(1, 0, 12)
    assert mmr(embeddings, relevance, 12, 0.0).tolist() == list(range(12))
    assert mmr(embeddings, np.zeros(12), 12, 0.0).tolist() == list(range(12))
    assert sorted(i // 4 for i in mmr(embeddings, relevance, 3, 1.0)) == [0, 1, 2]
    for k, expected in ((0, 0), (5, 5), (99, 12)):
        order = mmr(embeddings, relevance, k, 0.5)
        assert len(set(order.tolist())) == len(order) == expected
    assert len(mmr(embeddings[:0], relevance[:0], 5, 0.5)) == 0
    assert mmr(embeddings[:1], relevance[:1], 5, 0.5).tolist() == [0]
