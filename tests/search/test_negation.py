"""Hard negation: where showing begins, found in the library's own scores."""

from __future__ import annotations

import numpy as np
import pytest

from search.calibration import OF_LIBRARY, Calibration
from search.negation import mixture


def library(share: float, *, count: int = 2000, gap: float = 0.3, spread: float = 0.08, seed: int = 0):
    """Return (scores, which show it)."""
    rng = np.random.default_rng(seed)
    shows = np.arange(count) < share * count
    return np.where(shows, gap, 0.0) + spread * rng.normal(size=count), shows


@pytest.mark.parametrize("share", [0.005, 0.05, 0.3, 0.45])
@pytest.mark.parametrize("shift", [-0.2, 0.0, 0.3])
def test_two_hills_are_told_apart_however_common_the_thing_and_wherever_they_lie(
    share: float, shift: float
) -> None:
    scores, shows = library(share)
    slope, offset = mixture(scores + shift, usual=0.085)
    said = slope * (scores + shift) + offset > 0
    wrong_left = (shows & ~said).sum() / shows.sum()
    lost = (~shows & said).sum() / (~shows).sum()
    assert slope > 0
    assert wrong_left < (0.7 if share < 0.01 else 0.15)
    assert lost < 0.12


@pytest.mark.parametrize("count", [0, 1, 2, 3, 20])
@pytest.mark.parametrize("usual", [None, 0.085])
def test_small_libraries_and_equal_scores_give_a_rising_line(count: int, usual: float | None) -> None:
    for scores in (np.full(count, 0.3), np.linspace(-1, 1, count)):
        slope, offset = mixture(scores, usual)
        assert np.isfinite([slope, offset]).all()
        assert slope > 0


def test_a_thing_that_no_picture_shows_leaves_nearly_all_of_them() -> None:
    scores, _ = library(0.0)
    slope, offset = mixture(scores, usual=0.085)
    assert (slope * scores + offset > 0).mean() < 0.03


def test_exclusion_keeps_what_a_subtraction_loses() -> None:
    """Pictures of animals, some of them dogs: "animal -dog". Taking away the dog takes away the animal."""
    rng = np.random.default_rng(0)
    dim, count = 64, 1200
    animal, other = np.eye(dim, dtype=np.float32)[:2]
    dog = (0.9 * animal + 0.436 * other).astype(np.float32)
    kind = np.arange(count) % 4  # 0 another animal, 1 a dog, 2 and 3 no animal
    rows = rng.normal(size=(count, dim)).astype(np.float32) * 0.12
    rows += (kind < 2)[:, None] * 0.7 * animal + (kind == 1)[:, None] * 1.6 * other
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    right = kind == 0
    axis = rows @ other
    shown = Calibration(OF_LIBRARY).shows(other, rows, rows, "mixed")
    assert ((axis > 0.5) == (shown > 0.5)).mean() > 0.97
    excluded = np.argsort(-np.where(shown > 0.5, -9.0, rows @ animal))[:250]
    subtracted = np.argsort(-(rows @ (animal - dog)))[:250]
    assert right[excluded].mean() > 0.95
    assert right[excluded].mean() > right[subtracted].mean() + 0.2
