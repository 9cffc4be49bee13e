"""What a picture says about itself: EXIF, XMP and IPTC, read defensively.

`read_metadata` never raises: a picture is never lost because of what is written next to it.
EXIF answers first for what the camera knows (time, place, lens); XMP before IPTC before EXIF for what a
person wrote (caption, keywords, rating), because that is the order in which programs keep them current.
"""

from __future__ import annotations

import math
import re
import struct
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar
from xml.etree import ElementTree

from PIL import Image

T = TypeVar("T")

MAX_TEXT: Final = 2_000  # characters of a caption
MAX_NAME: Final = 100  # characters of a camera, lens or keyword
MAX_KEYWORDS: Final = 200
MAX_XMP_BYTES: Final = 2**20

_EXIF_IFD, _GPS_IFD = 0x8769, 0x8825
_NS: Final = {
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "dc": "http://purl.org/dc/elements/1.1/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
    "exif": "http://ns.adobe.com/exif/1.0/",
}


@dataclass(frozen=True, slots=True)
class Metadata:
    """What is known of a picture; everything may be missing.

    Attributes:
        taken_at: ISO 8601 local time, with the offset from UTC where the camera wrote one.
        camera: maker and model.
        latitude: degrees north, -90..90.
        longitude: degrees east, -180..180.
        iso: film speed.
        rating: 0..5 stars, -1 for rejected.
    """

    taken_at: str | None = None
    camera: str | None = None
    lens: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    iso: int | None = None
    caption: str | None = None
    keywords: tuple[str, ...] = ()
    rating: int | None = None


def read_metadata(image: Image.Image) -> Metadata:
    """Return what the opened picture carries; whatever cannot be read is left out."""
    exif = _attempt(image.getexif, Image.Exif())
    return read_blocks(exif, _xmp_block(image), _iptc_block(image))


def read_blocks(exif: Image.Exif, xmp: bytes = b"", iptc: bytes = b"") -> Metadata:
    """Return the metadata of three raw blocks, any of which may be empty or damaged."""
    main: dict[int, Any] = _attempt(lambda: dict(exif), {})
    photo: dict[int, Any] = _attempt(lambda: dict(exif.get_ifd(_EXIF_IFD)), {})
    gps: dict[int, Any] = _attempt(lambda: dict(exif.get_ifd(_GPS_IFD)), {})
    packet = _attempt(lambda: _Xmp(xmp), None) if xmp else None
    records: dict[int, list[str]] = _attempt(lambda: _iptc_records(iptc), {})
    nowhere: tuple[float | None, float | None] = (None, None)
    latitude, longitude = _attempt(lambda: _position(gps), nowhere)
    return Metadata(
        taken_at=_attempt(lambda: _taken_at(main, photo, packet, records), None),
        camera=_attempt(lambda: _camera(main), None),
        lens=_attempt(lambda: _clean(photo.get(0xA434), MAX_NAME), None),
        latitude=latitude,
        longitude=longitude,
        iso=_attempt(lambda: _integer(photo.get(0x8827), 1, 10_000_000), None),
        caption=_attempt(lambda: _caption(main, photo, packet, records), None),
        keywords=_attempt(lambda: _keywords(main, packet, records), ()),
        rating=_attempt(lambda: _rating(main, packet), None),
    )


def _attempt(read: Callable[[], T], default: T) -> T:
    """Return what `read` returns, or the default where the block is damaged: any exception, by design."""
    try:
        return read()
    except Exception:
        return default


def _clean(value: object, limit: int) -> str | None:
    """Return one readable line of at most `limit` characters, None when nothing is left."""
    if isinstance(value, bytes):
        value = _decode(value)
    if not isinstance(value, str):
        return None
    value = value.split("\0", 1)[0] if value.strip("\0") and not value.startswith("\0") else value
    kept = "".join(" " if c in "\n\r\t" else c for c in value[: limit * 4] if c in "\n\r\t" or _printable(c))
    text = " ".join(kept.split())[:limit].strip()
    return text or None


