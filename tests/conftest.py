"""A light encoder with exact answers, small pictures, and pixseek as a process of its own."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.color import COLORS, ColorEncoder, draw

__all__ = ["COLORS", "ROOT", "ColorEncoder", "Inside", "Pixseek", "draw"]

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
            "PIXSEEK_RESIDENT": "0",  # whoever runs the tests may have a helper
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


class Inside(Pixseek):
    """Runs pixseek in this process: no second of start-up, no standard streams but captured ones."""

    def __init__(
        self, home: Path, monkeypatch: pytest.MonkeyPatch, captured: pytest.CaptureFixture[bytes]
    ) -> None:
        super().__init__(home)
        self._monkeypatch, self._captured = monkeypatch, captured

    def __call__(
        self,
        *arguments: str | bytes | Path,
        exits: int | None = 0,
        environ: dict[str, str] | None = None,
        **options: Any,
    ) -> subprocess.CompletedProcess[bytes]:
        import encoders
        from tests.color import replace_encoders

        words = [os.fsdecode(argument) for argument in arguments]
        with self._monkeypatch.context() as patch:
            for name, value in (self.environ | (environ or {})).items():
                patch.setenv(name, value)
            patch.chdir(self.home)
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(options.get("input", b""))))
            for name in ("load_encoder", "load_captioner", "resolve_auto"):
                patch.setattr(encoders, name, getattr(encoders, name))  # put back afterwards
            replace_encoders()
            import cli

            self._captured.readouterr()
            code = cli._run(words, debug=False)
        done = subprocess.CompletedProcess(words, code, *self._captured.readouterr())
        assert exits is None or done.returncode == exits, (code, done.stdout, done.stderr.decode())
        assert b"Traceback" not in done.stderr, done.stderr.decode()
        return done


@pytest.fixture
def inside(
    library: Pixseek, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Inside:
    """`library`, asked in this process."""
    return Inside(library.home, monkeypatch, capfdbinary)


@pytest.fixture
def inside_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Inside:
    """pixseek in this process, without an index yet."""
    home = tmp_path / "home"
    home.mkdir()
    return Inside(home, monkeypatch, capfdbinary)


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
