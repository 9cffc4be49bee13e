"""The picture tower in 8 bits: made once beside the export, kept in the cache, opened without torch or onnx.

`int8/<fingerprint>/` holds image.onnx and config.json, appears whole by one rename, and can be deleted at any
time: it is made again from the float32 graph.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from encoders.base import DEFAULT_BATCH, Embeddings, Pixels
from encoders.errors import EncoderError
from encoders.machine import installed
from encoders.onnx_runtime import open_session, session_options
from encoders.store import Store, read_json, sha256_file, write_json
from encoders.trials import MIN_COSINE, MIN_OVERLAP, agreement, encode_all

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

RECIPE = 3
"""Counts up when `quantized` makes other graphs."""
SHARES = (0.0, 0.125, 0.25, 0.5, 1.0)
"""Of the products in blocks, tried in this order until the tower agrees."""
_MARGIN = 0.002  # more than the least cosine: photos are not the probes it was tried on


class Int8Tower:
    """image.onnx in 8 bits on onnxruntime. Satisfies `trials.Tower`; any number of threads may call it."""

    batch_size = DEFAULT_BATCH

    def __init__(self, session: InferenceSession) -> None:
        self._session = session

    def __call__(self, pixels: Pixels) -> Embeddings:
        """Return (n, dim) float32. Raises EncoderError."""
        try:
            (rows,) = self._session.run(["embeddings"], {"pixels": pixels})
        except Exception as error:  # onnxruntime's own classes derive from Exception directly
            raise EncoderError(f"the int8 tower failed: {' '.join(str(error).split())[:160]}") from error
        found: Embeddings = rows
        return found


def open_int8(folder: Path, source: str, threads: int | None) -> Int8Tower | None:
    """Return the tower in `folder`, None when none is there, it is damaged, or of another graph or recipe.

    Args:
        source: sha256 of the float32 graph and its weights.
    """
    config, path = read_json(folder / "config.json"), folder / "image.onnx"
    if config is None or config.get("recipe") != RECIPE or config.get("source") != source:
        return None
    try:
        stat = path.stat()
        same = (stat.st_size, stat.st_mtime_ns) == (config.get("size"), config.get("mtime_ns"))
        if not same and sha256_file(path) != config.get("sha256"):
            return None
        return Int8Tower(open_session(path, threads))
    except (OSError, EncoderError):
        return None


def make_int8(
    graph: Path,
    source: str,
    folder: Path,
    store: Store,
    squares: Pixels,
    reference: Embeddings,
    threads: int | None,
) -> Int8Tower:
    """Return the tower after making it from the float32 `graph`: about 10 s for ViT-B/32 on two cores.

    Args:
        squares, reference: what it is calibrated with and must agree on.
    Raises:
        EncoderError: no mixture of forms agrees, the graph has no large products, or it cannot be written.
    """
    if not installed("onnx"):
        raise EncoderError("the package onnx is not installed")
    try:
        with store.export_lock(folder.name):
            found = open_int8(folder, source, threads)
            if found is None:
                data, blocks, products, cosine = _mix(graph, squares, reference, threads)
                about = {"source": source, "blocks": blocks, "products": products, "cosine": cosine}
                _write(folder, data, about)
                found = open_int8(folder, source, threads)
    except OSError as error:
        raise EncoderError(f"it cannot be kept: {error.strerror or error}") from error
    if found is None:
        raise EncoderError(f"what was written to {folder} cannot be read back")
    return found


def _mix(
    graph: Path, squares: Pixels, reference: Embeddings, threads: int | None
) -> tuple[bytes, int, int, float]:
    """Return the first model of `SHARES` that agrees, its products in blocks, all products, its cosine."""
    import onnxruntime

    from encoders.quantized import Quantizer

    try:
        quantizer = Quantizer(graph, squares, threads)
        cosine, overlap = 0.0, 0.0
        for blocks in sorted({round(share * quantizer.products) for share in SHARES}):
            data = quantizer.graph(blocks)
            options = session_options(threads)
            session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
            cosine, overlap = agreement(encode_all(Int8Tower(session), squares), reference)
            if cosine >= MIN_COSINE + _MARGIN and overlap >= MIN_OVERLAP:
                return data, blocks, quantizer.products, cosine
    except EncoderError:
        raise
    except Exception as error:  # onnx and onnxruntime share no base; no form of a graph may end a run
        raise EncoderError(f"it cannot be made: {' '.join(str(error).split())[:160]}") from error
    if quantizer.products == 0:
        raise EncoderError("it has no large matrix products")
    raise EncoderError(f"it agrees with float32 to cosine {cosine:.3f} and in {overlap:.0%} of neighbours")


def _write(folder: Path, data: bytes, about: dict[str, Any]) -> None:
    """Put both files there at once; what was there, and what a killed maker left, goes. Raises OSError."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for leftover in folder.parent.glob(f"{folder.name}.tmp-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(prefix=f"{folder.name}.tmp-", dir=folder.parent))
    try:
        path = temporary / "image.onnx"
        with open(path, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        stat = path.stat()
        files = {"sha256": sha256_file(path), "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
        write_json(temporary / "config.json", {"recipe": RECIPE, **about, **files})
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder)
        os.rename(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
