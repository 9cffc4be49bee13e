"""The two ways to adapt an encoder, each seen from outside as what it made (`Made`)."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from encoders import AdaptedEncoder, Embeddings, Encoder, EncoderError, Pixels, normalize, write_adapter
from training.finetuning.drift import EVERYDAY
from training.finetuning.examples import HELD_OUT, Examples, embed_prompts
from training.finetuning.judge import Embedded
from training.finetuning.linear import learn
from training.finetuning.memory import BATCH, Memory, embed_texts
from training.judging.evaluate import Progress, Watch

if TYPE_CHECKING:
    from training.finetuning.tuning import Towers

PIXELS = "pixels.u8"


@dataclass(frozen=True, slots=True)
class Made:
    """What a method learned.

    Attributes:
        epochs: until the best one.
        held_out: the held-out pictures and all texts by the adapted encoder.
        everyday: `EVERYDAY` by it.
        fingerprint: of the adapted encoder.
        write: fills an empty folder, given what a record says.
    """

    epochs: int
    held_out: Embedded
    everyday: Embeddings
    fingerprint: str
    write: Callable[[Path, dict[str, Any]], None]


def by_linear(
    encoder: Encoder,
    examples: Examples,
    everyday: Embeddings,
    out: Path,
    epochs: int,
    rank: int | None,
    seed: int,
    watch: Watch,
) -> Made:
    """Return what a matrix per tower makes of the base's embeddings."""
    learned = learn(examples, epochs=epochs, rank=rank, seed=seed, step=steps(watch))
    image, text, root = learned.image, learned.text, encoder
    if isinstance(encoder, AdaptedEncoder):
        # normalize(B normalize(A x)) is normalize(B A x): two adapters are one.
        image, text, root = image @ encoder.image, text @ encoder.text, encoder.base
    adapted = AdaptedEncoder(root, image, text, spec=f"local-dir:{out}")
    return Made(
        epochs=learned.epochs,
        held_out=Embedded(
            normalize(examples.images[examples.pictures(HELD_OUT)] @ learned.image.T),
            normalize(examples.prompts @ learned.text.T),
        ),
        everyday=normalize(everyday @ learned.text.T),
        fingerprint=adapted.fingerprint,
        write=lambda folder, record: write_adapter(folder, adapted, record),
    )


@contextlib.contextmanager
def pixel_file(work: Path) -> Iterator[Callable[[Pixels], None]]:
    """Yield what appends a picture's square to the work folder's file: all of them may not fit in memory."""
    try:
        work.mkdir(parents=True, exist_ok=True)
        (work / PIXELS).write_bytes(b"")
    except OSError as error:
        raise EncoderError(f"{work} cannot be written: {error.strerror}; choose another --out") from None
    with open(work / PIXELS, "ab") as file:
        yield lambda pixels: file.writelines([pixels.tobytes()])


def by_lora(
    towers: Towers,
    encoder: Encoder,
    examples: Examples,
    work: Path,
    load: Callable[[str], Encoder],
    epochs: int,
    rank: int | None,
    alpha: float | None,
    seed: int,
    watch: Watch,
) -> Made:
    """Return what LoRA makes of the towers, measured through the files it is saved in."""
    from training.finetuning.lora import ALPHA, RANK
    from training.finetuning.tuning import tune

    size = encoder.image_size
    pixels = np.memmap(work / PIXELS, dtype=np.uint8, mode="r").reshape(-1, size, size, 3)
    words = hashlib.sha256(
        repr((examples.texts, examples.right, examples.contents)).encode("utf-8", "replace")
    )
    identity = {
        "encoder": encoder.fingerprint,
        "data": words.hexdigest(),
        "epochs": epochs,
        "rank": rank or RANK,
        "alpha": alpha or ALPHA,
        "seed": seed,
    }
    tuned = tune(
        towers,
        examples,
        pixels,
        work,
        identity=identity,
        epochs=epochs,
        rank=rank or RANK,
        alpha=alpha or ALPHA,
        seed=seed,
        step=steps(watch),
    )
    result = work / "result"
    shutil.rmtree(result, ignore_errors=True)
    result.mkdir()
    towers.save(result)
    adapted = load(f"local-dir:{result}")
    held_out = examples.rows[examples.pictures(HELD_OUT)]
    parts = []
    for start in range(0, len(held_out), BATCH):
        parts.append(
            adapted.encode_pixels(np.stack([pixels[row] for row in held_out[start : start + BATCH]]))
        )
        watch(Progress(len(held_out), start + len(parts[-1])))
    memory = Memory(None, adapted.dim)

    def write(folder: Path, record: dict[str, Any]) -> None:
        for path in result.iterdir():
            path.rename(folder / path.name)
        base = {"spec": encoder.spec, "fingerprint": encoder.fingerprint}
        record = {"kind": "pixseek finetune", "base": base, **record}
        (folder / "finetune.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")

    return Made(
        epochs=tuned.epochs,
        held_out=Embedded(
            np.concatenate(parts),
            embed_prompts(examples.kind, examples.texts, adapted, memory, step=steps(watch)),
        ),
        everyday=embed_texts(EVERYDAY, adapted, memory, step=steps(watch)),
        fingerprint=adapted.fingerprint,
        write=write,
    )


def steps(watch: Watch) -> Callable[[int, int], None]:
    """Return what turns (total, done) into progress."""
    return lambda total, done: watch(Progress(total, done))
