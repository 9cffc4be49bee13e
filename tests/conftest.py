"""A light encoder with exact answers, small pictures, and pixseek as a process of its own."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from encoders import Embeddings, Pixels, Preprocess, normalize

ROOT = Path(__file__).resolve().parent.parent
COLORS = {
    "red": (220, 30, 30),
    "green": (30, 160, 50),
    "blue": (30, 60, 220),
    "yellow": (240, 220, 40),
    "orange": (245, 140, 20),
    "purple": (140, 40, 180),
    "black": (5, 5, 5),
    "white": (250, 250, 250),
}


class ColorEncoder:
    """Pictures to shares of eight colours, sentences to the colour words in them.

    A red picture and the word red have cosine 1; weights are nothing, so tests across both are exact.

    Args:
        name: part of the fingerprint: another name is another encoder.
        delay_s: sleep per batch of pictures, to be interrupted in.
    """

    def __init__(self, name: str = "color", delay_s: float = 0.0) -> None:
        self.name, self.delay_s = name, delay_s
        self.encoded = 0

    @property
    def spec(self) -> str:
        return self.name

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(f"ColorEncoder 1 {self.name}".encode()).hexdigest()

    @property
    def dim(self) -> int:
        return len(COLORS)

    @property
    def image_size(self) -> int:
        return self.preprocess.size

    @property
    def preprocess(self) -> Preprocess:
        return Preprocess(size=16, mode="squash")

    def encode_pixels(self, pixels: Pixels) -> Embeddings:
        if self.delay_s:
            time.sleep(self.delay_s)
        self.encoded += len(pixels)
        anchors = np.array(list(COLORS.values()), dtype=np.float32)
        flat = pixels.reshape(len(pixels), -1, 1, 3).astype(np.float32)
        shares = np.exp(-((flat - anchors) ** 2).sum(axis=-1) / 2 / 25**2).mean(axis=1)
        return normalize(shares + 1e-6)

    def encode_images(self, images: Sequence[Image.Image]) -> Embeddings:
        return self.encode_pixels(np.stack([self.preprocess(image) for image in images]))

    def encode_texts(self, texts: Sequence[str]) -> Embeddings:
        words = [re.findall(r"[a-z]+", text.lower()) for text in texts]
        return normalize(np.array([[row.count(color) + 1e-6 for color in COLORS] for row in words]))


@pytest.fixture
def color_encoder() -> ColorEncoder:
    return ColorEncoder()


def draw(path: Path | bytes, color: str = "red", size: tuple[int, int] = (64, 48), *, mark: int = 0) -> Path:
    """Write a picture of one colour; another `mark` makes other content of nearly the same colour."""
    target = Path(os.fsdecode(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", size, COLORS[color])
    if mark:
        image.putpixel((0, 0), (mark % 256, mark // 256 % 256, 128))
    suffix = target.suffix.lower()
    image.save(target, {".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}.get(suffix, "PNG"))
    return target


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with one picture of each of four colours."""
    folder = tmp_path / "photos"
    for color in ("red", "green", "blue", "yellow"):
        draw(folder / f"{color}.png", color)
    return folder


# `pixseek` with the ColorEncoder behind `--encoder color` and behind auto.
_WITH_COLOR = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); import tests.conftest as c; c.main_with_color()"
)


def main_with_color() -> None:
    import encoders

    real = encoders.load_encoder

    def load(spec: str, **options: Any) -> Any:
        if spec.startswith("color"):
            return ColorEncoder(spec, float(os.environ.get("COLOR_DELAY_S", "0")))
        return real(spec, **options)

    encoders.load_encoder = load
    encoders.resolve_auto = lambda **options: encoders.AutoChoice("color", None)
    import cli

    cli.main()


class Pixseek:
    """Runs pixseek as a process with a clean environment and an index folder of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.index = home / "index"
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
