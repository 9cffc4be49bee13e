"""Scores as probabilities: that a picture matches, that anything here does, where to cut (docs/scores.md).

A cosine alone means little: 0.4 is a good match for "car" and a poor one for "a photo of a rooster". Three
things put it into place: what the encoder's cosines are worth (`encoders/weights/builtin/calibration.json`,
or a measurement by a bank of phrases for any other encoder), what kind of question it is (a sentence, a
picture), and the person's own library. All of it is folded into one logistic per question, a `Null`.

Source: Platt 1999, "Probabilistic outputs for support vector machines". Negations are in `negation`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from encoders import Embeddings
from search.negation import mixture
from search.prompts import bare_name

if TYPE_CHECKING:
    from pathlib import Path

    from encoders import Encoder

Floats: TypeAlias = npt.NDArray[np.float32]
Kind: TypeAlias = Literal["text", "image", "mixed"]

NOTHING = 0.05
"""`Null.anything` below this means that nothing in the library matches, so surely that nothing is shown."""
_SHORT, _LONG = 4, 8
"""Words of a phrase that names a thing, and of a sentence that describes a scene."""
_USUAL_SPREAD = 0.085
"""Standard deviation of cosines where nothing matches, with the built-in encoder."""
_USUAL_SHARE = 0.85
"""The same as a share of the spread of a whole bank of phrases, of which some match."""
_ENOUGH_PICTURES = 24
"""Pictures that the spread of a question's own scores is believed from; fewer lean on the usual spread."""
_BANK_ROWS = 512
"""Pictures of the sample that the bank is held against: 2 ms."""
_LEAST = 0.02
"""Probability of the best hit below which `auto_cut` keeps nothing."""
_LOGIT = 30.0
"""Logits beyond this are 0 or 1 in float32."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A logit that is linear in what is known of a hit; each field is a weight.

    Attributes:
        score: of the standardised score.
        long: of how much of a sentence the question is, 0 to 1 (`sentence_share`).
        score_long: of their product: a long sentence is rarely right in all it says, however well it scores.
        scene: of how much the library shows scenes rather than single things; for short questions only.
        score_scene: of the product with the score: what is a part of a photo scores less far above the rest.
        common: of the question's cosine to what pictures have in common; for short questions only.
        size: of the natural logarithm of the number of pictures.
    """

    offset: float
    score: float
    long: float = 0.0
    score_long: float = 0.0
    scene: float = 0.0
    score_scene: float = 0.0
    common: float = 0.0
    size: float = 0.0

    def line(self, long: float, scene: float, count: int, common: float = 0.0) -> tuple[float, float]:
        """Return (slope, offset) of the logit in the score alone; the slope is never below 0."""
        short = 1.0 - long
        offset = self.offset + self.long * long + (self.scene * scene + self.common * common) * short
        slope = self.score + self.score_long * long + self.score_scene * scene * short
        return max(0.0, slope), offset + self.size * math.log(max(1, count))


@dataclass(frozen=True, slots=True)
class Null:
    """What a score is worth for one question in one library.

    Attributes:
        slope, offset: of the logit that a picture matches, in the score.
        any_slope, any_offset: of the logit that anything matches, in the best score.
        sense: probability that the question means anything to the encoder; 1 for pictures.
    """

    slope: float
    offset: float
    any_slope: float
    any_offset: float
    sense: float = 1.0

    def probabilities(self, scores: npt.ArrayLike) -> Floats:
        """Return (n,) float32 in [0, 1]: how probably each picture matches; rises with the score.

        Args:
            scores: (n,) cosines; one that is not a number has probability 0.
        """
        return _sigmoid(self.slope * _clean(scores) + self.offset, self.sense)

    def anything(self, scores: npt.ArrayLike) -> float:
        """Return in [0, 1] how probably anything matches, given the scores of the best hits; 0 for none."""
        known = _clean(scores)
        if not known.size:
            return 0.0
        best = float(known.max())
        alone = float(self.probabilities([best])[0])
        return max(alone, float(_sigmoid(np.array([self.any_slope * best + self.any_offset]), self.sense)[0]))


@dataclass(frozen=True, slots=True)
class Sense:
    """A direction between what people say of pictures and what nobody means (`asdf qwer`).

    Attributes:
        direction: (dim,) float32.
        slope, offset: of the logit, in the embedding's product with it.
    """

    direction: Embeddings
    slope: float
    offset: float

    def probability(self, query: Embeddings) -> float:
        """Return in [0, 1] how probably a text's (dim,) embedding means something."""
        along = float(query.astype(np.float64) @ self.direction.astype(np.float64))
        return float(_sigmoid(np.array([self.slope * along + self.offset]))[0])


