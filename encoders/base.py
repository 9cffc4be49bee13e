"""What an encoder is: the protocol, the embeddings it returns, and the pixels it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL import Image

Embeddings: TypeAlias = npt.NDArray[np.float32]
"""(n, dim) float32, rows of unit L2 norm: a dot product is a cosine in [-1, 1]."""

Pixels: TypeAlias = npt.NDArray[np.uint8]
"""(n, size, size, 3) uint8 RGB, resized and cropped, not yet normalised."""

_MAX_RESIZED_PIXELS = 64_000_000


@dataclass(frozen=True, slots=True)
class Preprocess:
    """From an upright RGB picture to the square an encoder reads. Picklable: decode workers hold one.

    Attributes:
        size: side of the square, pixels.
        mode: `shortest` scales the short side to `size` and crops the middle (CLIP); `squash` scales
            both sides to `size` (SigLIP); `longest` fits the long side and pads with `fill`.
        interpolation: resampling filter.
        fill: grey level 0..255 of the padding in mode `longest`.
    Source: open_clip `image_transform` (inference branch), of which this is the part before ToTensor.
    """

    size: int
    mode: Literal["shortest", "squash", "longest"] = "shortest"
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    fill: int = 0

    def __call__(self, image: Image.Image) -> Pixels:
        """Return (size, size, 3) uint8, equal to open_clip's pixels for every shape."""
        from PIL import Image  # a question in words decodes no picture

        resample = Image.Resampling.BICUBIC if self.interpolation == "bicubic" else Image.Resampling.BILINEAR
        size = self.size
        width, height = image.size
        if self.mode == "squash":
            image = image.resize((size, size), resample)
        elif self.mode == "shortest":
            image = self._shortest(image, resample)
        else:
            ratio = max(width / size, height / size)
            new = (max(1, round(width / ratio)), max(1, round(height / ratio)))
            canvas = Image.new("RGB", (size, size), (self.fill, self.fill, self.fill))
            canvas.paste(image.resize(new, resample), ((size - new[0]) // 2, (size - new[1]) // 2))
            image = canvas
        return np.asarray(image.convert("RGB"), dtype=np.uint8)

    def _shortest(self, image: Image.Image, resample: Image.Resampling) -> Image.Image:
        """Scale the short side to `size`, crop the middle. torchvision: the long side is truncated to an
        int, the crop offset rounded half to even."""
        size = self.size
        width, height = image.size
        if width <= height:
            new = (size, max(size, int(size * height / width)))
        else:
            new = (max(size, int(size * width / height)), size)
        left, top = round((new[0] - size) / 2.0), round((new[1] - size) / 2.0)
        if new[0] * new[1] > _MAX_RESIZED_PIXELS:
            # A 1 x 30,000 line would pass through gigabytes: resample only the part that is kept.
            across, down = width / new[0], height / new[1]
            box = (left * across, top * down, (left + size) * across, (top + size) * down)
            return image.resize((size, size), resample, box=box)
        if min(width, height) != size:
            image = image.resize(new, resample)
        return image.crop((left, top, left + size, top + size))


DEFAULT_BATCH = 32
"""Squares per `encode_pixels` call where an encoder says nothing else."""


class Encoder(Protocol):
    """Pictures and words into one space. The one place that normalises.

    An encoder may also have `batch_size: int`, the number of squares per `encode_pixels` call that is best
    for it (`DEFAULT_BATCH` where absent); more are taken, too, in pieces. Every encoder of `load_encoder`
    may be called from several threads at once: one session is made, and calls do not mix. It gains
    nothing over one thread, because a call uses all of the encoder's threads.

    And it may have `preparing: bool`: true while `encode_pixels` is busy with something longer than a batch
    (trying what is fastest, loading it) that nobody who wants to stop has to wait for.
    """

    @property
    def spec(self) -> str:
        """What `load_encoder` takes to get this encoder again."""

    @property
    def fingerprint(self) -> str:
        """Hex sha256 over weights, preprocessing, normalisation and dim; equal: comparable embeddings."""

    @property
    def dim(self) -> int: ...

    @property
    def image_size(self) -> int: ...

    @property
    def preprocess(self) -> Preprocess: ...

    def encode_pixels(self, pixels: Pixels) -> Embeddings:
        """Return one embedding per square, in the order given; pixels come from `preprocess`."""

    def encode_images(self, images: Sequence[Image.Image]) -> Embeddings:
        """Return one embedding per image; images are RGB, upright, any size."""

    def encode_texts(self, texts: Sequence[str]) -> Embeddings:
        """Return one embedding per text; long texts are cut at the encoder's context length."""


def normalize(vectors: npt.NDArray[np.floating]) -> Embeddings:
    """Return float32 rows of unit L2 norm. Rows with NaN or Inf stay so: the caller rejects them."""
    vectors = np.asarray(vectors, dtype=np.float32)
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12), dtype=np.float32)
