"""The drawings of data/draw_samples.py as a training set, from seeds the demo never uses.

`data/` is no package and is not installed: the file is loaded by its path beside this repository's code.
"""

from __future__ import annotations

import importlib.util
import io
import random
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
from PIL import Image

from training.builtin.collection import Captioned

SCRIPT = Path(__file__).resolve().parents[2] / "data" / "draw_samples.py"
PER_KIND = 24
FIRST_SEED = 1_000_000
"""The demo's seeds are small numbers; these are not among them."""


def load_script(path: Path = SCRIPT) -> ModuleType:
    """Return data/draw_samples.py as a module."""
    found = importlib.util.spec_from_file_location("draw_samples", path)
    if found is None or found.loader is None:
        raise FileNotFoundError(path)
    module = importlib.util.module_from_spec(found)
    sys.modules["draw_samples"] = module
    found.loader.exec_module(module)
    return module


COLOURS = {
    "black": ((0, 0, 0), "黑色"),
    "white": ((255, 255, 255), "白色"),
    "grey": ((128, 128, 128), "灰色"),
    "red": ((200, 30, 30), "红色"),
    "green": ((40, 160, 60), "绿色"),
    "blue": ((40, 70, 200), "蓝色"),
    "yellow": ((240, 220, 50), "黄色"),
    "orange": ((240, 140, 30), "橙色"),
    "purple": ((130, 50, 160), "紫色"),
    "pink": ((240, 150, 180), "粉色"),
    "brown": ((120, 80, 40), "棕色"),
}
PLAIN_PER_KIND = 30


def _webp(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=85)
    return buffer.getvalue()


def plain_samples(*, seed: int = 0) -> list[Captioned]:
    """Return pictures that show nothing: one colour, gradients, noise. They answer no other question."""
    samples = []
    for number in range(PLAIN_PER_KIND):
        for name, (colour, chinese) in COLOURS.items():
            rng = np.random.default_rng((FIRST_SEED + seed, number, *colour))
            base = np.clip(np.array(colour) + rng.normal(0, 12, 3), 0, 255)
            pixels = np.broadcast_to(base, (240, 240, 3))
            texts = (f"a plain {name} background", f"nothing but {name}", f"a blank {name} picture")
            pixels = pixels + rng.normal(0, rng.uniform(0, 6), (240, 240, 1))
            samples.append(
                _plain(f"{name}-{number}", pixels, texts, (f"纯{chinese}背景", f"{chinese}的空白图片"))
            )
        rng = np.random.default_rng((FIRST_SEED + seed, number))
        ends = rng.uniform(0, 255, (2, 3))
        ramp = np.linspace(0, 1, 240)[:, None, None] if number % 2 else np.linspace(0, 1, 240)[None, :, None]
        pixels = np.broadcast_to(ends[0] * (1 - ramp) + ends[1] * ramp, (240, 240, 3))
        samples.append(
            _plain(
                f"gradient-{number}",
                pixels,
                ("a colour gradient", "an abstract gradient background"),
                ("渐变背景",),
            )
        )
        grain = int(rng.choice([1, 2, 4, 8]))
        channels = int(rng.choice([1, 3]))
        noise = rng.uniform(0, 255, (240 // grain, 240 // grain, channels)).repeat(grain, 0).repeat(grain, 1)
        pixels = np.broadcast_to(noise, (240, 240, 3))
        samples.append(
            _plain(
                f"noise-{number}",
                pixels,
                ("random noise", "television static", "a noise texture"),
                ("随机噪点", "雪花噪声"),
            )
        )
    return samples


def _plain(key: str, pixels: np.ndarray, english: tuple[str, ...], chinese: tuple[str, ...]) -> Captioned:
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    return Captioned(key, _webp(image), english, chinese)


def drawing_captions() -> list[str]:
    """Return every sentence about a drawing."""
    return [caption for captions in load_script().KINDS.values() for caption in captions]


def drawing_samples(*, per_kind: int = PER_KIND, seed: int = 0) -> list[Captioned]:
    """Return `per_kind` drawings of every kind, as lossy WebP like the other sets."""
    module = load_script()
    samples = []
    for name, captions in module.KINDS.items():
        for number in range(per_kind):
            rng = random.Random(f"{FIRST_SEED + seed}/{name}/{number}")
            size = rng.choice([(320, 240), (240, 240), (336, 240)])
            samples.append(
                Captioned(f"{name}-{number}", _webp(module.draw(name, rng, size)), tuple(captions))
            )
    return samples
