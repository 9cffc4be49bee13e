"""`Searcher`: a sentence or a picture in, the nearest files out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from encoders import EncoderError, EncoderMismatchError, UsageError
from search.query import clean_text

if TYPE_CHECKING:
    from PIL import Image

    from encoders import Encoder

Embedding = npt.NDArray[np.float32]

# Frames asked for at first: room for videos and tiles, of which only the best frame counts, and for copies.
_FIRST_FETCH = 64
# Equal scores at the border are followed this far, so that the path decides and not the order of storage.
_TIES = 4096


class Space(Protocol):
    """The part of `indexer.Space` that is compared with the encoder."""

    @property
    def spec(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def dim(self) -> int: ...


class Neighbor(Protocol):
    """One frame near a query."""

    @property
    def frame_id(self) -> int: ...
    @property
    def score(self) -> float: ...


class OpenIndex(Protocol):
    """The part of `indexer.Index` that a search needs."""

    @property
    def space(self) -> Space | None: ...

    def nearest(self, query: Embedding, k: int) -> Sequence[Neighbor]:
        """Return up to k frames, best first; fewer only when there are no more."""

    def frames(self, frame_ids: Sequence[int]) -> dict[int, Any]:
        """Return the files that each frame stands for: several when a picture has copies."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One file, by its best frame.

    Attributes:
        rank: 1 is the best.
        score: cosine in [-1, 1], higher is closer.
        path: absolute, as the file system has it.
        timestamp_ms: where in a video; None for a still.
        region: (x, y, width, height) as fractions of the upright picture when a part of it matched best.
        width, height: pixels of the upright original.
        taken_at: ISO 8601, without time zone unless the picture names one; None when it does not say.
        iso: film speed.
        rating: 0 to 5 stars, -1 for rejected; None when nobody rated it.
        status: `ok`, or `partial` when only a part of the picture could be decoded.
    """

    rank: int
    score: float
    path: bytes
    timestamp_ms: int | None
    region: tuple[float, float, float, float] | None
    width: int
    height: int
    format: str
    size_bytes: int
    taken_at: str | None
    camera: str | None
    lens: str | None
    latitude: float | None
    longitude: float | None
    caption: str | None
    keywords: tuple[str, ...]
    iso: int | None
    rating: int | None
    status: str
    file_id: int
    frame_id: int


_FROM_RECORD = tuple(field.name for field in fields(Hit) if field.name not in ("rank", "score"))


class Searcher:
    """Answers questions about one open index with the encoder that made it.

    Args:
        index: open for reading, not empty.
        encoder: must have the fingerprint of the index's space.
    Raises:
        EncoderMismatchError: the index was made with another encoder.
        UsageError: the index is empty.
    """

    def __init__(self, index: OpenIndex, encoder: Encoder) -> None:
        space = index.space
        if space is None:
            raise UsageError("the index is empty; fill it with: pixseek index FOLDER")
        if encoder.fingerprint != space.fingerprint or encoder.dim != space.dim:
            raise EncoderMismatchError(space.spec, space.fingerprint, encoder.spec, encoder.fingerprint)
        self._index, self._encoder, self._dim = index, encoder, space.dim

    @property
    def image_size(self) -> int:
        """The side in pixels that a query picture needs at least."""
        return self._encoder.image_size

    def search_text(self, text: str, k: int = 10) -> list[Hit]:
        """Return up to k files that show what the sentence says, best first.

        Raises:
            UsageError: the text is blank, or k is below 1.
            EncoderError: the encoder returned something that is no embedding.
        """
        return self._search(self._embedding(self._encoder.encode_texts([clean_text(text)])), k)

    def search_image(self, image: Image.Image, k: int = 10, *, exclude: Collection[bytes] = ()) -> list[Hit]:
        """Return up to k files that look like the image, best first.

        Args:
            image: RGB, upright, any size.
            exclude: paths to leave out, as in `Hit.path`.
        Raises:
            UsageError: k is below 1.
            EncoderError: the encoder returned something that is no embedding.
        """
        return self._search(self._embedding(self._encoder.encode_images([image])), k, frozenset(exclude))

    def _embedding(self, rows: Embedding) -> Embedding:
        rows = np.asarray(rows, dtype=np.float32)
        if rows.shape != (1, self._dim):
            raise EncoderError(
                f"encoder {self._encoder.spec} returned shape {rows.shape} for one query instead of "
                f"(1, {self._dim}); it is broken, choose another: pixseek encoders"
            )
        if not np.isfinite(rows).all() or abs(float(np.linalg.norm(rows)) - 1) > 1e-2:
            raise EncoderError(
                f"encoder {self._encoder.spec} returned an embedding that is not of unit length; "
                "it is broken, choose another: pixseek encoders"
            )
        query: Embedding = rows[0]
        return query

    def _search(self, query: Embedding, k: int, exclude: frozenset[bytes] = frozenset()) -> list[Hit]:
        if k < 1:
            raise UsageError(f"k is {k}; it must be 1 or more")
        fetch = max(_FIRST_FETCH, 2 * min(k, 1 << 16))
        while True:
            neighbors = self._index.nearest(query, fetch)
            best = self._best_per_file(neighbors, exclude)
            if len(neighbors) < fetch:
                break
            # A frame that was not fetched could still tie with the last hit and come before it by its path.
            if len(best) >= k and (neighbors[-1].score < best[k - 1][0] or fetch >= 4 * k + _TIES):
                break
            fetch *= 4
        return [
            Hit(rank=rank, score=score, **{name: getattr(record, name) for name in _FROM_RECORD})
            for rank, (score, record) in enumerate(best[:k], start=1)
        ]

    def _best_per_file(
        self, neighbors: Sequence[Neighbor], exclude: frozenset[bytes]
    ) -> list[tuple[float, Any]]:
        """Return (score, record) per file, best first; ties in the order of paths, then of frames."""
        records = self._index.frames([neighbor.frame_id for neighbor in neighbors])
        best: dict[int, tuple[float, Any]] = {}
        for neighbor in neighbors:
            # float32 sums differ in the last bits with the order of storage; six decimals do not.
            score = max(-1.0, min(1.0, round(float(neighbor.score), 6)))
            for record in records.get(neighbor.frame_id, ()):
                known = best.get(record.file_id)
                if known is None or (score, -record.frame_id) > (known[0], -known[1].frame_id):
                    best[record.file_id] = (score, record)
        found = [pair for pair in best.values() if pair[1].path not in exclude]
        return sorted(found, key=lambda pair: (-pair[0], pair[1].path, pair[1].frame_id))
