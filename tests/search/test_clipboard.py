"""The clipboard, by programs that stand in for wl-paste and xclip."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from encoders import UsageError
from search import clipboard, load_picture
from tests.conftest import COLORS, draw

pytestmark = pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="these ask no program")


class Desktop:
    """A folder of programs that is all of PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path, self.shell = os.environ["PATH"], shutil.which("sh")
        folder.mkdir()

    def put(self, program: str, script: str) -> None:
        path = self.folder / program
        path.write_text(f"#!{self.shell}\nPATH='{self.path}'\n{script}\n")
        path.chmod(0o755)

    def hold(self, program: str, kind: str, file: Path) -> None:
        """Let the program offer one type, and print a file when it is asked for that."""
        self.put(
            program,
            f"case \"$*\" in *TARGETS*|*--list-types*) printf 'TEXT\\n{kind}\\n';; "
            f"*{kind}*) cat '{file}';; *) exit 1;; esac",
        )


@pytest.fixture
def desktop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desktop:
    made = Desktop(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(made.folder))
    return made


@pytest.mark.parametrize("program", ["wl-paste", "xclip"])
def test_a_copied_picture_is_taken(desktop: Desktop, tmp_path: Path, program: str) -> None:
    desktop.hold(program, "image/png", draw(tmp_path / "a.png", "red"))
    query = load_picture(b"clipboard:", min_side=16)
    assert query.image.getpixel((3, 3)) == COLORS["red"]
    assert query.path is None


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("text/uri-list", "# from a file manager\r\nfile://{}\r\n"),
        ("x-special/gnome-copied-files", "copy\nfile://{}"),
    ],
)
def test_a_copied_file_is_taken_by_its_name(desktop: Desktop, tmp_path: Path, kind: str, text: str) -> None:
    path = draw(tmp_path / "caf\u00e9 50%.png", "blue")
    (tmp_path / "list").write_text(text.format(path.as_uri().removeprefix("file://")))
    desktop.hold("xclip", kind, tmp_path / "list")
    query = load_picture(b"clipboard:", min_side=16)
    assert query.path == os.fsencode(path)
    assert query.image.getpixel((3, 3)) == COLORS["blue"]


def test_where_one_program_finds_no_desktop_the_other_is_asked(desktop: Desktop, tmp_path: Path) -> None:
    desktop.put("wl-paste", "exit 1")
    desktop.hold("xclip", "image/png", draw(tmp_path / "a.png", "green"))
    assert load_picture(b"clipboard:", min_side=16).image.getpixel((3, 3)) == COLORS["green"]


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (None, "wl-clipboard"),
        ("exit 1", "no desktop"),
        ("echo text/plain", "holds no picture"),
        (
            "case \"$*\" in *--list*) echo text/uri-list;; *) printf 'file:///a\\nfile:///b\\n';; esac",
            "2 files",
        ),
        (
            'case "$*" in *--list*) echo text/uri-list;; *) echo https://example.com/a.png;; esac',
            "no picture",
        ),
        ('case "$*" in *--list*) echo image/png;; *) echo hello;; esac', "the clipboard cannot be used"),
    ],
)
def test_no_picture_there_is_one_clear_line(desktop: Desktop, script: str | None, message: str) -> None:
    if script:
        desktop.put("wl-paste", script)
    with pytest.raises(UsageError, match=message) as caught:
        load_picture(b"clipboard:", min_side=16)
    assert "\n" not in str(caught.value)


def test_a_program_that_hangs_or_never_stops_is_ended(
    desktop: Desktop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clipboard, "TIMEOUT_S", 0.3)
    desktop.put("wl-paste", "exec sleep 30")
    with pytest.raises(UsageError, match="did not answer"):
        load_picture(b"clipboard:", min_side=16)
    monkeypatch.setattr(clipboard, "TIMEOUT_S", 20)
    monkeypatch.setattr(clipboard, "MAX_BYTES", 1 << 20)
    desktop.put("wl-paste", 'case "$*" in *--list*) echo image/png;; *) exec cat /dev/zero;; esac')
    with pytest.raises(UsageError, match="more than 1 MB"):
        load_picture(b"clipboard:", min_side=16)
