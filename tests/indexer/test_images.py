"""Bytes to upright sRGB frames: every promise with a picture made for it."""

from __future__ import annotations

import io
import itertools
import resource
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from indexer import images, raw
from indexer.images import IMAGE_SUFFIXES, DecodeLimits, ImageError, Picture, decode
from indexer.metadata import read_blocks
from tests.indexer import pictures
from tests.indexer.pictures import encode, jpeg, scene


def seen(data: bytes, min_side: int = 224, name: str = "") -> np.ndarray:
    """Return the whole picture as floats."""
    return np.asarray(decode(data, min_side=min_side, name=name).frames[0][1]).astype(float)


def difference(one: object, two: object) -> float:
    """Return the mean absolute difference in grey levels."""
    return float(np.abs(np.asarray(one).astype(float) - np.asarray(two).astype(float)).mean())


def cosine(one: object, two: object) -> float:
    """Return the cosine of two pictures about their mean."""
    a, b = (np.asarray(image).astype(float).ravel() for image in (one, two))
    a, b = a - a.mean(), b - b.mean()
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def reason(data: bytes, **options: object) -> str:
    with pytest.raises(ImageError) as caught:
        decode(data, min_side=224, **options)  # type: ignore[arg-type]
    assert str(caught.value) == caught.value.reason
    return caught.value.reason


# --- formats --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF", "JXL"])
def test_allowed_format_is_decoded(kind: str) -> None:
    from indexer.formats import openers

    if kind not in openers():
        pytest.skip(f"no decoder for {kind} is installed")
    picture = decode(encode(scene(), kind), min_side=224)
    assert (picture.width, picture.height, picture.format, picture.warning) == (320, 240, kind, None)
    assert picture.frames[0][1].mode == "RGB"
    assert difference(picture.frames[0][1], scene()) < 8


def test_picture_is_known_by_its_content_not_its_name() -> None:
    assert decode(encode(scene(), "PNG"), min_side=224, name="x.jpg").format == "PNG"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "empty file"),
        (b"\xff", "not an image"),
        (b"\0" * 10_000, "not an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
        (b"%PDF-1.7\n", "not an image"),
        (b"PK\3\4" + b"x" * 100, "not an image"),
        (b"MZ" + b"x" * 100, "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "format not supported (EPS)"),
        (b"8BPS\0\1" + b"x" * 100, "format not supported (PSD)"),
        (b"\0\0\1\0\1\0" + b"x" * 100, "format not supported (ICO)"),
    ],
)
def test_what_is_no_picture_has_a_reason(data: bytes, expected: str) -> None:
    assert reason(data, name="x.jpg") == expected


@pytest.mark.parametrize(
    "data", [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"RIFF\4\0\0\0WEBPVP8 ", b"\xff\x0a",
             b"\0\0\0\x18ftypheic\0\0\0\0heicmif1"]
)  # fmt: skip
def test_signature_alone_is_a_damaged_picture(data: bytes) -> None:
    assert reason(data).startswith("damaged ")


def test_suffixes_are_lower_case_and_cover_raw() -> None:
    assert {".jpg", ".heic", ".jxl", ".cr3", ".nef", ".dng"} <= IMAGE_SUFFIXES
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in IMAGE_SUFFIXES)
    assert not IMAGE_SUFFIXES & {".eps", ".pdf", ".psd", ".svg", ".ico"}


def test_pillow_switches_are_put_back() -> None:
    before: object = Image.MAX_IMAGE_PIXELS
    decode(jpeg(), min_side=224)
    reason(jpeg()[:2000])
    assert before == Image.MAX_IMAGE_PIXELS
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


# --- orientation ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_honoured(orientation: int) -> None:
    picture = decode(pictures.oriented(scene(), orientation), min_side=224)
    assert (picture.width, picture.height) == (320, 240)
    assert difference(picture.frames[0][1], scene()) < 3


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_impossible_orientation_counts_as_upright(orientation: int) -> None:
    assert difference(seen(pictures.oriented(scene(), orientation)), scene()) < 3


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_orientation_is_honoured_once_in_every_format(kind: str) -> None:
    from indexer.formats import openers

    if kind not in openers():
        pytest.skip(f"no decoder for {kind} is installed")
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = scene().transpose(Image.Transpose.ROTATE_90)
    stored.info["exif"] = exif.tobytes()  # from here, HEIF's writer makes the rotation box that counts there
    data = encode(stored, kind) if kind == "HEIF" else encode(stored, kind, exif=exif)
    picture = decode(data, min_side=224)
    assert (picture.width, picture.height) == (320, 240)
    assert difference(picture.frames[0][1], scene()) < 8


