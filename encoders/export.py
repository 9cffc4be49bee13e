"""torch to ONNX, once per model: both towers, the tokenizer, and proof that they agree with torch.

The folder is written beside its final place, flushed to disk and renamed: it appears whole or not at all.
An exporter killed half-way leaves a folder under another name, which nothing loads and the next one removes.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from encoders.base import Embeddings, Pixels, Preprocess, normalize
from encoders.errors import EncoderDamagedError, EncoderError
from encoders.onnx_runtime import CONFIG, FORMAT, GOLDEN, TOKENS, digest, open_session, verify
from encoders.openclip import TorchModel, quiet
from encoders.store import Store, sha256_file, write_json
from encoders.tokens import TEXT_PROBES, Tokenizer, clip_tokenizer, hf_tokenizer
from encoders.torch_runtime import image_tower, text_tower

AGREEMENT = 0.9999  # least cosine between ONNX and torch fp32, over 8 pictures and 8 texts
OPSET = 18
GOLDEN_TEXTS: tuple[str, ...] = (
    "a photo of a dog",
    "two people walking on a beach at sunset",
    "",
    "the quick brown fox jumps over the lazy dog, twice",
    "\u65e5\u672c\u306e\u685c",
    "caf\u00e9 \u2615 & croissant",
    "42",
    " ".join(["long"] * 200),
)
_STALE_SECONDS = 24 * 3600


class ExportError(EncoderError):
    """The model cannot be exported, or its export disagrees with it; torch still runs it.

    Args:
        lasting: the same versions will fail again; False for a full disk.
    """

    def __init__(self, why: str, *, lasting: bool = True) -> None:
        super().__init__(why)
        self.lasting = lasting


def export(built: TorchModel, store: Store) -> Path:
    """Return the folder of a model's ONNX towers, exporting them when they are not there whole.

    Two processes may ask at once: one exports, the other waits and takes what it finds.

    Raises:
        ExportError: torch cannot export it, ONNX disagrees with torch, or the folder cannot be written.
        EncoderDamagedError: the weights themselves give NaN.
    """
    final = store.onnx_dir(built.fingerprint)
    try:
        with store.export_lock(built.fingerprint) as locked:
            _sweep(final, locked)
            if final.exists():
                try:
                    verify(final, built.fingerprint)
                    return final
                except EncoderDamagedError:
                    shutil.rmtree(final)
            temporary = Path(tempfile.mkdtemp(prefix=f"{final.name}.tmp-", dir=final.parent))
            try:
                _write(built, temporary)
                try:
                    os.rename(temporary, final)
                except OSError:
                    verify(final, built.fingerprint)  # without locks another process may have been first
                _sync(final.parent)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        why = f"the cache folder cannot be written ({error.strerror or error})"
        raise ExportError(why, lasting=False) from error
    return final


def golden_pixels(size: int) -> Pixels:
    """Return (8, size, size, 3) uint8: blotches, a ramp, white, black; the same on every machine."""
    preprocess = Preprocess(size, "squash")
    bits = np.arange(8 * 12 * 12 * 3, dtype=np.uint64) * np.uint64(2654435761) % np.uint64(4294967296)
    coarse = (bits >> np.uint64(24)).astype(np.uint8).reshape(8, 12, 12, 3)
    pictures = [preprocess(Image.fromarray(picture)) for picture in coarse]
    ramp = np.linspace(0, 255, size, dtype=np.uint8)
    pictures[1] = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None, :], np.uint8(128)), axis=-1)
    pictures[2] = np.full((size, size, 3), 255, dtype=np.uint8)
    pictures[3] = np.zeros((size, size, 3), dtype=np.uint8)
    return np.stack(pictures)


def rebuild_tokenizer(built: TorchModel) -> Tokenizer:
    """Return the tokenizer without torch, after proving it equal to open_clip's on `TEXT_PROBES`.

    Raises:
        ExportError: it gives other ids.
    """
    text_cfg = built.source.model_cfg["text_cfg"]
    original = built.open_clip_tokenizer
    clean = text_cfg.get("tokenizer_kwargs", {}).get("clean")
    if hasattr(original, "tokenizer"):
        mine = _rebuild_hf(original, clean or "whitespace")
    else:
        if getattr(original, "reduction_fn", None) is not None:
            raise ExportError("its tokenizer drops words at random")
        from open_clip.tokenizer import default_bpe

        mine = clip_tokenizer(
            Path(default_bpe()), context_length=int(original.context_length), clean=clean or "lower"
        )
    probes = [*TEXT_PROBES, *GOLDEN_TEXTS]
    wrong = np.flatnonzero((mine(probes) != built.tokenizer(probes)).any(axis=1))
    if len(wrong):
        raise ExportError(f"its tokenizer could not be rebuilt (differs on {probes[wrong[0]][:20]!r})")
    return mine


def _rebuild_hf(original: Any, clean: str) -> Tokenizer:
    tokenizer = original.tokenizer
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ExportError("its tokenizer has no fast form")
    description = {
        "kind": "hf",
        "context_length": int(original.context_length),
        "clean": clean,
        "mode": original.tokenizer_mode,
        "zero_id": int(tokenizer.sep_token_id) if original.strip_sep_token else None,
    }
    if original.tokenizer_mode == "clips":
        description |= {
            "bos": tokenizer.bos_token_id,
            "eos": tokenizer.eos_token_id,
            "pad": tokenizer.pad_token_id,
            "cls": tokenizer.cls_token_id,
        }
    padding = {
        "direction": tokenizer.padding_side,
        "pad_id": tokenizer.pad_token_id,
        "pad_type_id": tokenizer.pad_token_type_id,
        "pad_token": tokenizer.pad_token,
        "truncation_side": tokenizer.truncation_side,
    }
    return hf_tokenizer(backend.to_str(), description, padding)


def _write(built: TorchModel, folder: Path) -> None:
    """Fill `folder`; config.json last."""
    import torch

    tokenizer = rebuild_tokenizer(built)
    tokenizer.save(folder / TOKENS)
    pixels, ids = golden_pixels(built.preprocess.size), tokenizer(GOLDEN_TEXTS)
    golden: dict[str, npt.NDArray[Any]] = {"pixels": pixels, "ids": ids}
    agreement: dict[str, float] = {}
    for name, make, rows, example in (
        ("image", image_tower, "pixels", pixels),
        ("text", text_tower, "ids", ids),
    ):
        tower = make(built)
        with torch.inference_mode():
            wanted = normalize(tower(torch.from_numpy(example)).float().numpy())
        if not np.isfinite(wanted).all():
            raise EncoderDamagedError(str(built.source.weights), f"its {name} tower gives NaN")
        golden[name] = wanted
        agreement[name] = _export_tower(tower, folder / f"{name}.onnx", rows, example, wanted)
    np.savez_compressed(folder / GOLDEN, **golden)  # type: ignore[arg-type]
    files = {}
    for path in sorted(folder.iterdir()):
        _sync(path)
        stat = path.stat()
        files[path.name] = {"sha256": sha256_file(path), "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    config: dict[str, Any] = {
        "format": FORMAT,
        "fingerprint": built.fingerprint,
        "model": built.source.name,
        "dim": built.dim,
        "params": built.params,
        "preprocess": {
            "size": built.preprocess.size,
            "mode": built.preprocess.mode,
            "interpolation": built.preprocess.interpolation,
            "fill": built.preprocess.fill,
        },
        "mean": list(built.mean),
        "std": list(built.std),
        "tokenizer": tokenizer.description,
        "agreement": agreement,
        "made_with": versions(),
        "files": files,
    }
    config = json.loads(json.dumps(config))
    config["digest"] = digest(config)
    write_json(folder / CONFIG, config)
    _sync(folder)


def versions() -> dict[str, str]:
    """Return the versions of what exports; a failed export is tried again when they change."""
    found = {}
    for name in ("torch", "open_clip_torch", "onnx", "onnxscript", "onnxruntime"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "none"
    return found


def _export_tower(tower: Any, path: Path, name: str, example: npt.NDArray[Any], wanted: Embeddings) -> float:
    """Write one tower and return its least cosine to torch; torch's two exporters are tried in turn."""
    why = ""
    for exporter in (_by_tracing_graphs, _by_scripting):
        for leftover in path.parent.glob(f"{path.name}*"):
            leftover.unlink()
        try:
            with quiet():
                exporter(tower, path, name, example[:2])
            session = open_session(path, None)
            # Not the batch size it was traced with, and the single row of a query.
            (got,) = session.run(["embeddings"], {name: example})
            (one,) = session.run(["embeddings"], {name: example[:1]})
        except Exception as error:
            why = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            continue
        cosines = np.append((normalize(got) * wanted).sum(axis=1), (normalize(one) * wanted[:1]).sum())
        least = float(np.min(cosines))
        if least >= AGREEMENT:
            return min(least, 1.0)
        why = f"{path.name} agrees with torch to cosine {least:.5f} only"
    raise ExportError(why)


