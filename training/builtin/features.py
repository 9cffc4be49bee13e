"""Cached views: each picture through the frozen trunk several times, each time cropped differently.

One file per (set, view): `SET.vK.npy`, (n, 160, 7, 7) float16, written whole and renamed, so a run
that was killed goes on with the next file. View 0 is what the encoder sees at run time; view 1 is
its mirror image; later views are random crops, mirrored and recoloured.
"""

from __future__ import annotations

import io
import json
import logging
import multiprocessing
import random
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from encoders import Preprocess
from training.builtin.arrays import save_array
from training.builtin.backbone import MAPS, Trunk, load_backbone
from training.builtin.collection import (
    CAPTIONED,
    DEVS,
    LABELLED,
    Captioned,
    captioned,
    chinese_names,
    read_set,
)
from training.builtin.drawings import drawing_samples, plain_samples

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

log = logging.getLogger(__name__)
PREPROCESS = Preprocess(size=224, mode="shortest", interpolation="bicubic")
VIEWS = {
    "flickr8k": 10,
    "coco": 10,
    "openstax": 5,
    **dict.fromkeys(LABELLED, 3),
    "drawings": 2,
    "plain": 2,
}
"""Views cached of each training set; development sets have one."""
BATCH = 64
BACKBONE = Path("backbone") / "mobilenet_v2_1.0_224_imagenet.npz"

Maps = npt.NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class PictureSet:
    """A set with its cached views.

    Attributes:
        name: directory of the tar, `drawings` or `plain`.
        english: one tuple of sentences per picture.
        chinese: the same, empty where nobody wrote any.
        views: one (n, 160, 7, 7) float16 array per cached view, memory-mapped.
    """

    name: str
    english: tuple[tuple[str, ...], ...]
    chinese: tuple[tuple[str, ...], ...]
    views: tuple[Maps, ...]


def view(image: Image.Image, number: int, rng: random.Random) -> npt.NDArray[np.uint8]:
    """Return view `number` of a picture, (224, 224, 3) uint8.

    Later views are crops of 40 to 100 % of the area at ratios 3:4 to 4:3, mirrored half of the time, with
    other brightness, contrast and colour; one in twelve is grey, one in twelve blurred.
    """
    if number >= 2:
        width, height = image.size
        for _ in range(10):
            area = width * height * rng.uniform(0.4, 1.0)
            ratio = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
            w, h = int((area * ratio) ** 0.5), int((area / ratio) ** 0.5)
            if 0 < w <= width and 0 < h <= height:
                left, top = rng.randint(0, width - w), rng.randint(0, height - h)
                image = image.crop((left, top, left + w, top + h))
                break
        image = image.resize((PREPROCESS.size, PREPROCESS.size), Image.Resampling.BICUBIC)
        for enhancer in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            image = enhancer(image).enhance(rng.uniform(0.7, 1.3))
        chance = rng.random()
        if chance < 1 / 12:
            image = ImageOps.grayscale(image).convert("RGB")
        elif chance < 2 / 12:
            image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 2.0)))
    if number == 1 or (number > 1 and rng.random() < 0.5):
        image = ImageOps.mirror(image)
    return PREPROCESS(image)


_session: InferenceSession | None = None


def _open_trunk(path: str) -> None:
    """Open the trunk in a worker: one process a core, one thread a process."""
    import onnxruntime

    global _session
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    _session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _view_maps(pictures: list[tuple[str, bytes]], number: int, seed: int) -> Maps:
    """Return (len(pictures), *MAPS): view `number` of each (key, encoded picture) through the trunk."""
    assert _session is not None
    maps = np.empty((len(pictures), *MAPS), dtype=np.float16)
    for row, (key, encoded) in enumerate(pictures):
        with Image.open(io.BytesIO(encoded)) as image:
            pixels = view(image.convert("RGB"), number, random.Random(f"{seed}/{number}/{key}"))
        maps[row] = _session.run(None, {"pixels": pixels[None]})[0][0]
    return maps


class TrunkPool:
    """The frozen trunk in one process per core.

    Args:
        backbone: the ImageNet weights.
        cache: where the exported trunk is kept.
        processes: how many.
    """

    def __init__(self, backbone: Path, cache: Path, processes: int = 2) -> None:
        import torch

        from training.builtin.export import export_graph

        path = cache / "trunk.onnx"
        if not path.exists():
            cache.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".part")
            example = torch.zeros(1, PREPROCESS.size, PREPROCESS.size, 3, dtype=torch.uint8)
            export_graph(
                Trunk(load_backbone(backbone)),
                example,
                partial,
                (["pixels"], ["maps"]),
                {"pixels": {0: "n"}, "maps": {0: "n"}},
            )
            partial.replace(path)
        spawn = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(processes, spawn, initializer=_open_trunk, initargs=(str(path),))

    def __enter__(self) -> TrunkPool:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def maps(self, pictures: list[tuple[str, bytes]], number: int, seed: int) -> Maps:
        """Return (len(pictures), *MAPS) float16: view `number` of every (key, encoded picture)."""
        parts = [pictures[start : start + BATCH] for start in range(0, len(pictures), BATCH)]
        futures = [self._pool.submit(_view_maps, part, number, seed) for part in parts]
        return np.concatenate([future.result() for future in futures])


def write_captions(cache: Path, name: str, samples: list[Captioned]) -> None:
    """Write the sentences of a set."""
    captions = json.dumps([[s.english, s.chinese] for s in samples], ensure_ascii=False)
    (cache / f"{name.replace('/', '-')}.json").write_text(captions, encoding="utf-8")


def write_view(
    cache: Path, name: str, samples: list[Captioned], number: int, trunk: TrunkPool, seed: int
) -> None:
    """Write a view of every picture of a set, unless it is there."""
    path = cache / f"{name.replace('/', '-')}.v{number}.npy"
    if path.exists():
        return
    began = time.monotonic()
    save_array(path, trunk.maps([(sample.key, sample.image) for sample in samples], number, seed))
    log.info(f"features {path.name}: {len(samples)} in {time.monotonic() - began:.0f} s")


def cache_features(data: Path, cache: Path, *, seed: int, processes: int = 2) -> None:
    """Fill the cache: run-time views of every set first, then the augmented ones. Resumable."""
    names = chinese_names()
    cache.mkdir(parents=True, exist_ok=True)
    sets: dict[str, list[Captioned]] = {}
    for name in (*DEVS, *CAPTIONED, *LABELLED):
        samples = read_set(data, name)
        if samples is not None:
            sets[name] = [captioned(sample, names) for sample in samples]
    sets |= {"drawings": drawing_samples(), "plain": plain_samples()}
    for name, pictures in sets.items():
        write_captions(cache, name, pictures)
    with TrunkPool(data / BACKBONE, cache, processes) as trunk:
        for number in range(max(VIEWS.values())):
            for name, pictures in sets.items():
                if number < VIEWS.get(name, 1):
                    write_view(cache, name, pictures, number, trunk, seed)


def load_set(cache: Path, name: str) -> PictureSet | None:
    """Return a cached set with the views that exist, or None where there are none."""
    stem = name.replace("/", "-")
    paths = [cache / f"{stem}.v{number}.npy" for number in range(16)]
    views = tuple(np.load(path, mmap_mode="r") for path in paths if path.exists())
    if not views:
        return None
    captions = json.loads((cache / f"{stem}.json").read_text(encoding="utf-8"))
    english, chinese = (tuple(tuple(c[part]) for c in captions) for part in (0, 1))
    return PictureSet(name, english, chinese, views)
