"""First stage: the text tower learns the teacher's embeddings of every training sentence."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from training.builtin.losses import distillation_loss, structure_loss
from training.builtin.models import TextTower
from training.run import Run

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TextData:
    """Sentences as ids with their teacher embeddings.

    Attributes:
        ids: (n, context) int16, padded with 0.
        lengths: (n,) tokens per sentence.
        targets: (n, dim) float16 unit norm.
        rows: sentence to row.
    """

    ids: npt.NDArray[np.int16]
    lengths: npt.NDArray[np.int64]
    targets: npt.NDArray[np.float16]
    rows: dict[str, int]

    @classmethod
    def of(
        cls, texts: Sequence[str], ids: npt.NDArray[np.int16], targets: npt.NDArray[np.float16]
    ) -> TextData:
        """Return the data with lengths and the row of each sentence."""
        return cls(ids, (ids != 0).sum(1), targets, {text: row for row, text in enumerate(texts)})

    def known(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """Return the rows of those texts that are training sentences."""
        return np.array([self.rows[text] for text in texts if text in self.rows], dtype=np.int64)

    def vectors(self, rows: npt.NDArray[np.int64]) -> Tensor:
        """Return (n, dim) float32 targets of the rows."""
        return torch.from_numpy(self.targets[rows].astype(np.float32))

    def batch(self, rows: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Return ids (n, longest) int64 and targets (n, dim) float32 of the rows."""
        longest = int(self.lengths[rows].max(initial=1))
        ids = torch.from_numpy(self.ids[rows, :longest].astype(np.int64))
        return ids, self.vectors(rows)


def by_length(
    lengths: npt.NDArray[np.int64], batch: int, rng: np.random.Generator
) -> Iterator[npt.NDArray[np.int64]]:
    """Yield the rows of one epoch in batches of like length, in random order."""
    order = np.argsort(lengths + rng.random(len(lengths)) * 2, kind="stable")
    batches = [order[i : i + batch] for i in range(0, len(order) - batch // 2, batch)]
    for index in rng.permutation(len(batches)):
        yield batches[index]


def initialise(tower: TextTower, vectors: npt.NDArray[np.float32]) -> None:
    """Start the tower as a bag of words: token embeddings from the teacher's embedding of each token.

    Args:
        tower: its token embedding, projection are set in place.
        vectors: (vocab, dim) what the teacher says about each token on its own.
    The rows are projected on their principal axes, as Model2Vec does with a teacher's token outputs.
    """
    mean = vectors.mean(0)
    centred = vectors - mean
    _, values, axes = np.linalg.svd(centred, full_matrices=False)
    width = tower.tokens.weight.shape[1]
    axes, scale = axes[:width], float(values[:width].std() + values[:width].mean()) / len(vectors) ** 0.5
    with torch.no_grad():
        tower.tokens.weight.copy_(torch.from_numpy(centred @ axes.T / scale * 0.5))
        tower.tokens.weight[0] = 0
        tower.project.weight.copy_(torch.from_numpy(axes.T * 0.2))
        tower.project.bias.copy_(torch.from_numpy(mean))


def train_text(
    tower: TextTower,
    data: TextData,
    *,
    folder: Path,
    epochs: int,
    horizon: int = 0,
    batch: int = 512,
    rate: float = 1e-3,
    seed: int = 0,
) -> list[float]:
    """Train the tower in place (it ends as its own average); return the mean loss of each epoch run here.

    The learning rate falls over `horizon` epochs where that is more:
    the next stage takes over before it is low.
    """
    torch.manual_seed(seed)
    batch = min(batch, len(data.ids))
    steps = max(epochs, horizon) * len(list(by_length(data.lengths, batch, np.random.default_rng(0))))
    run = Run(tower, steps=steps, rate=rate)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "distil.safetensors"
    run.resume(path)
    curve = []
    while run.epoch < epochs:
        rng = np.random.default_rng((seed, run.epoch))
        torch.manual_seed(seed * 1000 + run.epoch)
        tower.train()
        began, losses = time.monotonic(), []
        for rows in by_length(data.lengths, batch, rng):
            ids, targets = data.batch(rows)
            with torch.autocast("cpu", torch.bfloat16):
                embedded = tower(ids)
            loss = distillation_loss(embedded, targets) + 0.3 * structure_loss(embedded, targets)
            losses.append(run.step(loss))
            if run.step_number % 50 == 0:
                log.info(f"distil step {run.step_number}/{steps}: {np.mean(losses[-50:]):.4f}")
        run.epoch += 1
        run.save(path)
        curve.append(float(np.mean(losses)))
        log.info(f"distil epoch {run.epoch}: {curve[-1]:.4f}, {time.monotonic() - began:.0f} s")
    tower.load_state_dict(run.average)
    return curve
