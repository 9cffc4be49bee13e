"""Bytes of a picture file to upright RGB frames, inside limits known from the header.

The order of `decode`: what is it (signature) -> may it be parsed (allow-list) -> does it fit (header) ->
decode strictly -> if it is cut, decode what is there -> 8-bit sRGB -> upright -> tiles.
A file never raises anything but `ImageError`.
"""

from __future__ import annotations

import contextlib
import io
import math
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from PIL import Image, ImageFile, PngImagePlugin

from indexer import formats, partial, pixels, raw
from indexer.formats import IMAGE_SUFFIXES, ImageError
from indexer.look import SIDE as LOOK_SIDE
from indexer.metadata import Metadata, read_blocks, read_metadata

__all__ = ["IMAGE_SUFFIXES", "DecodeLimits", "ImageError", "Picture", "Region", "decode", "describe"]

MAX_TILES: Final = 12
TILED_ASPECT: Final = 2.0  # beyond this the encoder's centre crop misses more than half of the picture
MIN_TILE_SIDE: Final = 64  # pixels; a tile of a banner or a rule shows nothing more
MAX_ASPECT: Final = 128.0  # beyond this it is a line, and scaling its short side up makes it huge


@dataclass(frozen=True, slots=True)
class Region:
    """A part of the upright picture, in fractions 0..1 of its width and height."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """What one file may cost.

    Attributes:
        max_file_bytes: larger files are not read.
        max_pixel_bytes: working memory of the decoder, estimated from the header.
        cpu_s: processor seconds (decode workers only).
        wall_s: seconds on the clock, reading included (decode workers only).
        memory_bytes: address space a worker may add to what it has when idle.
        min_partial: share of the rows a cut file must have, 0..1.
    """

    max_file_bytes: int = 2 * 2**30
    max_pixel_bytes: int = 700 * 2**20
    cpu_s: float = 20
    wall_s: float = 30
    memory_bytes: int = 2 * 2**30
    min_partial: float = 0.5


@dataclass(slots=True)
class Picture:
    """A decoded file.

    Attributes:
        frames: RGB 8-bit upright sRGB; (None, whole picture) first, then the tiles of a long picture.
        width: pixels of the upright original, not of the reduced decode.
        height: pixels of the upright original.
        format: as Pillow names it, or "RAW".
        warning: what is missing, when the file is cut; None for a whole one.
    """

    frames: list[tuple[Region | None, Image.Image]]
    width: int
    height: int
    format: str
    warning: str | None
    metadata: Metadata


DRAFT: Final = 1.4
"""Times the encoder's side that the short side of a JPEG keeps when it is decoded at a reduced scale.

Cosine to the embedding of the full picture, built-in encoder, 34 photos of 5 to 19 megapixels of any shape:
0.997 at worst, 0.999 in the mean; twice the side gives the same.
"""

_LOCK = threading.RLock()
"""Pillow's switches (largest size, leniency) are global; one decode at a time in a process."""

_DEFAULT_LIMITS: Final = DecodeLimits()


def decode(data: bytes, *, min_side: int, limits: DecodeLimits = _DEFAULT_LIMITS, name: str = "") -> Picture:
    """Return the frames of a picture file.

    Args:
        data: the whole file.
        min_side: pixels an encoder reads; the short side keeps at least DRAFT times that, and LOOK_SIDE, if
            it is that long.
        name: the file's name; only its suffix is looked at, to tell RAW files from other TIFFs.
    Raises:
        ImageError: it is not a picture, not an allowed one, damaged or too large. Nothing else.
    """
    with _LOCK, _pillow_state():
        try:
            return _decode(data, min_side, limits, name)
        except ImageError:
            raise
        except MemoryError:
            raise ImageError("too large (not enough memory)") from None
        except (
            Exception
        ) as error:  # decoders raise anything: OSError, SyntaxError, RuntimeError, struct.error
            raise ImageError(_explain(error, formats.sniff(data))) from error


