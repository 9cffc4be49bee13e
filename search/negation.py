"""Whether a picture shows what is not wanted: the library's own two hills of scores, told apart.

For a ranking it is enough that matches score higher. To leave pictures out, one must say where showing
begins, and that place moves: with the word, with the style of the library, with how common the thing is.
The scores of a library are a mixture of two normal distributions of equal spread, those that show it and
those that do not, fitted by EM with priors that decide where the library is small or the thing is rare.

Source: McLachlan and Peel 2000, "Finite Mixture Models", chapter 3; priors as in Fraley and Raftery 2007.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

GAP, _GAP_COUNT = 3.5, 20.0
"""How far above the others pictures lie that show a thing, in spreads, and how many pictures say so."""
_LEAST_GAP = 1.4
SHARE, _SHARE_COUNT = 0.02, 50.0
"""Which share of a library shows a thing that somebody names, and how many pictures say so."""
_SPREAD_COUNT = 24.0
_ROUNDS = 25


def mixture(scores: npt.NDArray[np.floating], usual: float | None = None) -> tuple[float, float]:
    """Return (slope, offset) of the logit, in the score, that a picture shows it; the slope is above 0.

    Args:
        scores: (n,) finite cosines of a sample of the library; n may be 0.
        usual: the spread that such scores have where nothing matches; None: what the sample itself has.
    """
    own = scores.astype(np.float64)
    count = len(own)
    low = float(np.median(own)) if count else 0.0
    if usual and count:  # the middle lies among those that show it where that is half of the library
        low = min(low, float(np.quantile(own, 0.25)) + 0.674 * usual)
    # The lower half is mirrored: what matches lies above the middle and would widen the spread.
    half = own[own <= low] - low
    known = usual or max(math.sqrt(float((half**2).mean())) if count else 0.0, 1e-3)
    squares, weight = known**2 * _SPREAD_COUNT, len(half) + _SPREAD_COUNT
    spread = math.sqrt((float((half**2).sum()) + squares) / weight)
    gap, share = GAP * max(known, spread), SHARE
    for _ in range(_ROUNDS):
        slope = gap / spread**2
        offset = -slope * (low + gap / 2) + math.log(share / (1 - share))
        if not count:
            break
        shows = 1 / (1 + np.exp(-np.clip(slope * own + offset, -30, 30)))
        total = float(shows.sum())
        share = (total + SHARE * _SHARE_COUNT) / (count + _SHARE_COUNT)
        low = float(((1 - shows) * own).sum() / max(count - total, 1e-9))
        above = float((shows * (own - low)).sum()) + _GAP_COUNT * GAP * known
        gap = max(above / (total + _GAP_COUNT), _LEAST_GAP * known)
        residue = (1 - shows) @ (own - low) ** 2 + shows @ (own - low - gap) ** 2
        spread = math.sqrt((float(residue) + squares) / (count + _SPREAD_COUNT))
    return slope, offset
