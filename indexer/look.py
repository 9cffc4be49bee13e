"""`look_of`: what a picture looks like to the eye, in 64 bits and one number; made where it is decoded."""

from __future__ import annotations

import functools
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from indexer.records import Look

SIDE: Final = 256
"""Pixels of the grey square on which sharpness is measured."""
GRID: Final = 32
"""Pixels of the square that the hash sees, and the length of its cosine transform."""
BITS: Final = 8
"""The hash is BITS x BITS frequencies."""
PLAIN: Final = 0
"""The hash of a picture that is too plain for one. No other picture has it: half of its bits are set."""
MIN_CONTRAST: Final = 2.0
"""Grey levels (standard deviation over the grid) below which the frequencies are noise."""


def look_of(image: Image.Image) -> Look:
    """Return the perceptual hash and the sharpness of a picture.

    The hash stays within a few bits of itself when the picture is scaled, compressed again, made brighter or
    grey, or marked in a corner. A picture of one colour has the hash `PLAIN`, which says nothing.

    Args:
        image: RGB, upright, any size.
    Source: Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash Functions", section 3.2.1
        (signs of the low frequencies of a 32 x 32 DCT against their median); Pech-Pacheco et al. 2000
        (variance of the Laplacian).
    """
    square = image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    grey = np.asarray(square, np.int16)
    edges = grey[1:-1, :-2] + grey[1:-1, 2:] + grey[:-2, 1:-1] + grey[2:, 1:-1] - 4 * grey[1:-1, 1:-1]
    grid = np.asarray(square.reduce(SIDE // GRID), np.float32)
    return Look(_hash(grid), round(float(edges.var(dtype=np.float32)), 3))


def _hash(grid: npt.NDArray[np.float32]) -> int:
    """Return the 64 bits of a (GRID, GRID) float32 picture, first frequency first."""
    if float(grid.std()) < MIN_CONTRAST:
        return PLAIN
    waves = _waves()
    frequencies = (waves @ grid @ waves.T).ravel()
    bits = frequencies > np.median(frequencies)
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


@functools.cache
def _waves() -> npt.NDArray[np.float32]:
    """Return rows 1 to BITS of the DCT-II, (BITS, GRID): the mean and what is finer are left out."""
    order, place = np.arange(1, BITS + 1)[:, None], np.arange(GRID)[None, :]
    waves: npt.NDArray[np.float32] = np.cos(np.pi * order * (2 * place + 1) / (2 * GRID)).astype(np.float32)
    return waves * np.float32((2 / GRID) ** 0.5)
