"""From a decoder's logits to a sentence: beam search over token ids, and pieces joined as people type them.

numpy only: the decoder is a function, and onnxruntime, torch or a table in a test can stand behind it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

NextLogits: TypeAlias = Callable[[npt.NDArray[np.int64], npt.NDArray[np.int64]], npt.NDArray[np.floating]]
"""(pictures (m,), ids (m, t)) -> (m, vocab) logits of the token after the last; pictures number from 0."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a sequence of a decoder may be.

    Attributes:
        end: id that ends every sequence.
        length: most ids of a sequence, the prefix and `end` included.
        banned: ids that are never written (padding, start, unknown); the others share their probability.
        least: ids to write before `end` may come.
        width: beams kept per picture.
        length_penalty: power of the number of written ids that a sum of log probabilities is divided by;
            0 favours short sentences, 1 compares the mean.
        distinct: no run of this many ids comes twice in a sequence.
    """

    end: int
    length: int
    banned: frozenset[int] = frozenset()
    least: int = 1
    width: int = 4
    length_penalty: float = 0.7
    distinct: int = 3


def beam_search(next_logits: NextLogits, count: int, prefix: Sequence[int], rules: Rules) -> list[list[int]]:
    """Return the ids that follow the prefix, without `end`, for each of `count` pictures.

    The best sequence is the one with the highest sum of log probabilities, that of `end` included, divided
    by the number of its ids after the prefix to the power `length_penalty`. At every step each beam's own end
    is weighed; a picture is done when no longer sequence can be better. Deterministic.

    Args:
        next_logits: the decoder.
        count: number of pictures.
        prefix: ids that every sequence starts with, at least one, at most `length - 1`.
        rules: see `Rules`.
    Raises:
        ValueError: the prefix leaves no room.
        FloatingPointError: a logit is NaN or +inf, or all of a row that are not banned are -inf.
    Source: Wu et al. 2016, arXiv:1609.08144, section 7, whose length penalty this is but for its constant;
        Paulus et al. 2017, arXiv:1705.04304, section 2.5, for the trigrams.
    """
    if not 0 < len(prefix) < rules.length:
        raise ValueError(f"{len(prefix)} ids of prefix, {rules.length} of length")
    live: list[list[tuple[float, tuple[int, ...]]]] = [[(0.0, tuple(prefix))] for _ in range(count)]
    best: list[tuple[float, tuple[int, ...]]] = [(-np.inf, tuple(prefix))] * count
    most = float(rules.length - len(prefix)) ** rules.length_penalty
    open_pictures = list(range(count))
    for t in range(len(prefix), rules.length):
        if not open_pictures:
            break
        pictures = np.repeat(open_pictures, [len(live[picture]) for picture in open_pictures])
        ids = np.array([ids for picture in open_pictures for _, ids in live[picture]], dtype=np.int64)
        log_probabilities = _log_softmax(next_logits(pictures.astype(np.int64), ids), [*rules.banned])
        written = t - len(prefix) + 1
        still_open, start = [], 0
        for picture in open_pictures:
            beams = live[picture]
            rows = log_probabilities[start : start + len(beams)]
            start += len(beams)
            if written > rules.least or t == rules.length - 1:
                for (total, sequence), row in zip(beams, rows, strict=True):
                    score = (total + float(row[rules.end])) / written**rules.length_penalty
                    if score > best[picture][0]:
                        best[picture] = (score, sequence)
            live[picture] = _widen(beams, rows, rules)
            # No log probability is above 0, so a sum only falls; its divisor grows to `most` and no further.
            if live[picture] and best[picture][0] < live[picture][0][0] / most:
                still_open.append(picture)
        open_pictures = still_open
    return [list(sequence[len(prefix) :]) for _, sequence in best]


def _widen(
    beams: Sequence[tuple[float, tuple[int, ...]]], rows: npt.NDArray[np.float64], rules: Rules
) -> list[tuple[float, tuple[int, ...]]]:
    """Return the best `width` continuations by one id that is not `end`, best first."""
    totals = rows + np.array([total for total, _ in beams])[:, None]
    totals[:, rules.end] = -np.inf
    for row, (_, sequence) in enumerate(beams):
        totals[row, _repeating(sequence, rules.distinct)] = -np.inf
    flat = totals.reshape(-1)
    width = min(rules.width, len(flat))
    top = np.argpartition(-flat, width - 1)[:width]
    top = top[np.lexsort((top, -flat[top]))]
    vocab = rows.shape[1]
    return [
        (float(flat[place]), (*beams[place // vocab][1], int(place % vocab)))
        for place in top
        if flat[place] > -np.inf
    ]


def _repeating(sequence: tuple[int, ...], distinct: int) -> list[int]:
    """Return the ids that would complete a run of `distinct` ids which the sequence has already."""
    last = sequence[len(sequence) - distinct + 1 :]
    starts = range(len(sequence) - distinct + 1)
    return [
        sequence[start + distinct - 1] for start in starts if sequence[start : start + distinct - 1] == last
    ]


def _log_softmax(logits: npt.NDArray[np.floating], banned: list[int]) -> npt.NDArray[np.float64]:
    wide = np.array(logits, dtype=np.float64)
    broken = np.isnan(wide).any()
    wide[:, banned] = -np.inf
    highest = wide.max(axis=1, keepdims=True)
    if broken or not np.isfinite(highest).all():
        raise FloatingPointError("logits are NaN or infinite")
    wide = wide - highest
    return np.asarray(wide - np.log(np.exp(wide).sum(axis=1, keepdims=True)))


def join_pieces(pieces: Sequence[str]) -> str:
    """Return WordPieces as one sentence: those that start with `##` continue the word before."""
    return tidy("".join(piece[2:] if piece.startswith("##") else f" {piece}" for piece in pieces))


def tidy(text: str) -> str:
    """Return a tokenised sentence as people type it: one line, blanks where they belong, no final full stop.

    `a man ' s t - shirt , red .` becomes `a man's t-shirt, red`.
    """
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    text = re.sub(r"(?<=\w) ?(['’]) ?(s|t|re|ve|m|ll|d)\b(?! ?-)", r"\1\2", text)
    text = re.sub(r"(?<=\w) ?- ?(?=\w)", "-", text)
    text = re.sub(r'" ?([^"]*?) ?"', r'"\1"', text)
    text = re.sub(r" (?=[,.!?;:)\]])|(?<=[(\[]) ", "", text)
    return text.rstrip(" .")
