"""Retrieval and classification against cases counted by hand, slow references, torchmetrics and sklearn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from encoders import normalize
from training.judging.bootstrap import means, median, statistic
from training.judging.metrics import (
    class_embeddings,
    class_scores,
    classify,
    distinct,
    found_share,
    macro,
    owners,
    recall,
    retrieve,
    tallies,
)


def random_set(
    pictures: int = 60, seed: int = 0, most: int = 4
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return (images, texts, sentence of each pair, picture of each pair); some sentences fit several."""
    rng = np.random.default_rng(seed)
    images = normalize(rng.normal(size=(pictures, 8)))
    captions: list[Sequence[str]] = [
        [f"sentence {rng.integers(0, 2 * pictures)}" for _ in range(rng.integers(0, most + 1))]
        for _ in range(pictures)
    ]
    sentences, sentence_of, picture_of = distinct(captions)
    texts = normalize(rng.normal(size=(len(sentences), 8)))
    texts[sentence_of] += images[picture_of]
    return images, normalize(texts), sentence_of, picture_of


# --- by hand


def test_a_case_counted_by_hand() -> None:
    images = np.eye(3, dtype=np.float32)
    # Sentences 0 and 1 find their picture at once; sentence 2 is about picture 2, and looks like picture 0.
    texts = np.array([[0.9, 0.1, 0], [0.2, 0.8, 0], [0.8, 0.1, 0.3]], dtype=np.float32)
    result = recall(images, texts, np.arange(3))
    assert np.isclose(result.text_to_image[1], 200 / 3)
    assert result.text_to_image[5] == 100
    assert result.image_to_text[1] == 100  # picture 2 likes sentence 2 best, picture 0 sentence 0
    asked = retrieve(texts, images, np.arange(3), np.arange(3))
    assert asked.rank.tolist() == [1, 1, 2]
    assert asked.columns()["MRR"].mean() == pytest.approx((1 + 1 + 1 / 2) / 3)
    assert asked.ndcg.tolist() == pytest.approx([1, 1, 1 / np.log2(3)])


def test_ndcg_with_two_right_answers_by_hand() -> None:
    corpus = np.array([[0.9], [0.8], [0.7], [0.6]], dtype=np.float32)
    asked = retrieve(np.ones((1, 1), np.float32), corpus, np.array([0, 0]), np.array([1, 3]))
    # Right at places 2 and 4, of an ideal 1 and 2.
    expected = (1 / np.log2(3) + 1 / np.log2(5)) / (1 + 1 / np.log2(3))
    assert asked.ndcg[0] == pytest.approx(expected)
    assert asked.rank.tolist() == [2]


def test_an_encoder_that_says_the_same_of_everything_finds_nothing() -> None:
    same = normalize(np.ones((20, 4), dtype=np.float32))
    result = recall(same, same, np.arange(20))
    assert result.text_to_image == result.image_to_text == {1: 0.0, 5: 0.0, 10: 0.0}
    said, rank = classify(same, same[:6], np.zeros(20, np.int64))
    assert not (said == 0).any()
    assert set(rank) == {6}


def test_embeddings_that_differ_by_the_noise_of_float32_are_a_tie() -> None:
    images = normalize(np.array([[1, 0], [1, 1e-4]]))
    asked = retrieve(images[:1], images, np.array([0]), np.array([0]))
    assert float(images[0] @ images[0] - images[0] @ images[1]) < 1e-6
    assert asked.rank.tolist() == [2]


def test_recall_prints_one_line_each_way() -> None:
    text = str(recall(np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32), np.arange(3)))
    assert text.splitlines()[0].split() == ["text-to-image", "R@1", "100.0", "R@5", "100.0", "R@10", "100.0"]


# --- captions that come again


def test_a_sentence_of_several_pictures_is_right_with_any_of_them() -> None:
    captions = [["a dog", "a brown dog"], ["a dog"], ["a cat", "a cat"]]
    sentences, sentence_of, picture_of = distinct(captions)
    assert sentences == ["a dog", "a brown dog", "a cat"]
    assert list(zip(sentence_of.tolist(), picture_of.tolist(), strict=True)) == [
        (0, 0),
        (1, 0),
        (0, 1),
        (2, 2),
    ]
    images = np.eye(3, dtype=np.float32)
    texts = normalize(np.array([[0.6, 0.5, 0], [1, 0, 0], [0, 0, 1]]))
    asked = retrieve(texts, images, sentence_of, picture_of)
    assert asked.rank.tolist() == [1, 1, 1]  # picture 1 is no mistake for "a dog", nor before picture 0
    assert retrieve(images, texts, picture_of, sentence_of).rank.tolist() == [1, 1, 1]


