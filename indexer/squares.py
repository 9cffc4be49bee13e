"""`read_squares`: pictures as they are on disk now, small and square, for a look from closer by."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from encoders import Pixels, Preprocess
from indexer.resources import default_workers
from indexer.workers import Decoded, DecodePool, DecodeTask


@dataclass(frozen=True, slots=True)
class Square:
    """A picture that was read.

    Attributes:
        content_hash: BLAKE2b, 32 bytes, of the file as it is now.
        pixels: (side, side, 3) uint8 RGB, the whole upright picture squashed.
    """

    path: bytes
    content_hash: bytes
    pixels: Pixels


def read_squares(paths: Sequence[bytes], side: int, workers: int | None = None) -> Iterator[Square]:
    """Yield the pictures that can be read, in no particular order, decoded by processes of their own."""
    if not paths:
        return
    waiting = deque(enumerate(paths))
    most = min(workers or default_workers(), len(paths))
    with DecodePool(Preprocess(side, "squash", "bilinear"), workers=most) as pool:
        while waiting or pool.outstanding:
            while waiting and pool.outstanding < pool.capacity:
                pool.submit(DecodeTask(*waiting.popleft()))
            for result in pool.results(1.0):
                if isinstance(result, Decoded):
                    yield Square(result.path, result.content_hash, result.pixels[0])
