"""The pictures that are indexed: photos of 12 megapixels, small ones, and PNG and HEIC.

They are made of real photos where there are some (`PHOTOS=FOLDER`, or ../shared/data), else of drawings by
data/draw_samples.py. A photo of 12 megapixels is a small one enlarged, with the structure of other photos
laid over it at full resolution and noise as of a sensor, so that a JPEG of it is as large and as slow to
decode as one from a camera.
"""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops

from tests.benchmarks.suite.settings import HOME, ROOT, SHARED, Sizes

_WIDTH, _HEIGHT = 4000, 3000
_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".heic", ".tif", ".tiff"}
_TARS = ("flickr8k/dev.tar", "coco/dev.tar", "unsplash/photos.tar", "openstax/train.tar", "coco/train.tar")


def source_name() -> str:
    """Return what the collections are made of, for the page."""
    if os.environ.get("PHOTOS"):
        return "photos of the person who ran it"
    if SHARED.is_dir():
        return "photos of Flickr8k, COCO, Unsplash and OpenStax"
    return "drawings of data/draw_samples.py (no photos were at hand)"


def sources(most: int) -> list[bytes | Path]:
    """Return up to that many pictures to make others of, encoded or as files; the same every time."""
    if given := os.environ.get("PHOTOS"):
        found = [
            path for path in sorted(Path(given).expanduser().rglob("*")) if path.suffix.lower() in _SUFFIXES
        ]
        if not found:
            raise SystemExit(f"PHOTOS: no pictures in {given}")
        return list(found[:most])
    if SHARED.is_dir():
        return list(_members(most))
    drawn = HOME / "drawn"
    if not (drawn / ".complete").exists():
        shutil.rmtree(drawn, ignore_errors=True)
        subprocess.run(
            [sys.executable, str(ROOT / "data/draw_samples.py"), str(drawn), "--count", "300", "--seed", "0"],
            check=True,
        )
        (drawn / ".complete").touch()
    return [path for path in sorted(drawn.rglob("*")) if path.suffix.lower() in _SUFFIXES][:most]


def _members(most: int) -> Iterator[bytes]:
    left = most
    for name in _TARS:
        if left <= 0 or not (SHARED / name).exists():
            continue
        with tarfile.open(SHARED / name) as tar:
            for member in tar:
                if left > 0 and member.name.endswith((".webp", ".jpg", ".png")):
                    stream = tar.extractfile(member)
                    assert stream is not None
                    yield stream.read()
                    left -= 1


def _open(source: bytes | Path) -> Image.Image:
    with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
        return image.convert("RGB")


def make(name: str, sizes: Sizes) -> Path:
    """Return the folder of a collection (`12mp`, `small`, `formats`), made where it is not there."""
    folder = sizes.home / "pictures" / name
    if (folder / ".complete").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    count = sizes.pictures[name]
    print(f"making {count:,} pictures in {folder}", flush=True)
    halves = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.benchmarks.suite.pictures",
                name,
                str(folder),
                str(count),
                str(part),
            ],
            cwd=ROOT,
        )
        for part in (0, 1)
    ]
    codes = [half.wait() for half in halves]
    if any(codes):
        raise SystemExit(f"could not make the pictures of {folder}")
    (folder / ".complete").write_text(json.dumps({"source": source_name(), "count": count}))
    return folder


def _make_half(name: str, folder: Path, count: int, part: int) -> None:
    from pillow_heif import register_heif_opener

    register_heif_opener()
    found = sources(max(count, 400))
    for number in range(part, count, 2):
        rng = random.Random(f"{name} {number}")
        below = folder / f"{number // 250:03}"
        below.mkdir(exist_ok=True)
        image = _open(found[number % len(found)])
        if name == "12mp":
            _camera(image, found, rng).save(
                below / f"IMG_{number:05}.jpg", quality=90, exif=_exif(number, rng)
            )
        elif name == "small":
            long = rng.randint(200, 500)
            scale = long / max(image.size)
            size = (max(64, round(image.width * scale)), max(64, round(image.height * scale)))
            small = _crop(image, rng).resize(size, Image.Resampling.LANCZOS)
            small.save(below / f"{number:05}.jpg", quality=88)
        else:
            size = rng.choice([(1600, 1200), (1200, 1600), (2048, 1536)])
            enlarged = _camera(image, found, rng).resize(size, Image.Resampling.LANCZOS)
            if number % 4 < 2:
                enlarged.save(below / f"{number:05}.png", compress_level=4)
            else:
                enlarged.save(below / f"IMG_{number:05}.heic", quality=70, enc_params={"preset": "ultrafast"})


def _crop(image: Image.Image, rng: random.Random) -> Image.Image:
    """Return most of a picture: two made of one source are not the same."""
    cut = rng.uniform(0, 0.15)
    left, top = rng.uniform(0, cut) * image.width, rng.uniform(0, cut) * image.height
    return image.crop(
        (int(left), int(top), int(left + (1 - cut) * image.width), int(top + (1 - cut) * image.height))
    )


def _camera(image: Image.Image, found: list[bytes | Path], rng: random.Random) -> Image.Image:
    """Return a photo of 12 megapixels: one enlarged, under the fine structure of others, and noise."""
    if image.width * image.height >= _WIDTH * _HEIGHT // 2:
        return image.resize((_WIDTH, _HEIGHT), Image.Resampling.LANCZOS)
    large = _crop(image, rng).resize((_WIDTH, _HEIGHT), Image.Resampling.BICUBIC)
    tile = Image.new("L", (1000, 750))
    for row in range(3):
        for column in range(4):
            grey = _open(found[rng.randrange(len(found))]).convert("L").resize((250, 250))
            tile.paste(grey, (column * 250, row * 250))
    grain = np.random.default_rng(rng.randrange(2**31)).normal(128, 5, (750, 1000))
    detail = np.asarray(tile, np.float32)
    over = np.clip((detail - detail.mean()) / 10 + grain, 0, 255).astype(np.uint8)
    layer = Image.fromarray(np.tile(over, (_HEIGHT // 750, _WIDTH // 1000)))
    return ImageChops.add(large, Image.merge("RGB", (layer, layer, layer)), 1, -128)


def _exif(number: int, rng: random.Random) -> Image.Exif:
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Canon", "Canon EOS R6"
    exif[0x0112] = 1
    when = f"20{14 + number % 10}:{rng.randint(1, 12):02}:{rng.randint(1, 28):02} 12:{number % 60:02}:00"
    exif[0x0132] = when
    exif.get_ifd(0x8769)[0x9003] = when
    return exif


if __name__ == "__main__":
    _make_half(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
