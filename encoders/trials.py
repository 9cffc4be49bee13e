"""A runtime tried on an encoder's picture tower: how fast it is, and whether it says what float32 says."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from encoders.base import Embeddings, Pixels, normalize
from encoders.specs import Runtime

MIN_COSINE = 0.99
"""Of every single probe to float32. Near duplicates are looked for from 0.97 (`search.duplicates`)."""
MIN_OVERLAP = 0.95
"""Share of each probe's nearest probes, of ten, that float32 names too."""
SECONDS = 2.0  # least time to measure a rate in
_MOST, _FEWEST = 64, 16  # probes; as many as float32 does in about this many seconds:
_PROBE_SECONDS = 6.0


class Tower(Protocol):
    """Pictures through one runtime. Called from one thread at a time."""

    @property
    def batch_size(self) -> int:
        """Squares per call that suit it."""

    def __call__(self, pixels: Pixels) -> Embeddings:
        """Return (n, dim) float32 for (n, size, size, 3) uint8; the norm may be any. Raises EncoderError."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of trying a runtime.

    Attributes:
        runtime: its name.
        why_not: one clause when it cannot run here; then the numbers are 0.
        rate: squares per second, in batches, alone on the machine as it was.
        cosine: least cosine of a probe to its float32 embedding.
        overlap: see `MIN_OVERLAP`.
        memory_bytes: how much the process grew, 0 where the system does not say.
        load_s: seconds to load it and to encode a first square.
    """

    runtime: str
    why_not: str | None = None
    rate: float = 0.0
    cosine: float = 0.0
    overlap: float = 0.0
    memory_bytes: int = 0
    load_s: float = 0.0

    @property
    def agrees(self) -> bool:
        """Whether its embeddings may stand beside those of float32."""
        return self.why_not is None and self.cosine >= MIN_COSINE and self.overlap >= MIN_OVERLAP


@dataclass(frozen=True, slots=True)
class Choice:
    """What was measured, and what it says.

    Attributes:
        runtime: the fastest that agrees.
        trials: of every runtime, in the order of `RUNTIMES`; those left out were not worth trying.
        probes: squares each was tried on.
        machine: see `machine.description`.
    """

    runtime: Runtime
    trials: tuple[Trial, ...]
    probes: int
    machine: dict[str, Any]

    @property
    def chosen(self) -> Trial:
        """The trial of `runtime`."""
        return next(trial for trial in self.trials if trial.runtime == self.runtime)


def how_many(tower: Callable[[Pixels], Embeddings], squares: Pixels) -> int:
    """Return how many of `squares` to probe with: fewer for a large encoder on a small machine."""
    tower(squares[:1])
    began = time.perf_counter()
    tower(squares[:4])
    rate = 4 / (time.perf_counter() - began)
    return min(len(squares), int(np.clip(rate * _PROBE_SECONDS, _FEWEST, _MOST)))


def attempt(runtime: str, load: Callable[[], Tower], squares: Pixels, reference: Embeddings | None) -> Trial:
    """Return what comes of a runtime.

    Args:
        load: opens it.
        reference: (n, dim) of the squares in float32; None: this runtime is the reference itself.
    Raises:
        EncoderError: as `load`, or it fails on a square.
    """
    before, began = resident_bytes(), time.perf_counter()
    tower = load()
    tower(squares[:1])
    load_s = time.perf_counter() - began
    vectors = encode_all(tower, squares)
    memory = max(0, resident_bytes() - before)
    batch = squares[: min(tower.batch_size, len(squares))]
    # The least of several: what else runs on the machine only ever makes it slower.
    times: list[float] = []
    while len(times) < 3 or (sum(times) < SECONDS and len(times) < 50):
        began = time.perf_counter()
        tower(batch)
        times.append(time.perf_counter() - began)
        if sum(times) > 4 * SECONDS:
            break
    cosine, overlap = (1.0, 1.0) if reference is None else agreement(vectors, reference)
    return Trial(runtime, None, len(batch) / min(times), cosine, overlap, memory, load_s)


def encode_all(tower: Tower, squares: Pixels) -> Embeddings:
    """Return unit rows for all squares, in the tower's batches."""
    step = tower.batch_size
    return normalize(np.concatenate([tower(squares[i : i + step]) for i in range(0, len(squares), step)]))


def agreement(vectors: Embeddings, reference: Embeddings) -> tuple[float, float]:
    """Return (least cosine of a row to its own, mean share of each row's nearest that both name).

    NaN counts as no agreement at all. Nearest are ten, or a quarter of the rows where they are few.
    """
    if not np.isfinite(vectors).all():
        return -1.0, 0.0
    cosine = float(np.min((vectors.astype(np.float64) * reference).sum(axis=1)))
    k = max(1, min(10, len(reference) // 4))
    shared = [
        len(set(ours) & set(theirs)) / k
        for ours, theirs in zip(_nearest(vectors, k), _nearest(reference, k), strict=True)
    ]
    return min(cosine, 1.0), float(np.mean(shared))


def resident_bytes() -> int:
    """Return the memory this process holds, 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    except (OSError, ValueError, IndexError):
        return 0


def _nearest(vectors: Embeddings, k: int) -> list[list[int]]:
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -2.0)
    return [[int(place) for place in row] for row in np.argsort(-scores, axis=1, kind="stable")[:, :k]]
