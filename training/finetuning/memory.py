"""Pictures and words to embeddings, each encoded once and remembered from one run to the next."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from encoders import Embeddings, Encoder, EncoderError, Pixels, UsageError
from training.sets.samples import Sample, Say

BATCH = 32


@dataclass(frozen=True, slots=True)
class Record:
    """What was read of one picture.

    Attributes:
        content: sha256 of the file: its key in `Memory`.
        pixels: sha256 of the square the encoder reads: equal for copies that differ in metadata only.
        row: its number in the order of reading, of the pictures that could be decoded.
        captions, keywords, label: as in `Sample`.
    """

    content: bytes
    pixels: bytes
    row: int
    captions: tuple[str, ...]
    keywords: tuple[str, ...]
    label: str


class Memory:
    """Embeddings kept from one run to the next: digests to vectors, of one encoder.

    Args:
        path: an .npz in the cache folder; None keeps nothing. One that cannot be read is made again.
        dim: width of a vector.
    """

    def __init__(self, path: Path | None, dim: int) -> None:
        self._path, self._dim = path, dim
        self._vectors: dict[bytes, Embeddings] = {}
        self._pixels: dict[bytes, bytes] = {}
        self._grown = False
        if path is not None and path.is_file():
            try:
                with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
                    keys, vectors, pixels = archive["keys"], archive["vectors"], archive["pixels"]
                if vectors.shape == (len(keys), dim) and len(pixels) == len(keys):
                    for key, vector, hashed in zip(keys, vectors, pixels, strict=True):
                        self._vectors[key.tobytes()] = vector
                        self._pixels[key.tobytes()] = hashed.tobytes()
            except Exception:  # a cache: whatever is wrong with it, it is made again
                self._vectors, self._pixels = {}, {}

    def __contains__(self, key: bytes) -> bool:
        return key in self._vectors

    def vectors(self, keys: Sequence[bytes]) -> Embeddings:
        """Return the embeddings of keys, (len(keys), dim) float32. Raises KeyError."""
        rows = np.empty((len(keys), self._dim), dtype=np.float32)
        for row, key in enumerate(keys):
            rows[row] = self._vectors[key]
        return rows

    def pixels(self, key: bytes) -> bytes:
        """Return the hash of a picture's pixels."""
        return self._pixels[key]

    def put(self, key: bytes, vector: Embeddings, pixels: bytes = bytes(32)) -> None:
        """Remember the embedding of a key, and for a picture the hash of its pixels."""
        self._vectors[key], self._pixels[key], self._grown = vector, pixels, True

    def save(self) -> None:
        """Write what is new; a cache that cannot be written is left alone."""
        if self._path is None or not self._grown:
            return
        keys = list(self._vectors)
        temporary = self._path.with_suffix(".part")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with open(temporary, "wb") as file:
                np.savez(
                    file,
                    keys=np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(-1, 32),
                    vectors=np.stack([self._vectors[key] for key in keys]).astype(np.float32),
                    pixels=np.frombuffer(b"".join(self._pixels[key] for key in keys), dtype=np.uint8).reshape(
                        -1, 32
                    ),
                )
            temporary.replace(self._path)
        except OSError:
            temporary.unlink(missing_ok=True)


# --- reading


def read_pictures(
    samples: Iterable[Sample],
    encoder: Encoder,
    memory: Memory,
    *,
    say: Say,
    step: Callable[[int, int], None],
    keep: Callable[[Pixels], None] | None = None,
) -> list[Record]:
    """Return what was read of each picture that can be decoded; its embedding is in `memory`.

    Args:
        say: told how many could not be decoded.
        step: told (pictures read, pictures encoded) now and then.
        keep: given the pixels of every picture, in the order of `Record.row`; every picture is decoded then.
    """
    from indexer import ImageError, decode

    records: list[Record] = []
    waiting: list[tuple[bytes, bytes, Pixels]] = []
    count, failed, first = 0, 0, ""

    def flush() -> None:
        if waiting:
            vectors = _finite(encoder.encode_pixels(np.stack([pixels for _, _, pixels in waiting])), encoder)
            for (key, hashed, _), vector in zip(waiting, vectors, strict=True):
                memory.put(key, vector, hashed)
            waiting.clear()
        step(count, len(records))

    for sample in samples:
        count += 1
        key = hashlib.sha256(sample.image).digest()
        if key in memory and keep is None:
            hashed = memory.pixels(key)
        else:
            try:
                picture = decode(sample.image, min_side=encoder.image_size, name=sample.key)
            except ImageError as error:
                failed, first = failed + 1, first or f"{sample.key}: {error}"
                continue
            pixels = encoder.preprocess(picture.frames[0][1])
            hashed = hashlib.sha256(pixels.tobytes()).digest()
            if keep is not None:
                keep(pixels)
            if key not in memory:
                waiting.append((key, hashed, pixels))
        row = len(records)
        records.append(Record(key, hashed, row, sample.captions, sample.keywords, sample.label))
        if len(waiting) == BATCH or count % BATCH == 0:
            flush()
    flush()
    if failed and not records:
        raise UsageError(f"none of the {failed:,} pictures can be decoded ({first})")
    if failed:
        say(f"{failed:,} of {count:,} pictures cannot be decoded and were left out ({first})")
    return records


def embed_texts(
    texts: Sequence[str], encoder: Encoder, memory: Memory, *, step: Callable[[int, int], None]
) -> Embeddings:
    """Return one embedding per text, (len(texts), dim) float32 of unit norm.

    Args:
        step: told (texts, texts encoded) now and then.
    """
    keys = [hashlib.sha256(b"text\0" + text.encode("utf-8", "surrogatepass")).digest() for text in texts]
    new = [(key, text) for key, text in dict(zip(keys, texts, strict=True)).items() if key not in memory]
    for start in range(0, len(new), BATCH):
        batch = new[start : start + BATCH]
        vectors = _finite(encoder.encode_texts([text for _, text in batch]), encoder)
        for (key, _), vector in zip(batch, vectors, strict=True):
            memory.put(key, vector)
        step(len(new), start + len(batch))
    return memory.vectors(keys)


def _finite(vectors: Embeddings, encoder: Encoder) -> Embeddings:
    if not np.isfinite(vectors).all():
        raise EncoderError(f"encoder {encoder.spec} gives NaN; its weights may be damaged: fetch them again")
    return vectors
