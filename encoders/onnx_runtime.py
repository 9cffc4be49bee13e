"""Exported towers, run by onnxruntime: what answers a query. No torch.

A folder `onnx/<fingerprint>/` holds
    config.json      what the encoder is, and sha256, size and mtime of each file beside it
    image.onnx       (n, size, size, 3) uint8 -> (n, dim) float32, normalisation of pixels inside
    text.onnx        (n, context_length) int64 -> (n, dim) float32
    *.onnx.data      their weights, mapped into memory and not read whole
    tokenizer.json   see `tokens`
    golden.npz       8 pictures, 8 texts and what torch made of them
and appears whole, by one rename, or not at all.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from encoders.base import DEFAULT_BATCH, Embeddings, Pixels, Preprocess, normalize
from encoders.errors import EncoderDamagedError, EncoderError
from encoders.store import canonical, read_json, sha256_file, write_json
from encoders.tokens import Tokenizer

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from PIL import Image

FORMAT = 1
BATCH = DEFAULT_BATCH  # rows per run: memory stays bounded whatever the caller hands over
CONFIG, GOLDEN, TOKENS = "config.json", "golden.npz", "tokenizer.json"


def digest(config: dict[str, Any]) -> str:
    """Return the sha256 of a config.json's values, less the file times, which a copy may change."""
    kept = {key: value for key, value in config.items() if key not in ("digest", "files")}
    kept["sha256"] = {name: file["sha256"] for name, file in config["files"].items()}
    return hashlib.sha256(canonical(kept)).hexdigest()


def verify(folder: Path, fingerprint: str) -> dict[str, Any]:
    """Return the config.json of an export after checking its files.

    A file whose size and mtime are the recorded ones is trusted; any other is read and hashed.

    Raises:
        EncoderDamagedError: a file is missing, cut or altered, or the folder is of another fingerprint.
    """
    config = read_json(folder / CONFIG)
    try:
        if config is None or config["format"] != FORMAT or config["fingerprint"] != fingerprint:
            raise EncoderDamagedError(str(folder / CONFIG), "not the description of this encoder")
        if digest(config) != config["digest"]:
            raise EncoderDamagedError(str(folder / CONFIG), "altered")
        touched = False
        for name, known in config["files"].items():
            path = folder / name
            try:
                stat = path.stat()
                if stat.st_size != known["size"]:
                    raise EncoderDamagedError(str(path), f"{stat.st_size} bytes, not {known['size']}")
                if stat.st_mtime_ns != known["mtime_ns"]:
                    if sha256_file(path) != known["sha256"]:
                        raise EncoderDamagedError(str(path), "altered: sha256 differs")
                    known["mtime_ns"] = stat.st_mtime_ns
                    touched = True
            except OSError as error:
                raise EncoderDamagedError(str(path), error.strerror or str(error)) from error
    except (KeyError, TypeError, AttributeError) as error:
        raise EncoderDamagedError(str(folder / CONFIG), "not the description of an encoder") from error
    if touched:
        with contextlib.suppress(OSError):
            write_json(folder / CONFIG, config)
    return config


def physical_cores() -> int:
    """Return the number of physical cores this process may use, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        allowed = os.sched_getaffinity(0)
        cores = set()
        for cpu in allowed:
            try:
                siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text()
            except OSError:
                siblings = str(cpu)
            cores.add(siblings.strip())
        return max(1, len(cores))
    return max(1, (os.cpu_count() or 2) // 2)


def session_options(threads: int | None) -> Any:
    """Return onnxruntime's options for a tower on the CPU; threads None means the physical cores."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or physical_cores()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Waiting threads sleep: decoding workers need the cores between two batches.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def open_session(path: Path, threads: int | None) -> InferenceSession:
    """Return an onnxruntime session on the CPU. Raises EncoderDamagedError."""
    import onnxruntime

    options = session_options(threads)
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes derive from Exception directly
        why = " ".join(str(error).split())[:160]
        if isinstance(error, MemoryError) or "bad_alloc" in why or "allocate memory" in why:
            raise EncoderError(f"not enough memory to open {path} ({why})") from error
        raise EncoderDamagedError(str(path), f"onnxruntime cannot open it ({why})") from error


