from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from encoders import Embeddings, UsageError
from search import Picture, clean_text, crop_picture, load_picture, words_read
from search.query import MAX_TEXT_CHARACTERS, load_part
from tests.conftest import ColorEncoder, draw


@given(st.text(st.characters(codec=None), max_size=200))
def test_clean_text_is_encodable_and_has_no_controls(text: str) -> None:
    try:
        clean = clean_text(text)
    except UsageError:
        return
    assert clean.encode()
    assert clean == clean.strip()
    assert not any(character < " " for character in clean)
    assert clean_text(clean) == clean


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("a\0dog", "a dog"),
        ("  a \n dog\t", "a dog"),
        ("\udcff dog", "dog"),
        ("🐕‍🦺 on a beach", "🐕‍🦺 on a beach"),
    ],
)
def test_odd_characters_do_not_stop_a_question(text: str, clean: str) -> None:
    assert clean_text(text) == clean


@pytest.mark.parametrize("text", ["", " ", "\n\t", "\0", "\ud800", "\u2003"])
def test_blank_question_is_wrong_usage(text: str) -> None:
    with pytest.raises(UsageError, match="blank"):
        clean_text(text)


def test_a_megabyte_is_cut() -> None:
    assert len(clean_text("dog " * 250_000)) <= MAX_TEXT_CHARACTERS


def test_picture_from_a_path_has_its_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    query = load_picture(b"a.png", min_side=16)
    assert query.path == os.fsencode(tmp_path / "a.png")
    assert query.image.mode == "RGB"


def test_picture_from_stdin() -> None:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(file, "JPEG")
    query = load_picture(b"-", min_side=16, stdin=io.BytesIO(file.getvalue()))
    assert query.path is None
    assert query.image.size == (40, 30)


def test_picture_with_a_name_that_is_no_text(tmp_path: Path) -> None:
    name = os.path.join(os.fsencode(tmp_path), b"bad\xff\n\x1b[31m.png")
    draw(name)
    assert load_picture(name, min_side=16).path == name


def test_what_is_no_picture_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8\xff")
    os.mkfifo(tmp_path / "pipe.jpg")
    sources = ["missing.jpg", "empty.jpg", "text.jpg", "cut.jpg", "pipe.jpg", "."]
    for source in sources:
        with pytest.raises(UsageError) as caught:
            load_picture(os.fsencode(tmp_path / source), min_side=16)
        assert "\n" not in str(caught.value)
        assert str(tmp_path / source) in str(caught.value)


