"""Where the weights and the configuration of an open_clip model are. No torch, no open_clip import.

open_clip takes seconds to import, and a person whose machine has no network should not wait for that: its
tables are read from the installed files. The hub's addresses and its offline switch come from
`huggingface_hub.constants` (HF_ENDPOINT, HF_HUB_OFFLINE), never from the environment read here.
"""

from __future__ import annotations

import ast
import copy
import difflib
import functools
import importlib.util
import json
import os
import socket
import threading
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from encoders.errors import EncoderDamagedError, EncoderError, EncoderUnavailableError
from encoders.specs import Spec

PROBE_SECONDS = 3.0
INSTALL = 'pip install "pixseek[clip]"'
SAFE_NAME, PICKLE_NAME, CONFIG_NAME = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_config.json",
)


@dataclass(frozen=True, slots=True)
class Source:
    """All that is needed to build a model.

    Attributes:
        spec: what was asked for.
        name: open_clip's model name or a readable stand-in, for messages.
        model_cfg: open_clip's model configuration.
        preprocess_cfg: what overrides open_clip's default preprocessing.
        weights: the file, on this machine.
        tokenizer_dir: a folder with the Hugging Face tokenizer, when it is beside the weights.
        config_file: the configuration file a person gave, None when open_clip ships it.
        offline: nothing may be fetched.
    """

    spec: Spec
    name: str
    model_cfg: dict[str, Any]
    preprocess_cfg: dict[str, Any]
    weights: Path
    tokenizer_dir: Path | None
    config_file: Path | None
    offline: bool


def installed() -> bool:
    """Return whether the [clip] extra is there."""
    return all(
        importlib.util.find_spec(name) is not None for name in ("torch", "open_clip", "huggingface_hub")
    )


def resolve(spec: Spec, *, allow_pickle: bool = False, offline: bool = False) -> Source:
    """Return what is needed to build the model of a spec, fetching its weights when they are not here.

    Raises:
        EncoderUnavailableError: unknown name or tag, file not there, hub not reachable, extra not installed.
        EncoderDamagedError: a configuration file is not one.
        EncoderError: the weights are a pickle and `allow_pickle` is off.
    """
    if not installed():
        raise EncoderUnavailableError(spec.text, "torch and open_clip are not installed", INSTALL)
    config_file: Path | None = None
    preprocess: dict[str, Any] = {}
    tokenizer_dir: Path | None = None
    if spec.kind == "hub":
        config_file = fetch(spec, spec.model, (CONFIG_NAME,), offline=offline)
        config, preprocess = _read_hub_config(config_file)
        weights = fetch(spec, spec.model, _names(allow_pickle), offline=offline)
        name = spec.model
    elif spec.kind == "dir":
        tokenizer_dir = Path(spec.model)
        config_file = tokenizer_dir / CONFIG_NAME
        if not config_file.is_file():
            raise EncoderUnavailableError(
                spec.text,
                f"no {CONFIG_NAME} in {spec.model}",
                "point local-dir: at a folder saved by open_clip",
            )
        config, preprocess = _read_hub_config(config_file)
        weights = _weights_in(spec, tokenizer_dir)
        name = tokenizer_dir.name
    else:
        config, config_file, name = _architecture(spec)
        if spec.kind == "file":
            assert spec.weights is not None
            weights = spec.weights
            preprocess = _usual_preprocess(name) if config_file is None else {}
            if (weights.parent / "tokenizer.json").is_file():
                tokenizer_dir = weights.parent
            if not weights.is_file():
                raise EncoderUnavailableError(spec.text, f"no such file: {weights}", "check the path after @")
        else:
            tag = tag_config(spec)
            if tag.get("quick_gelu"):
                config["quick_gelu"] = True  # what the weights were trained with; open_clip only warns
            preprocess = tag
            weights = _tag_weights(spec, tag, allow_pickle=allow_pickle, offline=offline)
    if weights.suffix not in (".safetensors", ".npz") and not allow_pickle:
        raise EncoderError(
            f"encoder {spec.text!r}: {weights.name} is a pickle, which can run code when it is read; "
            f"use a .safetensors file, or --allow-pickle to read its tensors only"
        )
    return Source(spec, name, config, preprocess, weights, tokenizer_dir, config_file, offline)


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


