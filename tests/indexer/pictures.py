"""Pictures made on the fly: each one is a promise of the decoder in the form of bytes."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageCms, TiffImagePlugin


def scene(width: int = 320, height: int = 240, seed: int = 0) -> Image.Image:
    """Return a smooth RGB picture without symmetry: each corner has its own colour, and some texture."""
    y, x = np.mgrid[0:height, 0:width]
    u, v = x / max(1, width - 1), y / max(1, height - 1)
    rng = np.random.default_rng(seed)
    wave = 20 * np.sin(u * 25 + rng.uniform(0, 6)) * np.cos(v * 18)
    red = 40 + 180 * u + wave
    green = 30 + 190 * v - wave
    blue = 220 - 170 * u * v + wave / 2
    return Image.fromarray(np.clip(np.stack([red, green, blue], -1), 0, 255).astype(np.uint8))


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Return the bytes of a file."""
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def jpeg(image: Image.Image | None = None, **options: Any) -> bytes:
    return encode(image or scene(), "JPEG", **{"quality": 92, **options})


def oriented(image: Image.Image, orientation: int) -> bytes:
    """Return a JPEG that looks like `image` once its EXIF orientation is honoured."""
    inverse = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    stored = image.transpose(inverse[orientation]) if orientation in inverse else image
    exif = Image.Exif()
    exif[0x0112] = orientation
    return jpeg(stored, exif=exif, quality=97)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_bomb(width: int = 60_000, height: int = 60_000) -> bytes:
    """Return a valid 1-bit PNG of 3,600 MP in about two megabytes."""
    row = bytes(1 + (width + 7) // 8)
    packer = zlib.compressobj(1)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def png_with(chunks: Sequence[tuple[bytes, bytes]], image: Image.Image | None = None) -> bytes:
    """Return a PNG with more chunks after its header."""
    data = encode(image or scene(), "PNG")
    return data[:33] + b"".join(chunk(kind, body) for kind, body in chunks) + data[33:]


def iptc(caption: str, keywords: Sequence[str], charset: str = "utf-8") -> bytes:
    """Return an APP13 segment with IPTC records."""

    def record(number: int, dataset: int, value: bytes) -> bytes:
        return struct.pack(">BBBH", 0x1C, number, dataset, len(value)) + value

    body = record(1, 90, b"\x1b%G") if charset == "utf-8" else b""
    body += record(2, 120, caption.encode(charset))
    body += b"".join(record(2, 25, word.encode(charset)) for word in keywords)
    resource = b"8BIM" + struct.pack(">H", 1028) + b"\0\0" + struct.pack(">I", len(body)) + body
    payload = b"Photoshop 3.0\0" + resource + (b"\0" if len(body) % 2 else b"")
    return b"\xff\xed" + struct.pack(">H", len(payload) + 2) + payload


def xmp(
    caption: str = "", keywords: Sequence[str] = (), rating: int | None = None, created: str = ""
) -> bytes:
    """Return an XMP packet."""
    attributes = f' xmp:Rating="{rating}"' if rating is not None else ""
    attributes += f' photoshop:DateCreated="{created}"' if created else ""
    items = "".join(f"<rdf:li>{word}</rdf:li>" for word in keywords)
    return (
        '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/" '
        'xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
        f'xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/"{attributes}>'
        f'<dc:description><rdf:Alt><rdf:li xml:lang="x-default">{caption}</rdf:li></rdf:Alt></dc:description>'
        f"<dc:subject><rdf:Bag>{items}</rdf:Bag></dc:subject>"
        '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    ).encode()


def photo_exif() -> Image.Exif:
    """Return the EXIF of a phone's picture taken in Lisbon."""
    rational = TiffImagePlugin.IFDRational
    exif = Image.Exif()
    exif[271], exif[272], exif[0x0112] = "Acme", "Acme Pixel 9", 1
    photo = exif.get_ifd(0x8769)
    photo[0x9003], photo[0x9011] = "2023:06:01 12:30:00", "+01:00"
    photo[0x8827], photo[0xA434] = 200, "Acme 24mm f/1.8"
    gps = exif.get_ifd(0x8825)
    gps[1], gps[2] = "N", (rational(38), rational(43), rational(1234, 100))
    gps[3], gps[4] = "W", (rational(9), rational(8), rational(3000, 100))
    return exif


def cmyk(image: Image.Image) -> Image.Image:
    """Return the CMYK picture whose plain conversion gives `image` back."""
    rgb = np.asarray(image).astype(np.float64) / 255
    black = 1 - rgb.max(axis=-1, keepdims=True)
    inks = np.where(black < 1, (1 - rgb - black) / np.maximum(1 - black, 1e-9), 0)
    return Image.fromarray(np.rint(np.concatenate([inks, black], -1) * 255).astype(np.uint8), "CMYK")


def lab(image: Image.Image) -> Image.Image:
    """Return the L*a*b* twin."""
    way = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    converted = ImageCms.applyTransform(image, way)
    assert converted is not None
    return converted


def _curve() -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, 0x0233) + b"\0\0"  # gamma 2.2


def _xyz(x: float, y: float, z: float) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">iii", *(round(value * 65536) for value in (x, y, z)))


