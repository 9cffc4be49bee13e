"""Weights for benchmarks: outlier channels are there, and change nothing that the model computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.random_weights import TIMES, write_weights


def test_outliers_change_weights_and_not_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch", reason="the [clip] extra is not installed")
    open_clip = pytest.importorskip("open_clip", reason="the [clip] extra is not installed")
    from safetensors.torch import load_file

    def small(*_: Any, **__: Any) -> Any:
        vision = {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8}
        text = {"context_length": 8, "vocab_size": 50, "width": 16, "heads": 2, "layers": 1}
        return open_clip.CLIP(32, vision, text).eval()

    monkeypatch.setattr(open_clip, "create_model", small)
    outputs, states = [], []
    for outliers in (0, 3):
        path = tmp_path / f"{outliers}.safetensors"
        write_weights("small", path, outliers=outliers)
        model = small()
        states.append(load_file(path))
        model.load_state_dict(states[-1])
        with torch.inference_mode():
            outputs.append(model.encode_image(torch.linspace(-1, 1, 3 * 32 * 32).view(1, 3, 32, 32)))
    assert torch.allclose(*outputs, atol=1e-4)
    norm = states[1]["visual.transformer.resblocks.0.ln_1.weight"]
    assert sorted(norm.unique().tolist()) == [1.0, TIMES]
    assert (norm == TIMES).sum() == 3
