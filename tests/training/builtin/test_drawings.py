"""The drawn collection: reproducible, varied, and a word away from its pictures."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.builtin.drawings import drawing_captions, drawing_samples, load_script


@pytest.fixture(scope="module")
def script():  # type: ignore[no-untyped-def]
    return load_script()


def test_the_same_seed_draws_the_same_picture(script) -> None:  # type: ignore[no-untyped-def]
    for kind in ("cat", "city at night"):
        one, two, other = (script.draw(kind, random.Random(seed), (160, 120)) for seed in (3, 3, 4))
        assert one.tobytes() == two.tobytes() != other.tobytes()
        assert one.size == (160, 120)
        assert one.mode == "RGB"


def test_there_are_thirty_kinds_with_several_sentences_each(script) -> None:  # type: ignore[no-untyped-def]
    assert len(script.KINDS) >= 30
    assert all(len(set(captions)) >= 3 for captions in script.KINDS.values())
    assert len(set(drawing_captions())) == len(drawing_captions())


def test_the_command_writes_pictures_of_three_formats(script, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    script.main([str(tmp_path), "--count", "6", "--seed", "5"])
    assert "6 pictures" in capsys.readouterr().out
    formats = []
    for path in sorted(tmp_path.iterdir()):
        with Image.open(path) as image:
            formats.append(image.format)
    assert sorted(formats) == ["JPEG", "JPEG", "PNG", "PNG", "WEBP", "WEBP"]


def test_training_drawings_are_not_those_of_the_demo(script) -> None:  # type: ignore[no-untyped-def]
    samples = drawing_samples(per_kind=1)
    assert len(samples) == len(script.KINDS)
    assert len({sample.image for sample in samples}) == len(samples)


@pytest.mark.slow
def test_plain_words_find_the_drawings(script) -> None:  # type: ignore[no-untyped-def]
    from encoders.builtin import BuiltinEncoder

    encoder = BuiltinEncoder(threads=1)
    made = script.collection(60, 0)
    embeddings = encoder.encode_images([image for _, image in made])
    found = 0
    for kind, captions in script.KINDS.items():
        scores = embeddings @ encoder.encode_texts([captions[0]])[0]
        found += made[int(np.argmax(scores))][0] == kind
    assert found >= 0.9 * len(script.KINDS)
