"""Draw a small collection of pictures to try pixseek on: `python data/draw_samples.py OUT_FOLDER`.

Every picture is drawn here with Pillow, from a seed: the same seed draws the same pictures. Colours,
places and sizes differ from picture to picture. Nothing is downloaded and nobody's rights are touched.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter

Color = tuple[int, int, int]
Point = tuple[float, float]
SAMPLE = 2
"""Pictures are drawn this many times larger and scaled down: smooth edges."""


def mix(a: Color, b: Color, t: float) -> Color:
    """Return the colour between two, t in 0..1."""
    return (round(a[0] + (b[0] - a[0]) * t), round(a[1] + (b[1] - a[1]) * t), round(a[2] + (b[2] - a[2]) * t))


class Scene:
    """A picture being drawn, in units of its height: y runs 0..1 downwards, x runs 0..`w`."""

    def __init__(self, rng: random.Random, size: tuple[int, int]) -> None:
        self.rng = rng
        self.unit = size[1] * SAMPLE
        self.w = size[0] / size[1]
        self.image = Image.new("RGB", (size[0] * SAMPLE, size[1] * SAMPLE))
        self.pen = ImageDraw.Draw(self.image, "RGBA")
        self.size = size

    def done(self) -> Image.Image:
        """Return the picture at its size."""
        return self.image.resize(self.size, Image.Resampling.LANCZOS)

    def near(self, value: float, spread: float) -> float:
        """Return a value near another."""
        return value + self.rng.uniform(-spread, spread)

    def tint(self, color: Color, spread: int = 14) -> Color:
        """Return a colour near another."""
        r, g, b = (min(255, max(0, c + self.rng.randint(-spread, spread))) for c in color)
        return (r, g, b)

    def sky(self, top: Color, bottom: Color, y0: float = 0.0, y1: float = 1.0) -> None:
        """Fill a band with a vertical gradient."""
        first, last = int(y0 * self.unit), int(y1 * self.unit)
        for y in range(first, last):
            color = mix(top, bottom, (y - first) / max(1, last - first))
            self.pen.line([(0, y), (self.image.width, y)], fill=color)

    def disc(self, x: float, y: float, r: float, fill: object, ry: float | None = None) -> None:
        """Fill an ellipse around (x, y)."""
        ry = r if ry is None else ry
        u = self.unit
        self.pen.ellipse([(x - r) * u, (y - ry) * u, (x + r) * u, (y + ry) * u], fill=fill)  # type: ignore[arg-type]

    def ring(self, x: float, y: float, r: float, color: object, width: float) -> None:
        """Draw a circle's line."""
        u = self.unit
        box = [(x - r) * u, (y - r) * u, (x + r) * u, (y + r) * u]
        self.pen.ellipse(box, outline=color, width=max(1, round(width * u)))  # type: ignore[arg-type]

    def box(self, x0: float, y0: float, x1: float, y1: float, fill: object, r: float = 0.0) -> None:
        """Fill a rectangle, with rounded corners where r is given."""
        u = self.unit
        self.pen.rounded_rectangle([x0 * u, y0 * u, x1 * u, y1 * u], radius=r * u, fill=fill)  # type: ignore[arg-type]

    def poly(self, points: Sequence[Point], fill: object) -> None:
        """Fill a polygon."""
        self.pen.polygon([(x * self.unit, y * self.unit) for x, y in points], fill=fill)  # type: ignore[arg-type]

    def line(self, points: Sequence[Point], fill: object, width: float) -> None:
        """Draw a line of round joints."""
        u = self.unit
        pixels = [(x * u, y * u) for x, y in points]
        self.pen.line(pixels, fill=fill, width=max(1, round(width * u)), joint="curve")  # type: ignore[arg-type]

    def arc(self, x: float, y: float, r: float, start: float, end: float, fill: object, width: float) -> None:
        """Draw part of a circle, degrees clockwise from the right."""
        u = self.unit
        box = [(x - r) * u, (y - r) * u, (x + r) * u, (y + r) * u]
        self.pen.arc(box, start, end, fill=fill, width=max(1, round(width * u)))  # type: ignore[arg-type]

    def glow(self, x: float, y: float, r: float, color: Color, strength: int = 120) -> None:
        """Lay soft light over the picture."""
        layer = Image.new("RGBA", self.image.size, (*color, 0))
        u = self.unit
        ImageDraw.Draw(layer).ellipse(
            [(x - r) * u, (y - r) * u, (x + r) * u, (y + r) * u], fill=(*color, strength)
        )
        layer = layer.filter(ImageFilter.GaussianBlur(r * u / 3))
        self.image.paste(layer, (0, 0), layer)

    def cloud(self, x: float, y: float, r: float, color: Color = (255, 255, 255)) -> None:
        """Draw a cloud."""
        for dx, dy, k in (
            (-1.1, 0.15, 0.6),
            (-0.4, -0.2, 0.85),
            (0.4, -0.1, 0.75),
            (1.1, 0.2, 0.55),
            (0, 0.2, 0.8),
        ):
            self.disc(x + dx * r, y + dy * r, r * k, color, r * k * 0.75)

    def day(self, ground: Color, horizon: float, clouds: int = 2) -> None:
        """Draw a blue sky with clouds over plain ground."""
        self.sky(self.tint((85, 160, 230)), (205, 232, 250), 0, horizon + 0.01)
        for _ in range(clouds):
            self.cloud(
                self.rng.uniform(0, self.w), self.rng.uniform(0.06, 0.22), self.rng.uniform(0.05, 0.09)
            )
        self.sky(self.tint(ground), mix(ground, (20, 30, 10), 0.3), horizon, 1)

    def tree(self, x: float, base: float, h: float, leaf: Color | None = None) -> None:
        """Draw a leafy tree standing at `base`."""
        leaf = leaf or self.tint((60, 135, 55), 20)
        self.box(x - h * 0.05, base - h * 0.5, x + h * 0.05, base, (105, 75, 45))
        for dx, dy, r in ((0, -0.72, 0.27), (-0.18, -0.58, 0.2), (0.18, -0.58, 0.2), (0, -0.5, 0.2)):
            self.disc(x + dx * h, base + dy * h, r * h, self.tint(leaf, 8))

    def fir(self, x: float, base: float, h: float, color: Color) -> None:
        """Draw a fir standing at `base`."""
        self.box(x - h * 0.035, base - h * 0.15, x + h * 0.035, base, (90, 62, 40))
        for k in range(3):
            top, low, half = base - h + k * h * 0.24, base - h * 0.55 + k * h * 0.24, h * (0.15 + 0.07 * k)
            self.poly([(x, top), (x - half, low), (x + half, low)], mix(color, (0, 0, 0), 0.08 * k))

    def waves(self, top: float, color: Color, rows: int = 14) -> None:
        """Draw lines of light on water."""
        for _ in range(rows * 4):
            y = top + (1 - top) * self.rng.random() ** 1.3
            x, half = self.rng.uniform(0, self.w), 0.02 + 0.09 * (y - top)
            self.line([(x - half, y), (x + half, y)], (*color, 110), 0.004)


Draw = Callable[[Scene], None]
_DRAWERS: dict[str, Draw] = {}
KINDS: dict[str, tuple[str, ...]] = {}
"""Kind to the sentences that describe every picture of the kind; the first is its plainest name."""


def kind(name: str, *captions: str) -> Callable[[Draw], Draw]:
    """Register a drawing function under its kind and captions."""

    def register(function: Draw) -> Draw:
        _DRAWERS[name] = function
        KINDS[name] = captions
        return function

    return register


def draw(kind: str, rng: random.Random, size: tuple[int, int] = (480, 360)) -> Image.Image:
    """Return one picture of a kind, RGB, `size` pixels; equal states of `rng` draw equal pictures."""
    scene = Scene(rng, size)
    _DRAWERS[kind](scene)
    return scene.done()


@kind(
    "sunset",
    "sunset over the sea",
    "the sun going down over the ocean",
    "an orange evening sky above water",
    "a drawing of a sunset at sea",
)
def _sunset(s: Scene) -> None:
    h = s.near(0.6, 0.05)
    x = s.rng.uniform(0.3, s.w - 0.3)
    s.sky(s.rng.choice([(70, 40, 110), (120, 40, 90), (40, 50, 110)]), (255, 170, 70), 0, h + 0.01)
    s.glow(x, h - 0.05, 0.35, (255, 220, 120), 150)
    s.disc(x, h - s.rng.uniform(0, 0.08), s.near(0.12, 0.03), (255, 236, 150))
    s.sky((210, 100, 70), (40, 35, 80), h, 1)
    for k in range(16):
        y = h + 0.012 + k * (1 - h) / 16
        half = s.rng.uniform(0.03, 0.12)
        s.line([(x - half, y), (x + half, y)], (255, 220, 140, 190), 0.008)
    s.waves(h, (255, 190, 130))


def _car(s: Scene, color: Color) -> None:
    s.day((120, 170, 80), 0.55)
    s.tree(s.rng.uniform(0.1, 0.3), 0.6, s.near(0.4, 0.08))
    s.tree(s.w - s.rng.uniform(0.1, 0.3), 0.6, s.near(0.35, 0.08))
    s.box(0, 0.66, s.w, 0.92, (90, 90, 96))
    for k in range(9):
        s.box(k * 0.2, 0.785, k * 0.2 + 0.1, 0.8, (240, 240, 230))
    x, y, big = s.w / 2 + s.rng.uniform(-0.15, 0.15), 0.8, s.near(1.0, 0.1)
    dark = mix(color, (0, 0, 0), 0.3)
    s.disc(x, y + 0.02, 0.42 * big, (40, 40, 45, 120), 0.03)
    s.poly(
        [
            (x - 0.25 * big, y - 0.2 * big),
            (x - 0.13 * big, y - 0.34 * big),
            (x + 0.12 * big, y - 0.34 * big),
            (x + 0.25 * big, y - 0.2 * big),
        ],
        color,
    )
    s.poly(
        [
            (x - 0.2 * big, y - 0.2 * big),
            (x - 0.115 * big, y - 0.31 * big),
            (x - 0.01, y - 0.31 * big),
            (x - 0.01, y - 0.2 * big),
        ],
        (190, 225, 240),
    )
    s.poly(
        [
            (x + 0.02, y - 0.2 * big),
            (x + 0.02, y - 0.31 * big),
            (x + 0.105 * big, y - 0.31 * big),
            (x + 0.2 * big, y - 0.2 * big),
        ],
        (190, 225, 240),
    )
    s.box(x - 0.42 * big, y - 0.22 * big, x + 0.42 * big, y - 0.05 * big, color, 0.05)
    s.box(x - 0.42 * big, y - 0.09 * big, x + 0.42 * big, y - 0.05 * big, dark, 0.02)
    s.disc(x + 0.38 * big, y - 0.15 * big, 0.028, (255, 245, 190))
    s.disc(x - 0.39 * big, y - 0.15 * big, 0.022, (200, 40, 40))
    s.line([(x, y - 0.2 * big), (x, y - 0.07 * big)], dark, 0.006)
    for wx in (x - 0.24 * big, x + 0.24 * big):
        s.disc(wx, y - 0.04 * big, 0.085 * big, (30, 30, 34))
        s.disc(wx, y - 0.04 * big, 0.045 * big, (190, 190, 195))