_BIDIRECTIONAL: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def _printable(char: str) -> bool:
    """Tell whether a character is text: no control, no lone surrogate, no bidirectional override."""
    return unicodedata.category(char) not in {"Cc", "Cs", "Co", "Cn"} and char not in _BIDIRECTIONAL


def _decode(value: bytes) -> str:
    """Return text of unnamed encoding: UTF-8 where it is valid, else Latin-1."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _number(value: object) -> float:
    """Return a finite float of a rational, number or string; raises ValueError otherwise."""
    if isinstance(value, tuple) and len(value) == 2:
        value = float(value[0]) / float(value[1])
    number = float(value)  # type: ignore[arg-type]
    if not math.isfinite(number):
        raise ValueError("not a finite number")
    return number


def _integer(value: object, low: int, high: int) -> int | None:
    if isinstance(value, tuple):
        value = value[0] if value else None
    if value is None:
        return None
    number = round(_number(value))
    return number if low <= number <= high else None


# --- time -----------------------------------------------------------------------------------------------

_TIME: Final = re.compile(
    r"\s*(\d{4})[:\-/.](\d\d?)[:\-/.](\d\d?)"
    r"(?:[T ]+(\d\d?):(\d\d?)(?::(\d\d?))?(?:\.\d+)?)?\s*(Z|[+-]\d\d:?\d\d)?"
)
_OFFSET: Final = re.compile(r"\s*(Z|[+-]\d\d:?\d\d)")


def _instant(text: object, offset: object = None) -> str | None:
    """Return ISO 8601 of a time as EXIF or XMP write it, None for a date that does not exist."""
    text = _clean(text, 40)
    match = _TIME.match(text or "")
    if match is None:
        return None
    numbers = [int(part or 0) for part in match.groups()[:6]]
    try:
        when = datetime(*numbers)  # type: ignore[arg-type]
    except ValueError:
        return None
    if when.year < 1800:
        return None
    zone = match.group(7)
    if zone is None and (found := _OFFSET.match(_clean(offset, 10) or "")):
        zone = found.group(1)
    return when.isoformat(timespec="seconds") + _zone(zone)


def _zone(zone: str | None) -> str:
    if not zone:
        return ""
    if zone == "Z":
        return "+00:00"
    zone = zone if ":" in zone else f"{zone[:3]}:{zone[3:]}"
    return zone if int(zone[1:3]) <= 14 and int(zone[4:6]) < 60 else ""


def _taken_at(
    main: dict[int, Any], photo: dict[int, Any], packet: _Xmp | None, records: dict[int, list[str]]
) -> str | None:
    candidates: list[tuple[object, object]] = [
        (photo.get(0x9003), photo.get(0x9011)),
        (photo.get(0x9004), photo.get(0x9012)),
    ]
    if packet is not None:
        for space, name in (
            ("photoshop", "DateCreated"),
            ("exif", "DateTimeOriginal"),
            ("xmp", "CreateDate"),
        ):
            candidates.append((packet.text(space, name), None))
    date = next(iter(records.get(55, [])), "")
    if re.fullmatch(r"\d{8}", date):
        time = next(iter(records.get(60, [])), "")
        clock = f" {time[:2]}:{time[2:4]}:{time[4:6]}{time[6:11]}" if re.match(r"\d{6}", time) else ""
        candidates.append((f"{date[:4]}-{date[4:6]}-{date[6:]}{clock}", None))
    candidates.append((main.get(306), photo.get(0x9010)))
    return next((found for text, offset in candidates if (found := _instant(text, offset))), None)


# --- place and camera -----------------------------------------------------------------------------------


def _position(gps: dict[int, Any]) -> tuple[float | None, float | None]:
    latitude = _degrees(gps.get(2), gps.get(1), "S", 90)
    longitude = _degrees(gps.get(4), gps.get(3), "W", 180)
    if latitude is None or longitude is None or (latitude == 0 and longitude == 0):
        return None, None  # 0, 0 is what receivers write without a fix
    return latitude, longitude


def _degrees(value: object, reference: object, negative: str, limit: float) -> float | None:
    """Return signed degrees of (degrees, minutes, seconds)."""
    if not isinstance(value, tuple | list) or not 1 <= len(value) <= 3:
        return None
    try:
        parts = [_number(part) for part in value]
    except (ValueError, TypeError, ZeroDivisionError):
        return None
    degrees = math.fsum(part / 60.0**power for power, part in enumerate(parts))
    if any(part < 0 for part in parts) or degrees > limit:
        return None
    if (_clean(reference, 10) or "").upper().startswith(negative):
        degrees = -degrees
    return round(degrees, 7)


def _camera(main: dict[int, Any]) -> str | None:
    make, model = _clean(main.get(271), MAX_NAME) or "", _clean(main.get(272), MAX_NAME) or ""
    first = make.split(" ")[0].lower()
    return (model if first and model.lower().startswith(first) else f"{make} {model}".strip()) or None


# --- what a person wrote --------------------------------------------------------------------------------

# What cameras and programs write into the caption when nobody wrote one.
_NO_CAPTION: Final = frozenset(
    {"olympus digital camera", "sony dsc", "dcim", "minolta digital camera", "default", "screenshot"}
)


def _wide(value: object) -> str | None:
    """Return the text of one of Windows' XP* tags: UTF-16-LE in bytes or a tuple of bytes."""
    if isinstance(value, tuple):
        value = bytes(part & 255 for part in value if isinstance(part, int))
    return value.decode("utf-16-le", "ignore").rstrip("\0") if isinstance(value, bytes) else None


