from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from encoders import UsageError
from search import clean_text, load_picture
from search.query import MAX_TEXT_CHARACTERS
from tests.conftest import draw


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