# --- depth and colour -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_not_clipped(kind: str) -> None:
    grey = np.asarray(scene().convert("L"))
    data = encode(Image.fromarray(grey.astype(np.uint16) * 257), kind)
    assert abs(seen(data).mean() - grey.mean()) < 2
    assert difference(seen(data)[..., 0], grey) < 1


@pytest.mark.parametrize(
    ("values", "what"),
    [
        (lambda grey: (grey * 257).astype(np.int32), "32-bit integers that hold 16 bits"),
        (lambda grey: grey.astype(np.int32), "32-bit integers that hold 8 bits"),
        (lambda grey: (grey / 255).astype(np.float32), "floats 0..1"),
        (lambda grey: grey.astype(np.float32), "floats 0..255"),
        (lambda grey: (grey * 257).astype(np.float32), "floats 0..65535"),
    ],
)
def test_wide_grey_keeps_its_brightness(values, what: str) -> None:
    grey = np.asarray(scene().convert("L")).astype(float)
    assert abs(seen(encode(Image.fromarray(values(grey)), "TIFF")).mean() - grey.mean()) < 2, what


def test_float_with_nan_is_decoded() -> None:
    grey = np.asarray(scene().convert("L")).astype(np.float32) / 255
    grey[:5] = np.nan
    grey[5:9] = np.inf
    assert 50 < seen(encode(Image.fromarray(grey), "TIFF")).mean() < 200


def test_large_16_bit_grey_is_reduced_in_strips() -> None:
    grey = np.asarray(scene(1500, 1200).convert("L"))
    small = seen(encode(Image.fromarray(grey.astype(np.uint16) * 257), "TIFF"), min_side=32)
    assert small.shape == (300, 375, 3)
    assert abs(small.mean() - grey.mean()) < 2


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_is_not_inverted(kind: str) -> None:
    data = encode(pictures.cmyk(scene()), kind)
    assert cosine(seen(data), scene()) > 0.98
    assert difference(seen(data), scene()) < 6


def test_lab_keeps_its_colours() -> None:
    assert difference(seen(encode(pictures.lab(scene()), "TIFF")), scene()) < 4


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "PA", "RGBA", "YCbCr", "RGBX"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    kind = "TIFF" if mode in {"YCbCr", "RGBX", "PA"} else "PNG"
    image = scene().convert("P").convert("PA") if mode == "PA" else scene().convert(mode)
    assert seen(encode(image, kind)).shape == (240, 320, 3)


