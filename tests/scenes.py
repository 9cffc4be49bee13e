"""Drawn pictures with structure, of which variants can be made: what duplicates are tested on."""

from __future__ import annotations

import io
import random
from pathlib import Path

from PIL import Image, ImageDraw

from tests.color import COLORS


def scene(seed: int, size: tuple[int, int] = (320, 240)) -> Image.Image:
    """Return a picture of forty ellipses, another one for each seed."""
    rng = random.Random(seed)
    width, height = size[0] * 2, size[1] * 2
    image = Image.new("RGB", (width, height), rng.choice(list(COLORS.values())))
    pen = ImageDraw.Draw(image)
    for _ in range(40):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        w, h = rng.uniform(0.02, 0.25) * width, rng.uniform(0.02, 0.25) * height
        pen.ellipse([x - w, y - h, x + w, y + h], fill=rng.choice(list(COLORS.values())))
    return image.resize(size, Image.Resampling.LANCZOS)


def page(seed: int, size: tuple[int, int] = (424, 548)) -> Image.Image:
    """Return a white page of text, of one layout whatever the seed."""
    rng = random.Random(seed)
    image = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(image)
    for line in range(28):
        x = 40.0
        while x < size[0] - 70:
            w = rng.uniform(8, 40)
            pen.rectangle([x, 40 + 16 * line, x + w, 47 + 16 * line], fill=(20, 20, 20))
            x += w + 5
    return image


def save(
    image: Image.Image,
    path: Path,
    *,
    quality: int = 92,
    taken_at: str | None = None,
    camera: str | None = None,
    orientation: int | None = None,
) -> Path:
    """Write a picture, with what EXIF says about it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if camera:
        exif[0x010F], exif[0x0110] = "Maker", camera
    if orientation:
        exif[0x0112] = orientation
    if taken_at:
        exif.get_ifd(0x8769)[0x9003] = taken_at
    data = io.BytesIO()
    kind = {".png": "PNG", ".webp": "WEBP"}.get(path.suffix.lower(), "JPEG")
    image.save(data, kind, exif=exif, **({} if kind == "PNG" else {"quality": quality}))
    path.write_bytes(data.getvalue())
    return path
