"""Camera RAW files: the preview inside, or a half-size development where that is too small.

LibRaw (through rawpy, optional) reads the containers. The preview is the camera's own JPEG: right
colours, and 20 times cheaper than developing.
"""

from __future__ import annotations

import importlib
import io
from dataclasses import dataclass
from typing import Any, Final

from PIL import Image

from indexer.formats import RAW_SUFFIXES, ImageError, jpeg_size

_MAGIC: Final = (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FOVb", b"\0MRM")
_TURNS: Final = {0: 1, 3: 3, 5: 8, 6: 6}
"""LibRaw's flip (rotation of the sensor) to the EXIF orientation that undoes it."""


@dataclass(slots=True)
class RawContent:
    """What a RAW file shows.

    Attributes:
        image: bytes of the embedded JPEG, or a developed picture.
        orientation: EXIF orientation of `image`, 1..8.
        width: pixels of the upright photo.
        exif: the file's own EXIF, None where the container is not a TIFF.
    """

    image: bytes | Image.Image
    orientation: int
    width: int
    height: int
    exif: Image.Exif | None


def is_raw(data: bytes, name: str) -> bool:
    """Tell whether LibRaw should be asked first: by suffix, or by a signature no other format has."""
    return (
        name.lower().endswith(tuple(RAW_SUFFIXES))
        or data.startswith(_MAGIC)
        or data[8:11] == b"CR\x02"
        or data[4:12] == b"ftypcrx "
    )


def read(data: bytes, *, min_side: int, max_pixel_bytes: int) -> RawContent | None:
    """Return the picture of a RAW file, None when LibRaw does not know the format.

    Raises:
        ImageError: rawpy is missing, or the picture is too large.
    """
    try:
        rawpy = importlib.import_module("rawpy")
    except ImportError:
        if data[:4] in {b"II*\0", b"MM\0*"}:
            return None  # a TIFF with a preview in it: better than nothing
        raise ImageError("RAW support not installed (needs rawpy)") from None
    try:
        file = rawpy.imread(io.BytesIO(data))
    except MemoryError:
        raise
    except Exception:
        return None
    with file:
        sizes = file.sizes
        width, height = int(sizes.width), int(sizes.height)
        turn = _TURNS.get(int(sizes.flip), 1)
        upright = (height, width) if turn >= 5 else (width, height)
        image = _preview(rawpy, file, min_side)
        if image is None:
            need = width * height * (2 + 2 + 3)  # sensor values, half-size 16-bit RGB, the result
            if need > max_pixel_bytes:
                raise ImageError(f"too large ({width * height / 1e6:,.0f} MP needs {need / 1e9:,.1f} GB)")
            image = _develop(rawpy, file)
            if image is None:
                return None
            turn = 1  # LibRaw has turned it
        else:
            preview = jpeg_size(image) if isinstance(image, bytes) else image.size
            if preview and turn >= 5 and (preview[0] < preview[1]) != (width < height):
                turn = 1  # this camera writes its preview upright
    return RawContent(image, turn, *upright, _exif(data))


def _preview(rawpy: Any, file: Any, min_side: int) -> bytes | Image.Image | None:
    """Return the embedded preview when it is large enough for the encoder."""
    try:
        thumb = file.extract_thumb()
    except Exception:
        return None
    if thumb.format == rawpy.ThumbFormat.JPEG:
        data = bytes(thumb.data)
        size = jpeg_size(data)
        return data if size and min(size) >= min_side else None
    if thumb.format == rawpy.ThumbFormat.BITMAP and min(thumb.data.shape[:2]) >= min_side:
        return Image.fromarray(thumb.data)
    return None


def _develop(rawpy: Any, file: Any) -> Image.Image | None:
    """Return a half-size sRGB development with the camera's white balance, None when it fails."""
    try:
        return Image.fromarray(file.postprocess(half_size=True, use_camera_wb=True, output_bps=8))
    except MemoryError:
        raise
    except Exception:
        return None


_TIFF_LIKE: Final = {b"IIRO": b"II*\0", b"IIRS": b"II*\0", b"IIU\0": b"II*\0", b"MMOR": b"MM\0*"}
"""Olympus and Panasonic write TIFF under another magic number."""


def _exif(data: bytes) -> Image.Exif | None:
    """Return the EXIF of a RAW that is a TIFF (CR2, NEF, ARW, DNG, PEF, ORF, RW2, ...) or a CR3."""
    try:
        if data[4:12] == b"ftypcrx ":
            return _canon_exif(data)
        magic = _TIFF_LIKE.get(data[:4], data[:4])
        return _load_exif(magic + data[4:]) if magic in {b"II*\0", b"MM\0*"} else None
    except Exception:  # damaged metadata never costs the picture
        return None


def _load_exif(tiff: bytes) -> Image.Exif:
    exif = Image.Exif()
    exif.load(b"Exif\0\0" + tiff)
    return exif


def _canon_exif(data: bytes) -> Image.Exif:
    """Return the EXIF of a CR3: boxes CMT1, CMT2, CMT4 hold the main, the photo and the GPS directory.

    Source: github.com/lclevy/canon_cr3, "CMT1 to CMT4".
    """

    def box(name: bytes) -> Image.Exif | None:
        at = data.find(name, 0, 2**20)
        return (
            _load_exif(data[at + 4 : at - 4 + int.from_bytes(data[at - 4 : at], "big")]) if at >= 4 else None
        )

    exif = box(b"CMT1") or Image.Exif()
    for name, tag in ((b"CMT2", 0x8769), (b"CMT4", 0x8825)):
        if (part := box(name)) is not None:
            exif.get_ifd(tag).update(dict(part))
    return exif