@kind(
    "red car",
    "a red car",
    "a red car on a road",
    "a red automobile driving along a street",
    "a drawing of a red car",
)
def _red_car(s: Scene) -> None:
    _car(s, s.tint((205, 30, 35)))


@kind(
    "blue car",
    "a blue car",
    "a blue car on a road",
    "a blue automobile driving along a street",
    "a drawing of a blue car",
)
def _blue_car(s: Scene) -> None:
    _car(s, s.tint((35, 75, 190)))


@kind(
    "mountains",
    "snowy mountains",
    "mountains with snow on their peaks",
    "a mountain landscape with snow-capped peaks",
    "a drawing of snowy mountains",
)
def _mountains(s: Scene) -> None:
    s.sky(s.tint((90, 150, 215)), (225, 238, 250))
    for row, base in enumerate((0.75, 0.85)):
        for _ in range(4 - row):
            x, top, half = (
                s.rng.uniform(0, s.w),
                s.rng.uniform(0.15, 0.35) + row * 0.15,
                s.rng.uniform(0.3, 0.45),
            )
            rock = s.tint((105, 115, 135) if row == 0 else (80, 90, 108))
            s.poly([(x, top), (x - half, base), (x + half, base)], rock)
            s.poly([(x, top), (x + half, base), (x + half * 0.2, base)], mix(rock, (0, 0, 0), 0.15))
            t = 0.4
            y = top + (base - top) * t
            s.poly(
                [
                    (x, top),
                    (x - half * t, y),
                    (x - half * 0.2, y - 0.04),
                    (x - half * 0.05, y + 0.03),
                    (x + half * 0.15, y - 0.04),
                    (x + half * t, y),
                ],
                (250, 252, 255),
            )
    s.sky((235, 242, 250), (205, 218, 235), 0.82, 1)
    for _ in range(9):
        s.fir(s.rng.uniform(0, s.w), s.rng.uniform(0.86, 0.97), s.rng.uniform(0.1, 0.18), (35, 75, 60))


@kind(
    "house",
    "a house with a garden",
    "a small house with a red roof and flowers",
    "a cottage with a garden and a fence",
    "a drawing of a house",
)
def _house(s: Scene) -> None:
    s.day((110, 175, 75), 0.6)
    x = s.w / 2 + s.rng.uniform(-0.15, 0.15)
    wall = s.rng.choice([(245, 232, 205), (240, 215, 180), (225, 235, 240)])
    s.tree(0.15, 0.72, 0.45)
    s.box(x - 0.3, 0.38, x + 0.3, 0.76, wall)
    s.box(x + 0.14, 0.16, x + 0.21, 0.36, (150, 80, 65))
    s.poly([(x - 0.37, 0.4), (x, 0.13), (x + 0.37, 0.4)], s.tint((185, 65, 50)))
    s.box(x - 0.06, 0.54, x + 0.06, 0.76, (110, 70, 45), 0.01)
    s.disc(x + 0.04, 0.65, 0.01, (230, 200, 90))
    for wx in (x - 0.19, x + 0.19):
        s.box(wx - 0.07, 0.46, wx + 0.07, 0.6, (255, 255, 255))
        s.box(wx - 0.055, 0.475, wx + 0.055, 0.585, (150, 200, 230))
        s.line([(wx, 0.47), (wx, 0.59)], (255, 255, 255), 0.01)
        s.line([(wx - 0.06, 0.53), (wx + 0.06, 0.53)], (255, 255, 255), 0.01)
    s.poly([(x - 0.05, 0.76), (x + 0.05, 0.76), (x + 0.14, 1), (x - 0.14, 1)], (215, 195, 160))
    for _ in range(26):
        fx, fy = s.rng.uniform(0, s.w), s.rng.uniform(0.82, 0.97)
        if abs(fx - x) > 0.16:
            s.line([(fx, fy), (fx, fy + 0.03)], (50, 120, 45), 0.006)
            s.disc(
                fx, fy, 0.014, s.rng.choice([(230, 60, 80), (250, 210, 60), (200, 100, 210), (255, 255, 255)])
            )
    for k in range(22):
        fx = k * 0.075
        if abs(fx - x) > 0.1:
            s.box(fx, 0.72, fx + 0.02, 0.8, (255, 255, 255))
    s.box(0, 0.745, x - 0.1, 0.755, (255, 255, 255))
    s.box(x + 0.1, 0.745, s.w, 0.755, (255, 255, 255))


@kind(
    "sailing boat",
    "a sailing boat",
    "a sailboat on the water",
    "a boat with white sails at sea",
    "a drawing of a sailing boat",
)
def _boat(s: Scene) -> None:
    s.day((40, 115, 175), 0.58)
    x, y = s.w / 2 + s.rng.uniform(-0.25, 0.25), s.near(0.72, 0.03)
    sail = s.rng.choice([(255, 255, 255), (250, 245, 230), (255, 235, 235)])
    s.line([(x, y - 0.02), (x, y - 0.52)], (110, 75, 45), 0.014)
    s.poly([(x + 0.015, y - 0.5), (x + 0.015, y - 0.07), (x + 0.27, y - 0.07)], sail)
    s.poly(
        [(x - 0.015, y - 0.46), (x - 0.015, y - 0.07), (x - 0.19, y - 0.07)], mix(sail, (170, 190, 210), 0.3)
    )
    s.poly(
        [(x - 0.27, y - 0.04), (x + 0.3, y - 0.04), (x + 0.2, y + 0.07), (x - 0.19, y + 0.07)],
        s.rng.choice([(150, 50, 45), (60, 70, 110), (125, 80, 45)]),
    )
    s.poly([(x, y - 0.52), (x + 0.08, y - 0.5), (x, y - 0.475)], (220, 50, 50))
    s.waves(0.6, (210, 235, 250))
    s.line([(x - 0.3, y + 0.075), (x + 0.33, y + 0.075)], (225, 240, 250), 0.012)


@kind(
    "city at night",
    "a city skyline at night",
    "tall buildings with lit windows under the moon",
    "skyscrapers at night with the moon in the sky",
    "a drawing of a city at night",
)
def _city(s: Scene) -> None:
    s.sky((8, 12, 38), (50, 50, 95))
    for _ in range(60):
        s.disc(s.rng.uniform(0, s.w), s.rng.uniform(0, 0.5), 0.003, (255, 255, 240))
    mx, my = s.rng.uniform(0.2, s.w - 0.2), s.near(0.17, 0.04)
    s.glow(mx, my, 0.16, (240, 240, 200), 110)
    s.disc(mx, my, 0.075, (250, 246, 215))
    x = -0.05
    while x < s.w:
        width, top = s.rng.uniform(0.09, 0.17), s.rng.uniform(0.28, 0.7)
        s.box(x, top, x + width, 1, s.tint((40, 46, 78), 10))
        step = 0.034
        for row in range(int((0.98 - top) / step)):
            for column in range(int((width - 0.02) / 0.03)):
                if s.rng.random() < 0.55:
                    wx, wy = x + 0.015 + column * 0.03, top + 0.02 + row * step
                    s.box(
                        wx,
                        wy,
                        wx + 0.015,
                        wy + 0.018,
                        s.rng.choice([(255, 225, 130), (255, 200, 90), (210, 230, 255)]),
                    )
        x += width + s.rng.uniform(0, 0.01)


@kind("cat", "a cat", "the face of a cat with whiskers", "a cat looking at the camera", "a drawing of a cat")
def _cat(s: Scene) -> None:
    s.sky(s.tint((200, 215, 225), 30), s.tint((235, 225, 215), 15))
    fur = s.rng.choice([(225, 145, 65), (120, 120, 125), (70, 65, 68), (235, 225, 210), (150, 110, 75)])
    dark = mix(fur, (0, 0, 0), 0.35)
    eyes = s.rng.choice([(120, 180, 70), (220, 180, 50), (90, 170, 200)])
    x, y = s.w / 2 + s.rng.uniform(-0.08, 0.08), s.near(0.52, 0.03)
    s.disc(x, 1.08, 0.42, mix(fur, (0, 0, 0), 0.12), 0.35)
    for k in (-1, 1):
        s.poly([(x + k * 0.33, y - 0.08), (x + k * 0.29, y - 0.46), (x + k * 0.07, y - 0.25)], fur)
        s.poly(
            [(x + k * 0.28, y - 0.14), (x + k * 0.26, y - 0.37), (x + k * 0.12, y - 0.24)], (240, 170, 170)
        )
    s.disc(x, y, 0.34, fur, 0.3)
    for dx in (-0.09, 0.0, 0.09):
        s.line([(x + dx, y - 0.28 + abs(dx) * 0.2), (x + dx * 0.8, y - 0.17)], dark, 0.016)
    for k in (-1, 1):
        s.disc(x + k * 0.1, y + 0.12, 0.11, mix(fur, (255, 255, 255), 0.55), 0.085)
        s.disc(x + k * 0.14, y - 0.06, 0.075, (250, 250, 240), 0.06)
        s.disc(x + k * 0.14, y - 0.06, 0.058, eyes)
        s.disc(x + k * 0.14, y - 0.06, 0.018, (15, 15, 15), 0.052)
        s.disc(x + k * 0.14 + 0.018, y - 0.085, 0.012, (255, 255, 255))
        for t in (-0.035, 0.0, 0.035):
            s.line(
                [(x + k * 0.12, y + 0.11 + t * 0.4), (x + k * 0.42, y + 0.09 + t * 2)], (250, 250, 250), 0.006
            )
    s.poly([(x - 0.038, y + 0.045), (x + 0.038, y + 0.045), (x, y + 0.09)], (225, 120, 130))
    s.arc(x - 0.04, y + 0.1, 0.042, 10, 170, (70, 45, 45), 0.009)
    s.arc(x + 0.04, y + 0.1, 0.042, 10, 170, (70, 45, 45), 0.009)


