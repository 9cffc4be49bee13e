"""Recall against cases counted by hand and a slow reference."""

from __future__ import annotations

import numpy as np

from training.evaluate import owners, recall


def slow_recall(images: np.ndarray, texts: np.ndarray, owner: np.ndarray, k: int) -> tuple[float, float]:
    scores = texts @ images.T
    to_image = np.mean([owner[t] in np.argsort(-scores[t])[:k] for t in range(len(texts))])
    to_text = np.mean([i in owner[np.argsort(-scores[:, i])[:k]] for i in range(len(images))])
    return float(to_image * 100), float(to_text * 100)


def test_a_case_counted_by_hand() -> None:
    images = np.eye(3, dtype=np.float32)
    # The first two sentences find picture 0 and 1 at once; the third says picture 2 but looks like picture 0.
    texts = np.array([[0.9, 0.1, 0], [0.2, 0.8, 0], [0.8, 0.1, 0.3]], dtype=np.float32)
    result = recall(images, texts, np.arange(3))
    assert np.isclose(result.text_to_image[1], 200 / 3)
    assert result.text_to_image[5] == 100
    assert result.image_to_text[1] == 100  # picture 2 likes sentence 2 best, picture 0 sentence 0


def test_recall_is_that_of_the_slow_reference() -> None:
    rng = np.random.default_rng(0)
    images = rng.normal(size=(40, 8)).astype(np.float32)
    owner = owners([("x",) * (1 + number % 4) for number in range(40)])
    texts = (images[owner] + rng.normal(size=(len(owner), 8))).astype(np.float32)
    result = recall(images, texts, owner)
    for k in (1, 5, 10):
        expected = slow_recall(images, texts, owner, k)
        np.testing.assert_allclose((result.text_to_image[k], result.image_to_text[k]), expected)


def test_an_encoder_that_says_the_same_of_everything_gets_nothing() -> None:
    same = np.ones((20, 4), dtype=np.float32)
    result = recall(same, same, np.arange(20))
    assert result.text_to_image == {1: 0.0, 5: 0.0, 10: 0.0}
    assert result.image_to_text == {1: 0.0, 5: 0.0, 10: 0.0}


def test_recall_prints_one_line_each_way() -> None:
    text = str(recall(np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32), np.arange(3)))
    assert text.splitlines()[0].split() == ["text-to-image", "R@1", "100.0", "R@5", "100.0", "R@10", "100.0"]
