"""The encoder shipped with pixseek: about 19 MB, offline, onnxruntime and numpy only.

Its weights lie in `weights/builtin` beside this file; how they were made is in their MODEL_CARD.md.
onnxruntime and tokenizers are imported on the first encoding, a tower's session is made on its first use.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from encoders.base import DEFAULT_BATCH, Embeddings, Pixels, Preprocess, normalize
from encoders.errors import EncoderDamagedError, EncoderUnavailableError
from encoders.specs import parse_spec

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from PIL import Image
    from tokenizers import Tokenizer

WEIGHTS_DIR = Path(__file__).resolve().parent / "weights" / "builtin"
IMAGE_BATCH = 8
"""Pictures per run: as fast as 32 on two cores (66 pictures a second), with 285 MB instead of 800."""
TEXT_BATCH = 64
FILES = ("image.onnx", "text.onnx", "tokenizer.json")
"""What decides an embedding, and so the fingerprint."""


def is_builtin_folder(folder: Path) -> bool:
    """Return whether a folder is in the built-in encoder's format; one whose config cannot be read may be."""
    if not all((folder / name).is_file() for name in ("config.json", "image.onnx", "text.onnx")):
        return False
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return True
    return isinstance(config, dict) and "recipe" in config


def builtin_folder(spec: str) -> Path | None:
    """Return the folder of an encoder in the built-in one's format, None for any other. Raises UsageError."""
    parsed = parse_spec(spec)
    if parsed.kind == "builtin":
        return WEIGHTS_DIR
    return Path(parsed.model) if parsed.kind == "dir" and is_builtin_folder(Path(parsed.model)) else None


class Weights:
    """A folder with an encoder: its config.json, and its files, given out once they match their sha256.

    Attributes:
        folder: where the files lie.
        config: config.json as it was read.
    Raises:
        EncoderUnavailableError: the folder has no config.json.
        EncoderDamagedError: config.json cannot be read, or lists no sha256 for a file of `FILES`.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = Path(folder) if folder is not None else WEIGHTS_DIR
        path = self.folder / "config.json"
        try:
            self.config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            self.sha256 = {str(name): str(value) for name, value in self.config["sha256"].items()}
            self.embedding_sha256 = [self.sha256[name] for name in FILES]
        except FileNotFoundError as error:
            remedy = "install pixseek again, or use --encoder auto"
            raise EncoderUnavailableError("builtin", f"{path} is not there", remedy) from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise self.not_a_config(error) from error

    def not_a_config(self, error: Exception) -> EncoderDamagedError:
        """Return the error that says config.json holds something else."""
        return EncoderDamagedError(str(self.folder / "config.json"), f"not a config: {error!r}")

    def read(self, name: str) -> bytes:
        """Return a file's bytes. Raises EncoderDamagedError when it is not the file config.json lists."""
        path = self.folder / name
        try:
            data = path.read_bytes()
        except OSError as error:
            raise EncoderDamagedError(str(path), f"cannot be read: {error.strerror}") from error
        if hashlib.sha256(data).hexdigest() != self.sha256.get(name):
            raise EncoderDamagedError(str(path), "its sha256 is not the one in config.json")
        return data

    def session(self, name: str, threads: int | None) -> InferenceSession:
        """Return a session on the CPU; threads None: one per core. Raises EncoderDamagedError."""
        import onnxruntime

        data = self.read(name)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        # Waiting threads sleep: on two busy cores that is 80 pictures a second and not 40.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if threads is not None:
            options.intra_op_num_threads = threads
            options.inter_op_num_threads = 1
        try:
            return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own errors share no base but this
            raise EncoderDamagedError(str(self.folder / name), str(error)) from error

    def tokenizer(self) -> Tokenizer:
        """Return the tokenizer of tokenizer.json. Raises EncoderDamagedError."""
        from tokenizers import Tokenizer

        data = self.read("tokenizer.json")
        try:
            return Tokenizer.from_str(data.decode("utf-8"))
        except Exception as error:  # the library raises bare Exception
            raise EncoderDamagedError(str(self.folder / "tokenizer.json"), str(error)) from error