def cached_file(repo: str, names: tuple[str, ...]) -> Path | None:
    """Return the first of a repository's files that is in the hub's cache on this machine. No network."""
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    for name in names:
        found = try_to_load_from_cache(repo, name)
        if isinstance(found, str) and os.path.isfile(found):
            return Path(found)
    return None


def hub_reachable() -> str | None:
    """Return None when the hub answers, else why not, in one clause, after at most `PROBE_SECONDS`."""
    try:
        import huggingface_hub.constants as constants
    except ImportError:
        return "huggingface_hub is not installed"
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    return reachable(constants.ENDPOINT)


def reachable(url: str) -> str | None:
    """Return None when a TCP connection to the host of `url` opens, else why not.

    Looking up a name can hang for longer than any socket timeout: it happens in a thread left behind.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443)
    outcome: list[str | None] = []

    def connect() -> None:
        try:
            socket.create_connection((host, port), timeout=PROBE_SECONDS).close()
        except OSError as error:
            outcome.append(f"{host} cannot be reached ({error.strerror or error})")
        else:
            outcome.append(None)

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    return outcome[0] if outcome else f"{host} did not answer in {PROBE_SECONDS:.0f} s"


def fetch(spec: Spec, repo: str, names: tuple[str, ...], *, offline: bool) -> Path:
    """Return the first of `names` that is cached or can be fetched from a hub repository.

    Raises:
        EncoderUnavailableError: with the file to put where.
    """
    found = cached_file(repo, names)
    if found is not None:
        return found
    why = "offline mode is on" if offline else hub_reachable()
    if why is None:
        from huggingface_hub import hf_hub_download

        for name in names:
            try:
                return Path(hf_hub_download(repo, name))
            except Exception as error:
                why = f"fetching {name} failed ({_one_line(error)})"
        if names == (SAFE_NAME,):
            why = f"{why} (where a repository has only {PICKLE_NAME}, --allow-pickle reads its tensors)"
    why = f"its {names[0]} is not on this machine and {why}"
    raise EncoderUnavailableError(spec.text, why, remedy(spec, repo, names))


def remedy(spec: Spec, repo: str, names: tuple[str, ...]) -> str:
    """Return which files to fetch elsewhere and what to type then."""
    if spec.kind == "hub":
        return (
            f"copy {CONFIG_NAME}, {SAFE_NAME} and the tokenizer files of the hub repository {repo} "
            f"into a folder and use local-dir:FOLDER, or use --encoder builtin"
        )
    model = spec.model
    config = pretrained_table().get(model, {}).get(spec.tag or "", {})
    if config.get("quick_gelu") and f"{model}-quickgelu" in model_names():
        model = f"{model}-quickgelu"
    also = ""
    if "hf_tokenizer_name" in (_read_architecture(model) or {}).get("text_cfg", {}):
        also = " with its tokenizer.json and tokenizer_config.json beside it"
    return (
        f"fetch {names[0]} of the hub repository {repo} elsewhere{also} and use {model}@/path/{names[0]}, "
        f"or use --encoder builtin"
    )


def _names(allow_pickle: bool) -> tuple[str, ...]:
    return (SAFE_NAME, PICKLE_NAME) if allow_pickle else (SAFE_NAME,)


def _tag_weights(spec: Spec, cfg: dict[str, Any], *, allow_pickle: bool, offline: bool) -> Path:
    location = hub_location(cfg)
    if location is not None:
        repo, names = location
        safe = tuple(name for name in names if name.endswith(".safetensors"))
        return fetch(spec, repo, names if allow_pickle or not safe else safe, offline=offline)
    url = str(cfg.get("url", ""))
    name = os.path.basename(url)
    target = Path("~/.cache/clip").expanduser() / name  # where open_clip keeps what it fetches by address
    if not allow_pickle or target.is_file():
        return target  # the caller refuses a pickle before it is read, and before it is fetched
    why = "offline mode is on" if offline else reachable(url)
    if why is None:
        from open_clip.pretrained import download_pretrained_from_url

        try:
            return Path(download_pretrained_from_url(url))
        except Exception as error:
            why = f"fetching it failed ({_one_line(error)})"
    raise EncoderUnavailableError(
        spec.text,
        f"{name} is not on this machine and {why}",
        f"put {name} at {target}, or use --encoder builtin",
    )


def _architecture(spec: Spec) -> tuple[dict[str, Any], Path | None, str]:
    """Return (model configuration, its file when a person gave it, name)."""
    if spec.model.endswith(".json"):
        path = Path(spec.model)
        if not path.is_file():
            raise EncoderUnavailableError(spec.text, f"no such file: {path}", "check the path before @")
        config = _read_object(path)
        config = config.get("model_cfg", config)
        if not isinstance(config, dict) or not {"embed_dim", "vision_cfg", "text_cfg"} <= set(config):
            raise EncoderDamagedError(str(path), "not an open_clip model configuration")
        return config, path, path.stem
    shipped = _read_architecture(spec.model)
    if shipped is None:
        lower = {name.lower(): name for name in model_names()}
        near = [lower[name] for name in difflib.get_close_matches(spec.model.lower(), lower, n=5, cutoff=0.4)]
        raise EncoderUnavailableError(
            spec.text,
            f"open_clip has no model named {spec.model!r}",
            f"close names: {', '.join(near) or 'none'}",
        )
    return shipped, None, spec.model


def _usual_preprocess(model: str) -> dict[str, Any]:
    """Return the preprocessing all published weights of a model share, or {}: open_clip's default.

    Local SigLIP weights so get SigLIP's squash and mean, which a bare file does not tell.
    """
    keys = ("mean", "std", "interpolation", "resize_mode", "size")
    seen = [
        {key: cfg[key] for key in keys if key in cfg} for cfg in pretrained_table().get(model, {}).values()
    ]
    return seen[0] if seen and all(one == seen[0] for one in seen) else {}


def _weights_in(spec: Spec, folder: Path) -> Path:
    preferred = (SAFE_NAME, "open_clip_pytorch_model.safetensors", "model.safetensors")
    files = [folder / name for name in preferred] + sorted(folder.glob("*.safetensors"))
    files += [folder / PICKLE_NAME, *sorted(folder.glob("*.bin")), *sorted(folder.glob("*.pt*"))]
    for path in files:
        if path.is_file():
            return path
    raise EncoderUnavailableError(spec.text, f"no weights in {folder}", f"put {SAFE_NAME} there")


def _read_hub_config(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    config = _read_object(path)
    model = config.get("model_cfg")
    if not isinstance(model, dict) or not {"embed_dim", "vision_cfg", "text_cfg"} <= set(model):
        raise EncoderDamagedError(str(path), "not an open_clip configuration: it has no model_cfg")
    preprocess = config.get("preprocess_cfg")
    return model, preprocess if isinstance(preprocess, dict) else {}


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise EncoderDamagedError(str(path), f"not JSON ({_one_line(error)})") from error
    if not isinstance(value, dict):
        raise EncoderDamagedError(str(path), "not a JSON object")
    return value


def _read_architecture(model: str) -> dict[str, Any] | None:
    root = _package()
    if root is None or model not in model_names():
        return None
    return _read_object(root / "model_configs" / f"{model}.json")


def _package() -> Path | None:
    found = importlib.util.find_spec("open_clip")
    return (
        Path(next(iter(found.submodule_search_locations)))
        if found and found.submodule_search_locations
        else None
    )


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
