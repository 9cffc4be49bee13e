"""open_clip models in torch, built from a `sources.Source`; `export` and `torch_runtime` use them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from encoders.base import Preprocess
from encoders.errors import EncoderDamagedError, EncoderError, EncoderUnavailableError
from encoders.hub import hub_reachable, no_network
from encoders.sources import INSTALL, Source
from encoders.store import Store, canonical
from encoders.tokens import TokenIds

FINGERPRINT_FORMAT = 1


class TorchModel:
    """A built open_clip model and what surrounds it.

    Attributes:
        model: the torch module, in eval mode, float32, on the CPU.
        preprocess: from a picture to its square.
        mean, std: of the pixels, three each, for values in 0..1.
        dim: width of an embedding.
        fingerprint: see `fingerprint_of`.
        tokenizer: texts to (n, context_length) int64 by open_clip itself.
    """

    def __init__(self, source: Source, store: Store) -> None:
        self.source = source
        sha256 = store.weights_sha256(source.weights)
        self.model = _build(source)
        settings = dict(self.model.visual.preprocess_cfg)
        self.preprocess = _preprocess(source, settings)
        self.mean = tuple(float(value) for value in settings["mean"])
        self.std = tuple(float(value) for value in settings["std"])
        self.dim = int(source.model_cfg["embed_dim"])
        self.fingerprint = fingerprint_of(
            sha256, source.model_cfg, self.preprocess, self.mean, self.std, self.dim
        )
        self._open_clip_tokenizer: Any = None

    @property
    def open_clip_tokenizer(self) -> Any:
        """open_clip's own tokenizer. Raises EncoderUnavailableError when its files are not here."""
        if self._open_clip_tokenizer is None:
            self._open_clip_tokenizer = _tokenizer(self.source)
        return self._open_clip_tokenizer

    @property
    def params(self) -> int:
        """Number of parameters."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def tokenizer(self, texts: Sequence[str]) -> TokenIds:
        """Return (n, context_length) int64."""
        texts = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        return np.asarray(self.open_clip_tokenizer(texts).numpy(), dtype=np.int64)


def fingerprint_of(
    weights_sha256: str,
    model_cfg: dict[str, Any],
    preprocess: Preprocess,
    mean: Sequence[float],
    std: Sequence[float],
    dim: int,
) -> str:
    """Return hex sha256 over what decides an embedding; not over paths, runtime or precision."""
    parts = {
        "format": FINGERPRINT_FORMAT,
        "weights": weights_sha256,
        "model": model_cfg,
        "preprocess": {
            "size": preprocess.size,
            "mode": preprocess.mode,
            "interpolation": preprocess.interpolation,
            "fill": preprocess.fill,
            "mean": [round(value, 8) for value in mean],
            "std": [round(value, 8) for value in std],
        },
        "dim": dim,
    }
    return hashlib.sha256(canonical(parts)).hexdigest()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence open_clip and torch: they log to the root logger and warn about themselves."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def check_safetensors(path: Path) -> None:
    """Raises EncoderDamagedError when the file is cut or something else, from its header and size alone."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(256)
        if size < 8:
            raise EncoderDamagedError(str(path), f"{size} bytes" if size else "empty")
        if head.startswith(b"version https://git-lfs"):
            raise EncoderDamagedError(str(path), "a Git LFS pointer, not the weights it points to")
        if head.lstrip()[:1] == b"<":
            raise EncoderDamagedError(str(path), "a web page, not weights")
        length = int.from_bytes(head[:8], "little")
        if length > min(size - 8, 100_000_000):
            raise EncoderDamagedError(str(path), f"cut in its header, or not safetensors ({size} bytes)")
        file.seek(8)
        try:
            header = json.loads(file.read(length))
            ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
            expected = 8 + length + max(ends, default=0)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise EncoderDamagedError(str(path), "its safetensors header cannot be read") from error
    if size != expected:
        raise EncoderDamagedError(str(path), f"{size} bytes, its header says {expected}")


