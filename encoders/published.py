"""What open_clip ships and publishes: architectures, weights, where they are. No torch, no open_clip import.

open_clip takes seconds to import, and a person whose machine has no network should not wait for that: its
tables are read from the installed files.
"""

from __future__ import annotations

import ast
import copy
import functools
import importlib.util
import json
import os
import typing
from pathlib import Path
from typing import Any

from encoders.errors import EncoderDamagedError, EncoderUnavailableError
from encoders.hub import one_line
from encoders.specs import Spec

SAFE_NAME, PICKLE_NAME = "open_clip_model.safetensors", "open_clip_pytorch_model.bin"


@functools.cache
def model_names() -> tuple[str, ...]:
    """Return the names of the architectures open_clip ships; () when it is not installed."""
    root = _package()
    return (
        () if root is None else tuple(sorted(path.stem for path in (root / "model_configs").glob("*.json")))
    )


@functools.cache
def pretrained_table() -> dict[str, dict[str, dict[str, Any]]]:
    """Return open_clip's table model -> tag -> configuration, without importing it (torch, 7 s).

    The table's own source is run less its imports of other modules; should that stop working, open_clip
    itself is imported.
    """
    root = _package()
    if root is None:
        return {}
    try:
        names: dict[str, Any] = {
            name: getattr(typing, name) for name in ("Dict", "Iterable", "Optional", "Union")
        }
        names["copy"], names["partial"], names["os"] = copy, functools.partial, os
        exec(compile((root / "constants.py").read_bytes(), "constants", "exec"), names)
        tree = ast.parse((root / "pretrained.py").read_bytes())
        kept = (ast.Assign, ast.FunctionDef, ast.For, ast.Expr)
        tree.body = [node for node in tree.body if isinstance(node, kept)]
        exec(compile(tree, "pretrained", "exec"), names)
        table = {**names["_PRETRAINED"]}
    except Exception:
        from open_clip import pretrained

        table = {**pretrained._PRETRAINED}
    return {model: {tag: dict(cfg) for tag, cfg in tags.items()} for model, tags in table.items()}


def tag_config(spec: Spec) -> dict[str, Any]:
    """Return open_clip's configuration of MODEL/PRETRAINED. Raises EncoderUnavailableError, with the tags."""
    tags = pretrained_table().get(spec.model, {})
    if spec.tag not in tags:
        known = ", ".join(sorted(tags)) or "none: use MODEL@WEIGHTS.safetensors"
        raise EncoderUnavailableError(
            spec.text, f"{spec.model} has no weights named {spec.tag!r}", f"its tags: {known}"
        )
    return tags[spec.tag]


def hub_location(cfg: dict[str, Any]) -> tuple[str, tuple[str, ...]] | None:
    """Return (repository, file names, best first) of a tag, or None when it is not on the hub."""
    location = str(cfg.get("hf_hub", ""))
    if not location:
        return None
    repo, filename = os.path.split(location)
    if not filename:
        return repo, (SAFE_NAME, PICKLE_NAME)
    if filename.endswith((".bin", ".pth")):
        return repo, (os.path.splitext(filename)[0] + ".safetensors", filename)
    return repo, (filename,)


def architecture(spec: Spec) -> tuple[dict[str, Any], Path | None, str]:
    """Return (model configuration, its file when a person gave it, name)."""
    if spec.model.endswith(".json"):
        path = Path(spec.model)
        if not path.is_file():
            raise EncoderUnavailableError(spec.text, f"no such file: {path}", "check the path before @")
        config = read_object(path)
        config = config.get("model_cfg", config)
        if not isinstance(config, dict) or not {"embed_dim", "vision_cfg", "text_cfg"} <= set(config):
            raise EncoderDamagedError(str(path), "not an open_clip model configuration")
        return config, path, path.stem
    shipped = shipped_architecture(spec.model)
    if shipped is None:
        import difflib

        lower = {name.lower(): name for name in model_names()}
        near = [lower[name] for name in difflib.get_close_matches(spec.model.lower(), lower, n=5, cutoff=0.4)]
        raise EncoderUnavailableError(
            spec.text,
            f"open_clip has no model named {spec.model!r}",
            f"close names: {', '.join(near) or 'none'}",
        )
    return shipped, None, spec.model


def usual_preprocess(model: str) -> dict[str, Any]:
    """Return the preprocessing all published weights of a model share, or {}: open_clip's default.

    Local SigLIP weights so get SigLIP's squash and mean, which a bare file does not tell.
    """
    keys = ("mean", "std", "interpolation", "resize_mode", "size")
    seen = [
        {key: cfg[key] for key in keys if key in cfg} for cfg in pretrained_table().get(model, {}).values()
    ]
    return seen[0] if seen and all(one == seen[0] for one in seen) else {}


def shipped_architecture(model: str) -> dict[str, Any] | None:
    """Return the configuration of an architecture open_clip ships, or None."""
    root = _package()
    if root is None or model not in model_names():
        return None
    return read_object(root / "model_configs" / f"{model}.json")


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file. Raises EncoderDamagedError."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise EncoderDamagedError(str(path), f"not JSON ({one_line(error)})") from error
    if not isinstance(value, dict):
        raise EncoderDamagedError(str(path), "not a JSON object")
    return value


def _package() -> Path | None:
    found = importlib.util.find_spec("open_clip")
    return (
        Path(next(iter(found.submodule_search_locations)))
        if found and found.submodule_search_locations
        else None
    )