def _user_comment(value: object) -> str | None:
    """Return EXIF UserComment, whose first 8 bytes name its encoding."""
    if not isinstance(value, bytes) or len(value) <= 8:
        return value if isinstance(value, str) else None
    code, rest = value[:8], value[8:]
    if code.startswith(b"UNICODE"):
        return rest.decode("utf-16-le" if rest[1:2] == b"\0" else "utf-16-be", "ignore")
    if code.startswith((b"ASCII", b"\0" * 8)):
        return _decode(rest)
    return None


def _caption(
    main: dict[int, Any], photo: dict[int, Any], packet: _Xmp | None, records: dict[int, list[str]]
) -> str | None:
    candidates: list[object] = []
    if packet is not None:
        candidates += [packet.text("dc", "description")]
    candidates += records.get(120, [])[:1]
    candidates += [main.get(270), _user_comment(photo.get(0x9286)), _wide(main.get(40092))]
    candidates += [packet.text("dc", "title")] if packet is not None else []
    candidates += [_wide(main.get(40091))]
    texts = (_clean(candidate, MAX_TEXT) for candidate in candidates)
    return next((text for text in texts if text and text.lower() not in _NO_CAPTION), None)


def _keywords(main: dict[int, Any], packet: _Xmp | None, records: dict[int, list[str]]) -> tuple[str, ...]:
    found: dict[str, str] = {}
    words: Iterable[str] = [
        *(packet.items("dc", "subject") if packet is not None else ()),
        *records.get(25, []),
        *(_wide(main.get(40094)) or "").split(";"),
    ]
    for word in words:
        if (text := _clean(word, MAX_NAME)) and len(found) < MAX_KEYWORDS:
            found.setdefault(text.casefold(), text)
    return tuple(found.values())


def _rating(main: dict[int, Any], packet: _Xmp | None) -> int | None:
    for value in (packet.text("xmp", "Rating") if packet is not None else None, main.get(0x4746)):
        try:
            rating = _integer(value, -1, 5)
        except (ValueError, TypeError, ZeroDivisionError):
            continue
        if rating is not None:
            return rating
    return None


