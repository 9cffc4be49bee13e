"""Preprocess against open_clip's own transforms."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from PIL import Image

from encoders import Preprocess
from tests.encoders.conftest import SHAPES


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("mode", ["shortest", "squash", "longest"])
def test_pixels_equal_open_clips_for_every_shape(open_clip: Any, mode: Any, interpolation: Any) -> None:
    rng = np.random.default_rng(5)
    odd = [(63, 64), (1200, 7), *(tuple(rng.integers(1, 400, 2)) for _ in range(20))]
    for size, shapes in ((63, odd), (224, SHAPES)):
        theirs = open_clip.transform.image_transform(
            size,
            is_train=False,
            mean=(0, 0, 0),
            std=(1, 1, 1),
            resize_mode=mode,
            interpolation=interpolation,
            fill_color=9,
        )
        mine = Preprocess(size, mode, interpolation, 9)
        for width, height in shapes:
            if mode == "longest" and round(min(width, height) * size / max(width, height)) == 0:
                continue  # open_clip raises here
            image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
            wanted = (theirs(image).permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
            np.testing.assert_array_equal(mine(image), wanted, err_msg=f"{width}x{height} to {size}")


@pytest.mark.parametrize("mode", ["shortest", "squash", "longest"])
@pytest.mark.parametrize("shape", [(1, 60_000), (60_000, 1)])
def test_a_line_of_pixels_needs_little_memory(mode: Any, shape: tuple[int, int]) -> None:
    image = Image.linear_gradient("L").resize(shape).convert("RGB")
    tracemalloc.start()
    square = Preprocess(224, mode)(image)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert square.shape == (224, 224, 3)
    assert peak < 50e6


def test_extreme_shapes_keep_the_middle() -> None:
    wide = Image.new("RGB", (90_000, 3), (255, 0, 0))
    wide.paste((0, 0, 255), (45_000, 0, 90_000, 3))
    middle = wide.crop((44_970, 0, 45_030, 3))  # short enough to be resized whole, with the same phase
    difference = Preprocess(224)(wide).astype(int) - Preprocess(224)(middle)
    assert abs(difference).max() <= 1