class BuiltinEncoder:
    """Pictures and sentences, English and Chinese, into one 384-d space, with no download.

    Args:
        weights_dir: another folder with config.json, image.onnx, text.onnx and tokenizer.json.
        threads: of the picture tower; None lets onnxruntime take one per core. Words take one.
        spec: what `load_encoder` takes to get this encoder again.
    Raises:
        EncoderUnavailableError: the folder has no config.json.
        EncoderDamagedError: config.json cannot be read; later, a file does not match its sha256.
    """

    def __init__(
        self, weights_dir: Path | None = None, threads: int | None = None, *, spec: str = "builtin"
    ) -> None:
        self._spec = spec
        self._weights = Weights(weights_dir)
        self._threads = threads
        self._lock = threading.Lock()
        self._image: InferenceSession | None = None
        self._text: tuple[InferenceSession, Tokenizer] | None = None
        config = self._weights.config
        try:
            self._dim = int(config["dim"])
            self._context = int(config["context_length"])
            self._preprocess = Preprocess(**config["preprocess"])
            normalisation = str(config["normalisation"])
        except (ValueError, KeyError, TypeError) as error:
            raise self._weights.not_a_config(error) from error
        p = self._preprocess
        # Of FILES only: a caption decoder beside them changes no embedding.
        parts = [*self._weights.embedding_sha256, p.size, p.mode, p.interpolation, p.fill]
        parts += [normalisation, self._dim, self._context]
        self._fingerprint = hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()

    @property
    def spec(self) -> str:
        """`builtin`, or `local-dir:FOLDER` for weights of the same kind elsewhere."""
        return self._spec

    @property
    def fingerprint(self) -> str:
        """Hex sha256 over the files' sha256s, preprocessing, normalisation, dim and context length."""
        return self._fingerprint

    @property
    def dim(self) -> int:
        """384."""
        return self._dim

    @property
    def image_size(self) -> int:
        """Side of the square the image tower reads, pixels."""
        return self._preprocess.size

    @property
    def batch_size(self) -> int:
        """Squares per `encode_pixels` call: more are computed `IMAGE_BATCH` at a time."""
        return DEFAULT_BATCH

    @property
    def preprocess(self) -> Preprocess:
        """Picture to pixels; picklable."""
        return self._preprocess

    @property
    def calibration(self) -> dict[str, Any] | None:
        """What its cosines are worth (`search.calibration`); None where no calibration.json came along."""
        try:
            record = json.loads((self._weights.folder / "calibration.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        # Of these weights only: an adapted copy of them has cosines of its own.
        known = isinstance(record, dict) and record.get("fingerprint") == self._fingerprint
        return record if known else None

    def encode_pixels(self, pixels: Pixels) -> Embeddings:
        """Return one embedding per square, in the order given; memory does not grow with n.

        Args:
            pixels: (n, 224, 224, 3) uint8 from `preprocess`.
        Returns:
            (n, 384) float32, rows of unit L2 norm.
        Raises:
            EncoderDamagedError: image.onnx does not match its sha256 or cannot be read.
            ValueError: the shape or dtype is another.
        """
        size = self.image_size
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != (size, size, 3):
            raise ValueError(
                f"pixels must be (n, {size}, {size}, 3) uint8, not {pixels.shape} {pixels.dtype}"
            )
        rows = np.empty((len(pixels), self._dim), dtype=np.float32)
        if len(pixels):
            session = self._image_session()
            for start in range(0, len(pixels), IMAGE_BATCH):
                batch = np.ascontiguousarray(pixels[start : start + IMAGE_BATCH])
                rows[start : start + len(batch)] = session.run(["embeddings"], {"pixels": batch})[0]
        return normalize(rows)

    def encode_images(self, images: Sequence[Image.Image]) -> Embeddings:
        """Return one embedding per image, in the order given; images are RGB, upright, any size."""
        rows = np.empty((len(images), self._dim), dtype=np.float32)
        for start in range(0, len(images), IMAGE_BATCH):
            batch = np.stack([self._preprocess(image) for image in images[start : start + IMAGE_BATCH]])
            rows[start : start + len(batch)] = self.encode_pixels(batch)
        return rows

    def encode_texts(self, texts: Sequence[str]) -> Embeddings:
        """Return one embedding per text, (n, 384) float32 of unit L2 norm.

        Texts are lower-cased and cut at the context length (48 tokens); an empty text has an embedding too.

        Raises:
            EncoderDamagedError: text.onnx or tokenizer.json does not match its sha256 or cannot be read.
        """
        rows = np.empty((len(texts), self._dim), dtype=np.float32)
        if len(texts):
            session, tokenizer = self._text_session()
            for start in range(0, len(texts), TEXT_BATCH):
                batch = self._ids(tokenizer, texts[start : start + TEXT_BATCH])
                rows[start : start + len(batch)] = session.run(None, {"ids": batch})[0]
        return normalize(rows)

    def _ids(self, tokenizer: Tokenizer, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """Return (n, longest) int64 token ids, padded with 0."""
        # Nobody's query is longer than this, and the tokenizer reads all of a text before it cuts.
        clean = [text[: 64 * self._context].encode("utf-8", "replace").decode("utf-8") for text in texts]
        # One by one: encode_batch starts threads, which must not be alive when a process forks.
        encoded = [tokenizer.encode(text).ids[: self._context] for text in clean]
        ids = np.zeros((len(encoded), max(1, *map(len, encoded))), dtype=np.int64)
        for row, tokens in enumerate(encoded):
            ids[row, : len(tokens)] = tokens
        return ids

    def _image_session(self) -> InferenceSession:
        with self._lock:
            if self._image is None:
                self._image = self._weights.session("image.onnx", self._threads)
            return self._image

    def _text_session(self) -> tuple[InferenceSession, Tokenizer]:
        with self._lock:
            if self._text is None:
                tokenizer = self._weights.tokenizer()
                # One thread: a query takes 2 ms, and waking others costs a first query 100.
                self._text = self._weights.session("text.onnx", 1), tokenizer
            return self._text
