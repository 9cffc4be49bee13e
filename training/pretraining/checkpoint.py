"""Whose a training folder is: one training's at a time, and of one recipe and its data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from encoders import EncoderError, UsageError
from training.pretraining.architecture import CONFIG, WEIGHTS
from training.pretraining.recipes import ADJUSTABLE, differences


def work_folder(out: Path) -> Path:
    """Return the folder of what a training needs to go on."""
    return out / "training"


def checkpoint_of(out: Path) -> Path:
    """Return where the checkpoint of a training is or would be."""
    return work_folder(out) / "checkpoint.safetensors"


def metadata(facts: dict[str, Any], data: str) -> dict[str, str]:
    """Return what `refuse_other` reads: the recipe's facts and the digest of its data."""
    return {"recipe": json.dumps(facts), "data": data}


def refuse_other(out: Path, facts: dict[str, Any], *, data: str | None = None, changed: bool = False) -> None:
    """Raises EncoderError when what is in `out` is of another training; touches nothing.

    Args:
        data: digest of the pictures and captions, once it is known.
        changed: rates, losses and lengths may differ.
    """
    path = checkpoint_of(out)
    if not path.exists():
        if (out / CONFIG).exists() or (out / WEIGHTS).exists():
            raise EncoderError(f"{out} already holds an encoder; set another out in the recipe")
        return
    try:
        with safe_open(path, "pt") as archive:
            meta = archive.metadata() or {}
        before = json.loads(meta["recipe"])
    except (SafetensorError, OSError, KeyError, ValueError):
        raise EncoderError(
            f"{path} is no checkpoint of pixseek train, or damaged; it was left as it is: "
            "move it away to start anew"
        ) from None
    changes = differences(before, facts)
    if data is not None and meta.get("data") != data:
        changes.append("the pictures or captions themselves")
    forbidden = [one for one in changes if not (changed and one.startswith(ADJUSTABLE))]
    if forbidden:
        more = f" and {len(forbidden) - 4} more" if len(forbidden) > 4 else ""
        only = all(one.startswith(ADJUSTABLE) for one in forbidden)
        way = "go on all the same with --changed, or " if only else ""
        raise EncoderError(
            f"{path} is of another training and was left as it is: {'; '.join(forbidden[:4])}{more}; "
            f"{way}set another out in the recipe, or put back what changed"
        )


@contextmanager
def hold(out: Path) -> Iterator[None]:
    """Hold the folder: two trainings into one would write over each other's checkpoint."""
    import fcntl

    folder = work_folder(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "lock").open("ab")
    except OSError as error:
        raise UsageError(
            f"out: cannot write to {out}: {error.strerror}; set another out in the recipe"
        ) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise EncoderError(
                f"another pixseek train is writing to {out}; wait for it, or stop it"
            ) from None
        yield
