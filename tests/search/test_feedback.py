"""What examples add to a question, and concepts, on made-up embeddings with a real modality gap."""

from __future__ import annotations

import numpy as np
import pytest

from encoders import normalize
from search.feedback import concept_threshold, concept_vector, feedback_parts, geometric_median
from search.fusion import Parts
from tests.search.gap import THINGS, Gap

NONE = np.zeros((0, 96), np.float32)


def refine(
    query: np.ndarray | None, liked: np.ndarray, disliked: np.ndarray, sample: np.ndarray
) -> np.ndarray:
    """Return the question with what the examples add, as one vector."""
    vectors, weights, kinds = feedback_parts(liked, disliked, sample)
    if query is not None:
        vectors = np.concatenate([query[None], vectors])
        weights, kinds = [1.0, *weights], ["text", *kinds]
    return Parts.of(vectors, weights, kinds, sample).composed()


def asked(gap: Gap, thing: int, noise: float, seed: int) -> np.ndarray:
    """Return a text that says the thing badly."""
    rng = np.random.default_rng(seed)
    return normalize((gap.things[thing] + noise * rng.normal(size=96) / np.sqrt(96))[None])[0]


def recall_of_the_rest(gap: Gap, query: np.ndarray, thing: int, marked: np.ndarray) -> float:
    scores = gap.images @ query
    scores[marked] = -9
    right = gap.thing == thing
    right[marked] = False
    return float(right[np.argsort(-scores)[: right.sum()]].mean())


def test_one_round_of_feedback_finds_more_of_the_rest() -> None:
    before, after = [], []
    for thing in range(THINGS):
        gap = Gap.make(thing)
        query = asked(gap, thing, 0.25, thing)
        first = np.argsort(-(gap.images @ query))[:10]
        right = gap.thing[first] == thing
        refined = refine(query, gap.images[first[right]], gap.images[first[~right]], gap.images)
        before.append(recall_of_the_rest(gap, query, thing, first))
        after.append(recall_of_the_rest(gap, refined, thing, first))
    assert np.mean(before) < 0.8
    assert np.mean(after) > np.mean(before) + 0.15


@pytest.mark.parametrize(("liked", "disliked"), [(1, 0), (0, 1), (3, 2), (1000, 0), (0, 1000), (1000, 1000)])
@pytest.mark.parametrize("with_query", [True, False])
def test_any_number_of_examples_gives_a_unit_vector(liked: int, disliked: int, with_query: bool) -> None:
    gap = Gap.make(0)
    rng = np.random.default_rng(0)
    refined = refine(
        gap.things[0] if with_query else None,
        gap.images[rng.integers(0, len(gap.images), liked)],
        gap.images[rng.integers(0, len(gap.images), disliked)],
        gap.images,
    )
    assert refined.shape == (96,)
    assert refined.dtype == np.float32
    assert np.linalg.norm(refined) == pytest.approx(1, abs=1e-5)


def test_a_picture_both_liked_and_disliked_and_an_empty_library_are_endured() -> None:
    gap = Gap.make(0)
    for sample in (gap.images, gap.images[:1], NONE):
        assert np.isfinite(refine(gap.things[0], gap.images[:1], gap.images[:1], sample)).all()
        assert np.isfinite(refine(None, gap.images[:1], gap.images[:1], sample)).all()


def test_no_example_is_no_part() -> None:
    vectors, weights, kinds = feedback_parts(NONE, NONE, Gap.make(0).images)
    assert (vectors.shape, weights, kinds) == ((0, 96), [], [])


def test_no_example_leaves_the_question_as_it_is() -> None:
    gap = Gap.make(0)
    np.testing.assert_allclose(refine(gap.things[3], NONE, NONE, gap.images), gap.things[3], atol=1e-6)


def test_disliked_pictures_sink_and_liked_ones_rise() -> None:
    gap = Gap.make(4)
    query = gap.things[4]
    liked, disliked = gap.images[gap.style == 1][:4], gap.images[gap.style == 2][:4]
    before, after = (gap.images @ vector for vector in (query, refine(query, liked, disliked, gap.images)))
    standing = [(s - s.mean()) / s.std() for s in (before, after)]
    assert standing[1][gap.style == 1].mean() > standing[0][gap.style == 1].mean()
    assert standing[1][gap.style == 2].mean() < standing[0][gap.style == 2].mean()


def test_more_examples_weigh_more_and_one_does_not_outweigh_the_question() -> None:
    gap = Gap.make(0)
    weights = [feedback_parts(gap.images[:count], NONE, gap.images)[1][0] for count in (1, 2, 5, 100)]
    assert weights == sorted(weights)
    assert weights[0] < 1