@kind("dog", "a dog", "the face of a dog with floppy ears", "a dog with its tongue out", "a drawing of a dog")
def _dog(s: Scene) -> None:
    s.day((120, 180, 90), 0.6)
    fur = s.rng.choice([(165, 110, 60), (215, 175, 120), (95, 65, 45), (240, 235, 225)])
    ear = mix(fur, (40, 20, 10), 0.45)
    x, y = s.w / 2 + s.rng.uniform(-0.08, 0.08), s.near(0.46, 0.03)
    s.disc(x, 1.05, 0.36, fur, 0.4)
    s.box(x - 0.2, y + 0.24, x + 0.2, y + 0.3, (205, 45, 50), 0.03)
    s.disc(x, y + 0.32, 0.035, (240, 205, 80))
    s.disc(x, y, 0.29, fur, 0.31)
    for k in (-1, 1):
        s.disc(x + k * 0.29, y + 0.02, 0.09, ear, 0.24)
    s.disc(x, y + 0.14, 0.16, mix(fur, (255, 255, 255), 0.6), 0.14)
    s.disc(x, y + 0.27, 0.05, (240, 115, 125), 0.09)
    s.line([(x, y + 0.2), (x, y + 0.32)], (200, 80, 95), 0.006)
    s.arc(x - 0.06, y + 0.12, 0.065, 20, 160, (50, 30, 25), 0.012)
    s.arc(x + 0.06, y + 0.12, 0.065, 20, 160, (50, 30, 25), 0.012)
    s.disc(x, y + 0.06, 0.06, (25, 20, 20), 0.043)
    s.disc(x - 0.018, y + 0.045, 0.014, (120, 115, 115))
    for k in (-1, 1):
        s.disc(x + k * 0.11, y - 0.08, 0.036, (30, 20, 15), 0.042)
        s.disc(x + k * 0.11 + 0.012, y - 0.095, 0.012, (255, 255, 255))


@kind(
    "fish",
    "fish under water",
    "colorful fish swimming",
    "a tropical fish in the sea with corals",
    "a drawing of fish",
)
def _fish(s: Scene) -> None:
    s.sky((50, 165, 205), (10, 55, 110))
    for k in range(5):
        x = k * 0.3 + s.rng.uniform(0, 0.1)
        s.poly([(x, 0), (x + 0.1, 0), (x + 0.28, 1), (x + 0.05, 1)], (255, 255, 255, 22))
    s.disc(s.w / 2, 1.08, s.w * 0.7, (215, 190, 135), 0.2)
    for _ in range(10):
        x, h, c = (
            s.rng.uniform(0, s.w),
            s.rng.uniform(0.1, 0.25),
            s.rng.choice([(50, 140, 90), (225, 90, 110), (200, 110, 190)]),
        )
        for k in range(-2, 3):
            s.line([(x, 0.97), (x + k * 0.025, 0.97 - h + abs(k) * 0.02)], c, 0.014)
    for number in range(s.rng.randint(3, 5)):
        x, y = (
            0.25 + (number % 3) * (s.w - 0.5) / 2 + s.rng.uniform(-0.07, 0.07),
            0.22 + 0.18 * number + s.rng.uniform(-0.04, 0.04),
        )
        r, d = s.rng.uniform(0.1, 0.15), s.rng.choice([-1, 1])
        c = s.rng.choice([(250, 140, 30), (250, 210, 50), (240, 80, 70), (130, 90, 220)])
        s.poly([(x - d * r * 0.8, y), (x - d * r * 1.6, y - r * 0.55), (x - d * r * 1.6, y + r * 0.55)], c)
        s.poly(
            [(x - r * 0.4, y - r * 0.4), (x, y - r * 0.95), (x + r * 0.4, y - r * 0.4)],
            mix(c, (0, 0, 0), 0.15),
        )
        s.disc(x, y, r, c, r * 0.58)
        for band in (-0.3, 0.15):
            s.box(
                x + d * band * r - r * 0.08,
                y - r * 0.5,
                x + d * band * r + r * 0.08,
                y + r * 0.5,
                (255, 255, 255),
                r * 0.08,
            )
        s.disc(x + d * r * 0.62, y - r * 0.12, r * 0.13, (255, 255, 255))
        s.disc(x + d * r * 0.65, y - r * 0.12, r * 0.07, (10, 10, 10))
    for _ in range(18):
        s.ring(
            s.rng.uniform(0, s.w),
            s.rng.uniform(0.05, 0.8),
            s.rng.uniform(0.006, 0.02),
            (225, 245, 255, 200),
            0.004,
        )


