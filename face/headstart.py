"""What a question does before anything else, so that it is answered sooner.

numpy is loaded with one thread; an encoder opens in a thread while the command still imports and opens the
index. Words wait for an encoder (60 ms for the built-in one, more for others), SQLAlchemy for Python: side by
side they take as long as the longer of the two.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from encoders import Encoder
    from search import Query


_BLAS = "OPENBLAS_NUM_THREADS"


def load_numpy() -> None:
    """Import numpy with one thread for matrix products, unless the person said how many.

    A question multiplies a few thousand rows by a few: the threads of OpenBLAS cost it 30 to 90 ms of waiting
    for each other. The rows of a snapshot are not numpy's (`indexer.scanning`). Nobody inherits the variable.
    """
    if "numpy" in sys.modules or _BLAS in os.environ:
        return
    os.environ[_BLAS] = "1"
    try:
        import numpy  # noqa: F401
    finally:
        del os.environ[_BLAS]


def begun_encoder(folder: Path, spec: str | None, query: Query, cache_dir: Path) -> Encoder | None:
    """Return the encoder that a question with words will most likely ask for, its text tower being opened.

    Args:
        folder: of the index, which knows its encoder.
        spec: what the person asked for instead.
    Returns:
        None where no words are asked, or the encoder is one that may have to be fetched, exported or waited
        for. What fails here fails again, and is said, where the encoder is used.
    """
    from encoders import ready_encoder
    from indexer import spec_of
    from search import Text

    if not any(isinstance(term.part, Text) for term in query.terms):
        return None
    wanted = spec if spec not in (None, "auto") else spec_of(folder)
    encoder = None if wanted is None else ready_encoder(wanted, cache_dir=cache_dir)
    if encoder is not None:
        threading.Thread(target=_open_texts, args=(encoder,), name="pixseek-encoder").start()
    return encoder


def _open_texts(encoder: Encoder) -> None:
    with contextlib.suppress(Exception):
        encoder.encode_texts(["a photo"])
