"""open_clip models in torch: loaded from a `hub.Source`, used to export, and to encode where ONNX cannot."""

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
from PIL import Image

from encoders.base import Embeddings, Pixels, Preprocess, normalize
from encoders.errors import EncoderDamagedError, EncoderError, EncoderUnavailableError
from encoders.hub import INSTALL, Source, hub_reachable
from encoders.onnx_runtime import BATCH, check_pixels, encode_in_batches, finite
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


class TorchEncoder:
    """An open_clip model run by torch. Satisfies `encoders.base.Encoder`.

    Args:
        built: the model.
        threads: torch's threads, for the whole process; None leaves them.
        notice: one line for a person, or None.
        precision: "fp32", or "bf16" on processors that have it: twice the pictures per second, and
            embeddings within cosine 0.999 of fp32.
    """

    def __init__(
        self,
        built: TorchModel,
        *,
        threads: int | None = None,
        notice: str | None = None,
        precision: Literal["fp32", "bf16"] = "fp32",
    ) -> None:
        import torch

        if threads is not None:
            torch.set_num_threads(threads)
        self._built, self._precision, self.notice = built, precision, notice

    @property
    def spec(self) -> str:
        """What `load_encoder` takes to get this encoder again."""
        return self._built.source.spec.text

    @property
    def fingerprint(self) -> str:
        """Hex sha256 over weights, model configuration, preprocessing and dim; not the runtime."""
        return self._built.fingerprint

    @property
    def dim(self) -> int:
        """Width of an embedding."""
        return self._built.dim

    @property
    def image_size(self) -> int:
        """Side of the square the image tower reads, pixels."""
        return self._built.preprocess.size

    @property
    def preprocess(self) -> Preprocess:
        """From a picture to the square the image tower reads."""
        return self._built.preprocess

    @property
    def runtime(self) -> str:
        """What computes: "torch"."""
        return "torch"

    def encode_pixels(self, pixels: Pixels) -> Embeddings:
        """Return (n, dim) unit rows for (n, size, size, 3) uint8 squares, in order."""
        import torch

        check_pixels(pixels, self.image_size)
        tower = image_tower(self._built)
        return self._run(tower, torch.from_numpy(np.array(pixels)))

    def encode_images(self, images: Sequence[Image.Image]) -> Embeddings:
        """Return (len(images), dim) unit rows; images are RGB, upright, any size."""
        return encode_in_batches(self.preprocess, self.encode_pixels, images, self.dim)

    def encode_texts(self, texts: Sequence[str]) -> Embeddings:
        """Return (len(texts), dim) unit rows; long texts are cut. Raises EncoderError on NaN."""
        import torch

        if not texts:
            return np.zeros((0, self.dim), dtype=np.float32)
        ids = torch.from_numpy(self._built.tokenizer(texts))
        return finite(self._run(text_tower(self._built), ids), self.spec)

    def _run(self, tower: Callable[[Any], Any], rows: Any) -> Embeddings:
        import torch

        out = np.empty((len(rows), self.dim), dtype=np.float32)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=self._precision == "bf16"):
            for start in range(0, len(rows), BATCH):
                out[start : start + BATCH] = tower(rows[start : start + BATCH]).float().numpy()
        return normalize(out)


def image_tower(built: TorchModel) -> Any:
    """Return a module (n, size, size, 3) uint8 -> (n, dim), the normalisation of pixels inside."""
    import torch

    class ImageTower(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = built.model
            self.register_buffer("mean", torch.tensor(built.mean).view(1, 3, 1, 1))
            self.register_buffer("std", torch.tensor(built.std).view(1, 3, 1, 1))

        def forward(self, pixels: Any) -> Any:
            scaled = pixels.permute(0, 3, 1, 2).float().div(255.0)
            return self.model.encode_image((scaled - self.mean) / self.std)

    return ImageTower().eval()


def text_tower(built: TorchModel) -> Any:
    """Return a module (n, context_length) int64 -> (n, dim)."""
    import torch

    class TextTower(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = built.model

        def forward(self, ids: Any) -> Any:
            return self.model.encode_text(ids)

    return TextTower().eval()


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
                model = open_clip.create_model(
                    f"local-dir:{folder}", load_weights=False, pretrained_text=False
                )
        except Exception as error:
            if needs_transformers:
                name = source.model_cfg["text_cfg"]["hf_model_name"]
                raise EncoderUnavailableError(
                    source.spec.text,
                    f"its text tower is transformers' {name}, whose configuration is not here ({_short(error)})",
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
        except MemoryError as error:
            size = os.path.getsize(source.weights) >> 20
            raise EncoderError(
                f"encoder {source.spec.text!r}: not enough memory for {size} MiB of weights"
            ) from error
        except Exception as error:
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
        why = ""
        try:
            return HFTokenizer(where, context_length=length, local_files_only=True, **kwargs)
        except ImportError as error:
            raise EncoderUnavailableError(
                source.spec.text, "its tokenizer needs transformers", INSTALL
            ) from error
        except Exception as error:
            why = _short(error)
        unreachable = "offline mode is on" if source.offline else hub_reachable()
        if source.tokenizer_dir is None and unreachable is None:
            try:
                return HFTokenizer(name, context_length=length, **kwargs)
            except Exception as error:
                why = _short(error)
    raise EncoderUnavailableError(
        source.spec.text,
        f"the tokenizer of {name} is not on this machine ({unreachable or why})",
        f"put tokenizer.json and tokenizer_config.json of the hub repository {name} beside the weights",
    )


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