@kind(
    "fruit",
    "a bowl of fruit",
    "fruit in a bowl on a table",
    "apples, oranges and bananas in a bowl",
    "a drawing of a bowl of fruit",
)
def _fruit(s: Scene) -> None:
    s.sky(s.tint((225, 215, 195), 20), (245, 235, 215), 0, 0.62)
    s.sky((165, 110, 65), (120, 75, 42), 0.62, 1)
    x = s.w / 2 + s.rng.uniform(-0.06, 0.06)
    for k in range(2):
        s.arc(x - 0.02 + k * 0.03, 0.16 - k * 0.035, 0.3, 25, 110, (245, 210, 60), 0.06)
    colors = [(200, 40, 45), (240, 140, 35), (120, 170, 60), (215, 60, 55), (245, 150, 40), (225, 200, 70)]
    s.rng.shuffle(colors)
    for number, (dx, y) in enumerate(
        ((-0.2, 0.47), (0.2, 0.47), (-0.07, 0.42), (0.08, 0.44), (-0.13, 0.55), (0.13, 0.55))
    ):
        r = s.near(0.1, 0.012)
        s.disc(x + dx, y, r, colors[number])
        s.disc(x + dx - r * 0.35, y - r * 0.4, r * 0.22, mix(colors[number], (255, 255, 255), 0.6))
        s.line([(x + dx, y - r * 0.9), (x + dx + 0.01, y - r * 1.2)], (90, 60, 30), 0.01)
    for k in range(9):
        s.disc(x + 0.28 + (k % 3) * 0.035 - 0.03, 0.47 + (k // 3) * 0.04, 0.025, (110, 50, 130))
    bowl = s.rng.choice([(70, 110, 175), (235, 235, 235), (160, 70, 60), (60, 140, 130)])
    s.pen.pieslice(
        [(x - 0.36) * s.unit, 0.24 * s.unit, (x + 0.36) * s.unit, 0.86 * s.unit], 0, 180, fill=bowl
    )
    s.box(x - 0.37, 0.535, x + 0.37, 0.565, mix(bowl, (255, 255, 255), 0.3), 0.015)
    s.box(x - 0.12, 0.84, x + 0.12, 0.88, mix(bowl, (0, 0, 0), 0.2), 0.015)


@kind(
    "cake",
    "a birthday cake with candles",
    "a birthday cake",
    "a cake with burning candles on a plate",
    "a drawing of a birthday cake",
)
def _cake(s: Scene) -> None:
    s.sky(s.tint((235, 205, 215), 20), (250, 235, 225), 0, 0.75)
    s.sky((205, 165, 130), (170, 125, 95), 0.75, 1)
    for _ in range(24):
        s.disc(
            s.rng.uniform(0, s.w),
            s.rng.uniform(0, 0.35),
            0.01,
            s.rng.choice([(240, 90, 110), (90, 160, 230), (250, 210, 80)]),
        )
    x = s.w / 2 + s.rng.uniform(-0.06, 0.06)
    cream = s.rng.choice([(255, 190, 205), (255, 250, 240), (120, 70, 45), (185, 225, 245)])
    s.disc(x, 0.86, 0.48, (250, 250, 252), 0.05)
    for half, top, low in ((0.37, 0.6, 0.86), (0.25, 0.4, 0.62)):
        s.box(x - half, top, x + half, low, (225, 175, 115), 0.02)
        s.box(x - half, (top + low) / 2 - 0.015, x + half, (top + low) / 2 + 0.015, (200, 70, 80))
        s.box(x - half, top - 0.02, x + half, top + 0.06, cream, 0.03)
        k = -half + 0.035
        while k < half:
            s.disc(x + k, top + 0.06, 0.03, cream, s.rng.uniform(0.03, 0.06))
            k += 0.06
    count = s.rng.randint(3, 6)
    for k in range(count):
        cx = x - 0.19 + 0.38 * k / (count - 1)
        s.box(
            cx - 0.011,
            0.25,
            cx + 0.011,
            0.39,
            s.rng.choice([(230, 70, 90), (80, 150, 220), (250, 200, 60), (110, 190, 100)]),
        )
        s.disc(cx, 0.215, 0.02, (255, 190, 60), 0.036)
        s.disc(cx, 0.225, 0.01, (255, 245, 190), 0.02)


@kind(
    "forest",
    "a forest",
    "a path through a forest of tall trees",
    "many green trees in the woods",
    "a drawing of a forest",
)
def _forest(s: Scene) -> None:
    s.sky((185, 215, 190), (140, 180, 130))
    s.sky((95, 135, 65), (55, 90, 40), 0.7, 1)
    s.poly(
        [(s.w / 2 - 0.03, 0.7), (s.w / 2 + 0.03, 0.7), (s.w / 2 + 0.28, 1), (s.w / 2 - 0.22, 1)],
        (175, 145, 100),
    )
    leafy = s.rng.random() < 0.5
    for row in range(4):
        for _ in range(7 - row):
            x = s.rng.uniform(0, s.w)
            if abs(x - s.w / 2) < 0.05 + 0.07 * row:
                continue
            base, h = 0.71 + 0.085 * row, s.rng.uniform(0.42, 0.62) + row * 0.1
            color = mix((75, 125, 85), (25, 75, 40), row / 3)
            if leafy:
                s.tree(x, base, h, s.tint(color, 12))
            else:
                s.fir(x, base, h, s.tint(color, 10))


@kind(
    "desert",
    "a cactus in the desert",
    "a desert with cactuses and sand dunes",
    "a green cactus on sand under the sun",
    "a drawing of a desert",
)
def _desert(s: Scene) -> None:
    s.sky(s.tint((95, 175, 230)), (250, 230, 190), 0, 0.65)
    s.disc(s.rng.uniform(0.15, s.w - 0.15), 0.16, 0.085, (255, 225, 100))
    s.sky((240, 205, 140), (215, 165, 95), 0.62, 1)
    for k in range(3):
        s.disc(s.rng.uniform(0, s.w), 0.85 + k * 0.12, 0.9, mix((238, 200, 130), (205, 150, 85), k / 3), 0.27)
    s.box(0, 0.93, s.w, 1, (205, 155, 90))
    for k in range(s.rng.randint(2, 3)):
        x, h = 0.25 + k * (s.w - 0.5) / 2 + s.rng.uniform(-0.08, 0.08), s.rng.uniform(0.35, 0.55)
        green, base = s.tint((60, 135, 70)), s.rng.uniform(0.82, 0.93)
        s.box(x - 0.045, base - h, x + 0.045, base, green, 0.045)
        for d, t in ((-1, 0.55), (1, 0.4)):
            y = base - h * t
            s.box(min(x, x + d * 0.14), y - 0.03, max(x, x + d * 0.14), y + 0.03, green, 0.03)
            s.box(x + d * 0.14 - 0.03, y - h * 0.3, x + d * 0.14 + 0.03, y + 0.03, green, 0.03)
        for j in (-0.018, 0.012):
            s.line([(x + j, base - h + 0.04), (x + j, base - 0.01)], mix(green, (0, 0, 0), 0.25), 0.005)


@kind(
    "balloon",
    "a hot air balloon",
    "a colorful hot-air balloon in the sky",
    "hot air balloons flying above hills",
    "a drawing of a hot air balloon",
)
def _balloon(s: Scene) -> None:
    s.day((120, 175, 85), 0.85, 3)
    s.disc(s.rng.uniform(0, s.w), 0.95, 0.5, (95, 155, 75), 0.15)
    for k in range(s.rng.randint(1, 2)):
        r = 0.25 if k == 0 else 0.09
        x = s.w / 2 + s.rng.uniform(-0.1, 0.1) if k == 0 else s.rng.choice([0.15, s.w - 0.15])
        y = 0.36 if k == 0 else 0.25
        a, b = s.rng.sample(
            [(220, 50, 50), (250, 200, 50), (60, 110, 200), (250, 130, 40), (110, 180, 80), (150, 70, 170)], 2
        )
        s.poly(
            [
                (x - r * 0.8, y + r * 0.6),
                (x + r * 0.8, y + r * 0.6),
                (x + r * 0.2, y + r * 1.4),
                (x - r * 0.2, y + r * 1.4),
            ],
            a,
        )
        for t, c in ((1.0, a), (0.72, b), (0.42, a), (0.15, b)):
            s.disc(x, y, r * t, c, r)
            s.poly(
                [
                    (x - r * t * 0.8, y + r * 0.6),
                    (x + r * t * 0.8, y + r * 0.6),
                    (x + r * t * 0.2, y + r * 1.4),
                    (x - r * t * 0.2, y + r * 1.4),
                ],
                c,
            )
        for d in (-1, 1):
            s.line([(x + d * r * 0.17, y + r * 1.4), (x + d * r * 0.14, y + r * 1.75)], (90, 65, 45), 0.006)
        s.box(x - r * 0.17, y + r * 1.72, x + r * 0.17, y + r * 2.0, (145, 95, 50), r * 0.03)


@kind(
    "train",
    "a train",
    "a steam train on railway tracks",
    "a locomotive with smoke pulling a wagon",
    "a drawing of a train",
)
def _train(s: Scene) -> None:
    s.day((130, 180, 90), 0.6, 1)
    c = s.rng.choice([(185, 40, 40), (35, 90, 60), (40, 60, 120), (50, 50, 55)])
    x, y = s.w / 2 + s.rng.uniform(-0.05, 0.05), 0.76
    for k in range(16):
        s.box(k * 0.11, 0.86, k * 0.11 + 0.05, 0.9, (110, 80, 55))
    s.box(0, 0.85, s.w, 0.865, (120, 120, 125))
    for k in range(6):
        s.disc(x + 0.32 - k * 0.1, 0.3 - k * 0.035, 0.045 + k * 0.012, (235, 235, 238, 215))
    s.box(x - 0.62, 0.47, x - 0.2, y, s.rng.choice([(200, 150, 60), (130, 60, 50), (70, 110, 150)]), 0.02)
    for k in range(3):
        s.box(x - 0.58 + k * 0.13, 0.52, x - 0.49 + k * 0.13, 0.62, (205, 230, 240))
    s.box(x - 0.15, 0.4, x + 0.1, y, c, 0.02)
    s.box(x - 0.18, 0.37, x + 0.13, 0.41, mix(c, (0, 0, 0), 0.4), 0.01)
    s.box(x - 0.09, 0.46, x + 0.04, 0.57, (205, 230, 240))
    s.box(x + 0.08, 0.54, x + 0.46, y, c, 0.05)
    s.box(x + 0.29, 0.38, x + 0.36, 0.55, (40, 40, 45))
    s.box(x + 0.27, 0.36, x + 0.38, 0.4, (40, 40, 45))
    s.disc(x + 0.18, 0.54, 0.035, (220, 180, 70))
    s.disc(x + 0.46, 0.62, 0.03, (255, 240, 170))
    s.poly([(x + 0.44, y), (x + 0.56, 0.85), (x + 0.42, 0.85)], (190, 50, 45))
    for wx, r in ((-0.54, 0.06), (-0.28, 0.06), (-0.08, 0.085), (0.12, 0.085), (0.28, 0.06), (0.4, 0.06)):
        s.disc(x + wx, 0.85 - r, r, (35, 35, 40))
        s.disc(x + wx, 0.85 - r, r * 0.6, mix(c, (220, 220, 220), 0.3))
        s.disc(x + wx, 0.85 - r, r * 0.2, (35, 35, 40))


@kind(
    "bicycle",
    "a bicycle",
    "a bike standing on the street",
    "a bicycle with two wheels",
    "a drawing of a bicycle",
)
def _bicycle(s: Scene) -> None:
    s.sky(s.tint((235, 220, 195), 20), (245, 238, 225), 0, 0.78)
    for row in range(7):
        for k in range(9):
            bx = k * 0.2 - (row % 2) * 0.1
            s.box(bx + 0.005, row * 0.11 + 0.005, bx + 0.195, row * 0.11 + 0.105, (225, 205, 178), 0.006)
    s.sky((150, 150, 152), (120, 120, 124), 0.78, 1)
    c = s.rng.choice([(210, 45, 45), (40, 110, 190), (40, 140, 90), (30, 30, 35), (240, 150, 30)])
    x, y, r = s.w / 2, 0.66, 0.19
    a, b = (x - 0.31, y), (x + 0.31, y)
    for wx, wy in (a, b):
        for k in range(12):
            t = k * math.pi / 6
            s.line([(wx, wy), (wx + r * math.cos(t), wy + r * math.sin(t))], (150, 150, 155), 0.004)
        s.ring(wx, wy, r, (30, 30, 34), 0.022)
        s.disc(wx, wy, 0.02, (90, 90, 95))
    seat, crank, head = (x - 0.14, y - 0.27), (x - 0.04, y + 0.01), (x + 0.21, y - 0.28)
    for p, q in ((a, crank), (a, seat), (seat, crank), (crank, head), (seat, head), (head, b)):
        s.line([p, q], c, 0.02)
    s.line([seat, (x - 0.16, y - 0.34)], (60, 60, 64), 0.016)
    s.box(x - 0.24, y - 0.37, x - 0.09, y - 0.335, (40, 30, 28), 0.017)
    s.line([head, (x + 0.19, y - 0.37), (x + 0.27, y - 0.4), (x + 0.31, y - 0.36)], (60, 60, 64), 0.017)
    s.ring(*crank, 0.045, (60, 60, 64), 0.012)
    s.line([(crank[0] - 0.05, crank[1] + 0.06), (crank[0] + 0.05, crank[1] - 0.06)], (60, 60, 64), 0.013)


@kind(
    "rainbow",
    "a rainbow over a field",
    "a rainbow in the sky",
    "a colorful rainbow above green hills",
    "a drawing of a rainbow",
)
def _rainbow(s: Scene) -> None:
    s.sky(s.tint((120, 165, 210)), (215, 230, 240))
    s.cloud(s.rng.uniform(0.1, 0.3), 0.15, 0.08, (230, 235, 240))
    x, r = s.w / 2 + s.rng.uniform(-0.12, 0.12), s.near(0.6, 0.04)
    for k, c in enumerate(
        (
            (225, 50, 50),
            (245, 140, 40),
            (250, 220, 60),
            (90, 185, 80),
            (60, 130, 215),
            (75, 70, 165),
            (145, 75, 170),
        )
    ):
        s.arc(x, 0.82, r - k * 0.026, 180, 360, c, 0.028)
    s.disc(0.2, 1.05, 0.8, (105, 170, 75), 0.33)
    s.disc(s.w - 0.1, 1.07, 0.75, (85, 150, 65), 0.3)
    for _ in range(4):
        s.tree(s.rng.uniform(0.1, s.w - 0.1), s.rng.uniform(0.82, 0.92), s.rng.uniform(0.1, 0.18))


@kind(
    "vase",
    "flowers in a vase",
    "a vase of flowers on a table",
    "a bouquet of colorful flowers in a vase",
    "a drawing of flowers in a vase",
)
def _vase(s: Scene) -> None:
    s.sky(s.tint((215, 225, 215), 22), (240, 235, 225), 0, 0.8)
    s.sky((150, 105, 70), (115, 78, 50), 0.8, 1)
    x = s.w / 2 + s.rng.uniform(-0.08, 0.08)
    vase = s.rng.choice([(70, 120, 180), (190, 90, 70), (235, 235, 240), (70, 150, 140)])
    spots = [
        (x + dx * 0.13 + s.rng.uniform(-0.03, 0.03), 0.2 + 0.07 * abs(dx) + s.rng.uniform(-0.06, 0.1))
        for dx in (-2, -1.2, -0.4, 0.4, 1.2, 2)
    ]
    for fx, fy in spots:
        s.line([(x, 0.6), ((x + fx) / 2, (0.55 + fy) / 2), (fx, fy)], (60, 125, 60), 0.012)
        s.disc((x * 1.2 + fx * 0.8) / 2 + 0.02, (0.5 + fy) / 2, 0.035, (80, 150, 75), 0.018)
    for fx, fy in spots:
        c = s.rng.choice(
            [(225, 60, 80), (250, 190, 60), (215, 110, 200), (250, 250, 250), (240, 130, 60), (130, 90, 200)]
        )
        for k in range(8):
            t = k * math.pi / 4
            s.disc(fx + 0.045 * math.cos(t), fy + 0.045 * math.sin(t), 0.033, c)
        s.disc(fx, fy, 0.03, (245, 205, 70) if c != (250, 190, 60) else (130, 80, 40))
    s.poly([(x - 0.07, 0.52), (x + 0.07, 0.52), (x + 0.05, 0.62), (x - 0.05, 0.62)], vase)
    s.disc(x, 0.74, 0.14, vase, 0.15)
    s.box(x - 0.08, 0.51, x + 0.08, 0.535, mix(vase, (255, 255, 255), 0.3), 0.012)
    s.disc(x - 0.06, 0.7, 0.025, mix(vase, (255, 255, 255), 0.5), 0.06)


@kind(
    "palm beach",
    "a beach with palm trees",
    "a palm tree on a tropical beach",
    "a sandy beach by the blue sea with a palm",
    "a drawing of a beach",
)
def _palm(s: Scene) -> None:
    s.day((40, 165, 190), 0.5)
    s.waves(0.52, (220, 245, 250), 8)
    s.disc(s.w * 0.4, 1.05, s.w * 0.85, (250, 250, 245), 0.33)
    s.disc(s.w * 0.4, 1.07, s.w * 0.85, (240, 215, 160), 0.33)
    for k in range(s.rng.randint(1, 2)):
        x, d = (0.3 if k == 0 else s.w - 0.3) + s.rng.uniform(-0.1, 0.1), s.rng.choice([-1, 1])
        top = (x + d * 0.13, s.near(0.27, 0.04))
        points = [(x + d * 0.13 * t * t, 0.86 + (top[1] - 0.86) * t) for t in (0, 0.25, 0.5, 0.75, 1)]
        s.line(points, (140, 100, 60), 0.036)
        for t in range(7):
            angle = math.pi * (0.95 + t * 0.18) if t < 6 else math.pi * 0.5
            tip = (top[0] + 0.25 * math.cos(angle), top[1] + 0.2 * math.sin(angle) + 0.06)
            mid = (top[0] + 0.14 * math.cos(angle), top[1] + 0.16 * math.sin(angle) - 0.03)
            s.poly([top, (mid[0], mid[1] - 0.025), tip, (mid[0], mid[1] + 0.035)], s.tint((45, 140, 65), 12))
        for j in (-0.02, 0.025):
            s.disc(top[0] + j, top[1] + 0.03, 0.025, (100, 65, 35))
    if s.rng.random() < 0.6:
        x = s.w * 0.55
        s.line([(x, 0.86), (x, 0.6)], (235, 235, 235), 0.012)
        s.pen.pieslice(
            [(x - 0.15) * s.unit, 0.55 * s.unit, (x + 0.15) * s.unit, 0.75 * s.unit],
            180,
            360,
            fill=(225, 70, 60),
        )


@kind(
    "portrait",
    "portrait of a smiling person",
    "a smiling face",
    "a person smiling at the camera",
    "a drawing of a smiling person",
)
def _portrait(s: Scene) -> None:
    s.sky(s.tint((120, 155, 180), 40), s.tint((190, 205, 215), 20))
    skin = s.rng.choice([(245, 210, 180), (225, 175, 135), (165, 110, 75), (110, 72, 50)])
    hair = s.rng.choice([(45, 30, 25), (110, 65, 35), (215, 175, 95), (25, 22, 24), (160, 70, 40)])
    eyes = s.rng.choice([(60, 90, 130), (80, 55, 35), (70, 110, 70)])
    x, y, long = s.w / 2 + s.rng.uniform(-0.08, 0.08), 0.44, s.rng.random() < 0.5
    if long:
        s.box(x - 0.27, 0.25, x + 0.27, 0.85, hair, 0.16)
    s.disc(
        x,
        1.08,
        0.44,
        s.rng.choice([(190, 60, 65), (55, 95, 150), (60, 130, 95), (230, 180, 70), (90, 70, 110)]),
        0.33,
    )
    s.box(x - 0.09, 0.6, x + 0.09, 0.82, mix(skin, (90, 40, 20), 0.15), 0.06)
    s.disc(x, y - 0.06, 0.245, hair, 0.29)
    s.disc(x, y + 0.02, 0.21, skin, 0.26)
    s.pen.pieslice(
        [(x - 0.23) * s.unit, 0.15 * s.unit, (x + 0.23) * s.unit, 0.52 * s.unit], 190, 350, fill=hair
    )
    for k in (-1, 1):
        if not long:
            s.disc(x + k * 0.215, y + 0.03, 0.035, skin, 0.05)
        s.disc(x + k * 0.085, y, 0.038, (255, 255, 255), 0.026)
        s.disc(x + k * 0.085, y, 0.02, eyes)
        s.disc(x + k * 0.085, y, 0.009, (10, 10, 10))
        s.arc(x + k * 0.085, y - 0.02, 0.05, 215, 325, mix(hair, (0, 0, 0), 0.2), 0.013)
        s.disc(x + k * 0.13, y + 0.1, 0.035, (*mix(skin, (235, 90, 90), 0.4), 120))
    s.line([(x, y + 0.01), (x - 0.02, y + 0.085), (x + 0.01, y + 0.09)], mix(skin, (80, 30, 10), 0.35), 0.01)
    s.pen.chord(
        [(x - 0.09) * s.unit, (y + 0.06) * s.unit, (x + 0.09) * s.unit, (y + 0.2) * s.unit],
        15,
        165,
        fill=(190, 60, 65),
    )
    s.pen.chord(
        [(x - 0.07) * s.unit, (y + 0.085) * s.unit, (x + 0.07) * s.unit, (y + 0.185) * s.unit],
        20,
        160,
        fill=(255, 255, 255),
    )


@kind(
    "chessboard",
    "a chessboard",
    "a chess board with pieces",
    "a game of chess on a checkered board",
    "a drawing of a chessboard",
)
def _chess(s: Scene) -> None:
    s.sky(s.tint((130, 95, 65), 15), (100, 70, 48))
    light, dark = s.rng.choice(
        [((240, 220, 185), (120, 75, 45)), ((245, 245, 245), (50, 50, 55)), ((235, 235, 210), (75, 115, 70))]
    )
    x0, y0, c = s.w / 2 - 0.44, 0.06, 0.11
    s.box(x0 - 0.025, y0 - 0.025, x0 + 0.905, y0 + 0.905, mix(dark, (0, 0, 0), 0.4), 0.01)
    for row in range(8):
        for column in range(8):
            x, y = x0 + column * c, y0 + row * c
            s.box(x, y, x + c, y + c, light if (row + column) % 2 == 0 else dark)
    for row, color in ((0, (30, 28, 28)), (1, (30, 28, 28)), (6, (250, 246, 235)), (7, (250, 246, 235))):
        edge = (190, 190, 190) if color[0] < 100 else (90, 80, 70)
        for column in range(8):
            if s.rng.random() < 0.25:
                continue
            jump = s.rng.choice([0, 0, 0, 1, 2]) * (1 if row < 4 else -1) if row in (1, 6) else 0
            x, y = x0 + (column + 0.5) * c, y0 + (row + jump + 0.5) * c
            for grow, fill in ((0.006, edge), (0, color)):
                s.poly(
                    [
                        (x - 0.03 - grow, y + 0.04 + grow),
                        (x + 0.03 + grow, y + 0.04 + grow),
                        (x + 0.012 + grow, y - 0.01),
                        (x - 0.012 - grow, y - 0.01),
                    ],
                    fill,
                )
                s.disc(x, y - 0.02, 0.02 + grow, fill)
                if row in (0, 7):
                    s.box(x - 0.022 - grow, y - 0.05 - grow, x + 0.022 + grow, y - 0.03 + grow, fill)


@kind(
    "clock",
    "a clock",
    "a round clock on the wall",
    "a clock face with hands and hours",
    "a drawing of a clock",
)
def _clock(s: Scene) -> None:
    s.sky(s.tint((165, 195, 200), 40), s.tint((190, 210, 215), 20))
    x, y, r = s.w / 2 + s.rng.uniform(-0.15, 0.15), s.near(0.5, 0.02), s.near(0.38, 0.03)
    rim = s.rng.choice([(125, 75, 40), (40, 45, 55), (180, 50, 50), (205, 165, 70)])
    s.disc(x + 0.015, y + 0.025, r, (60, 70, 80, 90))
    s.disc(x, y, r, rim)
    s.disc(x, y, r * 0.88, (252, 250, 242))
    for k in range(60):
        t = k * math.pi / 30
        inner = 0.72 if k % 5 == 0 else 0.8
        s.line(
            [
                (x + r * inner * math.sin(t), y - r * inner * math.cos(t)),
                (x + r * 0.83 * math.sin(t), y - r * 0.83 * math.cos(t)),
            ],
            (35, 35, 40),
            0.014 if k % 5 == 0 else 0.004,
        )
    hour, minute = s.rng.randint(0, 11), s.rng.randint(0, 11) * 5
    a, b = (hour + minute / 60) * math.pi / 6, minute * math.pi / 30
    s.line([(x, y), (x + r * 0.42 * math.sin(a), y - r * 0.42 * math.cos(a))], (30, 30, 35), 0.026)
    s.line([(x, y), (x + r * 0.65 * math.sin(b), y - r * 0.65 * math.cos(b))], (30, 30, 35), 0.016)
    s.line([(x, y), (x + r * 0.7, y + r * 0.1)], (210, 45, 45), 0.006)
    s.disc(x, y, 0.024, (210, 45, 45))


@kind(
    "umbrella",
    "an umbrella in the rain",
    "a person with an umbrella in the rain",
    "someone under an umbrella on a rainy day",
    "a drawing of an umbrella in the rain",
)
def _umbrella(s: Scene) -> None:
    s.sky((105, 120, 140), (165, 175, 185), 0, 0.82)
    s.cloud(s.w * 0.3, 0.07, 0.12, (130, 140, 155))
    s.cloud(s.w * 0.75, 0.05, 0.13, (120, 130, 146))
    s.sky((110, 115, 122), (80, 85, 95), 0.82, 1)
    c = s.rng.choice([(215, 45, 50), (240, 190, 50), (60, 110, 200), (190, 70, 150)])
    x = s.w / 2 + s.rng.uniform(-0.2, 0.2)
    s.disc(x, 0.93, 0.22, (135, 145, 160), 0.025)
    s.box(x - 0.055, 0.78, x - 0.01, 0.93, (45, 55, 85))
    s.box(x + 0.01, 0.78, x + 0.055, 0.93, (45, 55, 85))
    s.poly(
        [(x - 0.06, 0.52), (x + 0.06, 0.52), (x + 0.12, 0.82), (x - 0.12, 0.82)],
        s.rng.choice([(245, 205, 60), (60, 90, 120), (120, 60, 70)]),
    )
    s.disc(x, 0.46, 0.065, (240, 205, 175))
    s.line([(x + 0.08, 0.2), (x + 0.08, 0.64)], (80, 60, 45), 0.012)
    u = s.unit
    s.pen.pieslice([(x - 0.3 + 0.05) * u, 0.14 * u, (x + 0.35) * u, 0.66 * u], 180, 360, fill=c)
    for k in (-0.3, -0.1, 0.1):
        s.disc(x + 0.05 + k + 0.1, 0.405, 0.1, mix(c, (0, 0, 0), 0.18), 0.03)
    for _ in range(130):
        rx, ry = s.rng.uniform(0, s.w), s.rng.uniform(0.05, 0.95)
        if not (abs(rx - x - 0.05) < 0.28 and 0.2 < ry < 0.9):
            s.line([(rx, ry), (rx - 0.012, ry + 0.05)], (215, 228, 240, 200), 0.005)


@kind(
    "pizza",
    "a pizza",
    "a pizza with cheese, tomato and salami",
    "a round pizza on a plate",
    "a drawing of a pizza",
)
def _pizza(s: Scene) -> None:
    s.sky(s.tint((140, 100, 70), 25), (110, 75, 50))
    for k in range(5):
        s.line([(0, k * 0.22), (s.w, k * 0.22)], (90, 60, 40), 0.006)
    x, y = s.w / 2 + s.rng.uniform(-0.08, 0.08), 0.5
    s.disc(x, y, 0.46, (240, 240, 238))
    s.disc(x, y, 0.41, (205, 145, 75))
    s.disc(x, y, 0.36, (200, 70, 40))
    s.disc(x, y, 0.345, (248, 205, 100))
    for _ in range(60):
        t, r = s.rng.uniform(0, 6.3), 0.32 * s.rng.random() ** 0.5
        s.disc(x + r * math.cos(t), y + r * math.sin(t), 0.025, (250, 225, 140, 170))
    for k in range(s.rng.randint(8, 11)):
        t, r = k * 2.4, 0.08 + 0.022 * k
        s.disc(x + r * math.cos(t), y + r * math.sin(t), 0.052, (175, 45, 40))
        s.disc(x + r * math.cos(t), y + r * math.sin(t), 0.042, (200, 65, 55))
    for _ in range(16):
        t, r = s.rng.uniform(0, 6.3), 0.31 * s.rng.random() ** 0.5
        s.disc(
            x + r * math.cos(t),
            y + r * math.sin(t),
            0.022,
            s.rng.choice([(60, 120, 50), (40, 40, 40), (90, 150, 70)]),
            0.013,
        )
    for k in range(4):
        t = k * math.pi / 4
        s.line(
            [
                (x - 0.41 * math.cos(t), y - 0.41 * math.sin(t)),
                (x + 0.41 * math.cos(t), y + 0.41 * math.sin(t)),
            ],
            (165, 105, 55),
            0.006,
        )


@kind(
    "snowman",
    "a snowman",
    "a snowman with a carrot nose and a hat",
    "a snowman in winter while it snows",
    "a drawing of a snowman",
)
def _snowman(s: Scene) -> None:
    s.sky(s.tint((120, 155, 200)), (205, 220, 238), 0, 0.75)
    for _ in range(5):
        s.fir(s.rng.uniform(0, s.w), 0.78, s.rng.uniform(0.25, 0.4), (60, 100, 95))
    s.sky((248, 250, 255), (222, 230, 242), 0.75, 1)
    x = s.w / 2 + s.rng.uniform(-0.15, 0.15)
    for d in (-1, 1):
        s.line([(x + d * 0.12, 0.52), (x + d * 0.33, 0.38), (x + d * 0.37, 0.31)], (95, 65, 40), 0.014)
    for y, r in ((0.77, 0.2), (0.52, 0.155), (0.31, 0.115)):
        s.disc(x + 0.008, y + 0.008, r, (195, 208, 225))
        s.disc(x, y, r, (253, 254, 255))
    for k in (-1, 1):
        s.disc(x + k * 0.042, 0.28, 0.014, (20, 20, 25))
    s.poly([(x, 0.3), (x, 0.335), (x + 0.12, 0.325)], (240, 130, 40))
    for k in range(5):
        s.disc(x - 0.05 + k * 0.025, 0.365 + 0.012 * (1 - abs(k - 2) / 2), 0.008, (20, 20, 25))
    for y in (0.47, 0.54, 0.61):
        s.disc(x, y, 0.015, (20, 20, 25))
    scarf = s.rng.choice([(210, 45, 50), (50, 130, 80), (60, 90, 190)])
    s.box(x - 0.11, 0.395, x + 0.11, 0.435, scarf, 0.02)
    s.box(x + 0.04, 0.41, x + 0.085, 0.55, scarf, 0.01)
    s.box(x - 0.14, 0.2, x + 0.14, 0.225, (30, 30, 36), 0.01)
    s.box(x - 0.085, 0.06, x + 0.085, 0.215, (30, 30, 36), 0.01)
    s.box(x - 0.085, 0.17, x + 0.085, 0.2, scarf)
    for _ in range(70):
        s.disc(s.rng.uniform(0, s.w), s.rng.uniform(0, 1), s.rng.uniform(0.004, 0.01), (255, 255, 255, 230))


@kind(
    "lighthouse",
    "a lighthouse",
    "a red and white lighthouse on a cliff by the sea",
    "a lighthouse on the coast",
    "a drawing of a lighthouse",
)
def _lighthouse(s: Scene) -> None:
    s.day((45, 115, 165), 0.68)
    s.waves(0.7, (210, 235, 245), 8)
    d = s.rng.choice([0.3, s.w - 0.3])
    x = d + s.rng.uniform(-0.05, 0.05)
    s.disc(x, 1.02, 0.55, (105, 95, 85), 0.3)
    s.disc(x, 0.99, 0.5, (110, 155, 75), 0.23)
    stripe = s.tint((205, 45, 45))
    top, low = 0.24, 0.8
    for k in range(6):
        y0, y1 = top + (low - top) * k / 6, top + (low - top) * (k + 1) / 6
        w0, w1 = 0.065 + 0.06 * k / 6, 0.065 + 0.06 * (k + 1) / 6
        s.poly([(x - w0, y0), (x + w0, y0), (x + w1, y1), (x - w1, y1)], (250, 250, 248) if k % 2 else stripe)
    s.box(x - 0.09, 0.225, x + 0.09, 0.245, (45, 45, 50))
    s.box(x - 0.05, 0.13, x + 0.05, 0.225, (255, 240, 160))
    s.poly([(x - 0.07, 0.135), (x, 0.06), (x + 0.07, 0.135)], stripe)
    k = 1 if d < s.w / 2 else -1
    s.poly([(x + k * 0.05, 0.17), (x + k * 1.5, 0.05), (x + k * 1.5, 0.33)], (255, 245, 180, 70))
    s.box(x - 0.025, 0.72, x + 0.025, 0.8, (80, 55, 40), 0.01)


@kind(
    "soccer ball",
    "a soccer ball on grass",
    "a football on a green field",
    "a black and white soccer ball",
    "a drawing of a soccer ball",
)
def _ball(s: Scene) -> None:
    s.day((80, 160, 65), 0.4, 1)
    for k in range(0, 6, 2):
        s.poly(
            [
                (s.w / 2 + (k - 3) * 0.2, 0.4),
                (s.w / 2 + (k - 2) * 0.2, 0.4),
                (s.w / 2 + (k - 2) * 0.9, 1),
                (s.w / 2 + (k - 3) * 0.9, 1),
            ],
            (100, 180, 80),
        )
    gx = s.w / 2 + s.rng.uniform(-0.2, 0.2)
    for p, q in (
        ((gx - 0.3, 0.45), (gx - 0.3, 0.2)),
        ((gx - 0.3, 0.2), (gx + 0.3, 0.2)),
        ((gx + 0.3, 0.2), (gx + 0.3, 0.45)),
    ):
        s.line([p, q], (255, 255, 255), 0.014)
    for k in range(1, 12):
        s.line([(gx - 0.3 + k * 0.05, 0.2), (gx - 0.3 + k * 0.05, 0.45)], (255, 255, 255, 120), 0.003)
    x, y, r, turn = s.w / 2 + s.rng.uniform(-0.25, 0.25), 0.72, s.near(0.19, 0.02), s.rng.uniform(0, 1)
    s.disc(x, y + r, r * 1.1, (30, 70, 25, 120), 0.03)
    s.disc(x, y, r, (250, 250, 250))
    pent = [
        (x + r * 0.36 * math.cos(turn + k * 1.2566), y + r * 0.36 * math.sin(turn + k * 1.2566))
        for k in range(5)
    ]
    s.poly(pent, (25, 25, 28))
    for k in range(5):
        t = turn + k * 1.2566
        ex, ey = x + r * 0.72 * math.cos(t), y + r * 0.72 * math.sin(t)
        s.line([pent[k], (ex, ey)], (25, 25, 28), 0.008)
        s.poly(
            [(ex, ey)]
            + [(x + r * 0.97 * math.cos(t + j), y + r * 0.97 * math.sin(t + j)) for j in (-0.3, 0, 0.3)],
            (25, 25, 28),
        )
        t += 0.6283
        s.line([(ex, ey), (x + r * 0.85 * math.cos(t), y + r * 0.85 * math.sin(t))], (25, 25, 28), 0.006)
    s.ring(x, y, r, (60, 60, 64), 0.006)


@kind(
    "butterfly",
    "a butterfly",
    "a butterfly with colorful wings",
    "a butterfly above flowers",
    "a drawing of a butterfly",
)
def _butterfly(s: Scene) -> None:
    s.sky(s.tint((195, 225, 200), 20), (150, 195, 130))
    for _ in range(14):
        fx, fy = s.rng.uniform(0, s.w), s.rng.uniform(0.78, 0.95)
        s.line([(fx, fy), (fx, 1)], (80, 140, 70), 0.01)
        for k in range(6):
            s.disc(
                fx + 0.022 * math.cos(k),
                fy + 0.022 * math.sin(k),
                0.018,
                s.rng.choice([(250, 250, 250), (245, 200, 220)]),
            )
        s.disc(fx, fy, 0.014, (245, 205, 70))
    c = s.rng.choice([(240, 130, 30), (60, 120, 220), (240, 205, 50), (190, 70, 170), (220, 60, 60)])
    x, y = s.w / 2 + s.rng.uniform(-0.15, 0.15), s.near(0.42, 0.04)
    for d in (-1, 1):
        for grow, fill in ((0.022, (35, 28, 30)), (0.0, c)):
            s.disc(x + d * 0.22, y - 0.12, 0.185 + grow, fill, 0.165 + grow)
            s.disc(x + d * 0.16, y + 0.15, 0.125 + grow, fill, 0.145 + grow)
        s.disc(x + d * 0.25, y - 0.13, 0.06, mix(c, (255, 255, 255), 0.65))
        s.disc(x + d * 0.17, y + 0.17, 0.045, mix(c, (255, 255, 255), 0.5))
        for k in range(5):
            s.disc(x + d * (0.34 + 0.012 * k), y - 0.22 + 0.05 * k, 0.011, (255, 255, 255))
        s.line([(x, y - 0.2), (x + d * 0.05, y - 0.3), (x + d * 0.09, y - 0.33)], (35, 28, 30), 0.008)
        s.disc(x + d * 0.09, y - 0.33, 0.012, (35, 28, 30))
    s.disc(x, y + 0.02, 0.027, (35, 28, 30), 0.21)
    s.disc(x, y - 0.2, 0.034, (35, 28, 30))


@kind(
    "airplane",
    "an airplane in the sky",
    "a passenger plane flying above the clouds",
    "a white jet airplane",
    "a drawing of an airplane",
)
def _plane(s: Scene) -> None:
    s.sky(s.tint((60, 135, 220)), (190, 222, 248))
    for _ in range(6):
        s.cloud(s.rng.uniform(0, s.w), s.rng.uniform(0.6, 0.98), s.rng.uniform(0.08, 0.15))
    c = s.rng.choice([(205, 45, 50), (40, 80, 170), (240, 150, 40), (40, 140, 110)])
    x, y = s.w / 2 + s.rng.uniform(-0.06, 0.06), s.near(0.4, 0.05)
    s.poly([(x - 0.5, y - 0.22), (x - 0.42, y - 0.22), (x - 0.3, y - 0.02), (x - 0.46, y)], c)
    s.poly([(x + 0.03, y), (x - 0.16, y - 0.2), (x - 0.23, y - 0.2), (x - 0.12, y)], (195, 202, 212))
    s.box(x - 0.5, y - 0.07, x + 0.5, y + 0.07, (250, 251, 253), 0.07)
    s.box(x - 0.46, y + 0.025, x + 0.44, y + 0.045, c, 0.01)
    for k in range(12):
        s.disc(x - 0.32 + k * 0.055, y - 0.02, 0.013, (90, 130, 170))
    s.poly(
        [(x + 0.4, y - 0.055), (x + 0.46, y - 0.035), (x + 0.47, y - 0.005), (x + 0.4, y - 0.01)],
        (60, 80, 105),
    )
    s.poly(
        [(x + 0.1, y + 0.02), (x - 0.17, y + 0.29), (x - 0.26, y + 0.29), (x - 0.1, y + 0.02)],
        (215, 220, 228),
    )
    s.box(x - 0.07, y + 0.1, x + 0.07, y + 0.15, (150, 158, 170), 0.02)


@kind(
    "coffee",
    "a cup of coffee",
    "a steaming cup of coffee on a table",
    "hot coffee in a mug",
    "a drawing of a cup of coffee",
)
def _coffee(s: Scene) -> None:
    s.sky(s.tint((220, 200, 175), 20), (235, 220, 200), 0, 0.66)
    s.sky((135, 90, 58), (100, 64, 40), 0.66, 1)
    x = s.w / 2 + s.rng.uniform(-0.1, 0.1)
    c = s.rng.choice([(250, 250, 250), (190, 60, 55), (70, 120, 160), (60, 130, 100)])
    s.disc(x, 0.83, 0.4, (235, 235, 235), 0.07)
    s.disc(x, 0.825, 0.28, (215, 215, 215), 0.04)
    s.ring(x + 0.27, 0.6, 0.11, c, 0.04)
    s.poly([(x - 0.26, 0.45), (x + 0.26, 0.45), (x + 0.18, 0.8), (x - 0.18, 0.8)], c)
    s.disc(x, 0.8, 0.18, c, 0.035)
    s.disc(x, 0.45, 0.26, mix(c, (0, 0, 0), 0.12), 0.07)
    s.disc(x, 0.455, 0.235, (90, 55, 32), 0.057)
    s.disc(x, 0.46, 0.14, (150, 100, 60), 0.03)
    for k in (-0.12, 0, 0.12):
        s.line(
            [(x + k + 0.025 * math.sin(t * 1.1 + k * 9), 0.38 - t * 0.035) for t in range(8)],
            (255, 255, 255, 170),
            0.016,
        )
    for k in range(3):
        s.disc(x - 0.5 + k * 0.05, 0.92 - (k % 2) * 0.03, 0.026, (70, 42, 26), 0.018)


@kind(
    "christmas tree",
    "a Christmas tree",
    "a decorated Christmas tree with a star and presents",
    "a Christmas tree with lights and gifts",
    "a drawing of a Christmas tree",
)
def _christmas(s: Scene) -> None:
    s.sky(s.tint((115, 45, 50), 25), (150, 75, 65), 0, 0.85)
    s.sky((125, 80, 50), (95, 60, 38), 0.85, 1)
    x = s.w / 2 + s.rng.uniform(-0.12, 0.12)
    s.box(x - 0.04, 0.82, x + 0.04, 0.93, (95, 62, 38))
    for k in range(4):
        top, low, half = 0.13 + k * 0.16, 0.37 + k * 0.16, 0.15 + k * 0.075
        s.poly([(x, top), (x - half, low), (x + half, low)], mix((25, 105, 55), (15, 75, 42), k / 3))
    for _ in range(34):
        y = s.rng.uniform(0.27, 0.82)
        half = (y - 0.17) * 0.45
        bx = x + s.rng.uniform(-half, half)
        c = s.rng.choice([(225, 50, 55), (250, 205, 70), (80, 150, 235), (235, 235, 240), (215, 90, 190)])
        s.disc(bx, y, 0.02, c)
        s.disc(bx - 0.006, y - 0.006, 0.006, (255, 255, 255))
    s.glow(x, 0.12, 0.1, (255, 230, 140), 150)
    star = [
        (
            x + (0.065 if k % 2 == 0 else 0.027) * math.sin(k * math.pi / 5),
            0.12 - (0.065 if k % 2 == 0 else 0.027) * math.cos(k * math.pi / 5),
        )
        for k in range(10)
    ]
    s.poly(star, (255, 215, 70))
    for dx in (-0.38, -0.2, 0.22, 0.4):
        h, c = (
            s.rng.uniform(0.09, 0.14),
            s.rng.choice([(210, 50, 60), (50, 110, 190), (240, 240, 240), (70, 150, 90)]),
        )
        s.box(x + dx - 0.075, 0.96 - h, x + dx + 0.075, 0.96, c, 0.006)
        s.box(x + dx - 0.012, 0.96 - h, x + dx + 0.012, 0.96, (250, 210, 80))
        s.disc(x + dx - 0.022, 0.955 - h, 0.022, (250, 210, 80), 0.013)
        s.disc(x + dx + 0.022, 0.955 - h, 0.022, (250, 210, 80), 0.013)


@kind(
    "sheep",
    "sheep in a field",
    "white sheep grazing on green grass",
    "a flock of sheep in a meadow",
    "a drawing of sheep",
)
def _sheep(s: Scene) -> None:
    s.day((110, 180, 75), 0.42)
    s.disc(s.w * 0.7, 0.52, 0.6, (125, 190, 90), 0.16)
    for k in range(s.rng.randint(3, 5)):
        x, y, r = (
            0.2 + (k % 3) * (s.w - 0.4) / 2 + s.rng.uniform(-0.08, 0.08),
            0.6 + 0.14 * (k // 2) + s.rng.uniform(-0.03, 0.03),
            0.1 + 0.03 * (k // 2),
        )
        d = s.rng.choice([-1, 1])
        for j in (-0.6, -0.3, 0.3, 0.6):
            s.box(x + j * r - 0.012, y + r * 0.4, x + j * r + 0.012, y + r * 1.15, (45, 40, 40))
        for j in range(9):
            t = j * 0.7
            s.disc(x + r * 0.75 * math.cos(t), y + r * 0.42 * math.sin(t), r * 0.4, (246, 244, 238))
        s.disc(x, y, r * 0.85, (250, 248, 242), r * 0.55)
        s.disc(x + d * r * 1.1, y - r * 0.25, r * 0.27, (50, 45, 45), r * 0.36)
        s.disc(x + d * r * 1.0, y - r * 0.58, r * 0.26, (250, 248, 242), r * 0.17)
        s.disc(x + d * r * 1.16, y - r * 0.32, r * 0.05, (255, 255, 255))
        s.disc(x + d * r * 0.82, y - r * 0.3, r * 0.15, (50, 45, 45), r * 0.08)


@kind(
    "guitar",
    "a guitar",
    "an acoustic guitar leaning on a wall",
    "a wooden guitar with six strings",
    "a drawing of a guitar",
)
def _guitar(s: Scene) -> None:
    s.sky(s.tint((160, 180, 190), 35), s.tint((195, 205, 210), 15), 0, 0.85)
    s.sky((140, 95, 60), (110, 72, 45), 0.85, 1)
    c = s.rng.choice([(205, 130, 60), (170, 70, 40), (225, 175, 100), (60, 40, 35)])
    edge = mix(c, (20, 10, 0), 0.5)
    x = s.w / 2 + s.rng.uniform(-0.15, 0.15)
    for grow, fill in ((0.012, edge), (0, c)):
        s.disc(x, 0.76, 0.205 + grow, fill, 0.175 + grow)
        s.disc(x, 0.54, 0.15 + grow, fill, 0.13 + grow)
        s.box(x - 0.13 - grow / 2, 0.55, x + 0.13 + grow / 2, 0.7, fill, 0.04)
    s.disc(x, 0.6, 0.07, edge)
    s.disc(x, 0.6, 0.058, (30, 20, 15))
    s.box(x - 0.03, 0.15, x + 0.03, 0.56, (85, 55, 35))
    s.box(x - 0.045, 0.04, x + 0.045, 0.16, (60, 38, 25), 0.012)
    for k in range(9):
        s.line([(x - 0.03, 0.19 + k * 0.04), (x + 0.03, 0.19 + k * 0.04)], (205, 205, 205), 0.004)
    s.box(x - 0.08, 0.78, x + 0.08, 0.805, (50, 32, 22), 0.005)
    for k in range(6):
        s.line([(x - 0.02 + k * 0.008, 0.15), (x - 0.025 + k * 0.01, 0.79)], (240, 235, 220), 0.0025)
    for k in range(3):
        for d in (-1, 1):
            s.disc(x + d * 0.057, 0.065 + k * 0.033, 0.012, (225, 225, 225))


@kind(
    "books",
    "a shelf of books",
    "a bookshelf full of colorful books",
    "books in a library",
    "a drawing of a bookshelf",
)
def _books(s: Scene) -> None:
    wood = s.tint((125, 80, 48), 18)
    s.sky(mix(wood, (0, 0, 0), 0.45), mix(wood, (0, 0, 0), 0.55))
    for row in range(3):
        low, x = 0.31 + row * 0.33, 0.05
        while x < s.w - 0.08:
            width, h = s.rng.uniform(0.03, 0.065), s.rng.uniform(0.19, 0.27)
            c = s.rng.choice(
                [
                    (180, 50, 50),
                    (45, 85, 140),
                    (60, 120, 80),
                    (220, 180, 80),
                    (110, 60, 110),
                    (230, 225, 210),
                    (60, 60, 70),
                ]
            )
            c = s.tint(c, 15)
            s.box(x, low - h, x + width - 0.003, low, c, 0.005)
            s.box(x, low - h * 0.85, x + width - 0.003, low - h * 0.8, mix(c, (255, 240, 190), 0.6))
            s.box(x, low - h * 0.25, x + width - 0.003, low - h * 0.2, mix(c, (255, 240, 190), 0.6))
            x += width
            if s.rng.random() < 0.06:
                x += 0.06
        s.box(0, low, s.w, low + 0.03, wood)
    s.box(0, 0, 0.035, 1, wood)
    s.box(s.w - 0.035, 0, s.w, 1, wood)
    s.box(0, 0, s.w, 0.025, wood)


@kind(
    "penguin",
    "a penguin",
    "penguins on ice",
    "black and white penguins standing on the snow",
    "a drawing of a penguin",
)
def _penguin(s: Scene) -> None:
    s.sky(s.tint((130, 185, 225)), (215, 235, 248), 0, 0.55)
    s.sky((60, 125, 170), (50, 105, 150), 0.52, 0.66)
    s.poly([(0.1, 0.55), (0.3, 0.32), (0.45, 0.45), (0.6, 0.55)], (235, 245, 252))
    s.sky((245, 250, 255), (215, 228, 242), 0.64, 1)
    count = s.rng.randint(1, 3)
    for k in range(count):
        x, z = (
            s.w / 2 + (k - (count - 1) / 2) * 0.4 + s.rng.uniform(-0.03, 0.03),
            s.rng.uniform(0.8, 1.05) if count > 1 else 1.2,
        )
        y = 0.62
        s.disc(x, y + 0.27 * z, 0.17 * z, (185, 200, 218), 0.025)
        for d in (-1, 1):
            s.poly(
                [
                    (x + d * 0.1 * z, y - 0.08 * z),
                    (x + d * 0.2 * z, y + 0.1 * z),
                    (x + d * 0.1 * z, y + 0.06 * z),
                ],
                (25, 28, 35),
            )
            s.disc(x + d * 0.055 * z, y + 0.26 * z, 0.055 * z, (240, 150, 40), 0.022 * z)
        s.disc(x, y + 0.04 * z, 0.14 * z, (28, 30, 38), 0.23 * z)
        s.disc(x, y + 0.08 * z, 0.1 * z, (252, 252, 252), 0.175 * z)
        s.disc(x, y - 0.22 * z, 0.095 * z, (28, 30, 38))
        for d in (-1, 1):
            s.disc(x + d * 0.04 * z, y - 0.21 * z, 0.038 * z, (252, 252, 252), 0.045 * z)
            s.disc(x + d * 0.033 * z, y - 0.22 * z, 0.012 * z, (10, 10, 10))
        s.poly(
            [(x - 0.028 * z, y - 0.19 * z), (x + 0.028 * z, y - 0.19 * z), (x, y - 0.145 * z)], (245, 160, 40)
        )


@kind(
    "planet",
    "a planet with rings in space",
    "Saturn among the stars",
    "planets and stars in outer space",
    "a drawing of a planet in space",
)
def _planet(s: Scene) -> None:
    s.sky((10, 8, 28), (28, 16, 52))
    for _ in range(160):
        s.disc(
            s.rng.uniform(0, s.w),
            s.rng.uniform(0, 1),
            s.rng.choice([0.002, 0.003, 0.005]),
            s.tint((240, 240, 255), 15),
        )
    c = s.rng.choice([(225, 185, 125), (205, 140, 95), (125, 170, 215), (190, 150, 205)])
    x, y, r = s.w / 2 + s.rng.uniform(-0.12, 0.12), s.near(0.5, 0.05), s.near(0.22, 0.02)
    s.glow(x, y, r * 1.6, c, 60)
    u = s.unit

    def half(start: float, end: float) -> None:
        for k, t in ((2.0, 0.25), (1.75, 0.0), (1.5, 0.4)):
            s.pen.arc(
                [(x - r * k) * u, (y - r * k * 0.3) * u, (x + r * k) * u, (y + r * k * 0.3) * u],
                start,
                end,
                fill=mix(mix(c, (255, 255, 255), 0.35), (60, 50, 60), t),
                width=round(r * 0.17 * u),
            )

    half(180, 360)
    s.disc(x, y, r, c)
    for k in (-0.5, -0.15, 0.3, 0.6):
        w = math.sqrt(1 - k * k) * r * 0.98
        s.box(x - w, y + k * r - r * 0.06, x + w, y + k * r + r * 0.06, mix(c, (110, 70, 50), 0.3), r * 0.05)
    half(0, 180)
    s.disc(s.rng.choice([0.15, s.w - 0.15]), s.rng.choice([0.15, 0.85]), 0.055, (200, 205, 210))


@kind(
    "sunflower",
    "sunflowers",
    "yellow sunflowers in a field",
    "a field of sunflowers under a blue sky",
    "a drawing of sunflowers",
)
def _sunflower(s: Scene) -> None:
    s.day((85, 145, 60), 0.6, 1)
    for row in range(3):
        for k in range(6 - 2 * row + 1):
            x = (k + 0.5) * s.w / (7 - 2 * row) + s.rng.uniform(-0.04, 0.04)
            y, r = 0.62 - 0.08 * row + s.rng.uniform(-0.03, 0.03), 0.045 + 0.04 * row
            s.line([(x, y), (x, 1)], (55, 120, 50), 0.008 + 0.006 * row)
            for d in (-1, 1):
                s.disc(x + d * r * 0.8, y + r * 2.4, r * 0.7, (65, 135, 55), r * 0.3)
            for j in range(16):
                t = j * math.pi / 8
                s.disc(
                    x + r * 0.95 * math.cos(t),
                    y + r * 0.95 * math.sin(t),
                    r * 0.3,
                    s.tint((250, 200, 40), 10),
                )
            s.disc(x, y, r * 0.72, (100, 62, 30))
            s.disc(x, y, r * 0.5, (75, 45, 24))


@kind(
    "windmill",
    "a windmill",
    "a windmill in a field of tulips",
    "an old Dutch windmill",
    "a drawing of a windmill",
)
def _windmill(s: Scene) -> None:
    s.day((120, 180, 85), 0.68)
    x, wall = (
        s.w / 2 + s.rng.uniform(-0.2, 0.2),
        s.rng.choice([(235, 225, 205), (165, 100, 75), (150, 125, 100)]),
    )
    for row in range(5):
        c = s.rng.choice([(220, 50, 60), (250, 200, 60), (240, 120, 170), (170, 90, 190)])
        y = 0.78 + row * 0.045
        for k in range(30):
            s.disc(k * 0.055 + (row % 2) * 0.025, y, 0.016, c, 0.02)
    s.poly([(x - 0.09, 0.36), (x + 0.09, 0.36), (x + 0.16, 0.76), (x - 0.16, 0.76)], wall)
    s.disc(x, 0.36, 0.1, (95, 60, 45), 0.085)
    s.box(x - 0.035, 0.64, x + 0.035, 0.76, (90, 60, 40), 0.01)
    s.box(x - 0.025, 0.47, x + 0.025, 0.53, (110, 150, 180))
    turn = s.rng.uniform(0, math.pi / 2)
    for k in range(4):
        t = turn + k * math.pi / 2
        dx, dy = math.cos(t), math.sin(t)
        a, b = (x + 0.08 * dx, 0.35 + 0.08 * dy), (x + 0.32 * dx, 0.35 + 0.32 * dy)
        s.poly(
            [a, b, (b[0] - 0.075 * dy, b[1] + 0.075 * dx), (a[0] - 0.075 * dy, a[1] + 0.075 * dx)],
            (245, 240, 228),
        )
        s.line([(x, 0.35), (x + 0.34 * dx, 0.35 + 0.34 * dy)], (90, 60, 40), 0.014)
        for j in range(1, 4):
            m = (a[0] + (b[0] - a[0]) * j / 4, a[1] + (b[1] - a[1]) * j / 4)
            s.line([m, (m[0] - 0.075 * dy, m[1] + 0.075 * dx)], (140, 105, 75), 0.005)
    s.disc(x, 0.35, 0.022, (70, 45, 30))


@kind(
    "traffic light",
    "a traffic light",
    "a traffic light at a crossing",
    "traffic signals with red, yellow and green",
    "a drawing of a traffic light",
)
def _traffic(s: Scene) -> None:
    s.day((150, 152, 156), 0.8, 2)
    for _ in range(5):
        x, top = s.rng.uniform(-0.1, s.w), s.rng.uniform(0.4, 0.62)
        s.box(x, top, x + 0.22, 0.82, s.tint((170, 160, 155), 20))
        for k in range(3):
            s.box(x + 0.03 + k * 0.065, top + 0.04, x + 0.065 + k * 0.065, top + 0.1, (120, 140, 160))
    x, lit = s.w / 2 + s.rng.uniform(-0.2, 0.2), s.rng.randint(0, 2)
    s.box(x - 0.02, 0.6, x + 0.02, 0.97, (70, 72, 76))
    s.box(x - 0.13, 0.07, x + 0.13, 0.68, (35, 37, 40), 0.04)
    for k, c in enumerate(((235, 45, 40), (250, 195, 40), (50, 200, 80))):
        y = 0.175 + k * 0.2
        s.disc(x, y, 0.085, (18, 18, 20))
        s.disc(x, y, 0.075, c if k == lit else mix(c, (20, 20, 22), 0.6))
        if k == lit:
            s.disc(x - 0.02, y - 0.025, 0.02, mix(c, (255, 255, 255), 0.6))


def collection(count: int, seed: int) -> list[tuple[str, Image.Image]]:
    """Return `count` (kind, picture) pairs; kinds come round in turn, each picture from its own seed."""
    names = list(KINDS)
    made = []
    for number in range(count):
        rng = random.Random(f"{seed}/{number}")
        size = rng.choice([(480, 360), (512, 384), (480, 320), (400, 400), (560, 360)])
        name = names[number % len(names)]
        made.append((name, draw(name, rng, size)))
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the collection: JPEG, PNG and WebP in turn, named by kind and number."""
    parser = argparse.ArgumentParser(description="Draw a sample collection of pictures.")
    parser.add_argument("out", type=Path, metavar="OUT_FOLDER")
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    for number, (name, image) in enumerate(collection(options.count, options.seed)):
        suffix = ("jpg", "png", "webp")[number % 3]
        path = options.out / f"{name.replace(' ', '-')}-{number:02d}.{suffix}"
        if suffix == "png":
            image.save(path)
        else:
            image.save(path, quality=88)
    print(f"{options.count} pictures in {options.out}")


if __name__ == "__main__":
    main()