# --- alpha ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(320, 240), (960, 720)])
def test_hidden_noise_under_alpha_does_not_leak(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    alpha = np.zeros(size[::-1], np.uint8)
    alpha[: size[1] // 2] = 255
    solid = np.asarray(scene(*size)).copy()
    solid[alpha == 0] = rng.integers(0, 255, (int((alpha == 0).sum()), 3))
    noisy = encode(Image.fromarray(np.dstack([solid, alpha])), "PNG", compress_level=1)
    flat = np.asarray(scene(*size)).copy()
    flat[alpha == 0] = 255
    got, expected = seen(noisy, 112), seen(encode(Image.fromarray(flat), "PNG", compress_level=1), 112)
    assert difference(got, expected) < 1


def test_palette_transparency_is_white() -> None:
    image = Image.new("P", (40, 40), 1)
    image.putpalette([10, 20, 30, 200, 0, 0] + [0] * 762)
    image.paste(0, (0, 0, 20, 40))
    for kind in ("PNG", "GIF"):
        got = seen(encode(image, kind, transparency=0))
        assert got[20, 5].tolist() == [255, 255, 255]
        assert got[20, 35].tolist() == [200, 0, 0]


@pytest.mark.parametrize("depth", [8, 16])
def test_grey_transparency_key_is_white(depth: int) -> None:
    grey = np.full((40, 40), 30 if depth == 8 else 30 * 257, np.uint8 if depth == 8 else np.uint16)
    grey[:, 20:] = 90 if depth == 8 else 90 * 257
    data = encode(Image.fromarray(grey), "PNG")
    key = struct.pack(">H", 30 if depth == 8 else 30 * 257)
    got = seen(data[:33] + pictures.chunk(b"tRNS", key) + data[33:])
    assert got[20, 5].tolist() == [255, 255, 255]
    assert got[20, 35].tolist() == [90, 90, 90]


# --- colour profiles ------------------------------------------------------------------------------------


def test_wide_gamut_is_converted() -> None:
    image = Image.new("RGB", (64, 64), (50, 200, 50))
    plain, wide = seen(encode(image, "PNG")), seen(encode(image, "PNG", icc_profile=pictures.icc_profile()))
    assert wide[32, 32, 0] < plain[32, 32, 0] - 20  # Adobe RGB's green lies outside sRGB: no red is left


@pytest.mark.parametrize(
    "icc",
    [
        b"broken" * 50,
        pictures.icc_profile()[:150],
        pictures.icc_profile(kind=b"link"),
        pictures.icc_profile(kind=b"abst"),
        pictures.icc_profile(space=b"CMYK"),
        pictures.icc_profile() + bytes(5 * 2**20),
    ],
    ids=["broken", "cut", "device link", "abstract", "for CMYK", "huge"],
)
def test_unusable_profile_is_ignored(icc: bytes) -> None:
    assert difference(seen(encode(scene(), "PNG", icc_profile=icc)), scene()) == 0


# --- animation and pages --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "MPO"])
def test_first_frame_stands_for_the_file(kind: str) -> None:
    more = [Image.new("RGB", (320, 240), "black")] * 3
    picture = decode(encode(scene(), kind, save_all=True, append_images=more), min_side=224)
    assert difference(picture.frames[0][1], scene()) < 12


def test_time_does_not_depend_on_the_number_of_frames() -> None:
    frames = [Image.new("L", (32, 32), i % 256) for i in range(3000)]
    data = encode(frames[7], "GIF", save_all=True, append_images=frames)
    start = time.perf_counter()
    decode(data, min_side=224)
    assert time.perf_counter() - start < 0.2


# --- scale ----------------------------------------------------------------------------------------------


def test_reduced_jpeg_is_the_same_picture_to_the_encoder() -> None:
    from encoders.base import Preprocess

    big = scene(1800, 1350)
    picture = decode(jpeg(big), min_side=224)
    assert (picture.width, picture.height) == (1800, 1350)
    small = picture.frames[0][1]
    assert 314 <= min(small.size) < 700
    one, two = Preprocess(224)(small), Preprocess(224)(big)
    assert cosine(one, two) > 0.999
    assert difference(one, two) < 2


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_reduced_picture_of_any_size_is_cropped_where_the_whole_one_is(kind: str) -> None:
    from encoders.base import Preprocess

    side = 64
    for width, height in itertools.product(range(1037, 1045), range(777, 785)):
        whole = scene(width, height)
        small = decode(encode(whole, kind), min_side=side).frames[0][1]
        assert max(small.size) < 600
        assert images._long_side(small.size, side) == images._long_side(whole.size, side)
        factor = round(width / small.width)
        assert abs(small.width * factor - width) + abs(small.height * factor - height) <= 2 * factor
        if (width + height) % 5 == 0:  # the slow reference
            assert difference(Preprocess(side)(small), Preprocess(side)(whole)) < 2


def test_small_picture_is_not_reduced() -> None:
    assert seen(jpeg()).shape == (240, 320, 3)


# --- long pictures --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "tiles"), [((1000, 200), 7), ((200, 1000), 7), ((420, 200), 3), ((5000, 100), 12)]
)
def test_long_picture_has_tiles_to_both_ends(size: tuple[int, int], tiles: int) -> None:
    picture = decode(encode(scene(*size), "PNG"), min_side=224)
    assert picture.frames[0][0] is None
    assert picture.frames[0][1].size == size
    regions = [region for region, _ in picture.frames[1:] if region is not None]
    assert len(regions) == tiles
    long = [
        (r.x, r.width, r.y, r.height) if size[0] > size[1] else (r.y, r.height, r.x, r.width) for r in regions
    ]
    assert long[0][0] == 0
    assert long[-1][0] + long[-1][1] == pytest.approx(1)
    assert all(entry[2:] == (0, 1) for entry in long)
    assert [entry[0] for entry in long] == sorted(entry[0] for entry in long)
    if tiles < 12:  # overlapping, so that nothing falls between two
        assert all(b[0] < a[0] + a[1] for a, b in itertools.pairwise(long))
    assert all(image.size == (min(size), min(size)) for _, image in picture.frames[1:])


def test_tile_shows_its_region() -> None:
    image = scene(1600, 400)
    picture = decode(encode(image, "PNG"), min_side=224)
    for region, tile in picture.frames[1:]:
        assert region is not None
        left = round(region.x * 1600)
        assert difference(tile, image.crop((left, 0, left + 400, 400))) == 0


def test_tiles_of_a_turned_panorama_lie_in_the_upright_picture() -> None:
    picture = decode(pictures.oriented(scene(1600, 400), 6), min_side=224)
    assert (picture.width, picture.height) == (1600, 400)
    assert all(region.height == 1.0 for region, _ in picture.frames if region is not None)


def test_ordinary_shape_has_one_frame() -> None:
    assert len(decode(jpeg(scene(640, 320)), min_side=224).frames) == 1


@pytest.mark.parametrize("size", [(1, 1), (1, 60_000), (60_000, 1), (2, 2), (3, 400), (20_000, 160)])
def test_odd_shape_is_indexed_or_degenerate(size: tuple[int, int]) -> None:
    data = encode(Image.new("RGB", size, "red"), "PNG")
    try:
        picture = decode(data, min_side=224)
    except ImageError as error:
        assert error.reason.startswith("degenerate")  # noqa: PT017
    else:
        assert (picture.width, picture.height) == size
        assert max(size) <= 128 * min(size)


# --- damage ---------------------------------------------------------------------------------------------


def sweep(data: bytes) -> dict[float, Picture | str]:
    found: dict[float, Picture | str] = {}
    for share in (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 1.0):
        try:
            found[share] = decode(data[: int(len(data) * share)], min_side=224)
        except ImageError as error:
            found[share] = error.reason
    return found


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP"])
def test_truncated_file_is_partial_from_half_of_its_rows(kind: str) -> None:
    found = sweep(encode(scene(640, 480), kind))
    for share in (0.01, 0.05, 0.1, 0.25):
        outcome = found[share]
        assert isinstance(outcome, str), share
        assert outcome.startswith(("truncated: only ", "damaged ")), outcome
    for share in (0.75, 0.9, 0.99, 0.999):
        outcome = found[share]
        assert isinstance(outcome, Picture), (share, outcome)
        assert outcome.warning is not None
        assert outcome.warning.startswith("truncated: ")
        assert outcome.warning.endswith(" % of the rows decoded")
        decoded = int(outcome.warning.split()[1]) / 100
        assert share - 0.2 < decoded <= 1
        rows = slice(0, int(480 * decoded) - 16)
        if kind == "BMP":
            rows = slice(480 - rows.stop, 480)
        assert difference(np.asarray(outcome.frames[0][1])[rows], np.asarray(scene(640, 480))[rows]) < 3
    whole = found[1.0]
    assert isinstance(whole, Picture)
    assert whole.warning is None


def test_truncated_progressive_jpeg_is_whole_at_less_detail() -> None:
    found = sweep(jpeg(scene(640, 480), progressive=True))
    outcome = found[0.75]
    assert isinstance(outcome, Picture)
    assert outcome.warning == "truncated: 100 % of the rows decoded at reduced detail"
    assert difference(outcome.frames[0][1], scene(640, 480)) < 6
    assert isinstance(found[0.01], str)


def test_min_partial_is_a_limit() -> None:
    data = jpeg(scene(640, 480))
    data = data[: int(len(data) * 0.75)]
    assert reason(data, limits=DecodeLimits(min_partial=0.95)).startswith("truncated: only ")
    assert decode(data, min_side=224, limits=DecodeLimits(min_partial=0.1)).warning


@pytest.mark.parametrize("kind", ["WEBP", "AVIF", "GIF", "TIFF", "HEIF", "JXL"])
def test_truncated_file_of_any_format_gives_a_reason_or_a_warning(kind: str) -> None:
    from indexer.formats import openers

    if kind not in openers():
        pytest.skip(f"no decoder for {kind} is installed")
    for share, outcome in sweep(encode(scene(), kind)).items():
        if share < 0.99 and not isinstance(outcome, str):
            assert outcome.warning


def test_mutated_files_raise_image_errors_only() -> None:
    rng = np.random.default_rng(5)
    for kind in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"):
        data = np.frombuffer(encode(scene(64, 48), kind), np.uint8)
        for _ in range(60):
            mutant = data.copy()
            places = rng.integers(0, min(len(mutant), 400), 4)
            mutant[places] = rng.integers(0, 255, 4)
            try:
                decode(mutant.tobytes(), min_side=32)
            except ImageError as error:
                assert 0 < len(error.reason) < 200  # noqa: PT017


# --- size -----------------------------------------------------------------------------------------------


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_bomb_is_refused_from_its_header() -> None:
    data = pictures.png_bomb()
    start, before = time.perf_counter(), peak_bytes()
    assert reason(data) == "too large (3,600 MP needs 3.6 GB)"
    assert time.perf_counter() - start < 1
    assert peak_bytes() - before < 50 * 2**20


def webp_bomb() -> bytes:
    body = b"VP8X" + struct.pack("<I", 10) + bytes(4) + b"\xff\x3f\0" * 2
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def jxl_bomb() -> bytes:
    bits = 0 | 3 << 1 | (40_000 - 1) << 3 | 1 << 33  # not small, 30-bit height, ratio 1:1
    return b"\xff\x0a" + bits.to_bytes(20, "little")


def gif_bomb() -> bytes:
    return (
        b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b"," + bytes(4) + b"\1\0\1\0\0\2\2D\1\0;"
    )


def tiff_bomb() -> bytes:
    small = bytearray(encode(Image.new("L", (8, 8)), "TIFF", compression="tiff_lzw"))
    for tag in (256, 257):
        at = small.find(struct.pack("<HHI", tag, 4, 1))
        at = at if at >= 0 else small.find(struct.pack("<HHI", tag, 3, 1))
        small[at + 2 : at + 12] = struct.pack("<HII", 4, 1, 60_000)
    return bytes(small)


@pytest.mark.parametrize("make", [webp_bomb, jxl_bomb, gif_bomb, tiff_bomb])
def test_bomb_of_any_format_is_refused_before_memory_is_taken(make) -> None:
    data, before = make(), peak_bytes()
    assert reason(data).startswith("too large (")
    assert peak_bytes() - before < 50 * 2**20


def test_budget_is_a_limit() -> None:
    data = encode(scene(640, 480), "PNG")
    assert reason(data, limits=DecodeLimits(max_pixel_bytes=2**20)).startswith("too large (0 MP needs ")


@pytest.mark.slow
def test_900_megapixel_baseline_jpeg_is_indexed_in_little_memory() -> None:
    side = 30_000
    data = encode(Image.new("L", (side, side), 90), "JPEG", quality=30)
    before = peak_bytes()
    picture = decode(data, min_side=224)
    assert (picture.width, picture.height) == (side, side)
    assert peak_bytes() - before < 300 * 2**20


def test_large_progressive_jpeg_is_counted_at_full_size() -> None:
    data = encode(Image.new("L", (6_000, 6_000), 90), "JPEG", progressive=True, quality=20)
    assert reason(data, limits=DecodeLimits(max_pixel_bytes=60 * 2**20)).startswith("too large (36 MP")


# --- containers that lie --------------------------------------------------------------------------------


def test_huge_text_chunk_does_not_cost_the_picture() -> None:
    text = b"note\0\0" + zlib.compress(bytes(100 * 2**20))
    start, before = time.perf_counter(), peak_bytes()
    picture = decode(pictures.png_with([(b"zTXt", text)]), min_side=224)
    assert difference(picture.frames[0][1], scene()) == 0
    assert time.perf_counter() - start < 2
    assert peak_bytes() - before < 100 * 2**20


def test_exif_that_points_at_itself_is_harmless() -> None:
    tiff = b"II*\0" + struct.pack("<IH", 8, 1) + struct.pack("<HHII", 0x8769, 4, 1, 8) + struct.pack("<I", 8)
    assert difference(seen(jpeg(exif=b"Exif\0\0" + tiff)), scene()) < 3


def test_polyglot_is_the_picture_it_begins_as() -> None:
    data = jpeg() + b"\n%PDF-1.7 ..." + jpeg(scene(seed=9))
    assert decode(data, min_side=224).format == "JPEG"


def test_no_interpreter_is_started_for_postscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker, fake = tmp_path / "started", tmp_path / "gs"
    fake.write_text(f"#!/bin/sh\ntouch {marker}\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    out = io.BytesIO()
    Image.new("RGB", (9, 9)).save(out, "EPS")
    assert reason(out.getvalue(), name="x.jpg") == "format not supported (EPS)"
    assert not marker.exists()


# --- camera RAW -----------------------------------------------------------------------------------------


def test_raw_is_developed() -> None:
    pytest.importorskip("rawpy")
    picture = decode(pictures.dng(), min_side=64, name="IMG_1.DNG")
    assert (picture.width, picture.height, picture.format) == (512, 384, "RAW")
    assert picture.metadata.camera == "Acme RawX"
    assert picture.metadata.taken_at == "2022-05-06T07:08:09"
    small = scene(512, 384).resize(picture.frames[0][1].size)
    assert cosine(picture.frames[0][1], small) > 0.8


def test_raw_is_turned_upright() -> None:
    pytest.importorskip("rawpy")
    lying = seen(pictures.dng(), 64, "a.dng")
    picture = decode(pictures.dng(flip=6), min_side=64, name="a.dng")
    assert (picture.width, picture.height) == (384, 512)
    assert difference(picture.frames[0][1], np.rot90(lying, -1)) < 2


def test_file_that_only_claims_to_be_raw_has_a_reason() -> None:
    assert reason(b"nothing at all" * 9, name="x.cr2") == "not a RAW file this version of LibRaw reads"


@pytest.mark.parametrize(("flip", "preview_size"), [(1, (512, 384)), (6, (512, 384)), (6, (384, 512))])
def test_preview_of_a_raw_is_turned_unless_it_is_upright(
    flip: int, preview_size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("rawpy")
    stored = scene(*preview_size)
    monkeypatch.setattr(raw, "_preview", lambda *_: jpeg(stored))
    picture = decode(pictures.dng(flip=flip), min_side=224, name="a.dng")
    lying = flip == 6 and preview_size == (512, 384)
    assert (picture.width, picture.height) == ((384, 512) if flip == 6 else (512, 384))
    assert difference(picture.frames[0][1], np.rot90(stored, -1) if lying else stored) < 3
    assert picture.metadata.camera == "Acme RawX"


def test_metadata_of_canon_and_olympus_containers_is_read() -> None:
    exif = pictures.photo_exif()
    photo, gps = Image.Exif(), Image.Exif()
    photo.update(exif.get_ifd(0x8769))
    gps.update(exif.get_ifd(0x8825))
    main = Image.Exif()
    main[271], main[272] = "Canon", "Canon EOS R6"
    parts = {b"CMT1": main.tobytes()[6:], b"CMT2": photo.tobytes()[6:], b"CMT4": gps.tobytes()[6:]}
    boxes = b"".join(struct.pack(">I", len(part) + 8) + name + part for name, part in parts.items())
    found = read_blocks(raw._exif(b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + boxes) or Image.Exif())
    assert (found.camera, found.taken_at, found.iso) == ("Canon EOS R6", "2023-06-01T12:30:00+01:00", 200)
    assert found.latitude == pytest.approx(38.72, abs=0.01)
    olympus = b"IIRO" + pictures.dng()[4:]
    assert read_blocks(raw._exif(olympus) or Image.Exif()).camera == "Acme RawX"
    assert raw._exif(b"\0\0\0\x18ftypcrx " + b"CMT1" * 9) is None
