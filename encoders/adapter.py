"""An encoder adapted to a person's pictures: a base encoder and one matrix per tower, in a folder.

adapter.json        what it is: its base, the sha256 of the matrices, what it was made from, numbers
adapter.npz         `image` and `text`, (dim, dim) float32 each

The matrices lie in numpy's own format, read with pickles off: numpy is here anyway, safetensors is part of
the optional extras only, and a search with an adapted encoder must not need them.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from encoders.base import DEFAULT_BATCH, Embeddings, Encoder, Pixels, Preprocess, normalize
from encoders.errors import EncoderDamagedError, EncoderUnavailableError
from encoders.store import sha256_file

if TYPE_CHECKING:
    from PIL import Image

FORMAT = 1
RECORD, MATRICES = "adapter.json", "adapter.npz"
REMEDY = "make it again: pixseek finetune SOURCE --out FOLDER"

Matrix = npt.NDArray[np.float32]


class AdaptedEncoder:
    """A base encoder whose embeddings are turned by a matrix per tower. Satisfies `encoders.base.Encoder`.

    Args:
        base: where embeddings come from; itself not adapted, because two matrices are one.
        image, text: (dim, dim) float32; an embedding x becomes image @ x, of unit norm again.
        spec: what `load_encoder` takes to get this encoder again.
    Raises:
        ValueError: a matrix has another shape, or a value that is not finite.
    """

    def __init__(self, base: Encoder, image: Matrix, text: Matrix, *, spec: str) -> None:
        for matrix in (image, text):
            if matrix.shape != (base.dim, base.dim) or matrix.dtype != np.float32:
                raise ValueError(
                    f"a matrix is {matrix.dtype} {matrix.shape}, not float32 {base.dim, base.dim}"
                )
            if not np.isfinite(matrix).all():
                raise ValueError("a matrix holds NaN or infinity")
        self.base, self.image, self.text, self._spec = base, image, text, spec
        self.notice: str | None = getattr(base, "notice", None)
        digest = hashlib.sha256(f"pixseek adapter {FORMAT}\n{base.fingerprint}\n".encode())
        for matrix in (image, text):
            digest.update(np.ascontiguousarray(matrix, dtype="<f4").tobytes())
        self._fingerprint = digest.hexdigest()

    @property
    def spec(self) -> str:
        """`local-dir:FOLDER`, the folder absolute."""
        return self._spec

    @property
    def fingerprint(self) -> str:
        """Hex sha256 over the base's fingerprint and both matrices."""
        return self._fingerprint

    @property
    def dim(self) -> int:
        """Width of an embedding, that of the base."""
        return self.base.dim

    @property
    def image_size(self) -> int:
        """Side of the square the base reads, pixels."""
        return self.base.image_size

    @property
    def batch_size(self) -> int:
        """Squares per `encode_pixels` call that suit the base best."""
        return int(getattr(self.base, "batch_size", DEFAULT_BATCH))

    @property
    def preparing(self) -> bool:
        """Whether the base is busy with something longer than a batch."""
        return bool(getattr(self.base, "preparing", False))

    @property
    def preprocess(self) -> Preprocess:
        """Picture to pixels, as the base does it."""
        return self.base.preprocess

    def encode_pixels(self, pixels: Pixels) -> Embeddings:
        """Return one embedding per square, in the order given; (n, dim) float32 of unit norm."""
        return normalize(self.base.encode_pixels(pixels) @ self.image.T)

    def encode_images(self, images: Sequence[Image.Image]) -> Embeddings:
        """Return one embedding per image; images are RGB, upright, any size."""
        return normalize(self.base.encode_images(images) @ self.image.T)

    def encode_texts(self, texts: Sequence[str]) -> Embeddings:
        """Return one embedding per text; long texts are cut at the base's context length."""
        return normalize(self.base.encode_texts(texts) @ self.text.T)


