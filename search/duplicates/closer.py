"""`same_picture`: two pictures laid over each other. The last word before one of them may be removed.

Hashes and embeddings find candidates; a page of text and another page of the same layout pass both. Here the
fine structure is compared, without what both share as a rough distribution of light, and the colours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL import Image

    from indexer import FileCopy

SIDE: Final = 128
"""Pixels of the square on which pictures are compared; less when one of them has less."""
SAME_STRUCTURE: Final = 0.90
"""Least correlation of the fine structure: other pages of the same layout reach 0.89, copies at half size
have 0.93 or more (490 drawn documents, screenshots and scenes)."""
SAME_CROP: Final = 0.92
"""The same for the best of a hundred ways of laying a crop over the whole: chance has more to choose from."""
MOST_SLIDES: Final = 5_000
"""So many pairs are tried as crops in vain, 20 ms each; after that only whole pictures are compared."""
_HOPEFUL: Final = 0.5
"""Below this the first, rough search for a crop has found none."""
SAME_COLOR: Final = 8.0
"""Largest mean difference of the colours, grey levels, when both pictures have any."""
SAME_SPOT: Final = 40.0
"""Largest difference of the colours in all but 2 % of the picture."""
_GREY: Final = 2.0
"""Mean chroma below which a picture is grey: a grey copy is a copy."""
_COARSE: Final = 16
"""Cells per side whose mean is taken out: what is left is the structure inside them."""
_SCALES: Final = (1.0, 0.975, 0.95, 0.925, 0.9)
"""Shares of the side that a slight crop leaves."""

Grey = npt.NDArray[np.float32]


class Comparison:
    """Pictures of an index laid over each other, as they are now; decoded in other processes."""

    def __init__(self, on_progress: Callable[[int], None] | None = None) -> None:
        self._squares: dict[int, npt.NDArray[np.uint8]] = {}
        self._fine: dict[int, npt.NDArray[np.float16]] = {}
        self._slides_left = MOST_SLIDES
        self._on_progress = on_progress

    def load(self, contents: Sequence[Sequence[FileCopy]]) -> None:
        """Read one file of each content, in place of what was read before. 80 KB each."""
        from PIL import Image

        from indexer import read_squares

        self._squares, self._fine = {}, {}
        numbers = {files[0].content_hash: files[0].content_id for files in contents}
        waiting = [list(files) for files in contents]
        while waiting:  # where a file is gone or has changed, another one of the content is asked
            paths = [files.pop(0).path for files in waiting]
            for square in read_squares(paths, SIDE):
                number = numbers.get(square.content_hash)
                if number is not None:
                    self._squares[number] = square.pixels
                    fine = _structure(Image.fromarray(square.pixels).convert("L"), _WHOLE, SIDE)
                    fine /= max(1e-3, float(np.linalg.norm(fine)))
                    self._fine[number] = fine.ravel().astype(np.float16)
                if self._on_progress is not None:
                    self._on_progress(1)
            waiting = [files for files in waiting if files and files[0].content_id not in self._squares]

    def same(self, one: FileCopy, two: FileCopy) -> bool | None:
        """Return whether two pictures are one; None when one of them cannot be read any more."""
        first, second = self._squares.get(one.content_id), self._squares.get(two.content_id)
        if first is None or second is None:
            return None
        short_side = min(one.width, one.height, two.width, two.height)
        slide = self._slides_left > 0
        if short_side >= SIDE and not slide:  # nearly all of a large set of look-alikes end here, in 10 us
            mine, theirs = self._fine[one.content_id], self._fine[two.content_id]
            if float(mine.astype(np.float32) @ theirs.astype(np.float32)) < SAME_STRUCTURE - 0.01:
                return False
        same = same_picture(first, second, short_side=short_side, slide=slide)
        self._slides_left -= not same
        return same


def same_picture(
    one: npt.NDArray[np.uint8], two: npt.NDArray[np.uint8], *, short_side: int, slide: bool = True
) -> bool:
    """Return whether two pictures are one in another size, format, quality, light, or slightly cropped.

    Args:
        one, two: (SIDE, SIDE, 3) uint8 RGB, the whole upright picture squashed to a square.
        short_side: pixels of the shortest side of the two originals.
        slide: also try whether one is a slight crop of the other.
    """
    from PIL import Image

    side = SIDE if short_side >= SIDE else SIDE // 2 if short_side >= 40 else SIDE // 4
    first, second = Image.fromarray(one), Image.fromarray(two)
    smooth = Image.Resampling.BOX
    box = _best_overlay(first, second, side, slide)
    if box is None:
        return False
    mine, theirs = box
    left = np.asarray(first.resize((32, 32), smooth, box=mine), np.float32)
    right = np.asarray(second.resize((32, 32), smooth, box=theirs), np.float32)
    return _same_color(left, right)


def _same_color(one: Grey, two: Grey) -> bool:
    """Return whether colours agree; a grey picture agrees with any."""
    chroma = [np.stack([rgb[..., 0] - rgb[..., 1], rgb[..., 2] - rgb[..., 1]]) for rgb in (one, two)]
    if min(float(np.abs(found).mean()) for found in chroma) < _GREY:
        return True
    gain = float((chroma[0] * chroma[1]).sum()) / max(1.0, float((chroma[0] ** 2).sum()))
    gain = min(2.0, max(0.5, gain))  # more light or contrast gives all colours more
    stronger = 1 if gain >= 1 else 0
    chroma[stronger] /= max(gain, 1 / gain)
    apart = np.abs(chroma[0] - chroma[1]).max(axis=0)
    return float(apart.mean()) <= SAME_COLOR and float(np.percentile(apart, 98)) <= SAME_SPOT


_Box = tuple[float, float, float, float]
_WHOLE: _Box = (0.0, 0.0, float(SIDE), float(SIDE))


def _best_overlay(one: Image.Image, two: Image.Image, side: int, slide: bool) -> tuple[_Box, _Box] | None:
    """Return the parts that are laid over each other, None when no way of doing so fits."""
    whole = _WHOLE
    greys = one.convert("L"), two.convert("L")
    if _fit(greys[0], greys[1], whole, whole, side) >= SAME_STRUCTURE:
        return whole, whole
    if not slide:
        return None
    best, at = -1.0, (whole, whole)
    for mine, theirs in _overlays(whole):
        fit = _fit(*greys, mine, theirs, min(64, side))
        if fit > best:
            best, at = fit, (mine, theirs)
    if best < _HOPEFUL:
        return None
    # Between the steps of the first search, edge by edge, at the full size.
    best = _fit(*greys, *at, side)
    for step in (0.8, 0.8, 0.4, 0.2):
        for edge in range(4):
            for moved in (_nudged(*at, edge, -step), _nudged(*at, edge, step)):
                fit = _fit(*greys, *moved, side)
                if fit > best:
                    best, at = fit, moved
    return at if best >= SAME_CROP else None


def _overlays(whole: _Box) -> Iterator[tuple[_Box, _Box]]:
    for scale in _SCALES[1:]:
        room = (1 - scale) * SIDE
        for right in (0.0, 0.5, 1.0):
            for down in (0.0, 0.5, 1.0):
                part = (room * right, room * down, room * right + scale * SIDE, room * down + scale * SIDE)
                yield part, whole
                yield whole, part


def _nudged(mine: _Box, theirs: _Box, edge: int, far: float) -> tuple[_Box, _Box]:
    """Return the overlay with one edge of the smaller part moved by `far` pixels, inside the picture."""
    first = mine[2] - mine[0] < theirs[2] - theirs[0]
    moved = list(mine if first else theirs)
    moved[edge] = min(float(SIDE), max(0.0, moved[edge] + far))
    part = (moved[0], moved[1], moved[2], moved[3])
    return (part, theirs) if first else (mine, part)


def _fit(one: Image.Image, two: Image.Image, mine: _Box, theirs: _Box, side: int) -> float:
    """Return the correlation of the fine structure of two parts, in [-1, 1]; 0 where there is none."""
    a, b = _structure(one, mine, side), _structure(two, theirs, side)
    strength = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / strength if strength > 1e-3 else 0.0


def _structure(image: Image.Image, box: _Box, side: int) -> Grey:
    """Return (side, side) grey levels of a part, each cell without its mean."""
    from PIL.Image import Resampling

    grey: Any = np.asarray(image.resize((side, side), Resampling.BILINEAR, box=box), np.float32)
    cell = max(2, side // _COARSE)
    cells = grey.reshape(side // cell, cell, side // cell, cell)
    return np.asarray((cells - cells.mean(axis=(1, 3), keepdims=True)).reshape(side, side), np.float32)