def describe(data: bytes, *, limits: DecodeLimits = _DEFAULT_LIMITS, name: str = "") -> Metadata:
    """Return what a picture file says about itself, its pixels undecoded where that says it; never raises.

    Args:
        data: the whole file.
        name: as for `decode`.
    """
    with _LOCK, _pillow_state():
        try:
            if raw.is_raw(data, name):
                return _decode(data, 1, limits, name).metadata
            formats.require_allowed(data, name)
            formats.check_canvas(data, limits.max_pixel_bytes)
            image = _open(data, 1)
            if image.format == "PNG":  # its EXIF and XMP may follow the pixels
                formats.check_budget(image, data, image.size, limits.max_pixel_bytes)
                image.load()
            return read_metadata(image)
        except Exception:  # as `decode`: decoders raise anything, and words are worth less than the picture
            return Metadata()


@contextlib.contextmanager
def _pillow_state() -> Iterator[None]:
    """Switch off Pillow's own size limit (ours is in bytes, by format) and its warnings; put both back."""
    before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
    Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = None, False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = before


def _explain(error: Exception, kind: formats.Kind) -> str:
    """Return one short lower-case clause."""
    text = " ".join(str(error).split())[:120]
    text = "broken header" if "cannot identify image file" in text else text or type(error).__name__
    return f"damaged {kind.name}: {text[:1].lower()}{text[1:]}" if kind.name else "not an image"


def _decode(data: bytes, min_side: int, limits: DecodeLimits, name: str) -> Picture:
    if not data:
        raise ImageError("empty file")
    if raw.is_raw(data, name):
        picture = _decode_raw(data, min_side, limits)
        if picture is not None:
            return picture
    formats.require_allowed(data, name)
    return _decode_plain(data, min_side, limits)


def _decode_plain(data: bytes, min_side: int, limits: DecodeLimits, turn: int | None = None) -> Picture:
    """Return the picture of an allowed format; `turn` overrides the orientation it carries."""
    formats.check_canvas(data, limits.max_pixel_bytes)
    image = _open(data, min_side)
    width, height = _full_size(data, min_side, image)
    _check_shape(width, height)
    formats.check_budget(image, data, (width, height), limits.max_pixel_bytes)

    late = image.format == "PNG"  # its EXIF and XMP may follow the pixels
    about = None if late else (read_metadata(image), _orientation(image))
    warning = None
    try:
        image.load()
    except MemoryError:
        raise
    except Exception as error:
        cut = partial.recover(lambda: _open(data, min_side), data)
        if cut is None:
            raise
        if cut.share < limits.min_partial:
            raise ImageError(f"truncated: only {cut.share:.0%} of the rows".replace("%", " %")) from error
        image = cut.image
        detail = " at reduced detail" if cut.coarse else ""
        warning = f"truncated: {math.floor(cut.share * 100)} % of the rows decoded{detail}"
    metadata, orientation = about or (read_metadata(image), _orientation(image))
    if turn is not None:
        orientation = turn
    reduced = _trim(pixels.to_rgb(image, min_side=min_side), (width, height), min_side)
    picture = pixels.upright(reduced, orientation)
    if orientation >= 5:
        width, height = height, width
    return Picture(_frames(picture), width, height, image.format or "", warning, metadata)


def _open(data: bytes, min_side: int) -> Image.Image:
    """Return the picture, opened and not decoded; a JPEG is set to decode at a reduced scale."""
    try:
        image = Image.open(io.BytesIO(data), formats=formats.openers())
    except ValueError as error:
        if "ecompressed data too large" not in str(error):
            raise
        ImageFile.LOAD_TRUNCATED_IMAGES = True  # here: "skip text that is too large"
        try:
            image = Image.open(io.BytesIO(data), formats=["PNG"])
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = False
    if image.format in {"JPEG", "MPO"}:
        # libjpeg scales by 1/2, 1/4, 1/8 while decoding; at 1/8 it takes the means of its blocks.
        image.decodermaxblock = len(data) + 1  # all at once, not 64 KB
        side = max(math.ceil(DRAFT * min_side), LOOK_SIDE)
        image.draft(None, (side, side))
    return image


