"""A data set judged: with an encoder of colours every number is known beforehand."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from encoders import Embeddings, EncoderError, Pixels
from tests.color import COLORS, ColorEncoder, draw
from tests.training.writing import picture_bytes, write_tar
from training.errors import DatasetError
from training.judging.evaluate import Evaluation, Progress, evaluate_dataset

NAMES = list(COLORS)


def captioned(path: Path, captions: dict[str, list[str]], order: Sequence[int] | None = None) -> Path:
    """Write a tar of one picture per color, in an order."""
    colors = list(captions)
    members: dict[str, Any] = {}
    for i in order or range(len(colors)):
        members[f"{colors[i]}.png"] = picture_bytes(colors[i])
        members[f"{colors[i]}.json"] = {"captions": captions[colors[i]], "captions_xx": [colors[i]]}
    return write_tar(path, members)


def without_time(result: Evaluation) -> Evaluation:
    return dataclasses.replace(result, seconds=0, source="")


def test_an_encoder_that_knows_is_right_both_ways(tmp_path: Path, color_encoder: ColorEncoder) -> None:
    path = captioned(tmp_path / "a.tar", {color: [f"something {color}", f"{color} paint"] for color in NAMES})
    result = evaluate_dataset(path, color_encoder)
    assert (result.pictures, result.sentences) == (8, 16)
    for task in ("text-to-image", "image-to-text"):
        assert result.value(task, "recall@1") == 100
        assert result.value(task, "median rank") == result.value(task, "MRR") == 1
        assert result.value(task, "nDCG@10") == 1
    assert {measure.n for measure in result.measures} == {8, 16}
    assert not result.classes


def test_half_of_the_sentences_wrong_is_half_the_recall(tmp_path: Path, color_encoder: ColorEncoder) -> None:
    swap = dict(zip(NAMES[:4], [*NAMES[1:4], NAMES[0]], strict=True))
    captions = {color: [f"a {swap.get(color, color)} thing"] for color in NAMES}
    result = evaluate_dataset(captioned(tmp_path / "a.tar", captions), color_encoder)
    assert result.value("text-to-image", "recall@1") == 50
    one = next(measure for measure in result.measures if measure.metric == "recall@1")
    assert 0 <= one.low < 50 < one.high <= 100


def test_the_order_of_a_set_changes_no_number_and_no_interval(
    tmp_path: Path, color_encoder: ColorEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.judging.evaluate.BATCH", 3)
    captions = {color: [f"a {color} thing", f"red and {color}", "a thing"] for color in NAMES}
    first = evaluate_dataset(captioned(tmp_path / "a.tar", captions), color_encoder)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(8).tolist()
        again = evaluate_dataset(captioned(tmp_path / "b.tar", captions, order), color_encoder)
        assert without_time(again) == without_time(first)
        few = [
            evaluate_dataset(captioned(tmp_path / "c.tar", captions, some), color_encoder, limit=5)
            for some in (order, range(8))
        ]
        assert without_time(few[0]) == without_time(few[1])


def test_repeated_captions_do_not_raise_recall(tmp_path: Path, color_encoder: ColorEncoder) -> None:
    captions = {color: [f"a {color} thing"] for color in NAMES}
    captions["red"] = ["a blue thing at dawn"]
    once = evaluate_dataset(captioned(tmp_path / "a.tar", captions), color_encoder)
    captions["green"] *= 40
    captions["green"].append("a  green  thing")
    again = evaluate_dataset(captioned(tmp_path / "b.tar", captions), color_encoder)
    assert once.value("text-to-image", "recall@1") == 87.5
    assert without_time(again) == without_time(once)


def test_a_limit_draws_other_pictures_with_another_seed(tmp_path: Path, color_encoder: ColorEncoder) -> None:
    path = captioned(tmp_path / "a.tar", {color: [f"a {color} thing"] for color in NAMES[:4]} | {
        color: ["a grey thing"] for color in NAMES[4:]
    })  # fmt: skip
    values = {
        evaluate_dataset(path, color_encoder, limit=3, seed=seed).value("text-to-image", "MRR")
        for seed in range(6)
    }
    assert len(values) > 1
    assert evaluate_dataset(path, color_encoder, limit=3).pictures == 3
    assert evaluate_dataset(path, color_encoder, limit=100).pictures == 8


def test_another_field_holds_other_captions(tmp_path: Path, color_encoder: ColorEncoder) -> None:
    path = captioned(tmp_path / "a.tar", {color: ["nothing"] for color in NAMES})
    assert evaluate_dataset(path, color_encoder).sentences == 1
    result = evaluate_dataset(path, color_encoder, field="captions_xx")
    assert (result.sentences, result.value("text-to-image", "recall@1")) == (8, 100)


# --- classes


def test_folders_are_classes(tmp_path: Path, color_encoder: ColorEncoder) -> None:
    for color in NAMES:
        for number in range(2):
            draw(tmp_path / color / f"{number}.png", color, mark=1 + number)
    draw(tmp_path / "red" / "lost.png", "blue")
    result = evaluate_dataset(tmp_path, color_encoder)
    assert (result.pictures, result.sentences, len(result.classes)) == (17, 0, 8)
    assert result.value("zero-shot", "top-1 accuracy") == pytest.approx(100 * 16 / 17)
    red = next(score for score in result.classes if score.label == "red")
    blue = next(score for score in result.classes if score.label == "blue")
    assert (red.precision, red.recall, red.count, red.said) == (1, pytest.approx(2 / 3), 3, 2)
    assert (blue.precision, blue.recall, blue.count, blue.said) == (pytest.approx(2 / 3), 1, 2, 3)
    assert result.value("zero-shot", "macro recall") == pytest.approx(100 * (7 + 2 / 3) / 8)
    assert {measure.task for measure in result.measures} == {"zero-shot"}


def test_captions_leave_classes_out_unless_asked_for(tmp_path: Path, color_encoder: ColorEncoder) -> None:
    for color in NAMES:
        (draw(tmp_path / color / "1.png", color).with_suffix(".txt")).write_text(f"something {color}")
    alone = evaluate_dataset(tmp_path, color_encoder)
    assert {measure.task for measure in alone.measures} == {"text-to-image", "image-to-text"}
    both = evaluate_dataset(tmp_path, color_encoder, zero_shot=True)
    assert both.value("zero-shot", "top-1 accuracy") == 100
    assert both.measures[: len(alone.measures)] == alone.measures


def test_one_class_is_refused(tmp_path: Path, color_encoder: ColorEncoder) -> None:
    draw(tmp_path / "red" / "1.png")
    with pytest.raises(DatasetError, match="one class only, 'red'"):
        evaluate_dataset(tmp_path, color_encoder)
    (tmp_path / "red" / "1.txt").write_text("something red")
    with pytest.raises(DatasetError, match="one class only, 'red'"):
        evaluate_dataset(tmp_path, color_encoder, zero_shot=True)


def test_nothing_to_measure_is_refused(tmp_path: Path, color_encoder: ColorEncoder) -> None:
    for color in ("red", "blue"):
        draw(tmp_path / color / "1.png", color)
    with pytest.raises(DatasetError, match="no captions in 'captions'; it has labels"):
        evaluate_dataset(tmp_path, color_encoder, zero_shot=False)
    with pytest.raises(DatasetError, match=r"no captions in 'captions_zh'$"):
        evaluate_dataset(tmp_path, color_encoder, field="captions_zh")


# --- captions


class FakeCaptioner:
    """Says what color a picture has, as a sentence."""

    image_size = 16

    def caption(self, images: Sequence[Image.Image]) -> list[str]:
        best = ColorEncoder().encode_images(images).argmax(1)
        return [f"a wide wall all in {NAMES[i]}" for i in best]


def test_written_captions_are_scored_against_those_of_people(
    tmp_path: Path, color_encoder: ColorEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sacrebleu")
    pytest.importorskip("pycocoevalcap")
    monkeypatch.setattr("training.judging.evaluate.CAPTION_BATCH", 3)
    captions = {color: [f"A wide wall, all in {color}."] for color in NAMES}
    path = captioned(tmp_path / "a.tar", captions, [5, 1, 7, 0, 2, 3, 6, 4])
    result = evaluate_dataset(path, color_encoder, captioner=FakeCaptioner())
    assert result.value("captions", "BLEU-4") == pytest.approx(1)
    assert result.value("captions", "CIDEr") > 2
    captions = {color: [f"there is nothing like {color} anywhere"] for color in NAMES}
    worse = evaluate_dataset(captioned(path, captions), color_encoder, captioner=FakeCaptioner())
    assert worse.value("captions", "BLEU-4") == 0
    assert worse.value("captions", "CIDEr") < result.value("captions", "CIDEr")


def test_captions_need_captions_of_people(tmp_path: Path, color_encoder: ColorEncoder) -> None:
    for color in ("red", "blue"):
        draw(tmp_path / color / "1.png", color)
    with pytest.raises(DatasetError, match="no captions there to compare"):
        evaluate_dataset(tmp_path, color_encoder, captioner=FakeCaptioner())


# --- what is wrong


def test_pictures_left_out_are_told(tmp_path: Path, color_encoder: ColorEncoder) -> None:
    draw(tmp_path / "red.png")
    (tmp_path / "broken.png").write_bytes(b"broken")
    (tmp_path / "a.csv").write_text("image,caption\nred.png,red\nbroken.png,x\ngone.png,y\n")
    result = evaluate_dataset(tmp_path / "a.csv", color_encoder)
    assert result.pictures == 1
    assert sorted(result.notes) == [
        "1 of 2 pictures cannot be decoded and were left out; broken.png: not an image",
        "1 of 3 pictures named in a.csv are not there, 'gone.png' for one",
    ]


def test_embeddings_that_are_not_finite_are_an_error_and_no_recall(tmp_path: Path) -> None:
    class Broken(ColorEncoder):
        def encode_pixels(self, pixels: Pixels) -> Embeddings:
            return super().encode_pixels(pixels) * np.float32("nan")

    path = captioned(tmp_path / "a.tar", {color: [color] for color in NAMES})
    with pytest.raises(EncoderError, match="not finite"):
        evaluate_dataset(path, Broken())


def test_progress_ends_with_every_picture_and_sentence(tmp_path: Path, color_encoder: ColorEncoder) -> None:
    path = captioned(tmp_path / "a.tar", {color: [color, f"a {color}"] for color in NAMES})
    seen: list[Progress] = []
    evaluate_dataset(path, color_encoder, on_progress=seen.append)
    assert Progress(8, 8) in seen
    assert seen[-1] == Progress(16, 16)
    assert all(step.done <= step.total for step in seen)
