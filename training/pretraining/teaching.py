"""What another encoder says about the pictures and sentences of a training, asked once and kept."""

from __future__ import annotations

import gzip
import hashlib
import json
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from encoders import Encoder, UsageError
from training.pretraining.pack import Pack, Stopped

Vectors = npt.NDArray[np.float16]
"""(n, dim) float16, rows of unit L2 norm."""


@dataclass(frozen=True, slots=True)
class Lessons:
    """A teacher's embeddings.

    Attributes:
        dim: their width.
        images: of every picture of the pack, in its order; (0, dim) where nothing learns from them.
        sentences: row of each sentence in `texts`: captions of the pack, then the text-only lines.
        texts: of every sentence.
        lines: the text-only lines.
    """

    dim: int
    images: Vectors
    sentences: dict[str, int]
    texts: Vectors
    lines: list[str]

    def of(self, texts: Iterable[str]) -> Vectors:
        """Return (n, dim) the teacher's embeddings of sentences."""
        return self.texts[[self.sentences[text] for text in texts]]


def read_lines(paths: Sequence[Path], *, leave_out: Iterable[str] = ()) -> tuple[list[str], int]:
    """Return (distinct lines in order, how many were left out because they are in `leave_out`).

    Case and spaces do not count when lines are compared with `leave_out`.
    Raises UsageError: a file cannot be read or has no line.
    """
    unwanted = {_folded(text) for text in leave_out}
    lines: dict[str, None] = {}
    removed = 0
    for path in paths:
        before = len(lines) + removed
        try:
            raw = path.read_bytes()
            data = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
            text = data.decode("utf-8")
        except (OSError, EOFError, ValueError) as error:
            raise UsageError(
                f"teacher.texts: {path}: not lines of UTF-8 text, plain or .gz ({error})"
            ) from None
        for line in text.splitlines():
            line = " ".join(line.split())
            if line and _folded(line) in unwanted:
                removed += 1
            elif line:
                lines[line] = None
        if len(lines) + removed == before:
            raise UsageError(f"teacher.texts: {path} adds no line to learn from")
    return list(lines), removed


def ask(
    teacher: Encoder,
    pack: Pack,
    lines: Sequence[str],
    folder: Path,
    *,
    images: bool,
    report: Callable[[str, int, int], None],
    stop: threading.Event | None = None,
) -> Lessons:
    """Return what the teacher says; asks only what is not in `folder` yet.

    Args:
        images: whether pictures are asked about, not sentences alone.
        report: told (what, done, total).
    Raises:
        Stopped: `stop` was set.
    """
    folder.mkdir(parents=True, exist_ok=True)
    captions = [text for picture in pack.pictures for text in picture.texts]
    sentences = list(dict.fromkeys([*captions, *lines]))

    def kept(name: str, count: int, size: int, encode: Callable[[int, int], Any], about: object) -> Vectors:
        key = hashlib.blake2b(json.dumps([teacher.fingerprint, name, about]).encode(), digest_size=12)
        path = folder / f"teacher-{name}-{key.hexdigest()}.npy"
        if path.is_file():
            return np.asarray(np.load(path), dtype=np.float16)
        rows = np.empty((count, teacher.dim), dtype=np.float16)
        for start in range(0, count, size):
            if stop is not None and stop.is_set():
                raise Stopped
            end = min(start + size, count)
            rows[start:end] = encode(start, end)
            report(f"asking the teacher about {name}", end, count)
        partial = path.with_suffix(".part")
        with partial.open("wb") as file:
            np.save(file, rows)
        partial.replace(path)
        return rows

    texts = kept(
        "sentences", len(sentences), 64, lambda a, b: teacher.encode_texts(sentences[a:b]),
        hashlib.blake2b("\n".join(sentences).encode("utf-8", "replace")).hexdigest(),
    )  # fmt: skip
    pictures = np.empty((0, teacher.dim), dtype=np.float16)
    if images:
        pictures = kept(
            "pictures", len(pack.pictures), 16,
            lambda a, b: teacher.encode_images([pack.image(number) for number in range(a, b)]), pack.digest,
        )  # fmt: skip
    rows = {text: row for row, text in enumerate(sentences)}
    return Lessons(teacher.dim, pictures, rows, texts, list(lines))


def _folded(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(" .")