def icc_profile(kind: bytes = b"mntr", space: bytes = b"RGB ") -> bytes:
    """Return an ICC profile with the primaries of Adobe RGB (1998), adapted to D50."""
    tags = {
        b"rXYZ": _xyz(0.60974, 0.31111, 0.01947), b"gXYZ": _xyz(0.20528, 0.62567, 0.06087),
        b"bXYZ": _xyz(0.14919, 0.06322, 0.74457), b"wtpt": _xyz(0.9642, 1.0, 0.8249),
        b"rTRC": _curve(), b"gTRC": _curve(), b"bTRC": _curve(),
        b"desc": b"desc" + bytes(4) + struct.pack(">I", 5) + b"wide\0" + bytes(4 + 4 + 2 + 1 + 67),
    }  # fmt: skip
    table, body = b"", b""
    start = 128 + 4 + 12 * len(tags)
    for name, value in tags.items():
        value += bytes(-len(value) % 4)
        table += name + struct.pack(">II", start + len(body), len(value))
        body += value
    size = start + len(body)
    header = struct.pack(">I4sI4s4s4s", size, b"    ", 0x02100000, kind, space, b"XYZ ") + bytes(12) + b"acsp"
    header += bytes(128 - len(header) - 60) + struct.pack(">iii", 63190, 65536, 54061)
    return header + bytes(128 - len(header)) + struct.pack(">I", len(tags)) + table + body


def dng(width: int = 512, height: int = 384, *, flip: int = 1) -> bytes:
    """Return a minimal camera RAW: 16-bit Bayer RGGB, white at 65535, no preview."""
    picture = np.asarray(scene(width, height)).astype(np.uint16) * 257
    bayer = np.empty((height, width), np.uint16)
    for (row, column), band in {(0, 0): 0, (0, 1): 1, (1, 0): 1, (1, 1): 2}.items():
        bayer[row::2, column::2] = picture[row::2, column::2, band]
    identity = struct.pack("<18i", *(value for i in range(9) for value in (int(i % 4 == 0), 1)))
    short, long, byte, text, srational = 3, 4, 1, 2, 10
    entries: list[tuple[int, int, int, bytes]] = [
        (254, long, 1, struct.pack("<I", 0)), (256, long, 1, struct.pack("<I", width)),
        (257, long, 1, struct.pack("<I", height)), (258, short, 1, struct.pack("<H", 16)),
        (259, short, 1, struct.pack("<H", 1)), (262, short, 1, struct.pack("<H", 32803)),
        (271, text, 5, b"Acme\0"), (272, text, 5, b"RawX\0"), (273, long, 1, b"DATA"),
        (274, short, 1, struct.pack("<H", flip)), (277, short, 1, struct.pack("<H", 1)),
        (278, long, 1, struct.pack("<I", height)), (279, long, 1, struct.pack("<I", bayer.nbytes)),
        (306, text, 20, b"2022:05:06 07:08:09\0"),
        (33421, short, 2, struct.pack("<HH", 2, 2)), (33422, byte, 4, bytes([0, 1, 1, 2])),
        (50706, byte, 4, bytes([1, 4, 0, 0])), (50708, text, 10, b"Acme RawX\0"),
        (50721, srational, 9, identity), (50778, short, 1, struct.pack("<H", 21)),
    ]  # fmt: skip
    start = 8 + 2 + 12 * len(entries) + 4
    extra = b"".join(value + bytes(len(value) % 2) for *_, value in entries if len(value) > 4)
    table, used = b"", 0
    for tag, kind, count, value in entries:
        if value == b"DATA":
            value = struct.pack("<I", start + len(extra))
        if len(value) > 4:
            table += struct.pack("<HHII", tag, kind, count, start + used)
            used += len(value) + len(value) % 2
        else:
            table += struct.pack("<HHI", tag, kind, count) + value.ljust(4, b"\0")
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + table + bytes(4) + extra + bayer.tobytes()


# --- decoders that misbehave, named to a pool as "tests.indexer.pictures:..." ---------------------------


def misbehaving(data: bytes, *, min_side: int, limits: Any, name: str = "") -> Any:
    """Decode, unless the name of the file says what to do instead."""
    import os
    import signal
    import socket
    import time

    from indexer.images import decode

    if name.startswith("segv"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if name.startswith("exit"):
        os._exit(7)
    if name.startswith("hang"):
        time.sleep(600)
    if name.startswith("spin"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        while True:
            sum(range(10_000))
    if name.startswith("greedy"):
        bytearray(8 * 2**30)
    if name.startswith("raise"):
        raise RuntimeError("a decoder's own type of error")
    if name.startswith("noise"):
        os.write(1, b"printf debugging\n" * 100)
        print("more of it", flush=True)
    if name.startswith("writes"):
        with open(os.environ.get("TMPDIR", "/tmp") + "/pixseek-decoder-wrote", "wb") as file:
            file.write(b"x")
    if name.startswith("program"):
        os.execv("/usr/bin/touch", ["touch", data[data.rindex(b"\xff\xd9") + 2 :].decode()])
    if name.startswith("connect"):
        with socket.create_connection(("127.0.0.1", int(name.split("-")[1].split(".")[0])), timeout=2):
            pass
    return decode(data, min_side=min_side, limits=limits, name=name)
