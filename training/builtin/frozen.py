"""What the untouched backbone says of a picture, and how far that alone would carry.

The ImageNet classifier's opinion teaches names that no caption has; the mean-pooled features under a
two-layer head, trained against the teacher's embeddings, are the baseline that every encoder must beat.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.builtin.arrays import save_array
from training.builtin.backbone import load_backbone, load_classifier, run_blocks
from training.builtin.features import BACKBONE, PictureSet
from training.builtin.losses import contrastive_loss


@torch.inference_mode()
def cache_pooled(data: Path, cache: Path, sets: Sequence[PictureSet]) -> list[npt.NDArray[np.float16]]:
    """Return (pictures, 1280) float16 mean-pooled features of view 0, kept as `SET.pooled.npy`."""
    upper = load_backbone(data / BACKBONE).upper()
    found = []
    for pictures in sets:
        path = cache / f"{pictures.name.replace('/', '-')}.pooled.npy"
        if not path.exists():
            rows = []
            for start in range(0, len(pictures.english), 256):
                maps = torch.from_numpy(pictures.views[0][start : start + 256].astype(np.float32))
                rows.append(upper[-1](run_blocks(upper[:-1], maps)).mean((2, 3)).numpy())
            save_array(path, np.concatenate(rows).astype(np.float16))
        found.append(np.load(path))
    return found


@torch.inference_mode()
def opinions(data: Path, pooled: Sequence[npt.NDArray[np.float16]]) -> list[npt.NDArray[np.float16]]:
    """Return (pictures, 1000) float16 probabilities of the ImageNet classifier for pooled features."""
    weight, bias = load_classifier(data / BACKBONE)
    return [
        F.linear(torch.from_numpy(rows.astype(np.float32)), weight[1:], bias[1:])
        .softmax(-1)
        .numpy()
        .astype(np.float16)
        for rows in pooled
    ]


class FrozenHead(nn.Module):
    """Pooled features to unit-norm embeddings: 1280 to 1024 to 384."""

    def __init__(self, channels: int = 1280, hidden: int = 1024, dim: int = 384) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(channels),
            nn.Dropout(0.3),
            nn.Linear(channels, hidden),
            nn.GELU(),
            nn.Dropout(0.3),
            nn.Linear(hidden, dim),
        )
        self.log_scale = nn.Parameter(torch.tensor(3.0))

    def forward(self, pooled: Tensor) -> Tensor:
        """Map (n, channels) to (n, dim) float32 rows of unit norm."""
        return F.normalize(self.layers(pooled).float(), dim=-1)


def train_frozen(
    pooled: npt.NDArray[np.float16],
    targets: Sequence[npt.NDArray[np.float16]],
    weights: npt.NDArray[np.float32],
    *,
    epochs: int = 20,
    batch: int = 512,
    seed: int = 0,
) -> FrozenHead:
    """Return the baseline's head.

    Args:
        pooled: (n, 1280) features.
        targets: per picture, (captions, 384) teacher embeddings; one is drawn each epoch.
        weights: (n,) of the pictures.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    head = FrozenHead(pooled.shape[1], dim=targets[0].shape[1]).train()
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3, weight_decay=0.05)
    steps = epochs * (len(pooled) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=max(1, steps))
    for _ in range(epochs):
        order = rng.permutation(len(pooled))
        for start in range(0, len(order) - batch + 1, batch):
            rows = order[start : start + batch]
            texts = np.stack([targets[row][rng.integers(len(targets[row]))] for row in rows])
            wanted = torch.from_numpy(texts.astype(np.float32))
            images = head(torch.from_numpy(pooled[rows].astype(np.float32)))
            same = wanted @ wanted.T > 0.999
            scale = head.log_scale.exp().clamp(max=100)
            loss = contrastive_loss(images, wanted, scale, same, torch.from_numpy(weights[rows]))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return head.eval()
