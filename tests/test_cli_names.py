"""File names that would steer a terminal, break a line or are no text at all: found, shown as they are."""

from __future__ import annotations

import base64
import json
import os
import pty
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from face import terminal
from tests.conftest import Pixseek, draw

NAMES = [
    b"bad\xff.png", b"new\nline.png", b"tab\t.png", b"\x1b[31mred.png", "rtl\u202egnp.png".encode(),
    b"-k.png",    b"[/red][bold].png", b"%s%n.png", b"quote'\".png", b" .png", b"back\\slash.png",
    "\u00fc\U0001f415.png".encode(),
    b"a" * 251 + b".png", b"\xc2\x9b31m.png", b"http:", b"*?.png",
]  # fmt: skip


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pixseek, bytes]:
    home = tmp_path_factory.mktemp("home")
    folder = os.path.join(os.fsencode(home), b"photos [x] \xfe")
    os.mkdir(folder)
    for number, name in enumerate(NAMES):
        name = name if name.endswith(b".png") else name + b".png"
        draw(os.path.join(folder, name), "red", mark=number + 1)
    pixseek = Pixseek(home)
    pixseek("index", folder)
    return pixseek, folder


def expected(folder: bytes) -> set[bytes]:
    return {os.path.join(folder, name if name.endswith(b".png") else name + b".png") for name in NAMES}


def test_print0_gives_every_name_byte_for_byte(odd: tuple[Pixseek, bytes]) -> None:
    pixseek, folder = odd
    out = pixseek("search", "red", "-k", "100", "-0").stdout
    assert out.endswith(b"\0")
    assert set(out[:-1].split(b"\0")) == expected(folder)


def test_json_gives_every_name_back(odd: tuple[Pixseek, bytes]) -> None:
    pixseek, folder = odd
    out = pixseek("search", "red", "-k", "100", "--json").stdout
    assert out.isascii()
    hits = json.loads(out)["hits"]
    assert {hit["path"].encode("utf-8", "surrogateescape") for hit in hits} == expected(folder)
    for hit in hits:  # the folder's own name is not valid UTF-8
        assert base64.b64decode(hit["path_b64"]) == hit["path"].encode("utf-8", "surrogateescape")


def test_in_a_pipe_one_hit_is_one_line(odd: tuple[Pixseek, bytes]) -> None:
    pixseek, folder = odd
    lines = pixseek("search", "red", "-k", "100").stdout.splitlines()
    assert len(lines) == len(NAMES)
    assert all(line.count(b"\t") == 1 for line in lines)
    paths = {line.split(b"\t")[1] for line in lines}
    assert os.path.join(folder, b"bad\xff.png") in paths
    assert os.path.join(folder, rb"new\nline.png") in paths
    assert os.path.join(folder, rb"\x1b[31mred.png") in paths


def test_on_a_terminal_no_name_steers_it(odd: tuple[Pixseek, bytes]) -> None:
    pixseek, _ = odd
    main, side = pty.openpty()
    process = pixseek.start("search", "red", "-k", "100", stdout=side, stderr=subprocess.PIPE)
    os.close(side)
    out = b""
    while True:
        try:
            piece = os.read(main, 65536)
        except OSError:  # the other side is closed
            break
        if not piece:
            break
        out += piece
    os.close(main)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 0, said
    lines = out.decode().split("\r\n")[:-1]
    assert len(lines) == len(NAMES)
    assert "\x1b" not in out.decode()
    assert "\u202e" not in out.decode()
    assert "\x9b" not in out.decode()
    text = "\n".join(lines)
    for shown in (
        r"bad\xff.png",
        r"new\nline.png",
        r"\x1b[31mred.png",
        r"rtl\u202egnp.png",
        "[/red][bold].png",
        "%s%n",
    ):
        assert shown in text
    assert lines[0].split()[0] == "1"


def test_every_odd_picture_can_be_the_question(odd: tuple[Pixseek, bytes]) -> None:
    pixseek, folder = odd
    for name in (b"bad\xff.png", b"new\nline.png", b"http:.png"):
        path = os.path.join(folder, name)
        out = pixseek("similar", path, "-k", "1", "-0").stdout
        assert out in {other + b"\0" for other in expected(folder)}


def test_failures_with_odd_names_stay_one_line_each(pixseek: Pixseek, tmp_path: Path) -> None:
    folder = os.path.join(os.fsencode(tmp_path), b"bad")
    os.mkdir(folder)
    for name in (b"new\nline.jpg", b"\x1b[2J.jpg", b"bad\xff.jpg"):
        Path(os.fsdecode(os.path.join(folder, name))).write_bytes(b"no picture")
    done = pixseek("index", folder, exits=3)
    assert b"\x1b" not in done.stderr
    assert len(pixseek("failures").stdout.splitlines()) == 3
    assert {
        failure.get("path_b64") is not None
        for failure in json.loads(pixseek("failures", "--json").stdout)["failures"]
    }


@given(st.binary(max_size=60))
def test_visible_is_one_printable_line(name: bytes) -> None:
    shown = terminal.visible(name)
    assert bool(shown.encode()) == bool(name)
    assert shown == "".join(shown.splitlines())
    assert not any(character < " " or "\x7f" <= character <= "\x9f" for character in shown)
    assert not any(
        "\u202a" <= character <= "\u202e" or "\u2066" <= character <= "\u2069" for character in shown
    )


@given(st.binary(max_size=60))
def test_one_line_keeps_all_bytes_but_controls(name: bytes) -> None:
    shown = terminal.one_line(name)
    assert b"\n" not in shown
    assert b"\x1b" not in shown
    kept = bytes(byte for byte in name if byte >= 0x20 and byte != 0x7F)
    if kept == name:
        assert shown == name


@pytest.mark.parametrize(
    ("size_bytes", "shown"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2_000_000, "2.0 MB"), (3 * 10**15, "3000.0 TB")],
)
def test_sizes(size_bytes: int, shown: str) -> None:
    assert terminal.size(size_bytes) == shown
