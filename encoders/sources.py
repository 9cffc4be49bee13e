"""From a spec to the files a model is built from, fetched when they are not on this machine."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from encoders import hub
from encoders.errors import EncoderDamagedError, EncoderError, EncoderUnavailableError
from encoders.published import (
    PICKLE_NAME,
    SAFE_NAME,
    architecture,
    hub_location,
    model_names,
    pretrained_table,
    read_object,
    shipped_architecture,
    tag_config,
    usual_preprocess,
)
from encoders.specs import Spec

INSTALL = 'pip install "pixseek[clip]"'
CONFIG_NAME = "open_clip_config.json"


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
    config, preprocess, config_file, name = describe(spec, offline=offline)
    tokenizer_dir: Path | None = None
    if spec.kind == "hub":
        weights = fetch(spec, spec.model, _names(allow_pickle), offline=offline)
    elif spec.kind == "dir":
        tokenizer_dir = Path(spec.model)
        weights = _weights_in(spec, tokenizer_dir)
    elif spec.kind == "file":
        assert spec.weights is not None
        weights = spec.weights
        preprocess = usual_preprocess(name) if config_file is None else {}
        if (weights.parent / "tokenizer.json").is_file():
            tokenizer_dir = weights.parent
        if not weights.is_file():
            raise EncoderUnavailableError(spec.text, f"no such file: {weights}", "check the path after @")
    else:
        preprocess = tag = tag_config(spec)
        if tag.get("quick_gelu"):
            config["quick_gelu"] = True  # what the weights were trained with; open_clip only warns
        weights = _tag_weights(spec, tag, allow_pickle=allow_pickle, offline=offline)
    if weights.suffix not in (".safetensors", ".npz") and not allow_pickle:
        raise EncoderError(
            f"encoder {spec.text!r}: {weights.name} is a pickle, which can run code when it is read; "
            f"use a .safetensors file, or --allow-pickle to read its tensors only"
        )
    return Source(spec, name, config, preprocess, weights, tokenizer_dir, config_file, offline)


def describe(spec: Spec, *, offline: bool) -> tuple[dict[str, Any], dict[str, Any], Path | None, str]:
    """Return (model configuration, preprocessing, the file of both or None, name); no weights are fetched.

    Raises:
        EncoderUnavailableError: unknown name, file not there, hub not reachable, extra not installed.
        EncoderDamagedError: a configuration file is not one.
    """
    if not installed():
        raise EncoderUnavailableError(spec.text, "torch and open_clip are not installed", INSTALL)
    if spec.kind not in ("hub", "dir"):
        config, config_file, name = architecture(spec)
        return config, {}, config_file, name
    if spec.kind == "hub":
        path, name = fetch(spec, spec.model, (CONFIG_NAME,), offline=offline), spec.model
    else:
        path, name = Path(spec.model) / CONFIG_NAME, Path(spec.model).name
        if not path.is_file():
            raise EncoderUnavailableError(
                spec.text,
                f"no {CONFIG_NAME} in {spec.model}",
                "point local-dir: at a folder saved by open_clip",
            )
    config, preprocess = _read_hub_config(path)
    return config, preprocess, path, name


def fetch(spec: Spec, repo: str, names: tuple[str, ...], *, offline: bool) -> Path:
    """Return a file of a hub repository, the first of `names` there is.

    Raises:
        EncoderUnavailableError: with the file to put where.
    """
    found = hub.fetch(repo, names, offline=offline)
    if isinstance(found, Path):
        return found
    if names == (SAFE_NAME,) and found.startswith("fetching"):
        found += f"; where a repository has only {PICKLE_NAME}, --allow-pickle reads its tensors"
    why = f"its {names[0]} is not on this machine and {found}"
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
    if "hf_tokenizer_name" in (shipped_architecture(model) or {}).get("text_cfg", {}):
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
    why = "offline mode is on" if offline else hub.reachable(url)
    if why is None:
        from open_clip.pretrained import download_pretrained_from_url

        try:
            return Path(download_pretrained_from_url(url))
        except Exception as error:
            why = f"fetching it failed ({hub.one_line(error)})"
    raise EncoderUnavailableError(
        spec.text,
        f"{name} is not on this machine and {why}",
        f"put {name} at {target}, or use --encoder builtin",
    )


def _weights_in(spec: Spec, folder: Path) -> Path:
    preferred = (SAFE_NAME, "open_clip_pytorch_model.safetensors", "model.safetensors")
    files = [folder / name for name in preferred] + sorted(folder.glob("*.safetensors"))
    files += [folder / PICKLE_NAME, *sorted(folder.glob("*.bin")), *sorted(folder.glob("*.pt*"))]
    for path in files:
        if path.is_file():
            return path
    raise EncoderUnavailableError(spec.text, f"no weights in {folder}", f"put {SAFE_NAME} there")


def _read_hub_config(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    config = read_object(path)
    model = config.get("model_cfg")
    if not isinstance(model, dict) or not {"embed_dim", "vision_cfg", "text_cfg"} <= set(model):
        raise EncoderDamagedError(str(path), "not an open_clip configuration: it has no model_cfg")
    preprocess = config.get("preprocess_cfg")
    return model, preprocess if isinstance(preprocess, dict) else {}
