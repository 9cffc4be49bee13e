"""An index judged by its own embeddings and its owner's words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from encoders import EncoderMismatchError
from indexer import Index
from tests.color import COLORS, ColorEncoder, draw
from training.errors import DatasetError
from training.judging.index_quality import evaluate_index

NAMES = list(COLORS)


def test_embeddings_are_those_of_living_files(make_index: Callable[..., Path], photos: Path) -> None:
    draw(photos / "gone.png", "purple")
    make_index(photos)
    (photos / "gone.png").unlink()
    with Index.open(make_index(photos)) as index:
        ((frames, rows),) = index.embeddings()
        assert len(frames) == 4
        for frame, row in zip(frames.tolist(), rows, strict=True):
            np.testing.assert_array_equal(row, index.vectors_of([frame])[frame])
            (record,) = index.frames([frame])[frame]
            assert record.path.split(b"/")[-1] != b"gone.png"


def test_a_sound_index_finds_what_exact_search_finds(
    make_index: Callable[..., Path], tmp_path: Path, color_encoder: ColorEncoder
) -> None:
    rng = np.random.default_rng(0)
    for number in range(40):
        draw(tmp_path / "p" / f"{number}.png", NAMES[number % 8], mark=int(rng.integers(1, 255)))
    with Index.open(make_index(tmp_path / "p")) as index:
        result = evaluate_index(index, color_encoder)
        assert [measure.metric for measure in result.measures] == ["recall@1", "recall@10"]
        assert all(measure.value == 100 for measure in result.measures)
        assert evaluate_index(index, color_encoder, limit=7).measures[0].n == 7


def test_a_search_that_misses_some_is_seen(
    make_index: Callable[..., Path],
    photos: Path,
    color_encoder: ColorEncoder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Index.open(make_index(photos)) as index:
        whole = index.nearest
        monkeypatch.setattr(Index, "nearest", lambda self, query, k: whole(query, k + 1)[1:])
        result = evaluate_index(index, color_encoder)
        assert result.value("nearest, by picture", "recall@1") == 0


def test_words_of_the_owner_are_asked_for(
    make_index: Callable[..., Path], tmp_path: Path, color_encoder: ColorEncoder
) -> None:
    library = tmp_path / "library"
    for color in NAMES:
        for number in (1, 2):
            folder = "warm" if color in ("red", "orange") else color
            draw(library / folder / f"{color}{number}.png", color, mark=number)
    for number in (1, 2):
        (library / "blue" / f"blue{number}.txt").write_text("something blue\n")
    (library / "green" / "green1.png.json").write_text('{"keywords": ["red"]}')
    (library / "green" / "green2.json").write_text("[]")
    with Index.open(make_index(library)) as index:
        result = evaluate_index(index, color_encoder)
    texts = [measure for measure in result.measures if measure.task == "text-to-image"]
    assert texts[0].n == 2
    assert texts[0].value == 50  # "something blue" is right, "red" on a green picture is not
    folders = [measure for measure in result.measures if measure.task == "folder-to-image"]
    assert folders[0].n == 7
    assert folders[0].value == pytest.approx(100 * 6 / 7)  # "warm" is no colour
    assert result.value("nearest, by text", "recall@10") == 100
    assert (result.pictures, result.sentences) == (16, 9)


def test_an_empty_index_and_another_encoder_are_refused(
    make_index: Callable[..., Path], photos: Path, tmp_path: Path
) -> None:
    with Index.open(make_index(photos)) as index, pytest.raises(EncoderMismatchError):
        evaluate_index(index, ColorEncoder("another"))
    for photo in photos.iterdir():
        photo.unlink()
    from indexer import index_folders

    folder = tmp_path / "index"
    index_folders(
        [bytes(photos)], index_dir=folder, encoder=lambda space: ColorEncoder(), workers=1, prune=True
    )
    with Index.open(folder) as index, pytest.raises(DatasetError, match="is empty"):
        evaluate_index(index, ColorEncoder())
