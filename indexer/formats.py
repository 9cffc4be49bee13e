"""Which formats are parsed, and what a file will cost, read from its first bytes.

Nothing outside the allow-list reaches a parser: an EPS would start Ghostscript, and every rarely used
decoder is one more way to crash.
"""

from __future__ import annotations

import functools
import importlib
import struct
from dataclasses import dataclass
from typing import Any, Final

from PIL import Image

RAW_SUFFIXES: Final = frozenset({
    ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".iiq", ".k25", ".kdc", ".mef",
    ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f",
})  # fmt: skip
IMAGE_SUFFIXES: Final = RAW_SUFFIXES | frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib", ".tif",
    ".tiff", ".avif", ".avifs", ".heic", ".heics", ".heif", ".heifs", ".hif", ".jxl",
})  # fmt: skip
"""Lower case, with the dot: a file with another suffix is not a candidate."""


class ImageError(Exception):
    """One file that cannot be decoded.

    Attributes:
        reason: short, lower case, shown to people: "empty file", "too large (12,288 MP needs 3.2 GB)".
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Kind:
    """What the first bytes say: a name ("" when unknown) and whether a parser is allowed to see it."""

    name: str
    allowed: bool


UNKNOWN: Final = Kind("", False)

_SIGNATURES: Final[tuple[tuple[bytes, str, bool], ...]] = (
    (b"\xff\xd8\xff", "JPEG", True),
    (b"\x89PNG\r\n\x1a\n", "PNG", True),
    (b"GIF87a", "GIF", True),
    (b"GIF89a", "GIF", True),
    (b"BM", "BMP", True),
    (b"II*\0", "TIFF", True),
    (b"MM\0*", "TIFF", True),
    (b"II+\0", "TIFF", True),
    (b"MM\0+", "TIFF", True),
    (b"\xff\x0a", "JXL", True),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JXL", True),
    (b"%!PS", "EPS", False),
    (b"\xc5\xd0\xd3\xc6", "EPS", False),
    (b"8BPS", "PSD", False),
    (b"SIMPLE  =", "FITS", False),
    (b"\0\0\1\0", "ICO", False),
    (b"icns", "ICNS", False),
    (b"DDS ", "DDS", False),
    (b"BLP", "BLP", False),
    (b"\x01\xda", "SGI", False),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000", False),
    (b"\xff\x4f\xff\x51", "JPEG 2000", False),
    (b"gimp xcf", "XCF", False),
    (b"v/1\x01", "OpenEXR", False),
    (b"#?RADIANCE", "Radiance HDR", False),
)
_HEIF_BRANDS: Final = frozenset(
    {
        b"heic",
        b"heix",
        b"heim",
        b"heis",
        b"hevc",
        b"hevx",
        b"hevm",
        b"hevs",
        b"mif1",
        b"msf1",
        b"mif2",
        b"mif3",
    }
)
_AVIF_BRANDS: Final = frozenset({b"avif", b"avis"})


def sniff(data: bytes) -> Kind:
    """Return what the first bytes (64 are enough) say."""
    for magic, name, allowed in _SIGNATURES:
        if data.startswith(magic):
            return Kind(name, allowed)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return Kind("WEBP", True)
    if data[4:8] == b"ftyp":
        length = min(64, int.from_bytes(data[:4], "big"))
        brands = {data[8:12]} | {data[i : i + 4] for i in range(16, length - 3, 4)}
        if brands & _AVIF_BRANDS:
            return Kind("AVIF", True)
        if brands & _HEIF_BRANDS:
            return Kind("HEIF", True)
    if data[:1] == b"P" and data[1:2] in b"123456Ff7" and data[2:3] in b" \n\r\t" and len(data) > 8:
        return Kind("PNM", False)
    return UNKNOWN


@functools.cache
def openers() -> list[str]:
    """Return Pillow's names of the formats that are allowed and installed; imports their plugins."""
    names: list[str] = []
    for module, name in (
        ("JpegImagePlugin", "JPEG"), ("MpoImagePlugin", "MPO"), ("PngImagePlugin", "PNG"),
        ("GifImagePlugin", "GIF"), ("BmpImagePlugin", "BMP"), ("TiffImagePlugin", "TIFF"),
        ("WebPImagePlugin", "WEBP"), ("AvifImagePlugin", "AVIF"),
    ):  # fmt: skip
        importlib.import_module(f"PIL.{module}")
        names.append(name)
    names += [name for name, found in (("HEIF", _with_heif()), ("JXL", _with_jxl())) if found]
    # One thread each: the pool has a worker per core, and the limits count processor seconds.
    avif: Any = importlib.import_module("PIL.AvifImagePlugin")
    avif.DEFAULT_MAX_THREADS = 1
    return [name for name in names if name in Image.OPEN]


def _with_heif() -> bool:
    try:
        heif = importlib.import_module("pillow_heif")
    except ImportError:
        return False
    heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=1)
    return True


def _with_jxl() -> bool:
    try:
        importlib.import_module("pillow_jxl")
        plugin: Any = importlib.import_module("pillow_jxl.JpegXLImagePlugin")
    except ImportError:
        return False
    plugin.DECODE_THREADS = 0
    return True


def require_allowed(data: bytes, name: str = "") -> None:
    """Raise ImageError unless an installed, allowed parser exists for what the bytes are."""
    kind = sniff(data)
    if not kind.name:
        if name.lower().endswith(tuple(RAW_SUFFIXES)):
            raise ImageError("not a RAW file this version of LibRaw reads")
        raise ImageError("not an image")
    if not kind.allowed:
        raise ImageError(f"format not supported ({kind.name})")
    if kind.name not in openers():
        package = {"HEIF": "pillow-heif", "JXL": "pillow-jxl-plugin"}.get(kind.name, "a newer Pillow")
        label = {"HEIF": "HEIC", "JXL": "JPEG XL"}.get(kind.name, kind.name)
        raise ImageError(f"{label} support not installed (needs {package})")


