"""What a person may type after `--encoder`, read into parts. No file is opened here."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from encoders.errors import UsageError

Runtime: TypeAlias = Literal["onnx", "int8", "openvino", "bf16", "torch", "cuda"]
RUNTIMES: tuple[Runtime, ...] = get_args(Runtime)
"""What can run an encoder's pictures; `runtimes` says what each is."""
FORMS = (
    "builtin, auto, MODEL/PRETRAINED, MODEL@WEIGHTS.safetensors, CONFIG.json@WEIGHTS.safetensors, "
    "hf-hub:ORG/NAME or local-dir:FOLDER"
)


@dataclass(frozen=True, slots=True)
class Spec:
    """A spec in parts.

    Attributes:
        text: the spec in one spelling, paths absolute: the key of the cache and what an index stores.
        kind: `builtin`, `tag` (MODEL/PRETRAINED), `file` (MODEL@WEIGHTS), `hub` (hf-hub:)
            or `dir` (local-dir:).
        model: open_clip's model name, or the path of a model config JSON, the hub repository, the folder.
        tag: PRETRAINED, in open_clip's spelling; None unless kind is `tag`.
        weights: absolute path; None unless kind is `file`.
    """

    text: str
    kind: Literal["builtin", "tag", "file", "hub", "dir"]
    model: str
    tag: str | None = None
    weights: Path | None = None


def parse_spec(spec: str) -> Spec:
    """Return `spec` in parts.

    Raises:
        UsageError: it has none of the forms; the message lists them.
    """
    spec = spec.strip()
    if spec == "builtin":
        return Spec(spec, "builtin", spec)
    if spec.startswith("hf-hub:"):
        repo = spec.removeprefix("hf-hub:").strip("/")
        if repo.count("/") != 1:
            raise UsageError(f"encoder {spec!r}: a hub model is hf-hub:ORG/NAME")
        return Spec(f"hf-hub:{repo}", "hub", repo)
    if spec.startswith("local-dir:"):
        folder = spec.removeprefix("local-dir:")
        if not folder:
            raise UsageError(f"encoder {spec!r}: a local model is local-dir:FOLDER")
        folder = _absolute(folder)
        return Spec(f"local-dir:{folder}", "dir", folder)
    if "@" in spec:
        return _file_spec(spec)
    model, slash, tag = spec.rpartition("/")
    if not slash or not model or not tag or spec.startswith(("/", ".", "~")):
        raise UsageError(f"encoder {spec!r} is not a spec; it is one of {FORMS}")
    model, tag = model.replace("/", "-"), tag.lower().replace("-", "_")
    return Spec(f"{model}/{tag}", "tag", model, tag=tag)


def _file_spec(spec: str) -> Spec:
    config, json_at, weights = spec.partition(".json@")
    if json_at:
        model = _absolute(config + ".json")
    else:
        model, _, weights = spec.partition("@")
        model = model.replace("/", "-")
    if not model or not weights:
        raise UsageError(f"encoder {spec!r}: local weights are MODEL@WEIGHTS.safetensors")
    path = Path(_absolute(weights))
    return Spec(f"{model}@{path}", "file", model, weights=path)


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))


def known_runtime(name: object) -> Runtime:
    """Return `name` as one of `RUNTIMES`. Raises ValueError."""
    for runtime in RUNTIMES:
        if runtime == name:
            return runtime
    raise ValueError(f"no runtime: {name!r}")
