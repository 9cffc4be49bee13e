"""From a pack to batches: which pictures come together, with which sentence, and as which view.

Everything random is a function of (seed, epoch, step, place): a run that was killed and goes on meets the
same batches as one that was not.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance

from encoders import Pixels, Preprocess
from training.pretraining.pack import Pack

_SIDED = re.compile(r"\b(left|right|clockwise)\b|[左右]", re.IGNORECASE)
_ORDER, _VIEW, _LINES = 1, 2, 3  # streams of random numbers that must not be the same


@dataclass(frozen=True, slots=True)
class Batch:
    """One step's pictures and sentences.

    Attributes:
        numbers: (n,) of the pictures in the pack.
        pixels: (n, size, size, 3) uint8.
        texts: n sentences, one per picture.
    """

    numbers: npt.NDArray[np.int64]
    pixels: Pixels
    texts: list[str]


class Batches:
    """The batches of every epoch.

    Args:
        trained: pictures of the pack to learn from.
        weights: how often each of them comes in an epoch.
        size: most pictures in a batch.
        strength: of the augmentation, 0..1; 0 shows pictures as `index` will.
        threads: that decode pictures.
    """

    def __init__(
        self,
        pack: Pack,
        trained: Sequence[int],
        weights: Sequence[float],
        preprocess: Preprocess,
        *,
        size: int,
        strength: float,
        seed: int,
        threads: int,
    ) -> None:
        self.pack, self.preprocess = pack, preprocess
        self.strength, self.seed, self.threads = strength, seed, threads
        self._trained = np.array(trained, dtype=np.int64)
        self._weights = np.array(weights, dtype=np.float64)
        self._per_epoch = sum(self._times(weight, count) for weight, count in self._kinds())
        self.steps = max(1, -(-self._per_epoch // size))

    @property
    def pictures_per_epoch(self) -> int:
        return self._per_epoch

    def plan(self, epoch: int) -> list[list[tuple[int, str]]]:
        """Return (picture, sentence) for each batch of an epoch, sizes as equal as they can be.

        Two pictures with the same sentence would be each other's false negatives, so equal sentences are
        dealt to different batches as far as there are enough.
        """
        rng = np.random.default_rng((self.seed, _ORDER, epoch))
        chosen = [self._trained.repeat(np.floor(self._weights).astype(np.int64))]
        for weight, count in self._kinds():
            members = self._trained[self._weights == weight]
            chosen.append(rng.permutation(members)[: self._times(weight, count) - int(weight) * count])
        pairs: dict[str, list[tuple[int, str]]] = {}
        for number in rng.permutation(np.concatenate(chosen)):
            picture = self.pack.pictures[number]
            text = picture.texts[int(rng.integers(len(picture.texts)))]
            pairs.setdefault(picture.group or text, []).append((int(number), text))
        groups = list(pairs.values())
        batches: list[list[tuple[int, str]]] = [[] for _ in range(self.steps)]
        dealt = 0
        for index in rng.permutation(len(groups)):
            for pair in groups[index]:
                batches[dealt % self.steps].append(pair)
                dealt += 1
        return batches

    def epoch(self, epoch: int, *, first: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from step `first` on; the next is decoded while one is used."""
        plan = self.plan(epoch)
        with ThreadPoolExecutor(self.threads) as pool:
            ahead: deque[list[Future[Pixels]]] = deque()

            def ask(step: int) -> None:
                if step < len(plan):
                    ahead.append(
                        [
                            pool.submit(self._view, number, text, (self.seed, _VIEW, epoch, step, place))
                            for place, (number, text) in enumerate(plan[step])
                        ]
                    )

            ask(first)
            try:
                for step in range(first, len(plan)):
                    ask(step + 1)
                    pixels = np.stack([view.result() for view in ahead.popleft()])
                    numbers = np.array([number for number, _ in plan[step]], dtype=np.int64)
                    yield Batch(numbers, pixels, [text for _, text in plan[step]])
            finally:
                pool.shutdown(cancel_futures=True)

    def lines(self, epoch: int, step: int, count: int, size: int) -> npt.NDArray[np.int64]:
        """Return which `size` of `count` text-only lines come in a step."""
        return np.random.default_rng((self.seed, _LINES, epoch, step)).integers(count, size=size)

    def _view(self, number: int, text: str, key: tuple[int, ...]) -> Pixels:
        image = self.pack.image(number)
        if not self.strength:
            return self.preprocess(image)
        rng = np.random.default_rng(key)
        return augmented(image, self.preprocess, self.strength, rng, flip=_SIDED.search(text) is None)

    def _kinds(self) -> list[tuple[float, int]]:
        return [(float(w), int((self._weights == w).sum())) for w in np.unique(self._weights)]

    @staticmethod
    def _times(weight: float, count: int) -> int:
        """Return how many pictures `count` of this weight give in an epoch; the same in every epoch."""
        return int(weight) * count + round((weight - int(weight)) * count)


def augmented(
    image: Image.Image, preprocess: Preprocess, strength: float, rng: np.random.Generator, *, flip: bool
) -> Pixels:
    """Return (size, size, 3) uint8: a random crop, half of the time mirrored, in another light.

    Args:
        strength: 0..1; at 1 a crop keeps 30 to 100 % of the area and light changes by up to 40 %. Hue stays:
            captions name colours.
        flip: whether it may be mirrored; not where its sentence tells left from right.
    Source: random resized crop as in Szegedy et al. 2015, arXiv:1409.4842, section 6.
    """
    width, height = image.size
    area = rng.uniform(1 - 0.7 * strength, 1)
    ratio = np.exp(rng.uniform(-1, 1) * np.log(4 / 3) * strength)
    if preprocess.mode == "shortest":
        base = min(width, height) * area**0.5
        across, down = min(width, base * ratio**0.5), min(height, base / ratio**0.5)
    else:
        across, down = width * min(1, (area * ratio) ** 0.5), height * min(1, (area / ratio) ** 0.5)
    left, top = rng.uniform(0, width - across), rng.uniform(0, height - down)
    mirrored, light = rng.random() < 0.5, rng.uniform(-0.4, 0.4, size=3) * strength
    resample = (
        Image.Resampling.BICUBIC if preprocess.interpolation == "bicubic" else Image.Resampling.BILINEAR
    )
    box = (left, top, left + across, top + down)
    if preprocess.mode == "longest":  # padded below, as `index` does it
        x, y = int(left), int(top)
        image = image.crop((x, y, x + max(1, round(across)), y + max(1, round(down))))
    else:
        image = image.resize((preprocess.size, preprocess.size), resample, box=box)
    if flip and mirrored:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for enhance, change in zip(
        (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color), light, strict=True
    ):
        image = enhance(image).enhance(1 + float(change))
    return preprocess(image)