@dataclass(frozen=True, slots=True)
class Scene:
    """The direction from pictures of one thing to photos in which it is a part of something.

    Attributes:
        direction: (dim,) float32.
        slope, offset: of the logit, in the mean product of a library with it. Libraries are mostly of the one
            kind or the other: how much a photo library is of scenes makes less difference than that it is.
    """

    direction: Embeddings
    slope: float
    offset: float

    def share(self, sample: Embeddings) -> float:
        """Return in [0, 1] how much a library (n, dim) is of scenes; one half where it is empty."""
        if not len(sample):
            return 0.5
        along = float((sample @ self.direction).mean())
        return float(_sigmoid(np.array([self.slope * along + self.offset]))[0])


@dataclass(frozen=True, slots=True)
class Calibration:
    """What an encoder's cosines are worth.

    Attributes:
        curves: by kind of question, for a hit and for the best hit: `text`, `text_any`, `image`, `image_any`.
        sense: None where texts that mean nothing cannot be told from others.
        scene: None where libraries of scenes cannot be told from others.
        pictures: (dim,) float32, the mean of pictures of many sets; None: not known.
        prompts: phrases that a short text is put into (`search.prompts`); the curves are of their mean.
        bank: (n, dim) phrases whose scores are the unit of `curves`; None: see `absolute`.
        absolute: scores mean something beside the person's own library: `curves` take cosines, or standard
            deviations above the bank. False: standard deviations above the library itself, which cannot
            tell a library of one theme, all of it right, from one with nothing right in it.
    """

    curves: Mapping[str, Curve]
    sense: Sense | None = None
    scene: Scene | None = None
    pictures: Embeddings | None = None
    prompts: tuple[str, ...] = ()
    bank: Embeddings | None = None
    absolute: bool = False

    @classmethod
    def for_encoder(cls, encoder: Encoder, folder: Path | None = None) -> Calibration:
        """Return the calibration that came with the encoder, a measured one, or the general one.

        Args:
            folder: where measurements are kept; without one nothing is measured. The first time costs as
                much as some 300 short texts.
        """
        record = getattr(encoder, "calibration", None)
        if record:
            return cls.from_record(record)
        return cls.measured(encoder, folder) if folder is not None else cls(OF_LIBRARY)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Calibration:
        """Return what a calibration.json holds."""
        sense, scene, pictures = (record.get(key) for key in ("sense", "scene", "pictures"))
        return cls(
            {name: Curve(**curve) for name, curve in record["curves"].items()},
            Sense(np.array(sense["direction"], np.float32), float(sense["slope"]), float(sense["offset"]))
            if sense
            else None,
            Scene(np.array(scene["direction"], np.float32), float(scene["slope"]), float(scene["offset"]))
            if scene
            else None,
            np.array(pictures, np.float32) if pictures else None,
            tuple(map(str, record.get("prompts", ()))),
            absolute=True,
        )

    @classmethod
    def measured(cls, encoder: Encoder, folder: Path) -> Calibration:
        """Return a calibration by what the encoder makes of a bank of phrases, measured once and kept."""
        from search.measuring import discriminant, measure

        bank, junk = measure(encoder, folder)
        if not (np.isfinite(bank).all() and np.isfinite(junk).all()):
            return cls(OF_LIBRARY)
        apart = discriminant(bank, junk)
        return cls(OF_BANK, Sense(*apart) if apart else None, bank=bank, absolute=True)

    def null(
        self,
        query: Embeddings,
        sample: Embeddings,
        kind: Kind = "text",
        *,
        words: str | None = None,
        files: int | None = None,
    ) -> Null:
        """Return what scores of this question are worth in this library.

        Args:
            query: (dim,) unit L2 norm.
            sample: (n, dim) unit embeddings spread over the library; n may be 0.
            kind: `text` and `image` for what one tower returned; `mixed` for anything composed.
            words: the text, when it is one.
            files: how many pictures are searched; None: as many as the sample has.
        """
        long = sentence_share(words) if words is not None else 0.0
        scene = self.scene.share(sample) if self.scene is not None else 0.0
        common = float(query @ self.pictures) if self.pictures is not None else 0.0
        count = max(len(sample), files or 0)
        curves, centre, spread = self._unit(query, sample, kind)
        slope, offset = curves[kind].line(long, scene, count, common)
        any_slope, any_offset = curves[f"{kind}_any"].line(long, scene, count, common)
        sense = self.sense.probability(query) if self.sense is not None and kind == "text" else 1.0
        return Null(
            slope / spread,
            offset - slope * centre / spread,
            any_slope / spread,
            any_offset - any_slope * centre / spread,
            sense,
        )

    def shows(
        self,
        query: Embeddings,
        embeddings: Embeddings,
        sample: Embeddings,
        kind: Kind = "text",
        *,
        words: str | None = None,
    ) -> Floats:
        """Return (n,) float32 in [0, 1]: how probably each picture shows it; what a hard negation asks.

        Half of the evidence is what such a score is worth anywhere, half where this library's own scores
        part in two (`search.negation`).

        Args:
            query: (dim,) unit L2 norm.
            embeddings: (n, dim) unit L2 norm.
        """
        null = self.null(query, sample, kind, words=words)
        scores = (sample @ query).astype(np.float64)
        usual = None
        if kind == "text" and self.absolute:
            usual = _USUAL_SPREAD if self.bank is None else _USUAL_SHARE * of_bank(self.bank, sample)[1]
        slope, offset = mixture(scores[np.isfinite(scores)], usual)
        if self.absolute and kind != "mixed":
            slope, offset = (slope + null.slope) / 2, (offset + null.offset) / 2
        return _sigmoid(slope * _clean(embeddings @ query) + offset, null.sense)

    def _unit(
        self, query: Embeddings, sample: Embeddings, kind: Kind
    ) -> tuple[Mapping[str, Curve], float, float]:
        """Return the curves for a question, and (centre, spread) of the unit they take."""
        if self.absolute and self.bank is None and kind != "mixed":
            return self.curves, 0.0, 1.0
        if self.bank is not None and kind == "text" and len(sample):
            return self.curves, *of_bank(self.bank, sample)
        return OF_LIBRARY, *of_library(query, sample)


