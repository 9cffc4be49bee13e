"""open_clip models run by torch: where ONNX cannot, and what the exported towers are made from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from encoders.base import Embeddings, Pixels, Preprocess, normalize
from encoders.onnx_runtime import BATCH, check_pixels, encode_in_batches, finite
from encoders.openclip import TorchModel

if TYPE_CHECKING:
    from PIL import Image


class TorchEncoder:
    """An open_clip model run by torch. Satisfies `encoders.base.Encoder`.

    Args:
        built: the model.
        threads: torch's threads, for the whole process; None leaves them.
        notice: one line for a person, or None.
    """

    def __init__(self, built: TorchModel, *, threads: int | None = None, notice: str | None = None) -> None:
        import torch

        if threads is not None:
            torch.set_num_threads(threads)
        self._built, self.notice, self.threads = built, notice, threads

    @property
    def spec(self) -> str:
        """What `load_encoder` takes to get this encoder again."""
        return self._built.source.spec.text

    @property
    def fingerprint(self) -> str:
        """Hex sha256 over weights, model configuration, preprocessing and dim; not the runtime."""
        return self._built.fingerprint

    @property
    def dim(self) -> int:
        """Width of an embedding."""
        return self._built.dim

    @property
    def image_size(self) -> int:
        """Side of the square the image tower reads, pixels."""
        return self._built.preprocess.size

    @property
    def preprocess(self) -> Preprocess:
        """From a picture to the square the image tower reads."""
        return self._built.preprocess

    @property
    def batch_size(self) -> int:
        """Squares per `encode_pixels` call that suit it best."""
        return BATCH

    @property
    def runtime(self) -> str:
        """What computes: "torch"."""
        return "torch"

    def encode_pixels(self, pixels: Pixels) -> Embeddings:
        """Return (n, dim) unit rows for (n, size, size, 3) uint8 squares, in order."""
        import torch

        check_pixels(pixels, self.image_size)
        tower = image_tower(self._built)
        return self._run(tower, torch.from_numpy(np.array(pixels)))

    def encode_images(self, images: Sequence[Image.Image]) -> Embeddings:
        """Return (len(images), dim) unit rows; images are RGB, upright, any size."""
        return encode_in_batches(self.preprocess, self.encode_pixels, images, self.dim)

    def encode_texts(self, texts: Sequence[str]) -> Embeddings:
        """Return (len(texts), dim) unit rows; long texts are cut. Raises EncoderError on NaN."""
        import torch

        if not texts:
            return np.zeros((0, self.dim), dtype=np.float32)
        ids = torch.from_numpy(self._built.tokenizer(texts))
        return finite(self._run(text_tower(self._built), ids), self.spec)

    def _run(self, tower: Callable[[Any], Any], rows: Any) -> Embeddings:
        import torch

        out = np.empty((len(rows), self.dim), dtype=np.float32)
        with torch.inference_mode():
            for start in range(0, len(rows), BATCH):
                out[start : start + BATCH] = tower(rows[start : start + BATCH]).float().numpy()
        return normalize(out)


def image_tower(built: TorchModel) -> Any:
    """Return a module (n, size, size, 3) uint8 -> (n, dim), the normalisation of pixels inside."""
    import torch

    class ImageTower(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = built.model
            self.dtype = torch.float32
            self.register_buffer("mean", torch.tensor(built.mean).view(1, 3, 1, 1))
            self.register_buffer("std", torch.tensor(built.std).view(1, 3, 1, 1))

        def forward(self, pixels: Any) -> Any:
            scaled = pixels.permute(0, 3, 1, 2).float().div(255.0)
            return self.model.encode_image(((scaled - self.mean) / self.std).to(self.dtype))

    return ImageTower().eval()


def text_tower(built: TorchModel) -> Any:
    """Return a module (n, context_length) int64 -> (n, dim)."""
    import torch

    class TextTower(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = built.model

        def forward(self, ids: Any) -> Any:
            return self.model.encode_text(ids)

    return TextTower().eval()
