"""The terms of a question as embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from encoders import EncoderError, UsageError
from search.prompts import encode_prompted
from search.query import Concept, Indexed, Picture, QueryPicture, Term, Text, clean_text

if TYPE_CHECKING:
    from encoders import Encoder

Embedding: TypeAlias = npt.NDArray[np.float32]
Kind: TypeAlias = Literal["text", "image"]
Load: TypeAlias = Callable[[Picture, int], QueryPicture]
"""From a term's picture and the pixels its short side needs to the picture itself."""


class Embedded(Protocol):
    """The part of `indexer.Index` that has the embeddings of frames."""

    def vectors_of(self, frame_ids: Sequence[int]) -> dict[int, Embedding]: ...


class Examples(Embedded, Protocol):
    """The part of `indexer.Index` that knows pictures and concepts by name."""

    def whole_frames(self, file_ids: Sequence[int]) -> dict[int, int]: ...
    def concept(self, name: str) -> Any | None: ...
    def concepts(self) -> Sequence[Any]: ...


@dataclass(frozen=True, slots=True)
class Aim:
    """One term: where it points.

    Attributes:
        vector: (dim,) float32, unit L2 norm.
        kind: the tower it came from; a concept is made of pictures.
        weight, excluded: as in `Term`.
        words: the text, None for what is not one.
        plain: what a tower returned; a concept is made from such vectors, and its cosines have another scale.
        threshold: cosine from which a picture shows it, of a concept that knows.
    """

    vector: Embedding
    kind: Kind
    weight: float
    excluded: bool = False
    words: str | None = None
    plain: bool = True
    threshold: float | None = None


def aims_of(
    terms: Sequence[Term], index: Examples, encoder: Encoder, load: Load, prompts: Sequence[str] = ()
) -> list[Aim]:
    """Return an aim per term, in their order; all texts go through the encoder in one batch.

    Args:
        prompts: phrases that a short text is put into (`search.prompts`).
    Raises:
        UsageError: a text is blank, a picture cannot be read, an id or a concept is not there.
        EncoderError: the encoder returned something that is no embedding.
    """
    words = [clean_text(term.part.words) for term in terms if isinstance(term.part, Text)]
    texts = iter(
        zip(words, checked(encode_prompted(encoder, words, prompts), encoder, len(words)), strict=True)
        if words
        else ()
    )
    aims = []
    for term in terms:
        asked = (term.weight, term.excluded)
        if isinstance(term.part, Text):
            text, vector = next(texts)
            aims.append(Aim(vector, "text", *asked, words=text))
        elif isinstance(term.part, Picture):
            image = load(term.part, encoder.image_size).image
            aims.append(Aim(checked(encoder.encode_images([image]), encoder, 1)[0], "image", *asked))
        elif isinstance(term.part, Indexed):
            aims.append(Aim(embeddings_of([term.part.file_id], index, encoder.dim)[0], "image", *asked))
        else:
            known = _concept(term.part, index)
            aims.append(Aim(known.vector, "image", *asked, plain=False, threshold=known.threshold))
    return aims


def each_once(aims: Sequence[Aim]) -> list[Aim]:
    """Return the wanted aims in order; what is said several times is one of their weights together.

    Two of the same would be held against each other: what two pictures have in common is taken out of both.
    """
    found: dict[tuple[bytes, bool], Aim] = {}
    for aim in aims:
        key = (aim.vector.tobytes(), aim.weight > 0)
        known = found.get(key)
        found[key] = aim if known is None else replace(known, weight=known.weight + aim.weight)
    return list(found.values())


def embeddings_of(file_ids: Sequence[int], index: Examples, dim: int) -> Embedding:
    """Return (n, dim) float32, the embeddings of whole pictures of the index.

    Raises:
        UsageError: the index has no such picture.
    """
    if not file_ids:
        return np.empty((0, dim), np.float32)
    frames = index.whole_frames(file_ids)
    vectors = index.vectors_of(list(frames.values()))
    for file_id in file_ids:
        if frames.get(file_id) not in vectors:
            raise UsageError(
                f"no picture with id {file_id} in the index; pixseek search ... --json shows ids"
            )
    return np.stack([vectors[frames[file_id]] for file_id in file_ids])


def rows_of(frame_ids: Sequence[int], index: Embedded, dim: int) -> Embedding:
    """Return (n, dim) in the order of the frames; zeros where a row is damaged or missing."""
    vectors = index.vectors_of(frame_ids)
    rows = np.zeros((len(frame_ids), dim), np.float32)
    for place, frame_id in enumerate(frame_ids):
        if frame_id in vectors:
            rows[place] = vectors[frame_id]
    return rows


def checked(rows: npt.ArrayLike, encoder: Encoder, count: int) -> Embedding:
    """Return what an encoder gave as (count, dim) float32.

    Raises:
        EncoderError: the shape is another, or a row is not finite and of unit length.
    """
    vectors = np.asarray(rows, dtype=np.float32)
    if vectors.shape != (count, encoder.dim):
        raise EncoderError(
            f"encoder {encoder.spec} returned shape {vectors.shape} for {count} queries instead of "
            f"({count}, {encoder.dim}); it is broken, choose another: pixseek encoders"
        )
    if not np.isfinite(vectors).all() or (abs(np.linalg.norm(vectors, axis=1) - 1) > 1e-2).any():
        raise EncoderError(
            f"encoder {encoder.spec} returned an embedding that is not of unit length; "
            "it is broken, choose another: pixseek encoders"
        )
    return vectors


def _concept(concept: Concept, index: Examples) -> Any:
    known = index.concept(concept.name)
    if known is None:
        names = ", ".join(sorted(one.name for one in index.concepts())) or "none yet"
        raise UsageError(
            f"no concept called {concept.name}; known: {names}; "
            f"to make it: pixseek concept add {concept.name} EXAMPLE.jpg..."
        )
    return known
