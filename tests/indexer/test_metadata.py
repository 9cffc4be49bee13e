"""EXIF, XMP and IPTC as cameras and programs write them, and as they should not."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from indexer.images import decode, describe
from indexer.metadata import MAX_NAME, MAX_TEXT, Metadata, read_blocks
from tests.indexer import pictures
from tests.indexer.pictures import encode, iptc, jpeg, photo_exif, scene, xmp


def about(data: bytes) -> Metadata:
    return decode(data, min_side=64).metadata


def with_iptc(data: bytes, segment: bytes) -> bytes:
    return data[:2] + segment + data[2:]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_camera_time_and_place_are_read(kind: str) -> None:
    from indexer.formats import openers

    if kind not in openers():
        pytest.skip(f"no decoder for {kind} is installed")
    found = about(encode(scene(), kind, exif=photo_exif().tobytes()))
    assert found.taken_at == "2023-06-01T12:30:00+01:00"
    assert found.camera == "Acme Pixel 9"
    assert found.lens == "Acme 24mm f/1.8"
    assert found.iso == 200
    assert found.latitude == pytest.approx(38 + 43 / 60 + 12.34 / 3600, abs=1e-6)
    assert found.longitude == pytest.approx(-(9 + 8 / 60 + 30 / 3600), abs=1e-6)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "HEIF"])
def test_xmp_is_read(kind: str) -> None:
    from indexer.formats import openers

    if kind not in openers():
        pytest.skip(f"no decoder for {kind} is installed")
    packet = xmp("Fado à noite", ["Lisboa", "música", "lisboa"], rating=4, created="2021-02-03T04:05:06Z")
    if kind == "PNG":
        data = pictures.png_with([(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet)])
    else:
        data = encode(scene(), kind, xmp=packet)
    found = about(data)
    assert found.caption == "Fado à noite"
    assert found.keywords == ("Lisboa", "música")
    assert found.rating == 4
    assert found.taken_at == "2021-02-03T04:05:06+00:00"


@pytest.mark.parametrize("charset", ["utf-8", "latin-1"])
def test_iptc_is_read_in_both_of_its_encodings(charset: str) -> None:
    found = about(with_iptc(jpeg(), iptc("Café à Évora", ["praça", "verão"], charset)))
    assert found.caption == "Café à Évora"
    assert found.keywords == ("praça", "verão")


def test_xmp_before_iptc_before_exif() -> None:
    exif = Image.Exif()
    exif[270] = "from EXIF"
    assert about(jpeg(exif=exif)).caption == "from EXIF"
    both = with_iptc(jpeg(exif=exif), iptc("from IPTC", ["a"]))
    assert about(both).caption == "from IPTC"
    all_three = with_iptc(jpeg(exif=exif, xmp=xmp("from XMP", ["b"])), iptc("from IPTC", ["a"]))
    assert about(all_three).caption == "from XMP"
    assert about(all_three).keywords == ("b", "a")


def test_windows_tags_are_read() -> None:
    exif = Image.Exif()
    exif[40091] = "Título".encode("utf-16-le")
    exif[40094] = "mar;céu;".encode("utf-16-le") + b"\0\0"
    exif[0x4746] = 5
    found = about(jpeg(exif=exif))
    assert (found.caption, found.keywords, found.rating) == ("Título", ("mar", "céu"), 5)


def test_what_cameras_write_as_caption_is_none() -> None:
    exif = Image.Exif()
    exif[270] = "OLYMPUS DIGITAL CAMERA         "
    assert about(jpeg(exif=exif)).caption is None


def test_text_is_one_clean_line_of_bounded_length() -> None:
    exif = Image.Exif()
    exif[270] = "a\x1b[31mred\x07\r\n  b.exe"
    assert about(jpeg(exif=exif)).caption == "a[31mred b.exe"
    assert about(jpeg(xmp=xmp("b\u202egnp.exe"))).caption == "bgnp.exe"
    found = about(jpeg(xmp=xmp("x" * 9000, ["k" * 500])))
    assert found.caption is not None
    assert len(found.caption) == MAX_TEXT
    assert len(found.keywords[0]) == MAX_NAME


@pytest.mark.parametrize(
    "text",
    [
        "0000:00:00 00:00:00",
        "    :  :     :  :  ",
        "2023:13:45 99:99:99",
        "yesterday",
        "",
        "1023:01:01 00:00:00",
    ],
)
def test_impossible_time_is_dropped(text: str) -> None:
    exif = photo_exif()
    exif.get_ifd(0x8769)[0x9003] = text
    assert about(jpeg(exif=exif)).taken_at is None


def test_next_best_time_is_taken() -> None:
    exif = photo_exif()
    exif.get_ifd(0x8769)[0x9003] = "0000:00:00 00:00:00"
    exif[306] = "2020:02:29 01:02:03"
    assert about(jpeg(exif=exif)).taken_at == "2020-02-29T01:02:03"


@pytest.mark.parametrize(
    ("latitude", "longitude"),
    [
        ((91, 0, 0), (9, 0, 0)),
        ((38, 0, 0), (181, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((38, 0, 0), ()),
        ((38, 0, 0, 0, 0), (9, 0, 0)),
    ],
)
def test_impossible_place_is_dropped(latitude: tuple[int, ...], longitude: tuple[int, ...]) -> None:
    rational = TiffImagePlugin.IFDRational
    exif = photo_exif()
    gps = exif.get_ifd(0x8825)
    gps[2], gps[4] = tuple(map(rational, latitude)), tuple(map(rational, longitude))
    found = about(jpeg(exif=exif))
    assert (found.latitude, found.longitude) == (None, None)


def test_place_divided_by_zero_is_dropped() -> None:
    exif = photo_exif()
    rational = TiffImagePlugin.IFDRational
    exif.get_ifd(0x8825)[2] = (rational(0, 0), rational(0, 0), rational(0, 0))
    found = about(jpeg(exif=exif))
    assert found.latitude is None
    assert found.camera == "Acme Pixel 9"


@pytest.mark.parametrize("value", ["9", "-3", "nan", "inf", "five"])
def test_impossible_rating_is_dropped(value: str) -> None:
    packet = xmp("c").replace(b"<rdf:Description ", f'<rdf:Description xmp:Rating="{value}" '.encode())
    assert about(jpeg(xmp=packet)).rating is None


def test_xmp_with_entities_is_not_parsed() -> None:
    bomb = b'<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]>' + xmp("&b;")
    assert about(jpeg(xmp=bomb)).caption is None
    assert read_blocks(Image.Exif(), xmp("&a;")).caption is None


@pytest.mark.parametrize("block", [b"", b"<", b"\xff" * 100, xmp("x")[:200], b"<a/>", xmp("x" * 2**21)])
def test_damaged_xmp_gives_nothing(block: bytes) -> None:
    assert read_blocks(Image.Exif(), block) == Metadata()


def test_damaged_blocks_never_cost_the_picture() -> None:
    rng = np.random.default_rng(3)
    good = jpeg(scene(64, 48), exif=photo_exif(), xmp=xmp("caption", ["one", "two"], 3))
    good = with_iptc(good, iptc("caption", ["one"]))
    end = good.rfind(b"\xff\xdb", 0, len(good) // 2 + 2000)
    for _ in range(150):
        data = bytearray(good)
        for place in rng.integers(24, end, 6):
            data[place] = rng.integers(0, 256)
        image = Image.open(io.BytesIO(good))
        image.info.update(
            exif=bytes(data[24:end]), xmp=bytes(data[24:end]), photoshop={1028: bytes(data[24:end])}
        )
        from indexer.metadata import read_metadata

        found = read_metadata(image)
        assert found.latitude is None or -90 <= found.latitude <= 90


def test_endless_iptc_lengths_end() -> None:
    record = struct.pack(">BBBH", 0x1C, 2, 25, 0x8004) + b"\xff\xff\xff\xff" + b"x"
    assert read_blocks(Image.Exif(), b"", record).keywords == ()
    many = b"".join(struct.pack(">BBBH", 0x1C, 2, 25, 4) + f"{i:04}".encode() for i in range(9000))
    assert len(read_blocks(Image.Exif(), b"", many).keywords) == 200


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "HEIF"])
def test_a_description_is_that_of_the_decoded_picture(kind: str) -> None:
    from indexer.formats import openers

    if kind not in openers():
        pytest.skip(f"no decoder for {kind} is installed")
    data = encode(scene(), kind, exif=photo_exif().tobytes(), xmp=xmp("a lighthouse", ["sea"]))
    assert describe(data) == about(data)
    assert describe(data).camera == "Acme Pixel 9"
    for cut in (b"", b"not a picture", data[: len(data) // 2], data[:40]):
        assert isinstance(describe(cut), Metadata)