# --- cost -----------------------------------------------------------------------------------------------

_CORE_BYTES: Final = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}
_EXTRA_BYTES: Final = {"WEBP": 12, "AVIF": 8, "HEIF": 6, "JXL": 16, "GIF": 1}
"""Bytes per pixel a decoder holds besides Pillow's own picture: planes, canvas, a copy on the way."""


def _too_large(width: int, height: int, need: float) -> ImageError:
    return ImageError(f"too large ({width * height / 1e6:,.0f} MP needs {need / 1e9:,.1f} GB)")


def check_canvas(data: bytes, budget: int) -> None:
    """Raise ImageError for formats that allocate the canvas on opening (WebP, JPEG XL), from their header."""
    kind = sniff(data).name
    size = _webp_size(data) if kind == "WEBP" else _jxl_size(data) if kind == "JXL" else None
    if size is not None:
        need = size[0] * size[1] * (4 + _EXTRA_BYTES[kind])
        if need > budget:
            raise _too_large(*size, need)


def check_budget(image: Image.Image, data: bytes, size: tuple[int, int], budget: int) -> None:
    """Raise ImageError when decoding the opened picture would need more than `budget` bytes.

    Args:
        image: opened, not loaded, JPEG already set to its reduced scale.
        size: pixels of the original.
    """
    width, height = size
    need = float(image.width * image.height * _CORE_BYTES.get(image.mode, 4))
    if image.format in {"JPEG", "MPO"}:
        need += width * height * _coefficient_bytes(image, data)
    elif image.format == "TIFF":
        need += width * height * _sample_bytes(image)  # one strip may be the whole picture
    else:
        need += width * height * _EXTRA_BYTES.get(image.format or "", 0)
    if need > budget:
        raise _too_large(width, height, need)


def _sample_bytes(image: Image.Image) -> float:
    bits: Any = getattr(image, "tag_v2", {}).get(258, (8,))
    bits = bits if isinstance(bits, tuple) else (bits,)
    return float(sum(bit for bit in bits if isinstance(bit, int))) / 8


def _coefficient_bytes(image: Image.Image, data: bytes) -> float:
    """Return bytes per pixel libjpeg keeps: all coefficients (2 bytes each) when there are several scans."""
    layers: list[tuple[int, int, int, int]] = getattr(image, "layer", [])
    if not (image.info.get("progressive") or scan_components(data) < len(layers)):
        return 0.0
    areas = [horizontal * vertical for _, horizontal, vertical, *_ in layers]
    return 2.0 * sum(areas) / max(areas, default=1)


# --- headers --------------------------------------------------------------------------------------------


def _segments(data: bytes) -> list[tuple[int, int, int]]:
    """Return (marker, start of the body, end) of a JPEG's segments, up to and with the first scan header."""
    found: list[tuple[int, int, int]] = []
    at = 2
    while at + 4 <= len(data) and len(found) < 10_000:
        if data[at] != 0xFF:
            at = data.find(b"\xff", at)
            if at < 0:
                break
            continue
        marker = data[at + 1]
        if marker in {0x00, 0x01, 0xFF} or 0xD0 <= marker <= 0xD9:
            at += 1 if marker == 0xFF else 2
            continue
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        found.append((marker, at + 4, end))
        if marker == 0xDA:
            break
        at = end
    return found


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Return (width, height) from the frame header that comes first."""
    for marker, start, end in _segments(data):
        if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC} and end - start >= 6:
            height, width = struct.unpack_from(">HH", data, start + 1)
            return width, height
    return None


def scan_components(data: bytes) -> int:
    """Return how many components the first scan holds; 255 when there is none."""
    scans = (start for marker, start, _ in _segments(data) if marker == 0xDA and start < len(data))
    return next((data[start] for start in scans), 255)


def _webp_size(data: bytes) -> tuple[int, int] | None:
    chunk = data[12:16]
    if len(data) < 30:
        return None
    if chunk == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if chunk == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    if chunk == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return None


def _jxl_size(data: bytes) -> tuple[int, int] | None:
    """Return (width, height) of a JPEG XL; ISO/IEC 18181-1, SizeHeader."""
    start = 0 if data[:2] == b"\xff\x0a" else _jxl_codestream(data)
    if start is None or data[start : start + 2] != b"\xff\x0a":
        return None
    bits, at = int.from_bytes(data[start + 2 : start + 16], "little"), 0

    def take(count: int) -> int:
        nonlocal at
        value = bits >> at & ((1 << count) - 1)
        at += count
        return value

    small = take(1)

    def side() -> int:
        return (take(5) + 1) * 8 if small else take((9, 13, 18, 30)[take(2)]) + 1

    height = side()
    ratio = take(3)
    if ratio == 0:
        return side(), height
    numerator, denominator = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio - 1]
    return height * numerator // denominator, height


def _jxl_codestream(data: bytes) -> int | None:
    """Return where the codestream starts in a container."""
    at = 0
    while at + 8 <= len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        body = at + 8
        if length == 1:
            length, body = int.from_bytes(data[at + 8 : at + 16], "big"), at + 16
        if kind == b"jxlc":
            return body
        if kind == b"jxlp":
            return body + 4
        if length < 8:
            return None
        at += length
    return None