@pytest.mark.parametrize("which", ["the easy one", "the hard one"])
def test_repeating_a_caption_changes_nothing(which: str) -> None:
    images, texts = np.eye(12, dtype=np.float32), np.eye(12, dtype=np.float32)
    texts[1] = texts[2]  # the hard one: sentence 1 finds picture 2
    captions: list[list[str]] = [[f"sentence {i}"] for i in range(12)]
    once = retrieve(texts, images, *distinct(captions)[1:])
    captions[0 if which == "the easy one" else 1] *= 50
    again = retrieve(texts, images, *distinct(captions)[1:])
    assert again.columns()["recall@1"].mean() == once.columns()["recall@1"].mean() == 11 / 12


def test_the_same_caption_of_many_pictures_is_one_query() -> None:
    captions = [["a photo"]] * 50 + [[f"sentence {i}"] for i in range(50)]
    sentences, sentence_of, picture_of = distinct(captions)
    assert len(sentences) == 51
    images = normalize(np.random.default_rng(0).normal(size=(100, 200)))
    texts = np.concatenate([images[:1], images[50:]])
    asked = retrieve(texts, images, sentence_of, picture_of)
    assert asked.query.tolist() == list(range(51))


# --- against others


def slow_ranks(
    queries: np.ndarray, corpus: np.ndarray, query_of: np.ndarray, answer_of: np.ndarray
) -> list[int]:
    ranks = []
    for query in sorted(set(query_of.tolist())):
        right = set(answer_of[query_of == query].tolist())
        order = np.argsort(-(corpus @ queries[query]))
        wrong = 0
        for item in order.tolist():
            if item in right:
                break
            wrong += 1
        ranks.append(wrong + 1)
    return ranks