def _full_size(data: bytes, min_side: int, image: Image.Image) -> tuple[int, int]:
    """Return (width, height) before the reduction."""
    scale = getattr(image, "decoderconfig", ()) or (1, 0)
    if image.format in {"JPEG", "MPO"} and scale[0] > 1:
        return formats.jpeg_size(data) or (image.width * scale[0], image.height * scale[0])
    return image.size


def _trim(image: Image.Image, full: tuple[int, int], side: int) -> Image.Image:
    """Return a reduced picture without the part of a row or column by which its sides were rounded up.

    It keeps the sides nearest to the exact ones that the encoder's scaling brings to the size it brings the
    whole picture to. Otherwise the middle that is cropped lies a column off, which costs more (cosine 0.97)
    than all that was reduced.
    """
    factor = round(max(full) / max(image.size))
    if factor < 2 or min(image.size) <= side:
        return image
    exact = full[0] / factor, full[1] / factor
    wanted, best = _long_side(full, side), (math.inf, image.size)
    for width in range(image.width, max(side, image.width - 3), -1):
        for height in range(image.height, max(side, image.height - 3), -1):
            off = abs(width - exact[0]) + abs(height - exact[1])
            if _long_side((width, height), side) == wanted and off < best[0]:
                best = off, (width, height)
    return image if best[1] == image.size else image.crop((0, 0, *best[1]))


def _long_side(size: tuple[int, int], side: int) -> int:
    """Return the long side once the short one is scaled to `side`, cut to whole pixels as encoders do."""
    return int(side * max(size) / min(size))


def _check_shape(width: int, height: int) -> None:
    short, long = sorted((width, height))
    if short < 1 or long / short > MAX_ASPECT:
        raise ImageError(f"degenerate ({width:,} x {height:,} pixels)")


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation to undo; 1 where it is absent, malformed or undone by the decoder."""
    if image.format in {"TIFF", "HEIF"} or (image.format == "JXL" and not getattr(image, "jpeg", False)):
        return 1
    try:
        value = image.getexif().get(0x0112, 1)
    except Exception:  # a damaged EXIF block never costs the picture
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _frames(image: Image.Image) -> list[tuple[Region | None, Image.Image]]:
    """Return the picture, and square tiles along it when it is longer than the centre crop shows."""
    frames: list[tuple[Region | None, Image.Image]] = [(None, image)]
    width, height = image.size
    short, long = sorted((width, height))
    if long <= TILED_ASPECT * short or short < MIN_TILE_SIDE:
        return frames
    count = min(MAX_TILES, math.ceil(long / short * 4 / 3))
    for i in range(count):
        start = round(i * (long - short) / (count - 1))
        if width >= height:
            box, region = (start, 0, start + short, short), Region(start / long, 0.0, short / long, 1.0)
        else:
            box, region = (0, start, short, start + short), Region(0.0, start / long, 1.0, short / long)
        frames.append((region, image.crop(box)))
    return frames


def _decode_raw(data: bytes, min_side: int, limits: DecodeLimits) -> Picture | None:
    """Return a camera RAW through its preview or LibRaw; None when LibRaw does not know it."""
    content = raw.read(data, min_side=min_side, max_pixel_bytes=limits.max_pixel_bytes)
    if content is None:
        return None
    if isinstance(content.image, bytes):
        picture = _decode_plain(content.image, min_side, limits, turn=content.orientation)
    else:
        whole = pixels.upright(pixels.to_rgb(content.image, min_side=min_side), content.orientation)
        picture = Picture(_frames(whole), 0, 0, "RAW", None, Metadata())
    about = read_blocks(content.exif) if content.exif is not None else picture.metadata
    known = about if about.taken_at or about.camera else picture.metadata
    return Picture(picture.frames, content.width, content.height, "RAW", picture.warning, known)


PngImagePlugin.MAX_TEXT_CHUNK = 2**20  # bytes of one text chunk, inflated
PngImagePlugin.MAX_TEXT_MEMORY = 16 * 2**20
