"""Several parts of a question made one ranking: before the search (early), after it (late), words (hybrid).

A part is an embedding with a weight: a text, a picture, a concept. Cosines of texts and of pictures lie in
different places (the modality gap: Liang et al. 2022, arXiv:2203.02053), and so a plain sum lets one of them
decide. Here every part is first put on one scale, how many standard deviations a picture stands above the
library (`Parts.standard`). `early` adds these; that is a linear function of the embedding and therefore one
vector and one search (`Parts.composed`). `late` adds what they say for "it is there", so that a picture must
have all parts and not much of one. docs/fusion.md has the numbers behind every constant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from encoders import Embeddings, UsageError

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Kind: TypeAlias = Literal["text", "image"]
Nearest: TypeAlias = Callable[[Embeddings, int], tuple[Ints, Embeddings]]

WORTH: dict[Kind, float] = {"text": 1.0, "image": 0.7}
"""What a standard deviation counts: pictures alike stand further out than what a text means."""
ENOUGH: dict[Kind, float] = {"text": 5.0, "image": 3.0}
"""Standard deviations above the library from which on more of a part hardly counts (`late`)."""
_FAR_ENOUGH = 1.0
"""Standard deviations below the library from which on a picture is far enough from what is not wanted."""
_SOFTNESS = 1.5
"""How sharp that bend is: the slope of the logistic, per standard deviation."""
_COMMON = 0.5
"""How much of what the whole library shares is taken out of a picture that is one part of several."""
_MEAN_WEIGHT = 8.0
"""Pictures of a sample whose mean is believed half."""
_USUAL_SPREAD, _USUAL_COUNT = 0.1, 8
"""Standard deviation of cosines that a small library is believed to have; how many pictures that weighs."""
WORD_WEIGHT, _MOST_WORDS, ALL_WORDS = 0.1, 3.0, 3.0
"""Standard deviations that one unit of bm25 is worth in `hybrid`, the most that words can add so, and what a
picture gets where all the words stand: a name that no encoder knows (`Fido`) must come first."""
_LEAST_CANDIDATES, _MOST_CANDIDATES = 4096, 1 << 14
"""Pictures that a probe of `fuse_late` brings, unless fewer are enough to be certain."""
JOINED_WORDS = 20
"""Words of a joined sentence at most: longer ones find no more than the sum; contexts end at 48 tokens."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of one question beside one library.

    Attributes:
        vectors: (m, dim) float32, unit; turned round (-v) where the weight was below 0.
        weights: (m,) float64, 0 to 1: beside the heaviest one, times `WORTH`.
        mean, spread: (m,) float64, of the cosines of each vector with the library.
        enough: (m,) float64, in standard deviations; see `late`.
        asked: (m,) bool, whether the weight was above 0.
        across: whether both texts and pictures are asked for.
    """

    vectors: Embeddings
    weights: Floats
    mean: Floats
    spread: Floats
    enough: Floats
    asked: npt.NDArray[np.bool_]
    across: bool

    @classmethod
    def of(
        cls, vectors: Embeddings, weights: Sequence[float], kinds: Sequence[Kind], sample: Embeddings
    ) -> Parts:
        """Return the parts, put beside a sample of the library.

        Args:
            vectors: (m, dim) unit L2 norm, m >= 1.
            weights: m finite numbers; below 0 pushes away, none is 0.
            kinds: what each vector was made from; concepts and refined queries are images.
            sample: (n, dim) unit embeddings spread over the library; n may be 0.
        """
        # The heaviest counts 1, so that what words add stays in proportion whatever the weights.
        given = np.asarray(weights, dtype=np.float64) / np.max(np.abs(weights))
        given = given * [WORTH[kind] for kind in kinds]
        sign = np.where(given < 0, -1.0, 1.0)
        if len(vectors) > 1:
            vectors = np.stack(
                [
                    _without_common(vector, sample) if kind == "image" else vector
                    for vector, kind in zip(vectors, kinds, strict=True)
                ]
            )
        turned = (vectors * sign[:, None]).astype(np.float32)
        cosines = (sample @ turned.T).astype(np.float64)
        count = len(sample)
        mean = cosines.mean(axis=0) if count else np.zeros(len(turned))
        variance = cosines.var(axis=0) if count else np.zeros(len(turned))
        spread = np.sqrt((count * variance + _USUAL_COUNT * _USUAL_SPREAD**2) / (count + _USUAL_COUNT))
        enough = np.where(given < 0, _FAR_ENOUGH, [ENOUGH[kind] for kind in kinds])
        across = len({kind for kind, weight in zip(kinds, weights, strict=True) if weight > 0}) > 1
        return cls(turned, np.abs(given), mean, spread, enough, sign > 0, across)

    def standard(self, embeddings: Embeddings) -> Floats:
        """Return (n, m) standard deviations that each picture stands above the library, for each part."""
        scores = (embeddings @ self.vectors.T).astype(np.float64)
        standard: Floats = (scores - self.mean) / self.spread
        return standard

    def early(self, embeddings: Embeddings) -> Floats:
        """Return (n,) weighted sums of standard deviations; ranks as the cosine with `composed` does."""
        total: Floats = self.standard(embeddings) @ self.weights
        return total

    def late(self, embeddings: Embeddings) -> Floats:
        """Return (n,) weighted sums of log-probabilities that each part is there; 0 is the most, all there.

        Of each part log sigmoid(z - enough): a picture that lacks a part loses in proportion to what it
        lacks; one that has it gains nothing from having more. The weighted sum is the logarithm of a
        product, an "and".
        """
        return _belief(self.standard(embeddings), self.enough) @ self.weights

    def composed(self) -> Embeddings:
        """Return the (dim,) unit vector whose nearest pictures are those of the highest `early`.

        Raises:
            UsageError: the parts cancel out.
        """
        return _unit((self.weights / self.spread) @ self.vectors)

    def probes(self) -> Embeddings:
        """Return (p, dim) unit vectors, `composed` first; among their nearest are those of highest `late`.

        The others are each part by itself: what is best by a sum that bends is among the best by some
        straight sum, or among the best by one part.
        """
        if len(self.vectors) == 1:
            return self.composed()[None]
        return np.concatenate([self.composed()[None], self.vectors[self.asked]])

    def most(self, last: Floats) -> float:
        """Return the highest `late` that a picture can have which no probe brought.

        Args:
            last: (p,) cosine of the last picture of each probe, in the order of `probes`; -inf if a probe
                brought every picture there is.
        Source: the stopping rule of the threshold algorithm (Fagin, Lotem and Naor 2001), with the sum as
            one more list; the maximum under these limits by water-filling, because `late` is concave.
        """
        if np.isneginf(last).any():
            return -np.inf
        scale = float(np.linalg.norm((self.weights / self.spread) @ self.vectors.astype(np.float64)))
        total = float(last[0]) * scale - float(self.weights @ (self.mean / self.spread))
        limit = np.full(len(self.weights), np.inf)
        if len(last) > 1:
            limit[self.asked] = (last[1:] - self.mean[self.asked]) / self.spread[self.asked]
        # One height h above `enough` for all, each cut at its limit; the highest whose sum is allowed.
        low, high = -1e3, 1e3
        for _ in range(60):
            middle = (low + high) / 2
            if float(self.weights @ np.minimum(self.enough + middle, limit)) <= total:
                low = middle
            else:
                high = middle
        return float(self.weights @ _belief(np.minimum(self.enough + high, limit), self.enough))


def join_texts(texts: Sequence[str], weights: Sequence[float]) -> list[tuple[str, float]]:
    """Return (sentence, weight) to encode instead of the texts: what can be said in one breath is.

    An encoder reads "dog, beach" as one scene, which finds more than the sum of "dog" and "beach". The
    weight that all texts share goes to the joined sentence, the rest of a heavier one stays its own.
    Texts below 0 stay apart, and so does everything when it is too long for one sentence.
    """
    joined = [(text, weight) for text, weight in zip(texts, weights, strict=True) if weight > 0]
    apart = [(text, weight) for text, weight in zip(texts, weights, strict=True) if weight <= 0]
    if len(joined) < 2 or sum(_length(text) for text, _ in joined) > JOINED_WORDS:
        return [*joined, *apart]
    shared = min(weight for _, weight in joined)
    sentence = ", ".join(dict.fromkeys(text.rstrip(" .,;") or text for text, _ in joined))
    rest = [(text, weight - shared) for text, weight in joined if weight > shared]
    return [(sentence, shared * len(joined)), *rest, *apart]


def fuse_late(
    parts: Parts,
    nearest: Nearest,
    vectors_of: Callable[[Ints], Embeddings],
    k: int,
    words: Mapping[int, tuple[float, bool]] = MappingProxyType({}),
) -> tuple[Ints, Floats]:
    """Return (ids, `Parts.late` of each with its words), best first: at least the k best there are, in order.

    Args:
        nearest: a unit vector and a count to (ids, cosines), best first; fewer only when there are no more.
        vectors_of: ids to their embeddings, in that order.
        k: how many must be right.
        words: {id: (bm25, whether all the words are there)} of every picture whose words match.
    """
    probes = parts.probes()
    written = np.array(sorted(words), np.int64)
    count = max(4 * k, _LEAST_CANDIDATES)
    while True:
        brought = [nearest(probe, count) for probe in probes]
        last = np.array([scores[-1] if len(ids) >= count else -np.inf for ids, scores in brought])
        ids = np.unique(np.concatenate([written, *(ids for ids, _ in brought)]))
        values = parts.late(vectors_of(ids)) if len(ids) else np.zeros(0)
        if words:
            bm25, complete = np.array([words.get(number, (0.0, False)) for number in ids.tolist()]).T
            values = fuse_words(values, bm25, complete.astype(bool))
        order = np.lexsort((ids, -values))
        ids, values = ids[order], values[order]
        # What was not brought has no words either, and so is not above `most`.
        settled = len(ids) >= k and values[k - 1] >= parts.most(last)
        if np.isneginf(last).any() or settled or count >= _MOST_CANDIDATES:
            return ids, values
        count *= 4


def fuse_words(standing: Floats, words: Floats, complete: npt.NDArray[np.bool_] | None = None) -> Floats:
    """Return (n,) relevance: `standing` plus what full-text hits are worth.

    Args:
        standing: (n,) `Parts.early` or `Parts.late`, or standard deviations of one part.
        words: (n,) bm25 of the picture's words, higher is better; 0 where none matched.
        complete: (n,) whether all the words are there; None: nowhere.
    """
    total: Floats = standing + np.minimum(WORD_WEIGHT * np.maximum(words, 0.0), _MOST_WORDS)
    return total if complete is None else total + ALL_WORDS * complete


def mmr(embeddings: Embeddings, relevance: Floats, k: int, diversity: float) -> Ints:
    """Return (min(k, n),) positions in the order to show: relevant and unlike what stands before.

    Each next one has the highest (1 - diversity) * relevance - diversity * likeness, where likeness is its
    highest cosine with those already chosen, and both are scaled to [0, 1] over the n. O(n k).

    Args:
        embeddings: (n, dim) unit L2 norm.
        relevance: (n,), higher is better, on any scale.
        diversity: 0 keeps the order of relevance, 1 only spreads, from the most relevant one on.
    Source: Carbonell and Goldstein 1998, "The use of MMR".
    """
    relevance = np.asarray(relevance, dtype=np.float64)
    count = min(k, len(relevance))
    if diversity <= 0:
        return np.argsort(-relevance, kind="stable")[:count].astype(np.int64)
    chosen = np.empty(count, dtype=np.int64)
    if not count:
        return chosen
    span = float(np.ptp(relevance))
    worth = (1 - min(diversity, 1.0)) * (relevance - relevance.min()) / (span or 1.0)
    chosen[0] = int(np.argmax(relevance))
    likeness = (embeddings @ embeddings[chosen[0]]).astype(np.float64)
    floor = float(likeness.min())
    free = np.ones(len(relevance), dtype=bool)
    for place in range(1, count):
        free[chosen[place - 1]] = False
        like = np.clip((likeness - floor) / max(1.0 - floor, 1e-9), 0.0, 1.0)
        chosen[place] = int(np.argmax(np.where(free, worth - diversity * like, -np.inf)))
        np.maximum(likeness, embeddings @ embeddings[chosen[place]], out=likeness)
    return chosen


def _belief(standard: Floats, enough: Floats) -> Floats:
    """Return log sigmoid(softness * (standard - enough)) / softness: slope 1 far below, 0 far above."""
    belief: Floats = -np.logaddexp(0.0, -_SOFTNESS * (standard - enough)) / _SOFTNESS
    return belief


def library_mean(sample: Embeddings, dim: int) -> Floats:
    """Return the (dim,) mean of the library, nearer to 0 the fewer pictures it has."""
    if not len(sample):
        return np.zeros(dim)
    mean: Floats = sample.mean(axis=0, dtype=np.float64) * (len(sample) / (len(sample) + _MEAN_WEIGHT))
    return mean


def _without_common(vector: Embeddings, sample: Embeddings) -> Embeddings:
    """Return a picture's vector with less of the library's mean direction, at unit length.

    Projected rather than subtracted: what was taken relative to the mean before (a concept) stays as it is.
    """
    mean = library_mean(sample, len(vector))
    size = float(mean @ mean)
    if size < 1e-12:
        return vector
    apart = vector - _COMMON * (float(vector @ mean) / size) * mean
    norm = float(np.linalg.norm(apart))
    return (apart / norm).astype(np.float32) if norm > 1e-6 else vector


def _unit(vector: npt.NDArray[np.floating]) -> Embeddings:
    norm = float(np.linalg.norm(vector))
    if not np.isfinite(norm) or norm < 1e-6:
        raise UsageError("the parts of the question cancel out; change a weight or leave one out")
    unit: Embeddings = (vector / norm).astype(np.float32)
    return unit


def _length(text: str) -> int:
    """Return about how many words it has; a character of a script without spaces is one."""
    return len(text.split()) + sum(character > "⺀" for character in text)
