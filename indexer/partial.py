"""What can be saved of a file that ends too early.

The fixed rule: rows count from the top without a gap (from the bottom for a BMP stored bottom-up).
A row is decoded when its pixels do not depend on what the memory held before: the file is decoded
twice, into black and into white, and the first row that differs is the first one missing.
A JPEG with several scans counts as complete once its second scan has begun, at reduced detail.
Missing rows are filled with the mean colour of the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile

STRIP_BYTES: Final = 16 * 2**20  # working memory of a comparison


@dataclass(slots=True)
class Partial:
    """Attributes:
    image: loaded, full size, missing rows filled.
    share: of the rows that were decoded, 0..1.
    coarse: the rows are there, their fine detail is not.
    """

    image: Image.Image
    share: float
    coarse: bool = False


def recover(reopen: Callable[[], Image.Image], data: bytes) -> Partial | None:
    """Return what is decodable of a damaged file, None when the decoder gives nothing.

    Args:
        reopen: returns the picture, opened and not loaded.
        data: the file.
    """
    try:
        ImageFile.LOAD_TRUNCATED_IMAGES = True
        if _later_scan(reopen(), data):
            image = reopen()
            image.load()
            return Partial(image, 1.0, coarse=True)
        dark, light = _load_into(reopen(), 0), _load_into(reopen(), 255)
    except MemoryError:
        raise
    except Exception:  # the strict error is the one to report
        return None
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = False
    return _compare(dark, light)


def _later_scan(image: Image.Image, data: bytes) -> bool:
    """Tell whether a progressive JPEG has begun its second scan."""
    return bool(image.info.get("progressive")) and data.count(b"\xff\xda") >= 2


def _load_into(image: Image.Image, level: int) -> Image.Image:
    """Return the picture, decoded into memory that held one grey level."""
    bands = len(image.getbands())
    image.im = Image.new(image.mode, image.size, level if bands == 1 else (level,) * bands).im
    if image.format in {"JPEG", "MPO"} and image.fp is not None:  # type: ignore[attr-defined]
        # Pillow appends an end marker, on which libjpeg paints the rest grey; the plain read stops instead.
        image.load_read = image.fp.read  # type: ignore[attr-defined]
    if getattr(image, "_frame_transparency", None) is not None:
        image._frame_transparency = None  # type: ignore[attr-defined]  # a GIF would clear our grey level
    image.load()
    return image


def _compare(dark: Image.Image, light: Image.Image) -> Partial | None:
    """Return the picture with its missing rows filled; works in strips, since both decodes are in memory."""
    if dark.size != light.size or dark.mode != light.mode:
        return None
    width, height = dark.size
    step = max(1, STRIP_BYTES // (8 * width))
    same = np.concatenate(
        [_equal_rows(dark, light, top, min(height, top + step)) for top in range(0, height, step)]
    )
    if same.all():
        return Partial(dark, 1.0)
    from_top, from_bottom = int(np.argmin(same)), int(np.argmin(same[::-1]))
    count = max(from_top, from_bottom)
    if from_top >= from_bottom:
        kept, missing = (0, 0, width, count), (0, count, width, height)
    else:
        kept, missing = (0, height - count, width, height), (0, 0, width, height - count)
    if count and dark.mode in {"L", "RGB", "RGBA", "CMYK"}:
        mean = dark.resize((1, 1), Image.Resampling.BOX, box=kept).getpixel((0, 0))
        assert mean is not None
        dark.paste(mean, missing)
    return Partial(dark, count / height)


def _equal_rows(one: Image.Image, two: Image.Image, top: int, bottom: int) -> npt.NDArray[np.bool_]:
    """Return, for each row of a strip, whether it is the same in both."""
    box = (0, top, one.width, bottom)
    same = np.asarray(one.crop(box)) == np.asarray(two.crop(box))
    rows: npt.NDArray[np.bool_] = same.reshape(bottom - top, -1).all(axis=1)
    return rows
