"""The folder an encoder is written to: what may be replaced, and how it is replaced whole."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from encoders import EncoderError, UsageError

OURS = frozenset(
    {
        "adapter.json", "adapter.npz", "config.json", "image.onnx", "text.onnx", "tokenizer.json",
        "open_clip_config.json", "open_clip_model.safetensors", "tokenizer_config.json",
        "special_tokens_map.json", "vocab.json", "merges.txt", "spiece.model", "sentencepiece.bpe.model",
        "calibration.json", "decoder.onnx", "MODEL_CARD.md", "finetune.json",
    }
)  # fmt: skip
"""Names of the files that an encoder's folder may have; a folder with any other is not replaced."""
RECORDS = frozenset({"adapter.json", "finetune.json"})
"""One of them is in every folder that was written here: nothing else is replaced."""


def holds_encoder(out: Path) -> bool:
    """Return whether an encoder made here is in the folder; False when there is no folder or nothing in it.

    Raises:
        UsageError: it is a file, or holds anything else, be it another encoder.
    """
    if not out.exists() and not out.is_symlink():
        return False
    if not out.is_dir():
        raise UsageError(f"{out} is not a folder; name a new one with --out")
    names = {entry.name for entry in out.iterdir()} - {".DS_Store"}
    if names and not names & RECORDS:
        raise UsageError(f"{out} holds something that pixseek finetune did not make; name a new folder")
    if foreign := sorted(names - OURS):
        raise UsageError(
            f"{out} holds other files ({foreign[0]}); an encoder gets a folder of its own: name a new one"
        )
    return bool(names)


@contextlib.contextmanager
def beside(out: Path) -> Iterator[Path]:
    """Yield an empty folder beside `out`, to be filled; it is gone afterwards unless `put` moved it.

    What a killed run left there is removed first.

    Raises:
        EncoderError: the place cannot be written.
    """
    out = out.resolve()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _restore(out)
        made = Path(tempfile.mkdtemp(prefix=f".{out.name}.new-", dir=out.parent))
    except OSError as error:
        raise EncoderError(
            f"{out.parent} cannot be written: {error.strerror}; choose another --out"
        ) from None
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def put(made: Path, out: Path) -> None:
    """Move a complete folder to `out`; the encoder there before is kept until then, and removed after.

    Raises:
        EncoderError: the disk is full or failing; what was there still is.
    """
    out = out.resolve()
    old = out.with_name(f".{out.name}.old")
    try:
        for path in made.rglob("*"):
            path.chmod(0o644 if path.is_file() else 0o755)
            _sync(path)
        made.chmod(0o755)
        _sync(made)
        if out.exists():
            out.rename(old)
        try:
            made.rename(out)
        except OSError:
            if old.exists():
                old.rename(out)
            raise
        _sync(out.parent)
    except OSError as error:
        raise EncoderError(f"{out} cannot be written: {error.strerror}; what was there is kept") from None
    shutil.rmtree(old, ignore_errors=True)


def _restore(out: Path) -> None:
    """Undo what a killed run left: put back an encoder that was just being replaced, drop half-made ones."""
    old = out.with_name(f".{out.name}.old")
    if old.exists():
        if out.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.rename(out)
    for leftover in out.parent.glob(f".{out.name}.new-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
