"""Contact sheets: what is on them, and what they never overwrite."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from encoders import UsageError
from face import sheets, terminal
from face.sheets import require_target, write_sheet
from tests.conftest import COLORS, draw
from tests.hits import hit


def colors_of(picture: Image.Image) -> set[str]:
    """Return which of the test colours fill a good part of a picture."""
    small = picture.convert("RGB").resize((picture.width // 8, picture.height // 8), Image.Resampling.NEAREST)
    pixels = list(small.get_flattened_data())
    return {name for name, color in COLORS.items() if sum(_near(one, color) for one in pixels) > 20}


def _near(one: object, other: tuple[int, int, int]) -> bool:
    return max(abs(a - b) for a, b in zip(one, other, strict=True)) < 12  # type: ignore[call-overload]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_a_sheet_shows_every_hit(tmp_path: Path, suffix: str) -> None:
    hits = [
        hit(draw(tmp_path / f"{color}.png", color, (300, 200)), rank=rank, probability=0.9)
        for rank, color in enumerate(("red", "green", "blue", "yellow", "purple"), start=1)
    ]
    sheet = write_sheet(hits, tmp_path / f"sheet{suffix}")
    assert (sheet.pictures, sheet.unreadable) == (5, 0)
    with Image.open(tmp_path / f"sheet{suffix}") as picture:
        assert colors_of(picture) >= {"red", "green", "blue", "yellow", "purple"}
        assert 0.5 < picture.width / picture.height < 2
        assert not picture.getexif()
    assert not list(tmp_path.glob(".*"))


def test_a_pdf_has_thirty_pictures_a_page(tmp_path: Path) -> None:
    hits = [hit(draw(tmp_path / "red.png", "red"), rank=rank) for rank in range(1, 62)]
    assert write_sheet(hits, tmp_path / "sheet.pdf").pictures == 61
    data = (tmp_path / "sheet.pdf").read_bytes()
    assert data.startswith(b"%PDF")
    assert b"/Count 3" in data


def test_five_hundred_fit_and_no_more(tmp_path: Path) -> None:
    path = draw(tmp_path / "red.png", "red")
    sheet = write_sheet([hit(path, rank=rank) for rank in range(1, 511)], tmp_path / "sheet.png")
    assert sheet.pictures == 500
    with Image.open(tmp_path / "sheet.png") as picture:
        assert picture.width * picture.height < 30_000_000
        assert 0.8 < picture.width / picture.height < 1.5


def test_a_picture_that_is_gone_or_broken_gets_a_box(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    hits = [hit(tmp_path / "gone.png"), hit(tmp_path / "broken.png"), hit(draw(tmp_path / "red.png", "red"))]
    sheet = write_sheet(hits, tmp_path / "sheet.png")
    assert (sheet.pictures, sheet.unreadable) == (3, 2)
    with Image.open(tmp_path / "sheet.png") as picture:
        assert "red" in colors_of(picture)
        assert picture.getpixel((sheets._MARGIN + 3, sheets._MARGIN + 3)) == sheets._BOX


@pytest.mark.parametrize(
    "name",
    [
        b"\xe7\x8b\x97.png", "\U0001f415.png".encode(), b"bad\xff.png", b"new\nline.png", b"\x1b[31m.png",
        "\u202egnp.png".encode(), b"a" * 250 + b".png", "\u0627\u0644.png".encode(),
    ],
)  # fmt: skip
def test_any_name_can_be_written_below(tmp_path: Path, name: bytes) -> None:
    path = os.path.join(os.fsencode(tmp_path), name)
    draw(path, "red")
    assert write_sheet([hit(path)], tmp_path / "sheet.png").unreadable == 0


def test_a_box_says_why_and_not_where(tmp_path: Path) -> None:
    (tmp_path / "a: b; c.png").touch()
    assert sheets._thumbnail(hit(tmp_path / "a: b; c.png")) == "the file is empty"
    assert sheets._thumbnail(hit(tmp_path / "gone.png")) == "No such file or directory"


@pytest.mark.parametrize("installed", [True, False])
def test_accents_are_letters_and_no_boxes(installed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import ImageFont

    own = ImageFont.load_default(13)

    def none(*_: object) -> None:
        raise OSError("cannot open resource")

    if not installed:
        monkeypatch.setattr(ImageFont, "truetype", none)
        monkeypatch.setattr(ImageFont, "load_default", lambda size: own)
    font, text = sheets._Fonts().of("Été à Orléans.jpg")
    box = bytes(font.getmask("\uffff"))
    assert [character for character in text if bytes(font.getmask(character)) == box] == []


def test_a_region_shows_what_matched(tmp_path: Path) -> None:
    image = Image.new("RGB", (800, 200), COLORS["red"])
    image.paste(COLORS["blue"], (600, 0, 800, 200))
    image.save(tmp_path / "wide.png")
    write_sheet([hit(tmp_path / "wide.png", region=(0.75, 0, 0.25, 1))], tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as picture:
        assert colors_of(picture) & {"red", "blue"} == {"blue"}


# --- where it may be written


def test_what_is_there_is_not_overwritten_unless_forced(tmp_path: Path) -> None:
    target = tmp_path / "sheet.png"
    require_target(target, [], force=False)
    target.touch()
    with pytest.raises(UsageError, match="--force"):
        require_target(target, [], force=False)
    require_target(target, [], force=True)


def test_an_indexed_picture_is_never_overwritten(tmp_path: Path) -> None:
    photo = draw(tmp_path / "photos" / "red.png", "red")
    (tmp_path / "link.png").symlink_to(photo)
    for target in (photo, tmp_path / "link.png"):
        with pytest.raises(UsageError, match="among your indexed pictures"):
            require_target(target, [os.fsencode(tmp_path / "photos")], force=True)
    require_target(tmp_path / "photos" / "new.png", [os.fsencode(tmp_path / "photos")], force=False)


@pytest.mark.parametrize("name", ["sheet", "sheet.gif", "sheet.txt", "missing/sheet.png", ".", ""])
def test_a_target_that_cannot_be_is_wrong_usage(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="--contact-sheet"):
        require_target(tmp_path / name, [], force=False)


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    target = tmp_path / "sheet.png"
    target.write_bytes(b"the old one")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(terminal.OutputFailed, match="No space left"):
        write_sheet([hit(draw(tmp_path / "red.png", "red"))], target)
    assert target.read_bytes() == b"the old one"
    assert {path.name for path in tmp_path.iterdir()} == {"sheet.png", "red.png"}