OF_LIBRARY: Mapping[str, Curve] = {
    "text": Curve(-4.59, 0.788),
    "text_any": Curve(-2.18, 0.495),
    "image": Curve(-4.59, 0.788),
    "image_any": Curve(-2.18, 0.495),
    "mixed": Curve(-4.59, 0.788),
    "mixed_any": Curve(-2.18, 0.495),
}
"""For any encoder: curves in standard deviations above the person's own library."""
OF_BANK: Mapping[str, Curve] = {
    **OF_LIBRARY,
    "text": Curve(-8.45, 1.765),
    "text_any": Curve(-4.41, 1.041),
}
"""For a measured encoder: those of texts in standard deviations above the bank of phrases."""


def sentence_share(words: str) -> float:
    """Return 0 for a phrase of up to 4 words, 1 for a sentence of 8 and more, between them in between."""
    if bare_name(words) is not None:  # "a photo of a dog" says no more than "dog"
        return 0.0
    # A character of a script without spaces counts as half a word.
    count = len(words.split()) + sum(character > "⺀" for character in words) / 2
    return min(1.0, max(0.0, (count - _SHORT) / (_LONG - _SHORT)))


def auto_cut(probabilities: npt.ArrayLike) -> int:
    """Return how many of the best hits to keep: as many as make the expected F1 highest.

    Keeping k of n gives about 2 (p_1 + ... + p_k) / (k + p_1 + ... + p_n): each further hit must be half as
    probable as what is kept is good. That needs no number set by hand, and keeps one hit or hundreds.

    Args:
        probabilities: (n,) descending; all that could be kept.
    Returns:
        0 to n; 0 when not even the first is probable.
    Source: Ye et al. 2012, "Optimizing F-measures", the expected-utility view.
    """
    known = np.nan_to_num(np.asarray(probabilities, np.float64).reshape(-1), nan=0.0)
    if not known.size or known[0] < _LEAST:
        return 0
    kept = np.cumsum(known)
    return int(np.argmax(kept / (np.arange(1, len(known) + 1) + kept[-1]))) + 1


def of_bank(bank: Embeddings, sample: Embeddings) -> tuple[float, float]:
    """Return (centre, spread) of the scores of a bank of phrases over a library."""
    if not len(sample):
        return 0.0, _USUAL_SPREAD / _USUAL_SHARE
    scores = sample[:: max(1, len(sample) // _BANK_ROWS)] @ bank.T
    return float(scores.mean()), max(float(scores.std()), 1e-4)


def of_library(query: Embeddings, sample: Embeddings) -> tuple[float, float]:
    """Return (centre, spread) of the question's scores over the library, true matches kept out."""
    scores = (sample @ query).astype(np.float64)
    scores = scores[np.isfinite(scores)]
    if not len(scores):
        return 0.0, _USUAL_SPREAD
    centre = float(np.median(scores))
    # The lower half is mirrored: matches lie above the middle and would widen the spread.
    low = scores[scores <= centre] - centre
    squares = float((low**2).sum()) + _ENOUGH_PICTURES * _USUAL_SPREAD**2 * max(0.0, 1 - len(low) / 100)
    weight = len(low) + _ENOUGH_PICTURES * max(0.0, 1 - len(low) / 100)
    return centre, max(math.sqrt(squares / weight), 1e-4)


def _clean(scores: npt.ArrayLike | Sequence[float]) -> npt.NDArray[np.float64]:
    """Return scores as float64; what is not a number is the lowest there is."""
    return np.nan_to_num(np.asarray(scores, np.float64).reshape(-1), nan=-1e9, neginf=-1e9, posinf=1.0)


def _sigmoid(logit: npt.NDArray[np.float64], sense: float = 1.0) -> Floats:
    bounded = np.clip(logit, -_LOGIT, _LOGIT)
    return (sense / (1.0 + np.exp(-bounded))).astype(np.float32)