def write_adapter(folder: Path, encoder: AdaptedEncoder, record: dict[str, Any]) -> None:
    """Write both files of an adapter into an existing folder; adapter.json comes last, both are on disk.

    Args:
        record: what else adapter.json says (numbers, counts, seed, date); nothing in it decides an embedding.
    """
    path = folder / MATRICES
    with open(path, "wb") as file:
        np.savez(file, image=encoder.image, text=encoder.text)
        file.flush()
        os.fsync(file.fileno())
    base: dict[str, Any] = {"spec": encoder.base.spec, "fingerprint": encoder.base.fingerprint}
    if (lies := _folder(encoder.base.spec)) is not None:
        base["beside"] = os.path.relpath(lies, os.path.abspath(folder))
    text = json.dumps(
        {
            "format": FORMAT,
            "kind": "pixseek adapter",
            "base": base,
            "dim": encoder.dim,
            "fingerprint": encoder.fingerprint,
            "sha256": {MATRICES: sha256_file(path)},
            **record,
        },
        indent=2,
    )
    with open(folder / RECORD, "w", encoding="utf-8") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())


def is_adapter(folder: Path) -> bool:
    """Return whether the folder holds an adapter, sound or not."""
    return (folder / RECORD).is_file()


def read_adapter(folder: Path, *, spec: str, load_base: Callable[[str], Encoder]) -> AdaptedEncoder:
    """Return the encoder of an adapter's folder.

    Args:
        spec: the encoder's own, `local-dir:FOLDER`.
        load_base: loads what adapter.json names. A base in a folder that moved together with the adapter's
            is found from where the adapter is now.
    Raises:
        EncoderDamagedError: a file is cut, altered, or not what its name says.
        EncoderUnavailableError: the base is not there, or is not the one the matrices were made for.
    """
    path = folder / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["kind"] != "pixseek adapter":
            raise EncoderDamagedError(str(path), "not an adapter's description", REMEDY)
        if record["format"] != FORMAT:
            why = f"it has format {record['format']}, this pixseek reads {FORMAT}"
            raise EncoderUnavailableError(spec, why, f"use a newer pixseek, or {REMEDY}")
        dim, sha256 = int(record["dim"]), str(record["sha256"][MATRICES])
        base_spec, base_fingerprint = str(record["base"]["spec"]), str(record["base"]["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EncoderDamagedError(str(path), f"not an adapter's description ({error!r})", REMEDY) from error
    image, text = _matrices(folder / MATRICES, dim, sha256)
    lies = _folder(base_spec)
    if lies is not None and not lies.exists() and "beside" in record["base"]:
        lies = Path(os.path.abspath(folder / str(record["base"]["beside"])))
        base_spec = f"local-dir:{lies}"
    if lies is not None and is_adapter(lies):
        raise EncoderDamagedError(str(path), "its base is an adapter, too", REMEDY)
    base = load_base(base_spec)
    if base.fingerprint != base_fingerprint:
        made, now = base_fingerprint[:12], base.fingerprint[:12]
        why = f"its base {base_spec} is not the one it was made for ({made}, now {now})"
        raise EncoderUnavailableError(spec, why, f"bring the old base back, or {REMEDY}")
    try:
        return AdaptedEncoder(base, image, text, spec=spec)
    except ValueError as error:
        raise EncoderDamagedError(str(folder / MATRICES), str(error), REMEDY) from error


def _folder(spec: str) -> Path | None:
    """Return the folder that a spec names, None for any other kind of spec."""
    return Path(spec.removeprefix("local-dir:")) if spec.startswith("local-dir:") else None


def _matrices(path: Path, dim: int, sha256: str) -> tuple[Matrix, Matrix]:
    """Return (image, text) after checking the file against the sha256 of adapter.json."""
    try:
        if path.stat().st_size > 8 * dim * dim + 65536:
            raise EncoderDamagedError(str(path), f"larger than two matrices of {dim} x {dim}", REMEDY)
        if sha256_file(path) != sha256:
            raise EncoderDamagedError(str(path), f"its sha256 is not the one in {RECORD}", REMEDY)
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            image, text = archive["image"], archive["text"]
    except (OSError, ValueError, KeyError, EOFError, MemoryError, zipfile.BadZipFile) as error:
        raise EncoderDamagedError(str(path), f"cannot be read ({error})", REMEDY) from error
    return image, text
