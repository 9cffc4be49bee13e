"""What a spec means: `load_encoder`, `resolve_auto`, `list_encoders`. Light to import."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from encoders.base import Encoder
from encoders.errors import EncoderUnavailableError


@dataclass(frozen=True, slots=True)
class AutoChoice:
    """What `auto` means on this machine today.

    Attributes:
        spec: a spec for `load_encoder`.
        notice: one line for a person when it is not the recommended encoder, else None.
    """

    spec: str
    notice: str | None = None


@dataclass(frozen=True, slots=True)
class EncoderInfo:
    """One line of `pixseek encoders`.

    Attributes:
        spec: what `load_encoder` takes.
        dim: embedding width, None when not known before loading.
        params: number of parameters, None when not known.
        size_bytes: size of the weights, None when not known.
        cached: the weights are on this machine.
        exported: the ONNX towers are in the cache; torch is not needed.
        note: one clause.
    """

    spec: str
    dim: int | None
    params: int | None
    size_bytes: int | None
    cached: bool
    exported: bool
    note: str


def load_encoder(
    spec: str,
    *,
    cache_dir: Path,
    allow_pickle: bool = False,
    offline: bool = False,
    runtime: Literal["auto", "onnx", "torch"] = "auto",
    threads: int | None = None,
) -> Encoder:
    """Return the encoder that `spec` names."""
    if spec == "auto":
        spec = resolve_auto(cache_dir=cache_dir, offline=offline).spec
    if spec == "builtin":
        from encoders.builtin import BuiltinEncoder

        builtin: Encoder = BuiltinEncoder(threads=threads)
        return builtin
    raise EncoderUnavailableError(spec, "only builtin is wired yet", "use --encoder builtin")


def resolve_auto(*, cache_dir: Path, offline: bool = False) -> AutoChoice:
    """Return the recommended encoder if it can be used here, else `builtin` and why."""
    return AutoChoice("builtin", None)


def list_encoders(*, cache_dir: Path | None = None) -> list[EncoderInfo]:
    """Return the encoders worth knowing, `builtin` first."""
    return [EncoderInfo("builtin", None, None, None, True, True, "shipped with pixseek, works offline")]
