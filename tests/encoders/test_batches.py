"""What the one who calls an encoder may rely on: batches, threads, and calls from several threads at once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from encoders import AdaptedEncoder, Encoder, load_encoder
from encoders.builtin import BuiltinEncoder
from tests.encoders.conftest import Tiny

MakeTiny = Callable[..., Tiny]


@pytest.fixture(params=["builtin", "onnx", "torch"])
def encoder(request: pytest.FixtureRequest, clip_cache: Path) -> Encoder:
    if request.param == "builtin":
        return BuiltinEncoder(threads=1)
    model: Tiny = request.getfixturevalue("tiny")("vit")
    return load_encoder(model.spec, cache_dir=clip_cache, runtime=request.param, threads=1)


def squares(encoder: Encoder, count: int) -> Any:
    size = encoder.image_size
    return np.random.default_rng(count).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def test_an_encoder_says_how_many_squares_suit_it(encoder: Any) -> None:
    assert 1 <= encoder.batch_size <= 1024
    eye = np.eye(encoder.dim, dtype=np.float32)
    assert AdaptedEncoder(encoder, eye, eye, spec="local-dir:a").batch_size == encoder.batch_size


def test_calls_from_several_threads_at_once_do_not_mix(encoder: Encoder) -> None:
    batches = [squares(encoder, count) for count in (1, 5, 2, 4, 3, 6)]
    with ThreadPoolExecutor(4) as pool:
        at_once = list(pool.map(encoder.encode_pixels, batches))
    for batch, rows in zip(batches, at_once, strict=True):
        assert np.allclose(rows, encoder.encode_pixels(batch), atol=1e-5)
