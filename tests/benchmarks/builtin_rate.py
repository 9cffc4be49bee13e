"""Pictures and sentences a second of the built-in encoder beside ViT-B/32 in float32, both on onnxruntime.

`python -m tests.benchmarks.builtin_rate`: the two take turns in one process, with random weights for ViT-B/32
(they cost the same); prints the median of each and of the ratios. Needs the extra `clip`.
"""

from __future__ import annotations

import statistics
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

from encoders.builtin import BuiltinEncoder

ROUNDS, SECONDS, BATCH = 7, 3.0, 8


def vit_b_32(folder: Path):  # type: ignore[no-untyped-def]
    """Return an onnxruntime session of ViT-B/32's picture tower, float32."""
    import onnxruntime
    import open_clip
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tower = open_clip.create_model("ViT-B-32").visual.eval()
        path = str(folder / "vit.onnx")
        torch.onnx.export(
            tower,
            (torch.zeros(1, 3, 224, 224),),
            path,
            input_names=["pixels"],
            output_names=["embeddings"],
            dynamic_axes={"pixels": {0: "n"}, "embeddings": {0: "n"}},
            dynamo=False,
        )
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def rate(run, count: int) -> float:  # type: ignore[no-untyped-def]
    """Return how many a second `run`, which does `count` at a time, does."""
    began, done = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - began) < SECONDS:
        run()
        done += count
    return done / elapsed


def main() -> None:
    """Print the rates."""
    encoder = BuiltinEncoder()
    pixels = np.random.default_rng(0).integers(0, 256, (BATCH, 224, 224, 3), dtype=np.uint8)
    floats = np.random.default_rng(0).normal(size=(BATCH, 3, 224, 224)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        session = vit_b_32(Path(folder))
        ours, theirs = [], []
        for _ in range(ROUNDS):
            ours.append(rate(lambda: encoder.encode_pixels(pixels), BATCH))
            theirs.append(rate(lambda: session.run(None, {"pixels": floats}), BATCH))
    ratios = [a / b for a, b in zip(ours[1:], theirs[1:], strict=True)]  # the first round warms up
    times = []
    for number in range(200):
        began = time.perf_counter()
        encoder.encode_texts([f"{number} dogs running on a beach at sunset"])
        times.append((time.perf_counter() - began) * 1000)
    print(f"built-in  {statistics.median(ours[1:]):6.1f} pictures/s")
    print(f"ViT-B/32  {statistics.median(theirs[1:]):6.1f} pictures/s")
    print(f"ratio     {statistics.median(ratios):6.1f} ({min(ratios):.1f} to {max(ratios):.1f})")
    print(f"a sentence {statistics.median(times):.1f} ms, worst of 200 {max(times):.1f} ms")


if __name__ == "__main__":
    main()
