"""Fitting and judging of probabilities, against slow references and made-up libraries."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="the teacher of the built-in encoder needs torch")

from search import Curve
from training.builtin.calibrating import Table, _fit, judge
from training.builtin.questions import Collection, Questions, mentions, of_captions, of_labels


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


class Names:
    """Every text is a direction of its own, drawn from its last word."""

    def encode_texts(self, texts: tuple[str, ...]) -> np.ndarray:
        rngs = [np.random.default_rng(sum(map(ord, text.split()[-1]))) for text in texts]
        return unit(np.stack([rng.normal(size=32) for rng in rngs]))


def collection(captions: list[list[str]], labels: list[str] | None = None) -> Collection:
    count = len(captions)
    flat = np.array([text for group in captions for text in group], dtype=str)
    owner = np.repeat(np.arange(count), [len(group) for group in captions])
    images = unit(np.random.default_rng(0).normal(size=(count, 32)))
    alike = np.array([[1.0 if owner[m] == n else 0.1 for n in range(count)] for m in range(len(flat))])
    styles = np.array([""] * count)
    return Collection(
        "made/up",
        images,
        np.array(labels or [""] * count),
        styles,
        flat,
        owner,
        images[owner],
        alike.reshape(len(flat), count).astype(np.float32),
    )


def test_auroc_and_ece_are_those_of_a_slow_reference() -> None:
    rng = np.random.default_rng(0)
    likely = np.round(rng.uniform(size=400), 2)
    right = rng.uniform(size=400) < likely**2
    found = judge(likely, right, draws=20)
    pairs = [1.0 if p > q else 0.5 if p == q else 0.0 for p in likely[right] for q in likely[~right]]
    assert found["AUROC"].value == pytest.approx(np.mean(pairs))
    assert found["AUROC"].low <= found["AUROC"].value <= found["AUROC"].high
    bins = np.minimum((likely * 15).astype(int), 14)
    slow = sum(abs((right[bins == b] - likely[bins == b]).sum()) for b in range(15)) / 400
    assert found["ECE (width)"].value == pytest.approx(slow)


def test_true_probabilities_have_no_calibration_error_and_false_ones_do() -> None:
    rng = np.random.default_rng(1)
    likely = rng.uniform(size=20_000)
    right = rng.uniform(size=20_000) < likely
    assert judge(likely, right, draws=5)["ECE"].value < 0.02
    assert judge(np.sqrt(likely), right, draws=5)["ECE"].value > 0.1


def test_a_known_curve_is_found_again() -> None:
    rng = np.random.default_rng(2)
    truth = Curve(-4.0, 12.0, scene=3.0)
    tables = []
    for number in range(3):
        columns = {
            "score": rng.uniform(0, 0.7, 4000),
            "long": np.zeros(4000),
            "score_long": np.zeros(4000),
            "scene": np.full(4000, (number - 1) * 0.3),
        }
        questions = Questions(
            f"set {number}", f"set {number}", *([np.empty(0)] * 2), (), *([np.empty(0)] * 2)
        )
        table = Table(questions, columns, np.zeros(4000, bool))
        table.right = rng.uniform(size=4000) < 1 / (1 + np.exp(-table.logits(truth)))
        tables.append(table)
    curve = _fit(tables, ("score", "scene"))
    assert curve.score == pytest.approx(12, rel=0.1)
    assert curve.offset == pytest.approx(-4, rel=0.1)
    assert curve.scene == pytest.approx(3, rel=0.2)


def test_two_captions_name_a_thing_and_one_leaves_it_open() -> None:
    pictures = collection([["two dogs", "a dog", "x"], ["a dog", "x", "x"], ["x", "y", "hotdog"]])
    (shown,) = mentions(pictures, ["dog"], least=1).values()
    np.testing.assert_array_equal(shown, [1, np.nan, 0])
    assert mentions(pictures, ["zebra"], least=1) == {}


def test_half_of_the_classes_are_not_in_the_library() -> None:
    labels = [f"class{number % 10}" for number in range(60)]
    for questions in of_labels(Names(), collection([[]] * 60, labels)):  # type: ignore[arg-type]
        assert questions.answered.mean() == 0.5
        assert questions.truth.shape == (10, len(questions.library)) == (10, 30)
        assert ((questions.truth.sum(1) > 0) == questions.answered).all()


def test_captions_of_pictures_that_were_left_out_have_no_answer() -> None:
    pictures = collection([[f"a thing {number}", f"it is {number}"] for number in range(40)])
    for questions in of_captions(pictures, own=True):
        assert questions.answered.mean() == 0.5
        assert len(questions.library) == 20
        assert (questions.truth.sum(1) == questions.answered).all()
