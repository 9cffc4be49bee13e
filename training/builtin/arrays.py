"""Arrays in the cache folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt


def save_array(path: Path, array: npt.NDArray[np.generic]) -> None:
    """Write an .npy file whole or not at all: under another name first, then renamed."""
    partial = path.with_suffix(".part")
    with partial.open("wb") as handle:
        np.save(handle, array)
    partial.replace(path)
