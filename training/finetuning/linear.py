"""A linear adapter: one matrix per tower, learned on embeddings that are computed once; numpy only.

An embedding x becomes x + A x, then of unit norm again. A starts at zero and is pulled back to it, so that
what the pictures say nothing about stays as it was; learning stops when pictures that are not learned from
stop gaining. Source: the residual adapter of Gao et al. 2021, arXiv:2110.04544, here on both towers and with
one full or low-rank matrix in place of two layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from encoders import Embeddings, EncoderError
from training.finetuning.examples import LEARN, VALIDATE, Examples

Matrix = npt.NDArray[np.float32]

BATCH = 512
RATE, RATE_DIM = 3e-4, 384
"""Learning rate at that dim; times sqrt(384 / dim) at another, so that a step turns embeddings as far."""
DECAY = 3e-3
"""Share of A that goes with every step, apart from the gradient as in AdamW. On labels, captions and
paintings a tenth of it gains the same and moves further from the base."""
SCALE, LEAST_SCALE, MOST_SCALE = 30.0, 5.0, 100.0
"""Inverse temperature: where it starts (it is learned) and its limits; 100 is CLIP's."""
PATIENCE = 10
"""Epochs without a gain after which learning stops."""


@dataclass(frozen=True, slots=True)
class Learned:
    """Two matrices and how they came about.

    Attributes:
        image, text: (dim, dim) float32: the identity plus A.
        epochs: passes over the pictures until the best one; 0 when nothing was gained.
        loss_before, loss_after: contrastive loss of the pictures that say when to stop.
    """

    image: Matrix
    text: Matrix
    epochs: int
    loss_before: float
    loss_after: float


@dataclass(frozen=True, slots=True)
class Batch:
    """Pictures, the distinct texts drawn for them, and which is right for which.

    Attributes:
        images: (n, dim).
        texts: (m, dim).
        right: (n, m) bool, True also for texts drawn for another picture.
        drawn: (n,) the text drawn for each picture.
    """

    images: Embeddings
    texts: Embeddings
    right: npt.NDArray[np.bool_]
    drawn: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Gradient:
    """The loss of a batch, and what it changes by with each matrix and with the scale."""

    loss: float
    image: Matrix
    text: Matrix
    scale: float


def learn(
    examples: Examples,
    *,
    epochs: int,
    rank: int | None,
    seed: int,
    step: Callable[[int, int], None],
) -> Learned:
    """Return the matrices of the best epoch; the same seed gives the same ones.

    Args:
        epochs: the most there may be.
        rank: of A; None learns all of it.
        step: told (epochs, epochs done).
    Raises:
        EncoderError: the loss is not a number.
    """
    rng = np.random.default_rng(seed)
    dim = examples.images.shape[1]
    learnt = examples.pictures(LEARN)
    towers = [Tower(dim, rank, rng) for _ in range(2)]
    moments = Moments([*towers[0].parts, *towers[1].parts, np.array([np.log(SCALE)], dtype=np.float32)], dim)
    # Texts for validation are drawn once, so that epochs can be compared.
    fixed = np.random.default_rng(0)
    validation = [draw(examples, examples.pictures(VALIDATE), fixed, 0) for _ in range(3)]

    def validate() -> float:
        scale = float(np.exp(moments.values[-1][0]))
        image, text = towers[0].matrix(), towers[1].matrix()
        return float(np.mean([contrast(batch, image, text, scale).loss for batch in validation]))

    before = best = validate()
    kept, best_epoch = (towers[0].matrix(), towers[1].matrix()), 0
    for epoch in range(1, epochs + 1):
        for pictures in batches(learnt, rng):
            batch = draw(examples, pictures, rng, int(rng.integers(len(examples.prompts))))
            scale = float(np.exp(moments.values[-1][0]))
            got = contrast(batch, towers[0].matrix(), towers[1].matrix(), scale)
            slope = np.array([got.scale * scale], dtype=np.float32)
            moments.step([*towers[0].pull(got.image), *towers[1].pull(got.text), slope])
            np.clip(moments.values[-1], np.log(LEAST_SCALE), np.log(MOST_SCALE), out=moments.values[-1])
        loss = validate()
        if not np.isfinite(loss):
            raise EncoderError(f"the loss became {loss} in epoch {epoch}; the base encoder may be damaged")
        step(epochs, epoch)
        if loss < best - 1e-5:
            best, best_epoch, kept = loss, epoch, (towers[0].matrix(), towers[1].matrix())
        elif epoch - best_epoch >= PATIENCE:
            break
    step(epochs, epochs)
    return Learned(*kept, epochs=best_epoch, loss_before=before, loss_after=best)


class Tower:
    """The matrix of one tower: the identity plus A, where A is full or U V^T."""

    def __init__(self, dim: int, rank: int | None, rng: np.random.Generator) -> None:
        self.dim = dim
        if rank is None or rank >= dim:
            self.parts = [np.zeros((dim, dim), dtype=np.float32)]
        else:
            # One factor starts at zero, as in LoRA: the first matrix is the identity.
            narrow = rng.standard_normal((dim, rank), dtype=np.float32) / np.float32(np.sqrt(dim))
            self.parts = [np.zeros((dim, rank), dtype=np.float32), narrow]

    def matrix(self) -> Matrix:
        """Return (dim, dim) float32."""
        a = self.parts[0] if len(self.parts) == 1 else self.parts[0] @ self.parts[1].T
        return np.asarray(np.eye(self.dim, dtype=np.float32) + a, dtype=np.float32)

    def pull(self, gradient: Matrix) -> list[Matrix]:
        """Return the gradients of the parts, given that of the matrix."""
        if len(self.parts) == 1:
            return [gradient]
        return [gradient @ self.parts[1], gradient.T @ self.parts[0]]


