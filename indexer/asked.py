"""The embeddings of a person's last questions, kept so that recall is measured on what is really asked.

Vectors only, no words: float16 rows in one file beside the index, readable by its owner alone, and only for
an index so large that questions read a part of it. It may be deleted at any time. A reader that cannot write
it says nothing.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

import numpy as np
import numpy.typing as npt

from indexer.records import Space

MOST = 256
_LIMIT_BYTES = 1 << 22


def asked_path(folder: Path, space: Space) -> Path:
    """Return where they are kept."""
    return folder / f"asked-{space.id}.f16"


def asked_vectors(folder: Path, space: Space) -> npt.NDArray[np.float32]:
    """Return (n, dim) float32 unit embeddings, oldest first; what is no such row is left out."""
    try:
        fd = os.open(asked_path(folder, space), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return np.empty((0, space.dim), np.float32)
    try:
        data = os.read(fd, _LIMIT_BYTES)
    except OSError:
        data = b""
    finally:
        os.close(fd)
    width = 2 * space.dim
    rows = np.frombuffer(data[: len(data) // width * width], np.float16).reshape(-1, space.dim)
    vectors = rows.astype(np.float32)
    norms = np.linalg.norm(np.where(np.isfinite(vectors), vectors, 0), axis=1)
    found: npt.NDArray[np.float32] = vectors[np.abs(norms - 1) < 1e-2][-MOST:]
    return found


def remember(folder: Path, space: Space, vectors: list[npt.NDArray[np.float32]]) -> None:
    """Add embeddings and keep the newest; another user's index and one on read-only media are left alone."""
    path = asked_path(folder, space)
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    with contextlib.suppress(OSError):  # a question is answered whether or not it can be kept
        if not vectors or os.stat(folder).st_uid != os.geteuid():
            return
        rows = np.concatenate([asked_vectors(folder, space), np.stack(vectors)])[-MOST:]
        try:
            fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(fd, "wb") as stream:
                stream.write(rows.astype(np.float16).tobytes())
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
