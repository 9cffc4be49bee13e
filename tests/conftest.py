"""A light encoder with exact answers, small pictures, and pixseek as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.color import COLORS, ColorEncoder, draw

__all__ = ["COLORS", "ROOT", "ColorEncoder", "Pixseek", "draw"]

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def color_encoder() -> ColorEncoder:
    return ColorEncoder()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with one picture of each of four colours."""
    folder = tmp_path / "photos"
    for color in ("red", "green", "blue", "yellow"):
        draw(folder / f"{color}.png", color)
    return folder


_WITH_COLOR = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); from tests.color import main_with_color as m; m()"
)


class Pixseek:
    """Runs pixseek as a process with a clean environment and an index folder of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.index, self.photos = home / "index", home / "photos"
        keep = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR")
        self.environ = {name: os.environ[name] for name in keep if name in os.environ}
        self.environ |= {
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "HF_HUB_OFFLINE": "1",
            "PIXSEEK_INDEX": str(self.index),
            "XDG_DATA_HOME": str(home / "data"),
            "XDG_CACHE_HOME": str(home / "cache"),
            "OMP_NUM_THREADS": "1",
        }

    def command(self, *arguments: str | bytes | Path) -> list[str | bytes | Path]:
        return [sys.executable, "-c", _WITH_COLOR, str(ROOT), *arguments]

    def start(
        self, *arguments: str | bytes | Path, environ: dict[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.command(*arguments), env=self.environ | (environ or {}), cwd=self.home, **options
        )

    def __call__(
        self,
        *arguments: str | bytes | Path,
        exits: int | None = 0,
        environ: dict[str, str] | None = None,
        **options: Any,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run to the end and return what it printed; `exits` is the exit code it must have, None for any."""
        if "stdout" not in options:
            options["stdout"] = subprocess.PIPE
        done = subprocess.run(
            self.command(*arguments),
            env=self.environ | (environ or {}),
            cwd=self.home,
            stderr=subprocess.PIPE,
            timeout=120,
            check=False,
            **({} if "input" in options or "stdin" in options else {"stdin": subprocess.DEVNULL}),
            **options,
        )
        assert exits is None or done.returncode == exits, (done.returncode, done.stdout, done.stderr.decode())
        assert b"Traceback" not in done.stderr, done.stderr.decode()
        return done


@pytest.fixture
def pixseek(tmp_path: Path) -> Pixseek:
    home = tmp_path / "home"
    home.mkdir()
    return Pixseek(home)


@pytest.fixture
def indexed(pixseek: Pixseek, photos: Path) -> Pixseek:
    """pixseek with `photos` in its index."""
    pixseek("index", photos)
    return pixseek


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Pixseek:
    """pixseek with pictures of four colours in its index, shared by tests that only read."""
    home = tmp_path_factory.mktemp("library")
    pixseek = Pixseek(home)
    for color in ("red", "green", "blue", "yellow"):
        draw(pixseek.photos / f"{color}.png", color)
    pixseek("index", pixseek.photos)
    return pixseek


@pytest.fixture
def make_index(tmp_path: Path, color_encoder: ColorEncoder) -> Callable[..., Path]:
    """Return a function that indexes folders in this process and returns the index folder."""
    from indexer import index_folders

    def make(*folders: Path, encoder: ColorEncoder = color_encoder) -> Path:
        index_dir = tmp_path / "index"
        index_folders(
            [os.fsencode(folder) for folder in folders],
            index_dir=index_dir,
            encoder=lambda space: encoder,
            workers=1,
        )
        return index_dir

    return make