def test_examples_weigh_as_much_beside_a_question_of_many_parts() -> None:
    gap = Gap.make(0)
    liked, disliked = gap.images[:4], gap.images[-3:]
    once = feedback_parts(liked, disliked, gap.images)
    thrice = feedback_parts(liked, disliked, gap.images, beside=3.0)
    np.testing.assert_allclose(thrice[1], 3 * np.array(once[1]))
    whole = [
        Parts.of(
            np.concatenate([gap.things[:1], vectors]), [own, *weights], ["text", *kinds], gap.images
        ).composed()
        for own, (vectors, weights, kinds) in ((1.0, once), (3.0, thrice))
    ]
    np.testing.assert_allclose(whole[0], whole[1], atol=1e-6)
    np.testing.assert_allclose(whole[0], refine(gap.things[0], liked, disliked, gap.images), atol=1e-6)


# --- concepts


def precision_of(gap: Gap, vector: np.ndarray, right: np.ndarray, without: np.ndarray) -> float:
    scores = gap.images @ vector
    scores[without] = -9
    return float(right[np.argsort(-scores)[:20]].mean())


def test_five_examples_say_a_concept_better_than_one() -> None:
    one, five = [], []
    for thing in range(THINGS):
        gap = Gap.make(thing, noise=2.0)
        right = gap.thing == thing
        examples = np.random.default_rng(thing).choice(np.flatnonzero(right), 5, replace=False)
        one.append(precision_of(gap, concept_vector(gap.images[examples[:1]], gap.images), right, examples))
        five.append(precision_of(gap, concept_vector(gap.images[examples], gap.images), right, examples))
    assert np.mean(five) > np.mean(one) + 0.1


def test_one_wrong_picture_among_five_counts_little() -> None:
    rng = np.random.default_rng(0)
    median, mean = [], []
    for seed in range(20):
        gap = Gap.make(seed)
        right = rng.choice(np.flatnonzero(gap.thing == 1), 4, replace=False)
        wrong = rng.choice(np.flatnonzero(gap.thing == 5), 1)
        examples = gap.images[np.concatenate([right, wrong])]
        clean = concept_vector(gap.images[right], gap.images)
        plain = normalize((examples.mean(axis=0) - gap.images.mean(axis=0))[None])[0]
        median.append(float(concept_vector(examples, gap.images) @ clean))
        mean.append(float(plain @ clean))
    assert np.mean(median) > np.mean(mean) + 0.02


def test_geometric_median_has_the_least_sum_of_distances() -> None:
    points = np.random.default_rng(0).normal(size=(9, 5))
    found = geometric_median(points)

    def distance(at: np.ndarray) -> float:
        return float(np.linalg.norm(points - at, axis=1).sum())

    for step in np.concatenate([np.eye(5), -np.eye(5)]) * 0.05:
        assert distance(found) < distance(found + step)


def test_a_concept_composes_with_a_text() -> None:
    found = []
    for seed in range(THINGS):
        gap = Gap.make(seed)
        examples = np.flatnonzero((gap.thing == seed) & (gap.style == 0))[:5]
        concept = concept_vector(gap.images[examples], gap.images)
        parts = Parts.of(np.stack([concept, gap.styles[3]]), [1.0, 1.0], ["image", "text"], gap.images)
        right = (gap.thing == seed) & (gap.style == 3)
        found.append(right[np.argsort(-(gap.images @ parts.composed()))[:10]].mean())
    assert np.mean(found) > 0.45  # by chance 1 in 72


def test_the_threshold_parts_a_concept_from_the_rest() -> None:
    right_above, wrong_above = [], []
    for seed in range(THINGS):
        gap = Gap.make(seed)
        examples = np.flatnonzero(gap.thing == seed)[::6][:6]
        vector = concept_vector(gap.images[examples], gap.images)
        threshold = concept_threshold(gap.images[examples], gap.images)
        assert threshold is not None
        above = gap.images @ vector >= threshold
        rest = np.ones(len(above), bool)
        rest[examples] = False
        right_above.append(above[rest & (gap.thing == seed)].mean())
        wrong_above.append(above[rest & (gap.thing != seed)].mean())
    assert np.mean(right_above) > 0.9
    assert np.mean(wrong_above) < 0.02


@pytest.mark.parametrize("count", [1, 2, 3, 1000])
def test_a_concept_of_any_number_of_examples_in_any_library(count: int) -> None:
    gap = Gap.make(0)
    examples = gap.images[np.random.default_rng(0).integers(0, len(gap.images), count)]
    for sample in (gap.images, gap.images[:1], np.repeat(gap.images[:1], 9, axis=0), NONE):
        vector = concept_vector(examples, sample)
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
        assert vector.dtype == np.float32
        threshold = concept_threshold(examples, sample)
        assert (threshold is None) == (len(sample) == 0)
        assert threshold is None or -1 <= threshold <= 1
