"""Half precision in torch. The CUDA way runs here on the CPU: the same code, another device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from encoders import EncoderError, load_encoder, normalize
from encoders.openclip import TorchModel
from encoders.sources import resolve
from encoders.specs import parse_spec
from encoders.store import Store
from encoders.torch_towers import TorchTower, fitting_batch
from tests.encoders.conftest import Tiny, cosines

MakeTiny = Callable[..., Tiny]


def built(model: Tiny, cache: Path) -> TorchModel:
    spec = parse_spec(f"local-dir:{model.folder}")
    return TorchModel(resolve(spec, allow_pickle=False, offline=True), Store(cache))


def pixels(size: int, count: int) -> Any:
    return np.random.default_rng(1).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", ["vit", "siglip", "coca", "resnet"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_tower_says_what_float32_says(tiny: MakeTiny, clip_cache: Path, name: str, dtype: str) -> None:
    model = tiny(name)
    tower = TorchTower(built(model, clip_cache), "cpu", dtype)
    encoder = load_encoder(f"local-dir:{model.folder}", cache_dir=clip_cache, runtime="torch")
    squares = pixels(encoder.image_size, 5)
    rows = tower(squares)
    assert rows.dtype == np.float32
    assert cosines(normalize(rows), encoder.encode_pixels(squares)).min() > 0.99
    assert cosines(tower(squares[:1]), rows[:1]).min() > 0.999


def test_memory_that_runs_out_halves_the_batch_and_loses_nothing(
    tiny: MakeTiny, clip_cache: Path, open_clip: Any
) -> None:
    import torch

    tower = TorchTower(built(tiny("vit"), clip_cache), "cpu", "float32")
    squares = pixels(32, 20)
    wanted = tower(squares)
    run, sizes = tower._tower, []

    def small_card(piece: Any) -> Any:
        sizes.append(len(piece))
        if len(piece) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return run(piece)

    tower._tower = small_card
    tower.batch_size = 16
    assert np.allclose(tower(squares), wanted, atol=1e-5)
    assert sizes == [16, 8, 4, 4, 4, 4, 4]
    assert tower.batch_size == 4


def test_a_card_too_small_for_one_picture_is_an_error(
    tiny: MakeTiny, clip_cache: Path, open_clip: Any
) -> None:
    import torch

    def none(piece: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    tower = TorchTower(built(tiny("vit"), clip_cache), "cpu", "float32")
    tower._tower = none
    with pytest.raises(EncoderError, match="not enough memory"):
        tower(pixels(32, 3))


@pytest.mark.parametrize(
    ("free", "each", "batch"),
    [(8 << 30, 40 << 20, 64), (80 << 30, 1 << 20, 512), (1 << 20, 1 << 30, 1), (100, 10, 4)],
)
def test_a_batch_leaves_half_of_the_memory(free: int, each: int, batch: int) -> None:
    assert fitting_batch(free, each) == batch
