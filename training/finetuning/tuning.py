"""Towers tuned to a person's pictures with LoRA: epoch by epoch, stopped in time, resumed after a kill.

The work folder lies beside the result while it is in the making:
    run.json              what is being made: another run there is not continued
    run.safetensors       the last epoch (`run.Run`)
    best.safetensors      the changes of the best epoch so far
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.utils import parametrize

from encoders import EncoderError
from training.finetuning.examples import LEARN, VALIDATE, Examples, asked_as
from training.finetuning.lora import LoRA, contrast
from training.run import DivergedError, Run

Ints = npt.NDArray[np.int64]

RATE = 3e-4
"""Peak learning rate; LoRA takes about ten times that of the weights themselves."""
BATCH, CUDA_BATCH = 32, 256
"""Pictures a step: 32 keep ViT-B-32 below 3 GB."""
FEWEST_STEPS = 4
PATIENCE = 3
"""Epochs without a gain after which learning stops."""


class Towers(Protocol):
    """What is tuned: `encoders.Trainable` for one."""

    image: Any
    text: Any
    scale: float

    def tokenize(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """Return (len(texts), t) token ids."""

    def save(self, folder: Path) -> None:
        """Write the towers so that `load_encoder` finds them."""


@dataclass(frozen=True, slots=True)
class Tuned:
    """How tuning went; the towers hold the changes of the best epoch, merged.

    Attributes:
        epochs: until the best one; 0 when nothing was gained.
        losses: mean training loss of each epoch.
        validation: contrastive loss of the pictures that say when to stop, before and after each epoch.
    """

    epochs: int
    losses: list[float]
    validation: list[float]


def tune(
    towers: Towers,
    examples: Examples,
    pixels: npt.NDArray[np.uint8],
    work: Path,
    *,
    identity: dict[str, Any],
    epochs: int,
    rank: int,
    alpha: float,
    seed: int,
    step: Callable[[int, int], None],
    device: str | None = None,
) -> Tuned:
    """Change the towers by the best epoch's LoRA and return how it went.

    Args:
        pixels: (pictures read, size, size, 3), to be found by `Examples.rows`; may be mapped from a file.
        work: see the module; exists.
        identity: what makes two runs the same one, JSON.
        step: told (steps of all epochs, steps done).
        device: of the computation; None takes a GPU where there is one.
    Raises:
        EncoderError: the loss is not a number; another run is unfinished in `work`, or its checkpoint is cut.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    towers.image.to(device), towers.text.to(device)
    lora = LoRA([towers.image, towers.text], rank=rank, alpha=alpha, seed=seed)
    learnt = examples.pictures(LEARN)
    size = min(CUDA_BATCH if device == "cuda" else BATCH, len(learnt))
    steps = max(FEWEST_STEPS, -(-len(learnt) // size))
    run = Run(lora, steps=epochs * steps, rate=RATE)
    log: dict[str, Any] = {"identity": identity, "losses": [], "validation": []}
    asked = _Asked(towers, examples, pixels, device)
    if _resume(work, log, run):
        step(epochs * steps, run.epoch * steps)
    else:
        log["validation"].append(asked.validate(size))
        _keep(lora, work / "best.safetensors")
    while run.epoch < epochs and not _over(log["validation"]):
        rng = np.random.default_rng([seed, run.epoch])
        rounds = -(-steps * size // len(learnt))
        order = np.concatenate([rng.permutation(learnt) for _ in range(rounds)])
        losses = []
        for start in range(0, steps * size, size):
            loss = asked.loss(order[start : start + size], rng)
            try:
                losses.append(run.step(loss))
            except DivergedError as error:
                raise EncoderError(
                    f"{error}, in epoch {run.epoch + 1}; the encoder may be damaged, or "
                    "try another --seed or a lower --alpha"
                ) from error
            step(epochs * steps, run.epoch * steps + len(losses))
        run.epoch += 1
        log["losses"].append(float(np.mean(losses)))
        log["validation"].append(asked.validate(size))
        if log["validation"][-1] <= min(log["validation"]):
            _keep(lora, work / "best.safetensors")
        # In this order: a kill between the two repeats the epoch, and comes to the same.
        _write(work / "run.json", log)
        run.save(work / "run.safetensors")
    _write(work / "run.json", log | {"finished": True})
    lora.load_state_dict(load_file(work / "best.safetensors", device=device))
    lora.merge()
    towers.image.to("cpu"), towers.text.to("cpu")
    step(epochs * steps, epochs * steps)
    return Tuned(int(np.argmin(log["validation"])), log["losses"], log["validation"])


class _Asked:
    """The losses of batches of examples."""

    def __init__(
        self, towers: Towers, examples: Examples, pixels: npt.NDArray[np.uint8], device: str
    ) -> None:
        self.towers, self.examples, self.pixels, self.device = towers, examples, pixels, device
        asked = [asked_as(examples.kind, text) for text in examples.texts]
        self.ids = [towers.tokenize(turn) for turn in zip(*asked, strict=True)]

    def loss(self, pictures: Ints, rng: np.random.Generator) -> Tensor:
        """Return the contrastive loss of pictures, each with one of its texts at random."""
        right_of = [self.examples.right[picture] for picture in pictures]
        chosen = np.array([names[rng.integers(len(names))] for names in right_of])
        texts, drawn = np.unique(chosen, return_inverse=True)
        right = np.zeros((len(pictures), len(texts)), dtype=bool)
        for row, names in enumerate(right_of):
            right[row] = np.isin(texts, names)
        ids = self.ids[int(rng.integers(len(self.ids)))][texts]
        # A weight that is read several times in a pass is computed once.
        with parametrize.cached():
            return contrast(
                self.towers.image(
                    torch.from_numpy(np.array(self.pixels[self.examples.rows[pictures]])).to(self.device)
                ),
                self.towers.text(torch.from_numpy(ids).to(self.device)),
                torch.from_numpy(right).to(self.device),
                torch.from_numpy(drawn.astype(np.int64)).to(self.device),
                self.towers.scale,
            )

    def validate(self, size: int) -> float:
        """Return the mean loss of the pictures that are not learned from; always of the same batches."""
        rng, pictures = np.random.default_rng(0), self.examples.pictures(VALIDATE)
        pieces = np.array_split(pictures, -(-len(pictures) // size))
        with torch.inference_mode():
            found = [float(self.loss(piece, rng)) * len(piece) for _ in range(3) for piece in pieces]
        return sum(found) / 3 / len(pictures)


def _over(validation: list[float]) -> bool:
    return len(validation) - 1 - int(np.argmin(validation)) >= PATIENCE


def _keep(lora: LoRA, path: Path) -> None:
    partial = path.with_suffix(".part")
    save_file({name: value.clone().contiguous() for name, value in lora.state_dict().items()}, partial)
    partial.replace(path)


def _resume(work: Path, log: dict[str, Any], run: Run) -> bool:
    """Go on where a run of the same identity stopped; return whether there was one."""
    path = work / "run.json"
    if not path.exists():
        return False
    remedy = f"to begin again, delete {work}"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["identity"] != log["identity"]:
            if found.get("finished"):
                return False
            mine = log["identity"]
            different = sorted(key for key in mine if found["identity"].get(key) != mine[key])
            raise EncoderError(
                f"an unfinished run with another {' and '.join(different)} is in {work}; "
                f"finish it as it was begun, or {remedy}"
            )
        log["losses"], log["validation"] = list(found["losses"]), list(found["validation"])
        if not (work / "best.safetensors").exists() or not run.resume(work / "run.safetensors"):
            raise ValueError("a file is missing")
    except EncoderError:
        raise
    except Exception as error:  # json, safetensors and torch raise what they like about a cut file
        why = " ".join(str(error).split())[:120]
        raise EncoderError(f"the unfinished run in {work} cannot be continued ({why}); {remedy}") from error
    del log["losses"][run.epoch :], log["validation"][run.epoch + 1 :]
    return True


def _write(path: Path, value: dict[str, Any]) -> None:
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(value), encoding="utf-8")
    partial.replace(path)
