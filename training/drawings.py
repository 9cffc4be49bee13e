"""The drawings of data/draw_samples.py as a training set, from seeds the demo never uses.

`data/` is no package and is not installed: the file is loaded by its path beside this repository's code.
"""

from __future__ import annotations

import importlib.util
import io
import random
import sys
from pathlib import Path
from types import ModuleType

from training.datasets import Sample

SCRIPT = Path(__file__).resolve().parent.parent / "data" / "draw_samples.py"
PER_KIND = 24
FIRST_SEED = 1_000_000
"""The demo's seeds are small numbers; these are not among them."""


def load_script(path: Path = SCRIPT) -> ModuleType:
    """Return data/draw_samples.py as a module."""
    found = importlib.util.spec_from_file_location("draw_samples", path)
    if found is None or found.loader is None:
        raise FileNotFoundError(path)
    module = importlib.util.module_from_spec(found)
    sys.modules["draw_samples"] = module
    found.loader.exec_module(module)
    return module


def drawing_captions() -> list[str]:
    """Return every sentence about a drawing."""
    return [caption for captions in load_script().KINDS.values() for caption in captions]


def drawing_samples(*, per_kind: int = PER_KIND, seed: int = 0) -> list[Sample]:
    """Return `per_kind` drawings of every kind, as lossy WebP like the other sets."""
    module = load_script()
    samples = []
    for name, captions in module.KINDS.items():
        for number in range(per_kind):
            rng = random.Random(f"{FIRST_SEED + seed}/{name}/{number}")
            size = rng.choice([(320, 240), (240, 240), (336, 240)])
            buffer = io.BytesIO()
            module.draw(name, rng, size).save(buffer, "WEBP", quality=85)
            samples.append(Sample(f"{name}-{number}", buffer.getvalue(), tuple(captions), ""))
    return samples
