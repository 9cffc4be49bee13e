"""BLEU-4 and CIDEr-D against hand-computed cases and another library."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sacrebleu")
pytest.importorskip("pycocoevalcap")

from encoders import EncoderError
from training.errors import DatasetError
from training.judging.phrasing import caption_scores, require_scorers, words


def test_captions_are_split_as_coco_splits_them() -> None:
    assert words("A man's T-shirt, isn’t it?  Two-way street.") == "a man 's t-shirt is n't it two-way street"
    assert words('"Dogs" & cats (3) run...') == "dogs cats 3 run"
    assert words("一只狗 on a beach。") == "一 只 狗 on a beach"
    assert words("...") == ""


def test_bleu_by_hand() -> None:
    written, people = ["a dog runs on the beach"], [["a dog runs on the sandy beach"]]
    shares = [6 / 6, 4 / 5, 3 / 4, 2 / 3]  # of its words, pairs, threes and fours
    expected = np.exp(1 - 7 / 6) * np.prod(shares) ** 0.25
    assert caption_scores(written, people, seed=0, draws=5)["BLEU-4"].value == pytest.approx(expected)
    no_fours = [["the dog runs on a the beach"]]  # without smoothing that is nothing
    assert caption_scores(written, no_fours, seed=0, draws=5)["BLEU-4"].value == 0


def random_captions(pictures: int = 30) -> tuple[list[str], list[list[str]]]:
    rng = np.random.default_rng(0)
    vocabulary = ["a", "dog", "cat", "runs", "on", "the", "beach", "red", "big", "sits"]

    def sentence() -> str:
        return " ".join(rng.choice(vocabulary, rng.integers(6, 12)))

    people = [[sentence() for _ in range(rng.integers(1, 6))] for _ in range(pictures)]
    written = [group[0].rsplit(" ", 2)[0] + " " + sentence()[:9] for group in people]
    return written, people


def test_bleu_is_that_of_torchmetrics() -> None:
    text = pytest.importorskip("torchmetrics.functional.text")
    written, people = random_captions()
    written, people = [words(x) for x in written], [[words(x) for x in group] for group in people]
    expected = float(text.bleu_score(written, people, n_gram=4))
    assert 0.1 < expected < 0.9
    assert caption_scores(written, people, seed=0, draws=5)["BLEU-4"].value == pytest.approx(
        expected, abs=1e-6
    )


def test_cider_of_the_only_caption_is_ten_and_of_another_word_nothing() -> None:
    people = [["a dog runs on sand"], ["two cats sit inside there"], ["one bird flies over water"]]
    exact = caption_scores([group[0] for group in people], people, seed=0, draws=5)["CIDEr"]
    assert exact.value == pytest.approx(10)
    wrong = caption_scores(["green tables wait", "blue chairs", "old lamps"], people, seed=0, draws=5)
    assert wrong["CIDEr"].value == 0


def test_cider_by_hand() -> None:
    # Two pictures: idf is log 2 for every n-gram here. Half of the words of the first match, at equal length:
    # 1-grams cosine 2/4, the 2-gram "a b" 1/3, nothing longer; the second is exact.
    people = [["a b c d"], ["e f g h"]]
    score = caption_scores(["a b x y", "e f g h"], people, seed=0, draws=5)["CIDEr"].value
    assert score == pytest.approx((10 * (1 / 2 + 1 / 3) / 4 + 10) / 2)


def test_intervals_hold_the_value_and_narrow_with_pictures() -> None:
    few, many = (caption_scores(*random_captions(n), seed=0, draws=200) for n in (10, 120))
    for name in ("BLEU-4", "CIDEr"):
        assert few[name].low < few[name].value < few[name].high
        assert many[name].high - many[name].low < few[name].high - few[name].low


def test_a_missing_scorer_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    require_scorers()
    monkeypatch.setattr("training.judging.phrasing.find_spec", lambda name: None)
    with pytest.raises(EncoderError, match=r"sacrebleu; pip install 'pixseek\[train\]'"):
        caption_scores(["x"], [["x"]], seed=0)


def test_captions_without_a_word_are_nothing_to_compare_with() -> None:
    scores = caption_scores(["a dog", "", "x"], [["a dog", "..."], ["a cat"], ["!"]], seed=0, draws=5)
    assert scores == caption_scores(["a dog", ""], [["a dog"], ["a cat"]], seed=0, draws=5)
    with pytest.raises(DatasetError, match="no words"):
        caption_scores(["x"], [["..."]], seed=0)
