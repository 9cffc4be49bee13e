"""Coloured squares with sidecar captions, and a model small enough to learn them in seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.color import COLORS

VISION: dict[str, Any] = {"image_size": 16, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8}
TEXT: dict[str, Any] = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
CLIP: dict[str, Any] = {"embed_dim": 16, "vision_cfg": VISION, "text_cfg": TEXT}
COCA: dict[str, Any] = {
    "embed_dim": 16,
    "custom_text": True,
    "multimodal_cfg": {
        "width": 16,
        "context_length": 16,
        "vocab_size": 49408,
        "layers": 1,
        "heads": 2,
        "n_queries": 4,
        "attn_pooler_heads": 2,
    },
    "vision_cfg": VISION
    | {"attentional_pool": True, "attn_pooler_queries": 4, "attn_pooler_heads": 2, "output_tokens": True},
    "text_cfg": TEXT | {"embed_cls": True, "output_tokens": True},
}


def draw_squares(folder: Path, *, each: int = 5, seed: int = 0) -> Path:
    """Write `each` pictures of every colour with a caption beside it: `red-0.png`, `red-0.txt`."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for color, rgb in COLORS.items():
        for number in range(each):
            shade = np.clip(np.array(rgb) + rng.integers(-12, 13, size=3), 0, 255)
            pixels = np.full((24, 24, 3), shade, dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{color}-{number}.png")
            (folder / f"{color}-{number}.txt").write_text(f"a {color} square\n")
    return folder


def table(data: Path, out: Path, /, **changes: Any) -> dict[str, Any]:
    """Return a recipe as TOML would give it."""
    return {
        "kind": "open_clip",
        "out": str(out),
        "model_cfg": CLIP,
        "data": [{"source": str(data)}],
        "epochs": 2,
        "batch": 8,
        "augment": 0.2,
        "threads": 1,
        "ema": 0.9,
        "rates": {"image": 2e-3, "text": 2e-3, "decoder": 2e-3, "rest": 2e-3},
        "checkpoint_every": 2,
        "log_every": 1,
    } | changes


def write_recipe(path: Path, recipe: dict[str, Any]) -> Path:
    """Write a recipe as TOML."""

    def value(one: Any) -> str:
        if isinstance(one, dict):
            return "{ " + ", ".join(f"{key} = {value(member)}" for key, member in one.items()) + " }"
        if isinstance(one, list):
            return "[" + ", ".join(map(value, one)) + "]"
        return json.dumps(one)

    path.write_text("".join(f"{key} = {value(one)}\n" for key, one in recipe.items()))
    return path
