"""The picture tower alone in torch: bfloat16 on a CPU that has it, float16 on a CUDA card."""

from __future__ import annotations

from typing import Any

import numpy as np

from encoders.base import DEFAULT_BATCH, Embeddings, Pixels
from encoders.errors import EncoderError
from encoders.openclip import TorchModel, quiet
from encoders.torch_runtime import image_tower

_CUDA_MOST = 512
_CUDA_SHARE = 0.5  # of the card's free memory: a desktop draws on the rest


class TorchTower:
    """Both kinds; the device is what differs. Satisfies `trials.Tower`.

    Args:
        built: becomes this tower's own: its text tower is dropped, its weights change precision in place.
        device: "cpu" or "cuda".
        dtype: name of torch's type of the weights: float32, bfloat16, float16.
        threads: of the CPU, for the whole process; None leaves them.
    Raises:
        EncoderError: the card has not the memory.
    """

    def __init__(self, built: TorchModel, device: str, dtype: str, threads: int | None = None) -> None:
        import torch

        if threads is not None:
            torch.set_num_threads(threads)
        self._torch, self._device, self._dtype = torch, device, getattr(torch, dtype)
        for name, _ in list(built.model.named_children()):
            if name != "visual":
                setattr(built.model, name, None)
        self._size = built.preprocess.size
        self._tower = image_tower(built)
        try:
            self._tower.model.visual.to(device=device, dtype=self._dtype)
            self._tower.mean, self._tower.std = (
                value.to(device) for value in (self._tower.mean, self._tower.std)
            )
        except torch.OutOfMemoryError as error:
            raise EncoderError(f"the card has not the memory for {built.source.name}") from error
        self._tower.dtype = self._dtype
        self.batch_size = self._fitting() if device == "cuda" else DEFAULT_BATCH

    def __call__(self, pixels: Pixels) -> Embeddings:
        """Return (n, dim) float32; memory that runs out halves the batch for good. Raises EncoderError.

        Bytes go over, from pinned memory and without waiting; they become numbers on the card. The CPU is
        held only when the embeddings come back.
        """
        torch = self._torch
        parts: list[Any] = []
        start = 0
        with torch.inference_mode(), quiet():
            while start < len(pixels):
                piece = torch.from_numpy(np.array(pixels[start : start + self.batch_size]))
                if self._device == "cuda":
                    piece = piece.pin_memory().to(self._device, non_blocking=True)
                try:
                    parts.append(self._tower(piece).float())
                except torch.OutOfMemoryError as error:
                    if self.batch_size == 1:
                        raise EncoderError("not enough memory for a single picture") from error
                    del piece
                    self.batch_size //= 2
                    if self._device == "cuda":
                        torch.cuda.empty_cache()
                    continue
                start += len(piece)
            rows: Embeddings = torch.cat(parts).cpu().numpy()
        return rows

    def _fitting(self) -> int:
        """Return a power of two that leaves half of the card's free memory: measured with eight squares."""
        torch, few = self._torch, 8
        self.batch_size = few
        self(np.zeros((1, self._size, self._size, 3), dtype=np.uint8))
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        self(np.zeros((few, self._size, self._size, 3), dtype=np.uint8))
        each = max(1, (torch.cuda.max_memory_allocated() - held) // few)
        return fitting_batch(torch.cuda.mem_get_info()[0], each)


def fitting_batch(free_bytes: int, each_bytes: int) -> int:
    """Return the largest power of two, at most `_CUDA_MOST`, that fits in `_CUDA_SHARE` of what is free."""
    most = max(1, min(_CUDA_MOST, int(_CUDA_SHARE * free_bytes / each_bytes)))
    return 1 << (most.bit_length() - 1)


def cuda_is_ready() -> str | None:
    """Return None when torch can use a CUDA card, else one clause that says why not. Imports torch."""
    import torch

    if not torch.cuda.is_available():
        return "torch finds no CUDA card (is it a build for the CPU only?)"
    return None
