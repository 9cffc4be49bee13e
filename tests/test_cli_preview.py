from __future__ import annotations

import base64
import io
import os
import re
from pathlib import Path

import pytest
from PIL import Image

from face.preview import Previewer, detect
from tests.conftest import COLORS, draw


@pytest.mark.parametrize(
    ("environ", "protocol"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-ghostty"}, "kitty"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM": "xterm-256color", "KONSOLE_VERSION": "230800"}, "kitty"),
        ({"TERM": "xterm-256color", "KONSOLE_VERSION": "210400"}, "blocks256"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, "iterm"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, "iterm"),
        ({"TERM": "foot"}, "sixel"),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, "blocks"),
        ({"TERM": "xterm-256color"}, "blocks256"),
        ({"TERM": "tmux-256color", "TMUX": "/tmp/x", "KITTY_WINDOW_ID": "1"}, "blocks256"),
        ({"TERM": "dumb"}, "off"),
        ({}, "off"),
        ({"TERM": "xterm-kitty", "PIXSEEK_PREVIEW": "blocks"}, "blocks"),
    ],
)
def test_the_terminal_is_known_by_its_environment(environ: dict[str, str], protocol: str) -> None:
    assert detect(environ) == protocol


@pytest.fixture
def picture(tmp_path: Path) -> bytes:
    return os.fsencode(draw(tmp_path / "a.png", "red", (300, 200)))


def test_kitty_carries_the_picture_in_pieces_of_4096(picture: bytes) -> None:
    out = Previewer("kitty").draw(picture)
    pieces = re.findall(rb"\x1b_G([^;]*);([^\x1b]*)\x1b\\", out)
    assert b"f=100" in pieces[0][0]
    assert b"q=2" in pieces[0][0]
    assert all(len(data) <= 4096 for _, data in pieces)
    assert [keys.endswith(b"m=0") for keys, _ in pieces] == [False] * (len(pieces) - 1) + [True]
    shown = Image.open(io.BytesIO(base64.b64decode(b"".join(data for _, data in pieces))))
    assert shown.convert("RGB").getpixel((5, 5)) == COLORS["red"]


def test_iterm_carries_one_file(picture: bytes) -> None:
    match = re.fullmatch(
        rb"\x1b\]1337;File=inline=1;size=(\d+);width=\d+;height=\d+;[^:]*:([^\x07]*)\x07\n",
        Previewer("iterm").draw(picture),
    )
    assert match
    assert len(base64.b64decode(match[2])) == int(match[1])


def test_sixel_draws_every_pixel(tmp_path: Path) -> None:
    path = tmp_path / "two.png"
    image = Image.new("RGB", (40, 20), COLORS["red"])
    image.paste(COLORS["blue"], (20, 0, 40, 20))
    image.save(path)
    out = Previewer("sixel", columns=4, rows=1).draw(os.fsencode(path))
    match = re.fullmatch(rb'\x1bPq"1;1;(\d+);(\d+)(.*)\x1b\\\n', out, re.DOTALL)
    assert match
    width, height = int(match[1]), int(match[2])
    palette = {
        int(c): tuple(map(int, rgb.split(b";"))) for c, rgb in re.findall(rb"#(\d+);2;([\d;]+)", match[3])
    }
    body = re.sub(rb"#\d+;2;\d+;\d+;\d+", b"", match[3])
    drawn = {}
    for band, line in enumerate(body.split(b"-")):
        for color, data in re.findall(rb"#(\d+)([^#$]*)", line):
            column = 0
            for run, character in re.findall(rb"(?:!(\d+))?([?-~])", data):
                for _ in range(int(run or 1)):
                    for bit in range(6):
                        if (character[0] - 63) >> bit & 1:
                            drawn[column, 6 * band + bit] = int(color)
                    column += 1
    assert set(drawn) == {(x, y) for x in range(width) for y in range(height)}
    for at, color in (((2, 2), "red"), ((width - 3, height - 3), "blue")):
        wanted = [part * 100 / 255 for part in COLORS[color]]
        assert palette[drawn[at]] == pytest.approx(wanted, abs=3)


@pytest.mark.parametrize("protocol", ["blocks", "blocks256"])
def test_half_blocks_fit_their_box(picture: bytes, protocol: str) -> None:
    out = Previewer(protocol, columns=20, rows=6).draw(picture).decode()  # type: ignore[arg-type]
    lines = out.splitlines()
    assert 1 <= len(lines) <= 6
    assert all(line.count("▀") <= 20 and line.endswith("\x1b[0m") for line in lines)


def test_region_shows_a_part(tmp_path: Path) -> None:
    image = Image.new("RGB", (200, 100), COLORS["red"])
    image.paste(COLORS["blue"], (100, 0, 200, 100))
    image.save(tmp_path / "a.png")
    out = Previewer("blocks").draw(os.fsencode(tmp_path / "a.png"), (0.5, 0.0, 0.5, 1.0)).decode()
    assert "38;2;30;60;220" in out
    assert "38;2;220;30;30" not in out


@pytest.mark.parametrize("protocol", ["kitty", "iterm", "sixel", "blocks", "blocks256"])
def test_what_cannot_be_shown_never_ends_the_answer(tmp_path: Path, protocol: str) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    previewer = Previewer(protocol)  # type: ignore[arg-type]
    for path in (tmp_path / "gone.png", tmp_path / "bad.png", tmp_path):
        assert previewer.draw(os.fsencode(path)) == b"      (cannot be shown)\n"


@pytest.mark.parametrize("size", [(1, 1), (1, 100), (100, 1)])
def test_extreme_shapes_are_shown(tmp_path: Path, size: tuple[int, int]) -> None:
    path = os.fsencode(draw(tmp_path / "a.png", "red", size))
    for protocol in ("kitty", "iterm", "sixel", "blocks", "blocks256"):
        assert b"cannot" not in Previewer(protocol).draw(path)  # type: ignore[arg-type]
