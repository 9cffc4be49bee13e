"""Squares to try an encoder on where no photos are: drawn, varied, the same on every machine.

Made to spread as photos do: light and dark, smooth and busy, one thing before a ground or many, letters-like
strokes, few colours or all, and a few that are nothing but noise or one colour. No two are alike.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from encoders.base import Pixels

_SEED = 20_240
_DRAWN_SIDE = 192


def probe_squares(size: int, count: int) -> Pixels:
    """Return (count, size, size, 3) uint8."""
    rng = np.random.default_rng(_SEED)
    squares = np.empty((count, size, size, 3), dtype=np.uint8)
    for number in range(count):
        image = _picture(rng, number).resize((size, size), Image.Resampling.BICUBIC)
        squares[number] = np.asarray(image)
    return squares


def _picture(rng: np.random.Generator, number: int) -> Image.Image:
    """Return one RGB picture; every sixteenth is noise or one colour, which photos are now and then."""
    side = _DRAWN_SIDE
    if number % 16 == 7:
        return Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))
    if number % 16 == 15:
        return Image.new("RGB", (side, side), _color(rng))
    image = Image.fromarray(_clouds(rng, side))
    draw = ImageDraw.Draw(image)
    if number % 3 == 0:  # a sky or a wall: half of the picture in one colour
        edge = int(rng.uniform(0.2, 0.8) * side)
        draw.rectangle((0, edge, side, side), fill=_color(rng))
    for _ in range(int(rng.integers(0, 14))):
        x, y = rng.uniform(-0.1, 1.0, 2) * side
        w, h = rng.uniform(0.03, 0.6, 2) * side
        box = (x, y, x + w, y + h)
        kind = rng.integers(0, 5)
        if kind == 0:
            draw.rectangle(box, fill=_color(rng))
        elif kind == 1:
            draw.ellipse(box, fill=_color(rng))
        elif kind == 2:
            draw.polygon([(x, y + h), (x + w / 2, y), (x + w, y + h)], fill=_color(rng))
        elif kind == 3:
            draw.line(box, fill=_color(rng), width=int(rng.integers(1, 9)))
        else:  # lines of short strokes, as text has them
            ink = _color(rng)
            for row in np.arange(y, y + h, 7):
                for column in np.arange(x, x + w, 5):
                    draw.line((column, row, column + rng.uniform(0, 4), row + rng.uniform(0, 5)), fill=ink)
    if number % 4 == 1:
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.5, 4))))
    pixels = np.asarray(image, dtype=np.float64)
    pixels = (
        pixels * rng.uniform(0.4, 1.2)
        + rng.uniform(-20, 40)
        + rng.normal(0, rng.uniform(0, 12), pixels.shape)
    )
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _clouds(rng: np.random.Generator, side: int) -> Pixels:
    """Return (side, side, 3) uint8 whose amplitude falls with frequency as that of photos does."""
    slope = rng.uniform(0.8, 1.8)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :])
    frequency[0, 0] = 1.0
    planes = []
    for _ in range(3):
        phase = rng.uniform(0, 2 * np.pi, frequency.shape)
        plane = np.fft.irfft2(np.exp(1j * phase) / frequency**slope, s=(side, side))
        planes.append((plane - plane.mean()) / plane.std())
    shared, contrast = planes[0], rng.uniform(10, 60)
    mixed = np.stack([0.8 * shared + 0.4 * plane for plane in planes], axis=-1)
    return np.clip(np.array(_color(rng)) + contrast * mixed, 0, 255).astype(np.uint8)


def _color(rng: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in rng.integers(0, 256, 3))
    return red, green, blue
