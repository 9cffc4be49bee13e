"""Short texts are asked as the mean of several phrases; everything else as it stands."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from encoders.builtin import BuiltinEncoder
from search.calibration import Calibration, Curve, Scene, sentence_share
from search.prompts import bare_name, encode_prompted

PROMPTS = ("{}", "a photo of a {}", "people and {}")


class Spelled:
    """Makes an embedding of a text's letters, and notes what it was asked."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        self.batches.append(list(texts))
        rows = np.array([[text.count(letter) + 0.1 for letter in "abcdeghop"] for text in texts], np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True) if len(rows) else rows.reshape(0, 9)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("dog", "dog"),
        ("a dog", "dog"),
        ("A photo of a  dog", "dog"),
        ("the picture of an Irish setter", "Irish setter"),
        ("T-shirt", "T-shirt"),
        ("photo", "photo"),
        ("anemone", "anemone"),
        ("a dog on a beach", None),
        ("狗", None),
        ("собака", None),
        ("żółć", None),
        ("2023", None),
        ("dog!", None),
        ("a photo of a", None),
        ("", None),
    ],
)
def test_names_are_told_from_sentences_and_other_scripts(text: str, name: str | None) -> None:
    assert bare_name(text) == name


def test_a_name_is_the_mean_of_its_prompts_in_one_batch_and_a_sentence_keeps_its_bits() -> None:
    encoder = Spelled()
    texts = ["a dog", "a dog on a beach", "cheese"]
    found = encode_prompted(encoder, texts, PROMPTS)  # type: ignore[arg-type]
    assert len(encoder.batches) == 1
    for row, name in ((found[0], "dog"), (found[2], "cheese")):
        slow = sum(encoder.encode_texts([p.format(name)])[0] for p in PROMPTS)
        assert row == pytest.approx(slow / np.linalg.norm(slow), abs=1e-6)
    assert (found[1] == encoder.encode_texts([texts[1]])[0]).all()
    assert found.dtype == np.float32


def test_without_prompts_every_text_is_asked_as_it_stands() -> None:
    encoder = Spelled()
    encode_prompted(encoder, ["a dog", "cheese"], ())  # type: ignore[arg-type]
    assert encoder.batches == [["a dog", "cheese"]]


def test_dog_a_dog_and_a_photo_of_a_dog_are_one_question() -> None:
    encoder = BuiltinEncoder(threads=1)
    calibration = Calibration.for_encoder(encoder)
    assert calibration.prompts
    texts = ["dog", "a dog", "a photo of a dog"]
    rows = encode_prompted(encoder, texts, calibration.prompts)
    assert (rows @ rows.T).min() > 0.9999
    assert {sentence_share(text) for text in texts} == {0.0}


def test_a_library_is_of_scenes_or_of_things_and_an_empty_one_of_neither() -> None:
    scene = Scene(np.array([1, 0], np.float32), 30.0, 3.9)
    things, scenes = (np.array([[x, 1.0]], np.float32) for x in (-0.3, 0.1))
    assert scene.share(things) < 0.05
    assert scene.share(scenes) > 0.95
    assert scene.share(np.empty((0, 2), np.float32)) == 0.5


def test_a_curve_never_falls_with_the_score() -> None:
    slope, _ = Curve(0.0, 1.0, score_scene=-5.0).line(0.0, 1.0, 10)
    assert slope == 0.0
