"""Scores as probabilities: what must hold whatever the numbers, and that the shipped numbers make sense."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoders.builtin import WEIGHTS_DIR, BuiltinEncoder
from search.calibration import (
    NOTHING,
    OF_BANK,
    OF_LIBRARY,
    Calibration,
    Curve,
    Null,
    Sense,
    auto_cut,
    of_library,
    sentence_share,
)
from tests.color import ColorEncoder

DIM = 16
KINDS = ("text", "image", "mixed")


def unit(rows: np.ndarray) -> np.ndarray:
    rows = np.asarray(rows, np.float32)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def drawn(count: int, seed: int = 0, dim: int = DIM) -> np.ndarray:
    return unit(np.random.default_rng(seed).normal(size=(count, dim)))


def record(dim: int = DIM) -> dict:
    shipped = json.loads((WEIGHTS_DIR / "calibration.json").read_text(encoding="utf-8"))
    direction = drawn(2, 9, dim)
    shipped["sense"]["direction"], shipped["scene"]["direction"] = (
        direction[0].tolist(),
        direction[1].tolist(),
    )
    shipped["pictures"] = drawn(1, 10, dim)[0].tolist()
    return shipped


CALIBRATIONS = {
    "shipped": Calibration.from_record(record()),
    "general": Calibration(OF_LIBRARY),
    "measured": Calibration(OF_BANK, Sense(drawn(1, 5)[0], 3.0, 0.5), bank=drawn(40, 6), absolute=True),
}


@pytest.fixture(scope="module")
def builtin() -> BuiltinEncoder:
    return BuiltinEncoder(threads=1)


# --- what must hold whatever the numbers


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CALIBRATIONS)
@given(
    scores=st.lists(st.floats(-1, 1, width=32), min_size=2, max_size=30),
    seed=st.integers(0, 99),
    rows=st.sampled_from([0, 1, 2, 3, 50]),
    words=st.sampled_from([None, "", "dog", "a dog on a beach beside the sea", "狗在海滩上跑"]),
)
@settings(max_examples=25, deadline=None)
def test_probability_rises_with_the_score_and_stays_within_0_and_1(
    name: str, kind: str, scores: list[float], seed: int, rows: int, words: str | None
) -> None:
    null = CALIBRATIONS[name].null(drawn(1, seed)[0], drawn(rows, seed + 1), kind, words=words)  # type: ignore[arg-type]
    ordered = np.sort(np.array(scores, np.float32))
    found = null.probabilities(ordered)
    assert found.dtype == np.float32
    assert found.shape == ordered.shape
    assert ((found >= 0) & (found <= 1)).all()
    assert (np.diff(found) >= 0).all()
    best = null.anything(ordered)
    assert found[-1] <= best <= 1
    assert null.anything(ordered[:-1]) <= best


@pytest.mark.parametrize("name", CALIBRATIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_library_says_the_same_in_any_order(name: str, kind: str) -> None:
    query, sample = drawn(1, 3)[0], drawn(300, 4)
    calibration = CALIBRATIONS[name]
    there = calibration.null(query, sample, kind)  # type: ignore[arg-type]
    back = calibration.null(query, sample[::-1], kind)  # type: ignore[arg-type]
    scores = np.linspace(-1, 1, 9)
    np.testing.assert_allclose(there.probabilities(scores), back.probabilities(scores), atol=1e-5)
    shown = calibration.shows(query, sample[:20], sample, kind)  # type: ignore[arg-type]
    again = calibration.shows(query, sample[:20], sample[::-1], kind)  # type: ignore[arg-type]
    np.testing.assert_allclose(shown, again, atol=1e-5)


@pytest.mark.parametrize("name", CALIBRATIONS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [0, 1, 2, 5, 400])
def test_copies_of_one_picture_and_tiny_libraries_give_numbers(name: str, kind: str, rows: int) -> None:
    one = drawn(1, 7)
    sample = np.repeat(one, rows, axis=0)
    calibration = CALIBRATIONS[name]
    null = calibration.null(one[0], sample, kind, files=rows)  # type: ignore[arg-type]
    shown = calibration.shows(one[0], drawn(4, 8), sample, kind)  # type: ignore[arg-type]
    for found in (null.probabilities([1.0, 0.0, -1.0]), shown, np.array([null.anything([1.0])])):
        assert np.isfinite(found).all()
        assert ((found >= 0) & (found <= 1)).all()


def test_no_hits_are_no_match_and_what_is_no_number_is_improbable() -> None:
    null = Null(10.0, -3.0, 8.0, -2.0)
    assert null.anything([]) == 0.0
    found = null.probabilities([np.nan, np.inf, -np.inf, 0.5])
    assert np.isfinite(found).all()
    assert found[0] < 1e-6
    assert found[1] > found[3] > found[2] == found[0]
    assert 0.0 <= null.anything([np.nan]) < 1e-6


def test_a_curve_that_counts_the_files_stays_within_its_bounds() -> None:
    curve = Curve(0.0, 1.0, size=-0.5)
    calibration = Calibration({"text": Curve(-9.0, 1.0), "text_any": curve}, absolute=True)
    few, many = (
        calibration.null(drawn(1)[0], drawn(100, 1), files=count).anything([0.5]) for count in (100, 10**9)
    )
    assert 0 <= many < few <= 1


def test_a_text_without_sense_matches_nothing_however_high_it_scores() -> None:
    direction = drawn(1, 1)[0]
    calibration = Calibration(OF_LIBRARY, Sense(direction, 30.0, 0.0))
    sample = drawn(100, 2)
    meant, junk = (calibration.null(sign * direction, sample, "text") for sign in (1, -1))
    assert meant.sense > 0.99
    assert junk.sense < 0.01
    assert junk.anything([1.0]) < 0.01
    assert calibration.null(-direction, sample, "image").sense == 1.0


def test_the_spread_of_a_library_is_that_of_what_does_not_match() -> None:
    rng = np.random.default_rng(0)
    query = np.eye(64, dtype=np.float32)[0]
    others = unit(rng.normal(size=(2000, 64)))
    matches = unit(query + 0.3 * rng.normal(size=(300, 64)) / 8)
    centre, spread = of_library(query, others)
    _, with_matches = of_library(query, np.concatenate([others, matches]))
    scores = others @ query
    assert spread == pytest.approx(float(scores.std()), rel=0.1)
    assert centre == pytest.approx(0, abs=0.02)
    assert with_matches < 1.4 * spread < float(np.concatenate([scores, matches @ query]).std())


@pytest.mark.parametrize(
    ("words", "share"),
    [
        ("dog", 0),
        ("a photo of a dog", 0),
        ("a dog with a hat", 0.25),
        ("", 0),
        ("a b c d e f", 0.5),
        ("w " * 50, 1),
        ("狗" * 12, 0.75),
    ],
)
def test_sentences_are_told_from_names(words: str, share: float) -> None:
    assert sentence_share(words) == pytest.approx(share)


# --- the automatic cut


def test_cut_keeps_what_stands_out() -> None:
    assert auto_cut([0.9, 0.85, 0.9, 0.04, 0.03, 0.03, 0.02]) == 3
    assert auto_cut([0.6, *[0.01] * 500]) == 1
    assert auto_cut([0.8] * 300 + [0.05] * 300) == 300
    assert auto_cut([]) == 0
    assert auto_cut([0.001, 0.0005]) == 0
    assert auto_cut([np.nan, np.nan]) == 0
    assert auto_cut([0.7]) == 1


@given(st.lists(st.floats(0, 1), max_size=60))
@settings(max_examples=60, deadline=None)
def test_cut_is_the_best_of_all_cuts_by_expected_f1(values: list[float]) -> None:
    ordered = sorted(values, reverse=True)
    kept = auto_cut(ordered)
    assert 0 <= kept <= len(ordered)
    if kept:
        expected = [2 * sum(ordered[:k]) / (k + sum(ordered)) for k in range(1, len(ordered) + 1)]
        assert expected[kept - 1] == pytest.approx(max(expected))


# --- the numbers that are shipped


def test_the_shipped_calibration_is_that_of_the_shipped_weights(builtin: BuiltinEncoder) -> None:
    assert builtin.calibration is not None
    assert builtin.calibration["fingerprint"] == builtin.fingerprint
    calibration = Calibration.for_encoder(builtin)
    assert calibration.absolute
    assert calibration.sense is not None
    assert calibration.sense.direction.shape == (builtin.dim,)


def test_weights_that_were_changed_have_no_calibration(builtin: BuiltinEncoder, tmp_path: Path) -> None:
    for name in ("config.json", "image.onnx", "text.onnx", "tokenizer.json", "calibration.json"):
        (tmp_path / name).write_bytes((WEIGHTS_DIR / name).read_bytes())
    assert BuiltinEncoder(tmp_path).calibration == builtin.calibration
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    config["sha256"]["text.onnx"] = "0" * 64
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert BuiltinEncoder(tmp_path).calibration is None
    (tmp_path / "calibration.json").write_text("{", encoding="utf-8")
    assert BuiltinEncoder(tmp_path).calibration is None


JUNK = [
    "asdf qwer",
    "zxcvb",
    "qwqwqw hjkl",
    "the",
    "of the",
    "!!!",
    "12345",
    "приве́т",
    "xkcvb wrtzp",
    "jklö df",
]
MEANT = [
    "dog",
    "a dog on a beach",
    "the sea",
    "people",
    "红色的汽车",
    "two children play in the snow",
    "bicycle",
]


def test_junk_means_nothing_and_what_people_ask_does(builtin: BuiltinEncoder) -> None:
    sense = Calibration.for_encoder(builtin).sense
    assert sense is not None
    for texts, low, high in ((JUNK, 0.0, NOTHING), (MEANT, 0.8, 1.0)):
        for text, row in zip(texts, builtin.encode_texts(texts), strict=True):
            assert low <= sense.probability(row) <= high, text


def test_a_library_of_one_theme_is_found_whole(builtin: BuiltinEncoder) -> None:
    """Every picture is drawn near the question: a null of the library alone would call them all average."""
    query = builtin.encode_texts(["a dog"])[0]
    rng = np.random.default_rng(0)
    sample = unit(0.6 * query + 0.8 * unit(rng.normal(size=(20, builtin.dim))))
    null = Calibration.for_encoder(builtin).null(query, sample, words="a dog")
    found = null.probabilities(sample @ query)
    assert (found > 0.5).all()
    assert auto_cut(np.sort(found)[::-1]) == 20
    assert null.anything(sample @ query) > 0.8


# --- an encoder that nobody calibrated


def test_an_encoder_without_calibration_is_measured_once_and_kept(
    builtin: BuiltinEncoder, tmp_path: Path
) -> None:
    class Counting:
        """The built-in encoder without its calibration."""

        calibration = None
        fingerprint, dim = "ab" * 32, builtin.dim
        asked = 0

        def encode_texts(self, texts: list[str]) -> np.ndarray:
            self.asked += len(texts)
            return builtin.encode_texts(texts)

    encoder = Counting()
    assert not Calibration.for_encoder(encoder).absolute  # type: ignore[arg-type]
    assert encoder.asked == 0
    calibration = Calibration.for_encoder(encoder, tmp_path / "kept")  # type: ignore[arg-type]
    assert calibration.absolute
    asked = encoder.asked
    Calibration.for_encoder(encoder, tmp_path / "kept")  # type: ignore[arg-type]
    assert encoder.asked == asked
    (path,) = (tmp_path / "kept").iterdir()
    path.write_bytes(path.read_bytes()[:100])
    Calibration.for_encoder(encoder, tmp_path / "kept")  # type: ignore[arg-type]
    assert encoder.asked == 2 * asked
    assert calibration.sense is not None
    for texts, meant in ((["asdf qwer", "zxcvb", "!?!"], False), (["dog", "a dog on a beach"], True)):
        for text, row in zip(texts, builtin.encode_texts(texts), strict=True):
            assert (calibration.sense.probability(row) > 0.5) == meant, text


def test_an_encoder_that_knows_few_words_is_not_said_to_tell_junk(tmp_path: Path) -> None:
    calibration = Calibration.for_encoder(ColorEncoder(), tmp_path)
    assert calibration.sense is None