def _by_tracing_graphs(tower: Any, path: Path, name: str, example: npt.NDArray[Any]) -> None:
    import torch

    with torch.no_grad():
        program = torch.onnx.export(
            tower,
            (torch.from_numpy(example),),
            dynamo=True,
            input_names=[name],
            output_names=["embeddings"],
            dynamic_shapes=({0: torch.export.Dim("n", min=1, max=65536)},),
            opset_version=OPSET,
            verbose=False,
        )
        assert program is not None
        program.save(str(path), external_data=True)


def _by_scripting(tower: Any, path: Path, name: str, example: npt.NDArray[Any]) -> None:
    import torch

    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad():
            torch.onnx.export(
                tower,
                (torch.from_numpy(example),),
                str(path),
                dynamo=False,
                input_names=[name],
                output_names=["embeddings"],
                dynamic_axes={name: {0: "n"}, "embeddings": {0: "n"}},
                opset_version=17,
            )
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _sweep(final: Path, locked: bool) -> None:
    """Remove what killed exporters left: at once under the lock, by age where the system has no locks."""
    for leftover in final.parent.glob(f"{final.name}.tmp-*"):
        if locked or time.time() - leftover.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(leftover, ignore_errors=True)


def _sync(path: Path) -> None:
    """Flush a file or folder to disk, where the system can."""
    if path.is_dir() and os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