@pytest.mark.parametrize("block", [1 << 24, 300])
def test_ranks_are_those_of_the_slow_reference(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.judging.metrics._BLOCK", block)
    images, texts, sentence_of, picture_of = random_set()
    shuffled = np.random.default_rng(1).permutation(len(sentence_of))
    for queries, corpus, query_of, answer_of in (
        (texts, images, sentence_of, picture_of),
        (images, texts, picture_of, sentence_of),
    ):
        asked = retrieve(queries, corpus, query_of[shuffled], answer_of[shuffled])
        assert asked.rank.tolist() == slow_ranks(queries, corpus, query_of, answer_of)


def test_recall_mrr_and_ndcg_are_those_of_torchmetrics() -> None:
    torch = pytest.importorskip("torch")
    retrieval = pytest.importorskip("torchmetrics.functional.retrieval")
    images, texts, sentence_of, picture_of = random_set(most=6)
    for queries, corpus, query_of, answer_of in (
        (texts, images, sentence_of, picture_of),
        (images, texts, picture_of, sentence_of),
    ):
        asked = retrieve(queries, corpus, query_of, answer_of)
        columns = asked.columns()
        for row, query in enumerate(asked.query):
            scores = torch.from_numpy(corpus @ queries[query]) + 2  # negative ones it leaves out
            right = torch.zeros(len(corpus), dtype=torch.bool)
            right[answer_of[query_of == query]] = True
            for k in (1, 5, 10):
                assert columns[f"recall@{k}"][row] == retrieval.retrieval_hit_rate(scores, right, top_k=k)
            reciprocal = float(retrieval.retrieval_reciprocal_rank(scores, right))
            ndcg = float(retrieval.retrieval_normalized_dcg(scores, right, top_k=10))
            assert columns["MRR"][row] == pytest.approx(reciprocal)
            assert columns["nDCG@10"][row] == pytest.approx(ndcg, abs=1e-6)


def test_classification_is_that_of_sklearn_and_torchmetrics() -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    torch = pytest.importorskip("torch")
    torchmetrics = pytest.importorskip("torchmetrics.functional.classification")
    rng = np.random.default_rng(3)
    classes = normalize(rng.normal(size=(9, 6)))
    truth = rng.integers(0, 8, 200)  # class 8 has no picture, and is taken for one
    images = normalize(classes[truth] + rng.normal(size=(200, 6)) * 0.6)
    said, rank = classify(images, classes, truth)
    labels = [f"class {i}" for i in range(9)]
    scores = images @ classes.T
    np.testing.assert_array_equal(said, scores.argmax(1))
    top5 = sklearn.top_k_accuracy_score(truth, scores, k=5, labels=range(9))
    assert (rank <= 5).mean() == pytest.approx(top5)
    top5 = torchmetrics.multiclass_accuracy(
        torch.from_numpy(scores), torch.from_numpy(truth), 9, average="micro", top_k=5
    )
    assert (rank <= 5).mean() == pytest.approx(float(top5))
    expected = sklearn.precision_recall_fscore_support(truth, said, labels=range(9), zero_division=0)
    ours = class_scores(truth, said, labels)
    for i, score in enumerate(ours):
        assert (score.precision, score.recall, score.f1, score.count) == pytest.approx(
            tuple(column[i] for column in expected)
        )
        assert score.said == (said == i).sum()
    there = sklearn.precision_recall_fscore_support(
        truth, said, labels=range(8), average="macro", zero_division=0
    )
    assert macro(tallies(truth, said, 9, np.ones(200))) == pytest.approx(there[:3])


def test_a_class_is_the_mean_of_its_prompts() -> None:
    rows = normalize(np.array([[1, 0], [0, 1], [1, 1], [1, 1]]))
    np.testing.assert_allclose(class_embeddings(rows, 2), np.full((2, 2), 0.5**0.5), rtol=1e-6)


def test_the_share_found_counts_equals_as_found() -> None:
    exact = np.array([[0.9, 0.8, 0.8], [0.9, 0.8, 0.7]])
    found = [np.array([0.9, 0.8]), np.array([0.9, 0.7])]
    assert found_share(found, exact, 2).tolist() == [1.0, 0.5]
    assert found_share(found, exact, 1).tolist() == [1.0, 1.0]
    assert found_share([np.array([]), np.array([0.9])], exact, 2).tolist() == [0.0, 0.5]


def test_owners_take_sentences_picture_by_picture() -> None:
    assert owners([("a", "b"), (), ("c",)]).tolist() == [0, 0, 2]


# --- intervals


def one_each(values: np.ndarray, **options: int) -> tuple[float, float, float]:
    each = np.arange(len(values))
    found = means({"x": values.astype(np.float64)}, each, each, len(values), **{"seed": 0, **options})["x"]
    return found.value, found.low, found.high


def test_an_interval_is_that_of_the_binomial_for_independent_queries() -> None:
    values = np.arange(400) < 120
    value, low, high = one_each(values, draws=4000)
    half = 1.96 * (0.3 * 0.7 / 400) ** 0.5
    assert value == pytest.approx(0.3)
    assert (low, high) == pytest.approx((0.3 - half, 0.3 + half), abs=0.004)


def test_pictures_are_drawn_and_not_captions() -> None:
    values = np.arange(100) < 30
    alone = one_each(values)
    item = np.arange(500)
    five = means({"x": np.repeat(values, 5).astype(float)}, item, item // 5, 100, seed=0)["x"]
    assert (five.value, five.low, five.high) == pytest.approx(alone)
    # Pictures without captions thin nothing.
    more = means({"x": np.repeat(values, 5).astype(float)}, item, item // 5, 300, seed=0)["x"]
    assert (more.low, more.high) == pytest.approx(alone[1:])


def test_intervals_come_again_with_the_seed_and_in_any_block(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random(50)
    whole = one_each(values)
    assert one_each(values) == whole
    assert one_each(values, seed=1) != whole
    monkeypatch.setattr("training.judging.bootstrap._BLOCK", 170)
    assert one_each(values) == pytest.approx(whole)


def test_the_median_and_its_interval() -> None:
    values = np.array([1] * 60 + [4] * 25 + [90] * 15)
    each = np.arange(100)
    found = median(values, each, each, 100, seed=0)
    assert (found.value, found.low) == (1, 1)
    assert found.high in (1, 4)
    spread = np.arange(1, 202)
    each = np.arange(201)
    found = median(spread, each, each, 201, seed=0)
    assert found.value == 101
    assert 80 < found.low < 101 < found.high < 122


def test_any_statistic_of_weights_gets_an_interval() -> None:
    values = np.arange(300) < 90
    (share,) = statistic(lambda weight: np.array([weight @ values / weight.sum()]), 300, seed=0)
    assert (share.value, share.low, share.high) == pytest.approx(one_each(values), abs=0.02)