class OnnxEncoder:
    """An open_clip model as two ONNX towers. Satisfies `encoders.base.Encoder`.

    Args:
        folder: see the module.
        spec: what `load_encoder` was asked for.
        fingerprint: of the model; also the folder's name.
        threads: per tower; None means the physical cores.
    Raises:
        EncoderDamagedError: the folder is not whole.
    """

    def __init__(self, folder: Path, *, spec: str, fingerprint: str, threads: int | None = None) -> None:
        config = verify(folder, fingerprint)
        self._folder, self._config, self._threads = folder, config, threads
        self._spec, self._fingerprint = spec, fingerprint
        self._preprocess = Preprocess(**config["preprocess"])
        self._lock = threading.Lock()
        self._sessions: dict[str, InferenceSession] = {}
        self.notice: str | None = None

    @property
    def spec(self) -> str:
        """What `load_encoder` takes to get this encoder again."""
        return self._spec

    @property
    def fingerprint(self) -> str:
        """Hex sha256 over weights, model configuration, preprocessing and dim."""
        return self._fingerprint

    @property
    def dim(self) -> int:
        """Width of an embedding."""
        return int(self._config["dim"])

    @property
    def image_size(self) -> int:
        """Side of the square the image tower reads, pixels."""
        return self._preprocess.size

    @property
    def preprocess(self) -> Preprocess:
        """From a picture to the square the image tower reads."""
        return self._preprocess

    @property
    def graph(self) -> Path:
        """The picture tower's file."""
        return self._folder / "image.onnx"

    @property
    def graph_sha256(self) -> str:
        """Hex sha256 over the sha256s of the picture tower's files."""
        files = self._config["files"]
        known = [files[name]["sha256"] for name in sorted(files) if name.startswith("image.onnx")]
        return hashlib.sha256("\n".join(known).encode()).hexdigest()

    @property
    def threads(self) -> int | None:
        """Threads of each tower; None means the physical cores."""
        return self._threads

    @property
    def batch_size(self) -> int:
        """Squares per `encode_pixels` call that suit it best."""
        return BATCH

    @property
    def runtime(self) -> str:
        """What computes: "onnx"."""
        return "onnx"

    def encode_pixels(self, pixels: Pixels) -> Embeddings:
        """Return (n, dim) unit rows for (n, size, size, 3) uint8 squares, in order, `BATCH` at a time."""
        check_pixels(pixels, self.image_size)
        return self._run(self._session("image.onnx"), "pixels", np.ascontiguousarray(pixels))

    def release_images(self) -> None:
        """Give back the picture tower's memory; it is opened again when a picture comes."""
        with self._lock:
            self._sessions.pop("image.onnx", None)

    def encode_images(self, images: Sequence[Image.Image]) -> Embeddings:
        """Return (len(images), dim) unit rows; images are RGB, upright, any size."""
        return encode_in_batches(self.preprocess, self.encode_pixels, images, self.dim)

    def encode_texts(self, texts: Sequence[str]) -> Embeddings:
        """Return (len(texts), dim) unit rows; long texts are cut at the context length.

        Raises:
            EncoderError: the text tower gave NaN or infinity.
        """
        if not texts:
            return np.zeros((0, self.dim), dtype=np.float32)
        vectors = self._run(self._session("text.onnx"), "ids", self.tokenizer(texts))
        return finite(vectors, self.spec)

    @functools.cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer, loaded when the first text comes. Raises EncoderDamagedError."""
        path = self._folder / TOKENS
        try:
            return Tokenizer.load(path, self._config["tokenizer"])
        except (OSError, ValueError, KeyError) as error:
            raise EncoderDamagedError(str(path), " ".join(str(error).split())[:160]) from error

    def _session(self, name: str) -> InferenceSession:
        """Return the session of image.onnx or text.onnx, made when it is first asked for."""
        with self._lock:
            if name not in self._sessions:
                self._sessions[name] = open_session(self._folder / name, self._threads)
            return self._sessions[name]

    def _run(self, session: InferenceSession, name: str, rows: npt.NDArray[Any]) -> Embeddings:
        out = np.empty((len(rows), self.dim), dtype=np.float32)
        for start in range(0, len(rows), BATCH):
            try:
                (part,) = session.run(["embeddings"], {name: rows[start : start + BATCH]})
                out[start : start + BATCH] = part
            except Exception as error:
                why = " ".join(str(error).split())[:160]
                raise EncoderError(f"encoder {self.spec!r} failed on its {name}: {why}") from error
        return normalize(out)


def check_pixels(pixels: Pixels, size: int) -> None:
    """Raises ValueError when `pixels` is not (n, size, size, 3) uint8: a mistake of the caller."""
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != (size, size, 3):
        raise ValueError(f"pixels are {pixels.dtype} {pixels.shape}, not uint8 (n, {size}, {size}, 3)")


def finite(vectors: Embeddings, spec: str) -> Embeddings:
    """Return `vectors`. Raises EncoderError when a value is NaN or infinite."""
    if not np.isfinite(vectors).all():
        raise EncoderError(
            f"encoder {spec!r} gave NaN for a text; its weights may be damaged: fetch them again"
        )
    return vectors


def encode_in_batches(
    preprocess: Preprocess, encode_pixels: Any, images: Sequence[Image.Image], dim: int
) -> Embeddings:
    """Return one row per image, holding the pixels of at most `BATCH` of them."""
    parts = [encode_pixels(np.stack([preprocess(image) for image in batch])) for batch in _batches(images)]
    return np.concatenate(parts) if parts else np.zeros((0, dim), dtype=np.float32)


def _batches(images: Sequence[Image.Image]) -> Iterator[Sequence[Image.Image]]:
    for start in range(0, len(images), BATCH):
        yield images[start : start + BATCH]
