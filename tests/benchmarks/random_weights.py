"""Weights for a benchmark where none can be fetched: an open_clip model as it is before training.

`python -m tests.benchmarks.random_weights ViT-B-32-256 weights.safetensors [--outliers 4]`

They cost what trained ones cost. Two of 160 photos have a mean cosine of 0.7 through them, so that nearest
neighbours mean something. What trained weights have and these lack is a few channels a hundred times larger
than the rest (Dettmers et al. 2022, arXiv:2208.07339), which 8-bit integers stumble over: `--outliers` puts
them in without changing what the model computes, by making channels of each layer norm larger and the
weights that read them smaller.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any

TIMES = 80.0


def write_weights(model: str, path: Path, *, outliers: int = 0, seed: int = 0) -> None:
    """Write the weights of an open_clip model, with `outliers` channels per layer norm of its ViT."""
    import torch
    from safetensors.torch import save_file

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import open_clip

        torch.manual_seed(seed)
        state = dict(open_clip.create_model(model).state_dict())
    with torch.no_grad():
        for name in [name for name in state if name.endswith(".ln_1.weight") and name.startswith("visual.")]:
            put_outliers(state, name.removesuffix("ln_1.weight"), outliers)
    save_file({name: value.clone().contiguous() for name, value in state.items()}, str(path))


def put_outliers(state: dict[str, Any], block: str, outliers: int) -> None:
    """Make channels of both layer norms of a block larger, and what reads them smaller by as much."""
    import torch

    for norm, readers in (("ln_1", "attn.in_proj_weight"), ("ln_2", "mlp.c_fc.weight")):
        channels = torch.randperm(len(state[f"{block}{norm}.weight"]))[:outliers]
        state[f"{block}{norm}.weight"][channels] *= TIMES
        state[f"{block}{norm}.bias"][channels] *= TIMES
        state[f"{block}{readers}"][:, channels] /= TIMES


def main() -> None:
    """Write a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("path", type=Path)
    parser.add_argument("--outliers", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    write_weights(asked.model, asked.path, outliers=asked.outliers, seed=asked.seed)


if __name__ == "__main__":
    main()
