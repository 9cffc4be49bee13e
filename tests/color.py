"""A light encoder with exact answers, pictures of one colour, and pixseek with that encoder in it.

Apart from conftest, so that a process of pixseek under test does not import pytest.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from encoders import Embeddings, Pixels, Preprocess, UsageError, normalize

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
        self.prepares_after = 0
        """Pictures after which the next batch is `preparing` for a minute; 0: never."""
        self.preparing = False

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
    def calibration(self) -> dict[str, Any]:
        """A cosine of 0.5 is as probable as not."""
        curve = {"offset": -10.0, "score": 20.0}
        return {"curves": dict.fromkeys(("text", "text_any", "image", "image_any"), curve)}

    @property
    def preprocess(self) -> Preprocess:
        return Preprocess(size=16, mode="squash")

    def encode_pixels(self, pixels: Pixels) -> Embeddings:
        if self.prepares_after and self.encoded >= self.prepares_after:
            self.preparing = True
            time.sleep(60)
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


class ColorCaptioner:
    """Writes `a red picture`: the colour that the middle pixel is nearest to."""

    spec, image_size = "color", 16

    def caption(self, images: Sequence[Image.Image]) -> list[str]:
        return [f"a {self.color(image)} picture" for image in images]

    def complete(self, image: Image.Image, prompt: str) -> str:
        if len(prompt) > 60:
            raise UsageError("the prompt is too long; shorten it")
        return f"{prompt} {self.color(image)}"

    def color(self, image: Image.Image) -> str:
        middle = np.asarray(image)[image.height // 2, image.width // 2].astype(np.int64)
        return min(COLORS, key=lambda name: int(((middle - COLORS[name]) ** 2).sum()))


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


def replace_encoders() -> None:
    """Put the ColorEncoder behind `--encoder color...` and behind auto, in this process, for good."""
    import encoders

    real, real_captioner = encoders.load_encoder, encoders.load_captioner

    def load(spec: str, **options: Any) -> Any:
        if spec.startswith("color"):
            time.sleep(float(os.environ.get("COLOR_LOAD_S", "0")))
            encoder = ColorEncoder(spec, float(os.environ.get("COLOR_DELAY_S", "0")))
            encoder.prepares_after = int(os.environ.get("COLOR_PREPARES_AFTER", "0"))
            return encoder
        return real(spec, **options)

    def load_captioner(spec: str, **options: Any) -> Any:
        return ColorCaptioner() if spec.startswith("color") else real_captioner(spec, **options)

    encoders.load_encoder, encoders.load_captioner = load, load_captioner
    encoders.resolve_auto = lambda **options: encoders.AutoChoice("color", None)


def main_with_color() -> None:
    """Run pixseek with the ColorEncoder in it."""
    replace_encoders()
    import cli

    cli.main()
