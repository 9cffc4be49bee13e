"""ViT-B-32-256 with random weights: as safetensors for pixseek and the plain loop, as ONNX for rclip.

They cost what trained ones cost. Plain random towers give all pictures nearly the same embedding, which no
rounding moves and whose nearest neighbours any rounding shuffles: neither cosine nor overlap would say
anything. So the mean of the last layer over some pictures is taken off by as much as makes two pictures as
unlike as real CLIP makes them, by the bias of the last normalisation: same architecture, same cost.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib import util
from pathlib import Path
from typing import Any

from tests.benchmarks.suite.settings import HOME, ROOT

MODEL = "ViT-B-32-256"
GFLOP = 11.5
"""Of a picture in its tower: 12 layers of 24 d^2 for 65 tokens of d = 768, attention, and the patches."""
MEDIAN_COSINE = 0.64
"""Measured: of two of 541 photos from Unsplash under OpenAI's ViT-B/32."""
FOLDER = HOME / "weights"
WEIGHTS = FOLDER / "ViT-B-32-256-random.safetensors"
SPEC = f"{MODEL}@{WEIGHTS}"
RCLIP_MODELS = FOLDER / "rclip"
"""What RCLIP_DATADIR holds but for its database."""
_SUBFOLDER = "ViT-B-32-256-datacomp_s34b_b86k"


def make() -> None:
    """Write the files where they are not there; a process of its own, so that torch does not stay here."""
    if not (FOLDER / ".complete").exists():
        print("making ViT-B-32-256 with random weights, and its ONNX files for rclip", flush=True)
        subprocess.run([sys.executable, "-m", "tests.benchmarks.suite.weights"], cwd=ROOT, check=True)


def rclip_datadir(folder: Path) -> Path:
    """Return a new data folder for rclip, with the models (not copied) and no database."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (_SUBFOLDER, "tokenizer"):
        if not (folder / name).exists():
            (folder / name).symlink_to(RCLIP_MODELS / name)
    return folder


def _spread(tower: Any) -> None:
    """Move the bias of the last normalisation so that pictures have a median cosine of MEDIAN_COSINE."""
    import numpy as np
    import torch
    from open_clip import image_transform

    from tests.benchmarks.suite.pictures import _open, sources

    prepare = image_transform(256, is_train=False)
    projection, tower.proj = tower.proj, None
    with torch.inference_mode():
        features = np.concatenate(
            [
                tower(torch.stack([prepare(_open(source)) for source in some])).numpy()
                for some in _batched(sources(320), 32)
            ]
        ).astype(np.float64)
    tower.proj = projection
    mean = features.mean(axis=0)
    low, high = 0.0, 1.0
    for _ in range(30):
        share = (low + high) / 2
        rows = features - share * mean
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        cosines = rows @ rows.T
        like = np.median(cosines[~np.eye(len(rows), dtype=bool)])
        low, high = (share, high) if like > MEDIAN_COSINE else (low, share)
    print(f"{share:.3f} of the mean taken off", flush=True)
    with torch.no_grad():
        tower.ln_post.bias -= torch.from_numpy(share * mean).float()


def _batched(items: list[Any], size: int) -> list[list[Any]]:
    """Return the items in runs of a size."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def _write() -> None:
    import warnings

    import open_clip
    import torch
    from safetensors.torch import save_file

    shutil.rmtree(FOLDER, ignore_errors=True)
    (RCLIP_MODELS / _SUBFOLDER).mkdir(parents=True)
    (RCLIP_MODELS / "tokenizer").mkdir()
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    model = open_clip.create_model(MODEL).eval()
    _spread(model.visual)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, str(WEIGHTS))

    class Texts(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            features: torch.Tensor = self.model.encode_text(tokens)
            return features

    torch.backends.mha.set_fastpath_enabled(False)  # its operator has no ONNX
    for tower, example, name in (
        (model.visual, torch.zeros(2, 3, 256, 256), "visual"),
        (Texts(), torch.zeros(2, 77).long(), "textual"),
    ):
        torch.onnx.export(
            tower,
            (example,),
            str(RCLIP_MODELS / _SUBFOLDER / f"{name}.onnx"),
            input_names=["input"],
            output_names=["output"],
            dynamic_axes={"input": {0: "n"}, "output": {0: "n"}},
            dynamo=False,
        )
    spec = util.find_spec("open_clip")
    assert spec is not None
    assert spec.origin is not None
    words = Path(spec.origin).parent / "bpe_simple_vocab_16e6.txt.gz"
    shutil.copy(words, RCLIP_MODELS / "tokenizer" / words.name)
    (FOLDER / ".complete").touch()


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    _write()