def test_a_folder_can_be_indexed_instead(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder; give one picture, or index it: pixseek index"):
        load_picture(os.fsencode(tmp_path), min_side=16)


# --- a picture in memory


def test_a_picture_in_memory_is_seen_as_the_index_sees_it(tmp_path: Path) -> None:
    sideways = Image.Exif()
    sideways[0x0112] = 6
    Image.new("RGB", (40, 20), "red").save(tmp_path / "sideways.jpg", exif=sideways)
    Image.new("RGBA", (40, 20), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.fromarray(np.full((20, 40), 1000, np.uint16)).save(tmp_path / "deep.png")
    Image.new("CMYK", (40, 20), (0, 200, 0, 0)).save(tmp_path / "print.jpg")
    for path in tmp_path.iterdir():
        with Image.open(path) as opened:
            ours = load_part(Picture(opened), 16).image
        decoded = load_picture(os.fsencode(path), min_side=16).image
        assert (ours.mode, ours.size) == (decoded.mode, decoded.size), path
        assert ours.tobytes() == decoded.tobytes(), path


def test_an_upright_rgb_picture_in_memory_stays_as_it_is() -> None:
    image = Image.new("RGB", (3000, 2000), "red")
    image.getexif()[0x0112] = 6
    assert load_part(Picture(image), 16).image is image


def test_a_crop_of_a_large_picture_in_memory_is_in_its_own_pixels() -> None:
    image = Image.new("RGBA", (3000, 2000), "red")
    assert load_part(Picture(image, (1000, 500, 300, 200)), 16).image.size == (300, 200)


@pytest.mark.parametrize("source", [Image.new("RGB", (0, 0)), np.zeros((9, 9, 3), np.uint8), None])
def test_what_is_no_picture_in_memory_is_wrong_usage(source: Any) -> None:
    with pytest.raises(UsageError, match="picture"):
        load_part(Picture(source), 16)


def test_a_picture_in_memory_that_is_cut_is_wrong_usage(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (200, 200, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "cut.jpg")
    data = (tmp_path / "cut.jpg").read_bytes()
    with (
        Image.open(io.BytesIO(data[: len(data) // 2])) as opened,
        pytest.raises(UsageError, match=r"cannot be read: .*truncated"),
    ):
        load_part(Picture(opened), 16)


# --- addresses


@pytest.mark.parametrize("source", [b"ftp://example.com/a.jpg", b"file:///etc/passwd", b"gopher://x/"])
def test_other_schemes_are_refused(source: bytes) -> None:
    with pytest.raises(UsageError, match="only http and https"):
        load_picture(source, min_side=16)


def test_offline_refuses_an_address() -> None:
    with pytest.raises(UsageError, match="offline"):
        load_picture(b"https://example.com/a.jpg", min_side=16, offline=True)


def test_nothing_on_stdin_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="empty"):
        load_picture(b"-", min_side=16, stdin=io.BytesIO())


def test_an_empty_name_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="empty name"):
        load_picture(b"", min_side=16)


# --- a part of a picture


@pytest.fixture
def quarters(tmp_path: Path) -> Path:
    """A picture of 400 x 200 pixels: red left, blue right."""
    image = Image.new("RGB", (400, 200), "red")
    image.paste("blue", (200, 0, 400, 200))
    image.save(tmp_path / "quarters.png")
    return tmp_path / "quarters.png"


@pytest.mark.parametrize(
    "crop", [(200, 0, 200, 200), (0.5, 0, 0.5, 1), (210.4, 10, 50, 50.6), (399, 199, 1, 1)]
)
def test_a_crop_is_pixels_or_fractions(quarters: Path, crop: tuple[float, float, float, float]) -> None:
    part = load_picture(os.fsencode(quarters), min_side=16, crop=crop).image
    assert part.getcolors() == [(part.width * part.height, (0, 0, 255))]


def test_a_crop_is_of_the_upright_picture_and_sharp(tmp_path: Path) -> None:
    image = Image.effect_noise((1600, 1200), 90).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6  # stored on its side
    image.save(tmp_path / "a.jpg", exif=exif, quality=95)
    query = load_picture(os.fsencode(tmp_path / "a.jpg"), min_side=16, crop=(100, 300, 64, 48))
    assert query.image.size == (64, 48)
    upright = Image.open(tmp_path / "a.jpg").transpose(Image.Transpose.ROTATE_270)
    assert upright.size == (1200, 1600)
    assert query.image.tobytes() == upright.crop((100, 300, 164, 348)).tobytes()


@pytest.mark.parametrize(
    "crop",
    [
        (300, 0, 200, 10),
        (-1, 0, 20, 20),
        (0.6, 0, 0.5, 0.5),
        (0, 0, 401, 10),
        (0, 150, 10, 51),
        (5000, 0, 9, 9),
    ],
)
def test_a_crop_outside_says_how_large_the_picture_is(
    quarters: Path, crop: tuple[float, float, float, float]
) -> None:
    with pytest.raises(UsageError, match="400 x 200 pixels"):
        load_picture(os.fsencode(quarters), min_side=16, crop=crop)


@pytest.mark.parametrize(
    "crop", [(0, 0, 0, 10), (0, 0, 10, -1), (float("nan"), 0, 1, 1), (0, 0, float("inf"), 1)]
)
def test_a_crop_without_a_size_is_wrong_usage(
    quarters: Path, crop: tuple[float, float, float, float]
) -> None:
    with pytest.raises(UsageError, match="x,y,width,height"):
        load_picture(os.fsencode(quarters), min_side=16, crop=crop)


@given(st.tuples(*[st.floats(allow_nan=True, width=32)] * 4))
def test_any_crop_gives_a_part_or_is_wrong_usage(crop: tuple[float, float, float, float]) -> None:
    try:
        part = crop_picture(Image.new("RGB", (40, 30)), crop)
    except UsageError:
        return
    assert 1 <= part.width <= 40
    assert 1 <= part.height <= 30


# --- how much of a sentence is read


class FirstWords(ColorEncoder):
    """Reads seventeen words and no more."""

    def encode_texts(self, texts: Sequence[str]) -> Embeddings:
        return super().encode_texts([" ".join(text.split()[:17]) for text in texts])


def test_a_cut_sentence_is_known_by_the_words_that_were_read() -> None:
    assert words_read("word " * 500, FirstWords()) == 17
    assert words_read("word " * 18, FirstWords()) == 17
    assert words_read("word " * 17, FirstWords()) is None
    assert words_read("word " * 500, ColorEncoder()) is None
    assert words_read("a red dog", FirstWords()) is None
