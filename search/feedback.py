"""Learning from pictures that a person points at: parts of a question from examples, and concepts.

Every picture of a library shares something (they are photos, they are this person's), and so examples are
taken relative to the library's mean. docs/fusion.md has the numbers behind every constant, and what was tried
instead.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from encoders import Embeddings
from search.fusion import Floats, Kind, library_mean

LIKED, DISLIKED, DISLIKED_ALONE = 1.5, 0.75, 0.15
"""Weights of the examples beside the question's 1. Wrong pictures among the first are almost right, and so
without right ones beside them they say little."""
_FEW = 1.0
"""Examples that count half of many: n / (n + this)."""
_LEARNED, _LEARNED_FROM = 0.2, 5.0
"""How much of the library's covariance a concept of very many examples uses, and at how many half of it."""
_MEDIAN_STEPS = 32
SURELY_NOT, TYPICAL = 2.0, 0.7
"""A picture shows a concept above this many standard deviations of the library, and above this share of what
an example that was left out gets."""
_WITHIN = 0.9
"""Share of the way from the library to the examples beyond which a picture shows the concept in any case."""
_LEFT_OUT = 32
"""Examples that are left out in turn at most."""


def feedback_parts(
    liked: Embeddings, disliked: Embeddings, sample: Embeddings, *, beside: float = 1.0
) -> tuple[Embeddings, list[float], list[Kind]]:
    """Return (vectors (p, dim), weights, kinds), p <= 2: the examples as parts of a question.

    Args:
        liked: (n, dim) unit embeddings of right pictures; n may be 0.
        disliked: (m, dim) unit embeddings of wrong ones; m may be 0.
        sample: (s, dim) unit embeddings spread over the library.
        beside: the sum of the question's own weights above 0; 1 where it has none.
    Source: Rocchio 1971, "Relevance feedback in information retrieval", with every part in standard
        deviations of the library (`Parts`), because cosines of texts and of pictures are not of one size.
    """
    vectors: list[Embeddings] = []
    weights: list[float] = []
    mean = library_mean(sample, liked.shape[1])
    for examples, weight in ((liked, LIKED), (disliked, -DISLIKED if len(liked) else -DISLIKED_ALONE)):
        if len(examples):
            vectors.append(_unit_or(examples.mean(axis=0, dtype=np.float64) - mean, examples[0]))
            weights.append(beside * weight * len(examples) / (len(examples) + _FEW))
    stacked = np.stack(vectors) if vectors else np.zeros((0, liked.shape[1]), np.float32)
    return stacked, weights, ["image"] * len(vectors)


def concept_vector(examples: Embeddings, sample: Embeddings) -> Embeddings:
    """Return the (dim,) unit vector of what the examples share and the library does not; an image part.

    The geometric median of the examples, so that one wrong picture among five counts little, taken
    relative to the library's mean, and turned a little away from what varies most in the library anyway:
    the more examples, the more.

    Args:
        examples: (n, dim) unit embeddings, n >= 1.
        sample: (s, dim) unit embeddings spread over the library.
    Source: geometric median by Weiszfeld's steps (Vardi and Zhang 2000); linear discriminant with a shrunk
        covariance (Friedman 1989, "Regularized discriminant analysis").
    """
    return _Learner(sample, examples.shape[1], len(examples)).vector(examples)


def concept_threshold(examples: Embeddings, sample: Embeddings) -> float | None:
    """Return the cosine with `concept_vector` above which a picture shows the concept; None without a sample.

    From three examples on, each is left out in turn and measured with the concept of the others.
    """
    if not len(sample):
        return None
    learner = _Learner(sample, examples.shape[1], len(examples))
    cosines = sample @ learner.vector(examples)
    height = SURELY_NOT
    if len(examples) >= 3:
        found = []
        for left in np.unique(np.linspace(0, len(examples) - 1, _LEFT_OUT).astype(int)):
            vector = learner.vector(np.delete(examples, left, axis=0))
            others = sample @ vector
            found.append((float(examples[left] @ vector) - others.mean()) / max(float(others.std()), 1e-6))
        height = max(height, TYPICAL * float(np.median(found)))
    border = float(cosines.mean() + height * cosines.std())
    # In a library of a few pictures nothing can stand that far out; its examples show it all the same.
    own = float(np.median(examples @ learner.vector(examples)))
    return min(border, float(cosines.mean()) + _WITHIN * max(0.0, own - float(cosines.mean())))


class _Learner:
    """What every picture of a library has in common, and concepts beside it."""

    def __init__(self, sample: Embeddings, dim: int, examples: int) -> None:
        self.mean = library_mean(sample, dim)
        self.solve: Floats | None = None
        if len(sample) > 1:
            covariance = np.cov(sample.T.astype(np.float64))
            # A sample smaller than the space says little about its directions.
            learned = _LEARNED * examples / (examples + _LEARNED_FROM) * len(sample) / (len(sample) + dim)
            size = float(np.trace(covariance)) / dim
            if size > 1e-12:
                shrunk = learned * covariance + (1 - learned) * size * np.eye(dim)
                self.solve = np.linalg.inv(shrunk).astype(np.float64)

    def vector(self, examples: Embeddings) -> Embeddings:
        """Return the (dim,) unit concept of (n, dim) examples."""
        rows = examples.astype(np.float64) - self.mean
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
        centre = geometric_median(rows)
        return _unit_or(centre if self.solve is None else self.solve @ centre, examples[0])


def geometric_median(rows: Floats) -> Floats:
    """Return the (dim,) point whose distances to the (n, dim) rows add up to the least."""
    median: Floats = rows.mean(axis=0)
    for _ in range(_MEDIAN_STEPS if len(rows) > 2 else 0):
        pull = 1.0 / np.maximum(np.linalg.norm(rows - median, axis=1), 1e-3)
        median = (pull @ rows) / pull.sum()
    return median


def _unit_or(vector: npt.NDArray[np.float64], otherwise: Embeddings) -> Embeddings:
    """Return the vector at unit length, or `otherwise` where it has no direction."""
    norm = float(np.linalg.norm(vector))
    unit: Embeddings = (vector / norm).astype(np.float32) if norm > 1e-6 else otherwise.astype(np.float32)
    return unit
