"""What a training says of itself while it runs and when it ends."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Stage:
    """How far a training is.

    Attributes:
        what: reading pictures, asking the teacher, training.
        done, total: pictures, sentences or steps; total 0 where it is not known.
        loss: of the last step, in training.
    """

    what: str
    done: int
    total: int
    loss: float | None = None


@dataclass(frozen=True, slots=True)
class EpochEnd:
    """One epoch: mean loss, recall where it was measured (percent), and the time left in seconds."""

    epoch: int
    epochs: int
    loss: float
    recall: dict[int, float] | None
    left_s: float


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training came to.

    Attributes:
        spec: what `--encoder` takes, once it is finished.
        stopped: someone asked to stop; the same command goes on.
        already: it had been finished before.
        recall: held-out text-to-image recall at 1, 5 and 10, percent; None where none was measured.
    """

    spec: str
    out: Path
    log: Path
    stopped: bool
    already: bool
    steps: int
    epochs: int
    pictures: int
    held_out: int
    recall: dict[int, float] | None
    seconds: float
