"""What an adapted encoder does to questions that its pictures say nothing about."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from encoders import Embeddings

NEAREST = 10
LEAST_COSINE, LEAST_KEPT = 0.85, 60.0
"""Below either the person is warned: questions of other kinds are answered noticeably differently."""

EVERYDAY = (
    "a dog on a beach", "a cat asleep on a sofa", "a bird on a branch", "horses in a field", "a cow",
    "fish under water", "a butterfly on a flower", "an elephant", "children playing in a park",
    "a baby smiling", "a group of friends laughing", "a family dinner", "a wedding",
    "a birthday cake with candles", "a man in a suit", "a woman reading a book",
    "an old man with a beard", "a crowd at a concert", "people dancing", "a couple holding hands",
    "a portrait in black and white", "a selfie in a mirror", "someone riding a bicycle",
    "a runner in a race", "a football match", "a tennis player", "skiing down a slope",
    "a surfer on a wave", "swimming in a pool", "climbing a rock", "a boy jumping into water",
    "a yoga class", "sunset over the sea", "snow on mountains", "a forest in autumn",
    "a lake with reflections", "a waterfall", "a desert", "a river in a valley", "a rainbow",
    "a storm with lightning", "stars at night", "a full moon", "fog in the morning",
    "a garden with roses", "a field of sunflowers", "a tree in winter", "palm trees", "a city at night",
    "a narrow street in an old town", "a skyscraper", "a bridge over a river", "a church", "a castle",
    "a lighthouse", "a wooden house", "a market with fruit", "a train at a station", "a bus",
    "an airplane in the sky", "a red car", "a motorcycle", "a sailing boat", "a ship in a harbour",
    "a tractor", "a traffic light", "a bench in a park", "a playground", "a kitchen",
    "a living room with a sofa", "a bed", "a desk with a computer", "a bathroom", "an office meeting",
    "a classroom", "a library", "a restaurant", "a cup of coffee", "a pizza", "a plate of pasta",
    "a salad", "bread on a table", "a glass of red wine", "an apple", "a bowl of soup", "ice cream",
    "a Christmas tree", "fireworks", "a guitar", "a piano", "a mobile phone", "a watch",
    "a pair of shoes", "a backpack", "an umbrella in the rain", "a screenshot", "a receipt",
    "a handwritten note", "a map", "a painting in a museum", "a cartoon", "a page of a book",
)  # fmt: skip
"""What people ask a photo collection for."""


@dataclass(frozen=True, slots=True)
class Drift:
    """How far everyday questions moved.

    Attributes:
        queries: how many were asked.
        cosine: mean over them, of each one's embedding before and after.
        kept: percent of each one's ten nearest others that are still among its ten nearest.
    """

    queries: int
    cosine: float
    kept: float

    @property
    def large(self) -> bool:
        """Whether a person should be warned."""
        return self.cosine < LEAST_COSINE or self.kept < LEAST_KEPT


def drift(before: Embeddings, after: Embeddings) -> Drift:
    """Return how far the same questions moved; both (n, dim) of unit norm, n above `NEAREST`."""
    old, new = _nearest(before), _nearest(after)
    shared = [len(np.intersect1d(a, b)) for a, b in zip(old, new, strict=True)]
    cosine = float((before.astype(np.float64) * after).sum(axis=1).mean())
    return Drift(len(before), round(cosine, 4), round(100 * float(np.mean(shared)) / NEAREST, 2))


def _nearest(rows: Embeddings) -> np.typing.NDArray[np.int64]:
    """Return (n, NEAREST): the nearest others of each row."""
    scores = rows.astype(np.float64) @ rows.T.astype(np.float64)
    np.fill_diagonal(scores, -np.inf)
    return np.argsort(-scores, axis=1, kind="stable")[:, :NEAREST]