class Moments:
    """Adam over a list of arrays, changed in place; all but the last (the scale) decay towards zero.

    Source: Kingma and Ba 2015, arXiv:1412.6980; decay as in Loshchilov and Hutter 2019, arXiv:1711.05101.
    """

    def __init__(self, values: list[Matrix], dim: int) -> None:
        self.values, self.steps = values, 0
        self.rate = RATE * float(np.sqrt(RATE_DIM / dim))
        self._first = [np.zeros_like(value) for value in values]
        self._second = [np.zeros_like(value) for value in values]

    def step(self, gradients: list[Matrix]) -> None:
        """Take one step down the gradients."""
        self.steps += 1
        warm = min(1.0, self.steps / 20)
        for index, (value, gradient) in enumerate(zip(self.values, gradients, strict=True)):
            first, second = self._first[index], self._second[index]
            first += 0.1 * (gradient - first)
            second += 0.01 * (gradient * gradient - second)
            move = first / (1 - 0.9**self.steps) / (np.sqrt(second / (1 - 0.99**self.steps)) + 1e-8)
            if index == len(self.values) - 1:
                value -= np.float32(10 * RATE * warm) * move
            else:
                value -= np.float32(self.rate * warm) * move + np.float32(DECAY * warm) * value


def batches(pictures: npt.NDArray[np.int64], rng: np.random.Generator) -> Iterator[npt.NDArray[np.int64]]:
    """Yield the pictures in random order, BATCH at a time, in four batches or more: few get steps, too."""
    size = min(BATCH, len(pictures))
    count = max(4, -(-len(pictures) // size))
    rounds = -(-count * size // len(pictures))
    order = np.concatenate([rng.permutation(pictures) for _ in range(rounds)])
    for start in range(0, count * size, size):
        yield order[start : start + size]


def draw(
    examples: Examples, pictures: npt.NDArray[np.int64], rng: np.random.Generator, template: int
) -> Batch:
    """Return a batch: for each picture one of its texts at random, each distinct text once."""
    chosen = np.array([examples.right[i][rng.integers(len(examples.right[i]))] for i in pictures])
    texts, drawn = np.unique(chosen, return_inverse=True)
    column = {int(text): index for index, text in enumerate(texts)}
    right = np.zeros((len(pictures), len(texts)), dtype=bool)
    for row, picture in enumerate(pictures):
        right[row, [column[text] for text in examples.right[picture] if text in column]] = True
    return Batch(examples.images[pictures], examples.prompts[template][texts], right, drawn)


def contrast(batch: Batch, image: Matrix, text: Matrix, scale: float) -> Gradient:
    """Return the symmetric cross-entropy of a batch and its gradient.

    A picture must choose its drawn text; other texts that are right for it are no wrong answers and are left
    out. A text must choose among the pictures it is right for, each as good as the others.
    Source: Radford et al. 2021, arXiv:2103.00020, figure 3; Khosla et al. 2020, arXiv:2004.11362, for several
    right answers.
    """
    rows = np.arange(len(batch.images))
    u, v = batch.images @ image.T, batch.texts @ text.T
    u_norm = np.maximum(np.linalg.norm(u, axis=1, keepdims=True), 1e-12)
    v_norm = np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-12)
    x, y = u / u_norm, v / v_norm
    cosines = x @ y.T
    logits = np.float32(scale) * cosines
    also = batch.right.copy()
    also[rows, batch.drawn] = False
    wanted = np.zeros_like(logits)
    wanted[rows, batch.drawn] = 1.0
    choose_text, by_picture = _cross_entropy(np.where(also, np.float32(-1e4), logits), wanted)
    share = batch.right / np.maximum(batch.right.sum(axis=0, keepdims=True), 1)
    choose_picture, by_text = _cross_entropy(logits.T, share.T.astype(np.float32))
    by_picture[also] = 0.0
    slope = (by_picture + by_text.T) / 2
    dx, dy = np.float32(scale) * (slope @ y), np.float32(scale) * (slope.T @ x)
    du = (dx - x * (dx * x).sum(axis=1, keepdims=True)) / u_norm
    dv = (dy - y * (dy * y).sum(axis=1, keepdims=True)) / v_norm
    return Gradient(
        loss=(choose_text + choose_picture) / 2,
        image=du.T @ batch.images,
        text=dv.T @ batch.texts,
        scale=float((slope * cosines).sum()),
    )


def _cross_entropy(logits: Matrix, wanted: Matrix) -> tuple[float, Matrix]:
    """Return the mean over rows of the cross-entropy to `wanted`, whose rows sum to 1, and its gradient."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    exponents = np.exp(shifted)
    total = exponents.sum(axis=1, keepdims=True)
    logs = shifted - np.log(total)
    loss = -np.where(wanted > 0, wanted * logs, 0.0).sum(axis=1).mean()
    return float(loss), np.asarray((exponents / total - wanted) / len(logits), dtype=np.float32)