# --- blocks ---------------------------------------------------------------------------------------------


class _Xmp:
    """One XMP packet; properties are read as elements or as attributes (both are valid RDF)."""

    def __init__(self, packet: bytes) -> None:
        """Raises ValueError: too large, or it declares entities (nothing genuine does)."""
        packet = packet[: MAX_XMP_BYTES + 1].strip(b"\0 \r\n\t")
        if len(packet) > MAX_XMP_BYTES or b"<!DOCTYPE" in packet or b"<!ENTITY" in packet:
            raise ValueError("unsafe XMP")
        start, end = packet.find(b"<rdf:RDF"), packet.rfind(b"</rdf:RDF>")
        if start < 0 or end < 0:  # another prefix or UTF-16: take it whole
            self.root = ElementTree.fromstring(packet)
        else:
            self.root = ElementTree.fromstring(packet[start : end + 10])

    def items(self, space: str, name: str) -> list[str]:
        """Return the values of a property, one for a plain one, several for a bag."""
        tag = f"{{{_NS[space]}}}{name}"
        values: list[str] = []
        for block in self.root.iter(f"{{{_NS['rdf']}}}Description"):
            if tag in block.attrib:
                values.append(block.attrib[tag])
            for element in block.findall(tag):
                members = list(element.iter(f"{{{_NS['rdf']}}}li"))
                values += [member.text or "" for member in members] if members else [element.text or ""]
        return values

    def text(self, space: str, name: str) -> str | None:
        """Return the first value that is not empty."""
        return next((value for value in self.items(space, name) if value.strip()), None)


def _xmp_block(image: Image.Image) -> bytes:
    """Return the XMP packet, b"" when there is none."""
    for key in ("xmp", "XML:com.adobe.xmp"):
        value = image.info.get(key)
        if isinstance(value, str):
            return value.encode("utf-8", "ignore")
        if isinstance(value, bytes) and value:
            return value
    value = _attempt(lambda: getattr(image, "tag_v2", {}).get(700), None)
    return value if isinstance(value, bytes) else b""


def _iptc_block(image: Image.Image) -> bytes:
    """Return the IPTC IIM records: from Photoshop resource 1028, or TIFF tag 33723."""
    resources = image.info.get("photoshop")
    if isinstance(resources, dict) and isinstance(resources.get(1028), bytes):
        return bytes(resources[1028])
    value = _attempt(lambda: getattr(image, "tag_v2", {}).get(33723), None)
    if isinstance(value, tuple):
        return _attempt(lambda: struct.pack(f"<{len(value)}L", *value), b"")
    return value if isinstance(value, bytes) else b""


def _iptc_records(block: bytes) -> dict[int, list[str]]:
    """Return record 2 of IPTC IIM 4.2 by data set: 25 keyword, 55 date, 60 time, 120 caption."""
    charset: str | None = None
    found: dict[int, list[str]] = {}
    for record, dataset, value in _iptc_sets(block):
        if (record, dataset) == (1, 90):
            charset = "utf-8" if value == b"\x1b%G" else None
        elif record == 2 and len(found.setdefault(dataset, [])) < MAX_KEYWORDS:
            found[dataset].append(value.decode(charset, "replace") if charset else _decode(value))
    return found


def _iptc_sets(block: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield (record, data set, value) until the block ends or makes no sense."""
    at = block.find(b"\x1c")
    while at >= 0 and at + 5 <= len(block) and block[at] == 0x1C:
        record, dataset, length = struct.unpack_from(">BBH", block, at + 1)
        at += 5
        if length & 0x8000:  # extended: the low bits count the bytes of the length
            count = length & 0x7FFF
            if count > 4:
                return
            length = int.from_bytes(block[at : at + count], "big")
            at += count
        if at + length > len(block):
            return
        yield record, dataset, block[at : at + length]
        at += length