def _build(source: Source) -> Any:
    """Return the model with its weights, in eval mode."""
    if source.weights.suffix == ".safetensors":
        check_safetensors(source.weights)
    needs_transformers = "hf_model_name" in source.model_cfg["text_cfg"]
    with quiet():
        import open_clip
        import torch

        try:
            with tempfile.TemporaryDirectory() as folder:
                settings = {"model_cfg": source.model_cfg, "preprocess_cfg": source.preprocess_cfg}
                Path(folder, "open_clip_config.json").write_text(json.dumps(settings))

                def create() -> Any:
                    return open_clip.create_model(
                        f"local-dir:{folder}", load_weights=False, pretrained_text=False
                    )

                model = _local_first(source, create) if needs_transformers else create()
        except Exception as error:
            if needs_transformers:
                name = source.model_cfg["text_cfg"]["hf_model_name"]
                raise EncoderUnavailableError(
                    source.spec.text,
                    f"it needs transformers' {name}, which is not here ({_short(error)})",
                    f"{INSTALL} and load it once with a network",
                ) from error
            raise EncoderError(
                f"encoder {source.spec.text!r}: open_clip cannot build it: {_short(error)}"
            ) from error
        try:
            if source.weights.suffix not in (".safetensors", ".npz"):
                # open_clip falls back to a full unpickling on TypeError: this raises before it can.
                torch.load(source.weights, map_location="cpu", weights_only=True)
            open_clip.load_checkpoint(model, str(source.weights), strict=True, weights_only=True)
        except Exception as error:
            if isinstance(error, MemoryError) or "allocate memory" in str(error):
                size = os.path.getsize(source.weights) >> 20
                raise EncoderError(
                    f"encoder {source.spec.text!r}: not enough memory for {size} MiB of weights"
                ) from error
            why = f"its tensors do not fit {source.name} ({_short(error)})"
            raise EncoderDamagedError(str(source.weights), why) from error
        return model.eval().requires_grad_(False)


def _preprocess(source: Source, settings: dict[str, Any]) -> Preprocess:
    size = settings["size"]
    if isinstance(size, (tuple, list)):
        if len(set(size)) != 1:
            raise EncoderError(f"encoder {source.spec.text!r} reads {size} pictures; pixseek's are squares")
        size = size[0]
    mode = settings["resize_mode"]
    if mode not in ("shortest", "squash", "longest"):
        raise EncoderError(f"encoder {source.spec.text!r}: unknown resize mode {mode!r}")
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    if settings["interpolation"] == "bilinear":
        interpolation = "bilinear"
    fill = int(settings.get("fill_color") or 0) if mode == "longest" else 0
    return Preprocess(int(size), mode, interpolation, fill)


def _tokenizer(source: Source) -> Any:
    """Return open_clip's tokenizer for the model: from beside the weights, the hub's cache, then the hub."""
    text_cfg = source.model_cfg["text_cfg"]
    kwargs = dict(text_cfg.get("tokenizer_kwargs", {}))
    with quiet():
        from open_clip.tokenizer import DEFAULT_CONTEXT_LENGTH, HFTokenizer, SimpleTokenizer

        length = text_cfg.get("context_length", DEFAULT_CONTEXT_LENGTH)
        name = text_cfg.get("hf_tokenizer_name")
        if not name:
            return SimpleTokenizer(context_length=length, **kwargs)
        kwargs["tokenizer_mode"] = text_cfg.get("tokenizer_mode")
        where = str(source.tokenizer_dir or name)
        try:
            return _local_first(source, lambda: HFTokenizer(where, context_length=length, **kwargs))
        except ImportError as error:
            raise EncoderUnavailableError(
                source.spec.text, "its tokenizer needs transformers", INSTALL
            ) from error
        except Exception as error:
            raise EncoderUnavailableError(
                source.spec.text,
                f"the tokenizer of {name} is not on this machine ({_short(error)})",
                f"put tokenizer.json and tokenizer_config.json of hub repository {name} beside the weights",
            ) from error


def _local_first(source: Source, make: Callable[[], Any]) -> Any:
    """Return `make()` without the network; only when that fails and the hub answers, with it."""
    try:
        with no_network():
            return make()
    except ImportError:
        raise
    except Exception:
        if source.offline or hub_reachable() is not None:
            raise
    return make()


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
