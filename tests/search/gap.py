"""Embeddings with a modality gap, made up: pictures in one cone, texts in another, as CLIP has them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from encoders import Embeddings, normalize

THINGS, STYLES, COPIES, DIM = 12, 6, 10, 96
THING, STYLE = 1.0, 0.4
"""How much of a picture is what it shows, and how much is how: what pictures alike share above all."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A library of every thing in every style, and texts for both.

    Attributes:
        images: (n, dim). thing, style: (n,) what each shows.
        things: (THINGS, dim), styles: (STYLES, dim), texts.
    """

    images: Embeddings
    thing: np.ndarray
    style: np.ndarray
    things: Embeddings
    styles: Embeddings

    @classmethod
    def make(cls, seed: int, noise: float = 0.3) -> Gap:
        """Return a library; the cones' axes are apart, and a text is a faint copy of what pictures show."""
        rng = np.random.default_rng(seed)
        axes = np.linalg.qr(rng.normal(size=(DIM, DIM)))[0]  # apart, so that only what is made up is alike
        what, how, (picture_cone, text_cone) = np.split(
            axes[: THINGS + STYLES + 2], [THINGS, THINGS + STYLES]
        )
        thing, style = (grid.ravel().repeat(COPIES) for grid in np.mgrid[:THINGS, :STYLES])
        chance = rng.normal(size=(len(thing), DIM)) / np.sqrt(DIM)
        images = 2.0 * picture_cone + THING * what[thing] + STYLE * how[style] + noise * chance
        return cls(
            normalize(images),
            thing,
            style,
            normalize(2.0 * text_cone + 0.25 * what),
            normalize(2.0 * text_cone + 0.25 * how),
        )
