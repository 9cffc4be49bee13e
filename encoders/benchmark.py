"""`measure_runtimes`: every runtime tried on an encoder, whether or not pictures wait."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

from encoders.adapter import AdaptedEncoder
from encoders.builtin import BuiltinEncoder
from encoders.errors import UsageError
from encoders.onnx_runtime import OnnxEncoder
from encoders.registry import load_encoder, runtimes_of
from encoders.specs import parse_spec
from encoders.store import Store
from encoders.trials import Choice


def measure_runtimes(
    spec: str,
    *,
    cache_dir: Path,
    allow_pickle: bool = False,
    offline: bool = False,
    threads: int | None = None,
    on_wait: Callable[[str], None] | None = None,
) -> Choice:
    """Return what every runtime gives for an encoder on this machine, and remember it for the next index.

    An adapter is as fast as its base, which is measured.

    Raises:
        UsageError: the encoder has one runtime only.
        EncoderError: as `load_encoder`.
    """
    loaded = load_encoder(
        spec,
        cache_dir=cache_dir,
        allow_pickle=allow_pickle,
        offline=offline,
        threads=threads,
        on_wait=on_wait,
    )
    if isinstance(loaded, AdaptedEncoder):
        loaded = loaded.base
    if isinstance(loaded, BuiltinEncoder):
        raise UsageError(
            f"encoder {spec!r} runs with onnx only, there is nothing to choose; "
            "name an open_clip model with --encoder"
        )
    base = cast("OnnxEncoder", loaded)  # or a TorchEncoder, whose module would import torch
    if on_wait is not None:
        on_wait(f"measuring what runs {base.spec} fastest here")
    store = Store(cache_dir)
    return runtimes_of(base, parse_spec(base.spec), store, allow_pickle, offline).measure(afresh=True)
