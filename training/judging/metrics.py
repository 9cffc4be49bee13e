"""How good retrieval and classification are, from embeddings and predictions alone.

Every number here is a mean over queries or a count, so that the order of a set changes nothing. Scores are
compared in float64, and one within `TIE` of the right answer's counts as above it: an encoder that says
the same of everything finds nothing. `bootstrap` gives the intervals, `phrasing` judges captions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from encoders import Embeddings

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]

RANKS = (1, 5, 10)
TIE = 1e-6
"""Cosines closer than this are equal: float32 embeddings of one picture differ by as much between batches."""
_BLOCK = 1 << 24
"""Scores held at a time: 128 MB."""


# --- retrieval


@dataclass(frozen=True, slots=True)
class Queries:
    """What each query of one direction got; rows are queries that have a right answer.

    Attributes:
        query: (q,) int64, which query; ascending.
        rank: (q,) int64, of the first right answer, 1 is best.
        ndcg: (q,) float64, nDCG@10.
    """

    query: Ints
    rank: Ints
    ndcg: Floats

    def columns(self) -> dict[str, Floats]:
        """Return one value per query for each metric that is a mean over queries, in [0, 1]."""
        found = {f"recall@{k}": (self.rank <= k).astype(np.float64) for k in RANKS}
        return found | {"MRR": 1.0 / self.rank, "nDCG@10": self.ndcg}


def distinct(captions: Sequence[Sequence[str]]) -> tuple[list[str], Ints, Ints]:
    """Return (different sentences, sentence of each pair, picture of each pair).

    A sentence written of several pictures is one query with several right answers, and one answer to each
    of its pictures: repeating it neither helps nor hurts. Pairs are in the order of pictures.
    """
    numbers: dict[str, int] = {}
    pairs = dict.fromkeys(
        (numbers.setdefault(caption, len(numbers)), picture)
        for picture, group in enumerate(captions)
        for caption in group
    )
    table = np.array(list(pairs), dtype=np.int64).reshape(-1, 2)
    return list(numbers), table[:, 0], table[:, 1]


def retrieve(queries: Embeddings, corpus: Embeddings, query_of: Ints, answer_of: Ints) -> Queries:
    """Return the rank of the first right answer of every query, and its nDCG@10.

    A right answer's rank counts the wrong ones that score as high; other right ones are not in its way.

    Args:
        queries: (q, dim) unit norm.
        corpus: (n, dim) unit norm.
        query_of: (p,) the query of each pair; every pair once.
        answer_of: (p,) its right answer in the corpus.
    Source: nDCG as in Järvelin and Kekäläinen 2002, gains 0 or 1, log2 discount.
    """
    order = np.lexsort((answer_of, query_of))
    query_of, answer_of = query_of[order], answer_of[order]
    asked, first, count = np.unique(query_of, return_index=True, return_counts=True)
    above = np.empty(len(query_of), np.int64)  # wrong answers that score as high, for each pair
    columns, step = corpus.astype(np.float64).T, max(1, _BLOCK // max(1, len(corpus)))
    for start in range(0, len(asked), step):
        rows = asked[start : start + step]
        low, high = first[start], first[start] + count[start : start + step].sum()
        scores = queries[rows].astype(np.float64) @ columns
        row_of = np.repeat(np.arange(len(rows)), count[start : start + step])
        own = scores[row_of, answer_of[low:high]]
        scores[row_of, answer_of[low:high]] = -np.inf
        for turn in range(int(count[start : start + step].max())):
            those = np.flatnonzero(count[start : start + step] > turn)
            pair = first[start : start + step][those] - low + turn
            wrong = scores if len(those) == len(rows) else scores[those]
            above[low + pair] = (wrong >= own[pair, None] - TIE).sum(1)
    order = np.lexsort((above, query_of))
    above, place = above[order], np.arange(len(order)) - np.repeat(first, count)
    ranks = above + 1 + place
    gain = np.where(ranks <= 10, 1 / np.log2(1.0 + ranks), 0.0)
    ideal = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2.0, 12.0)))])
    dcg = np.add.reduceat(gain, first) if len(first) else np.empty(0)
    return Queries(asked, ranks[first] if len(first) else ranks, dcg / ideal[np.minimum(count, 10)])


@dataclass(frozen=True, slots=True)
class Recall:
    """Percent of queries with a right answer among the first 1, 5 and 10.

    Attributes:
        text_to_image: every sentence asks for its picture.
        image_to_text: every picture asks for any of its sentences.
    """

    text_to_image: dict[int, float]
    image_to_text: dict[int, float]

    def __str__(self) -> str:
        def line(recall: dict[int, float]) -> str:
            return "  ".join(f"R@{k} {value:5.1f}" for k, value in recall.items())

        return f"text-to-image  {line(self.text_to_image)}\nimage-to-text  {line(self.image_to_text)}"


def recall(images: Embeddings, texts: Embeddings, owner: Ints) -> Recall:
    """Return recall@1/5/10 both ways for sentences that all differ; ties count against the encoder.

    Args:
        images: (n, dim) unit norm.
        texts: (m, dim) unit norm.
        owner: (m,) which picture each sentence describes.
    """
    sentence = np.arange(len(owner), dtype=np.int64)
    ranks = retrieve(texts, images, sentence, owner).rank, retrieve(images, texts, owner, sentence).rank
    first, second = ({k: float((rank <= k).mean() * 100) for k in RANKS} for rank in ranks)
    return Recall(first, second)


def owners(captions: Sequence[Sequence[str]]) -> Ints:
    """Return (m,) int64: the picture of each sentence, sentences taken picture by picture."""
    return np.repeat(np.arange(len(captions)), [len(c) for c in captions]).astype(np.int64)


def found_share(found: Sequence[Floats], exact: Floats, k: int) -> Floats:
    """Return (q,) float64: how much of the k nearest an approximate search found, for each query.

    An answer is right when it scores no less than the k-th exact one: which of two equals comes is no fault.

    Args:
        found: exact scores of what the search returned, for each query.
        exact: (q, >= k) float64, the scores of the nearest, descending.
    Source: Aumüller et al. 2018, arXiv:1807.05614 (ANN-Benchmarks), section 3.1.
    """
    k = min(k, exact.shape[1])
    return np.array(
        [
            np.count_nonzero(scores[:k] >= border - TIE) / k
            for scores, border in zip(found, exact[:, k - 1], strict=True)
        ]
    )


# --- classification


@dataclass(frozen=True, slots=True)
class ClassScore:
    """One class, shares in [0, 1]; `count` pictures truly belong to it, `said` were taken for it."""

    label: str
    precision: float
    recall: float
    f1: float
    count: int
    said: int


def class_embeddings(rows: Embeddings, prompts: int) -> Embeddings:
    """Return (classes, dim): the mean over each class's prompts, of unit norm again.

    Args:
        rows: (classes * prompts, dim) unit norm, class by class.
    Source: Radford et al. 2021, arXiv:2103.00020, section 3.1.4.
    """
    mean = rows.reshape(-1, prompts, rows.shape[1]).astype(np.float64).mean(1)
    return np.asarray(mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12), np.float32)


def classify(images: Embeddings, classes: Embeddings, truth: Ints) -> tuple[Ints, Ints]:
    """Return (class each picture is taken for, rank of its true class); ties count against.

    A picture whose true class is not alone at the top is taken for the best of the others.
    """
    said, rank = np.empty(len(images), np.int64), np.empty(len(images), np.int64)
    columns, step = classes.astype(np.float64).T, max(1, _BLOCK // max(1, len(classes)))
    for start in range(0, len(images), step):
        scores, true = images[start : start + step].astype(np.float64) @ columns, truth[start : start + step]
        rows = np.arange(len(scores))
        own = scores[rows, true]
        scores[rows, true] = -np.inf
        rank[start : start + step] = 1 + (scores >= own[:, None] - TIE).sum(1)
        said[start : start + step] = np.where(rank[start : start + step] == 1, true, scores.argmax(1))
    return said, rank


def class_scores(truth: Ints, said: Ints, labels: Sequence[str]) -> list[ClassScore]:
    """Return precision, recall and F1 of every class; 0 where nothing was taken for it."""
    table = tallies(truth, said, len(labels), np.ones(len(truth)))
    precision, recalled, f1 = shares(table)
    return [
        ClassScore(
            label, float(precision[i]), float(recalled[i]), float(f1[i]), int(table[1, i]), int(table[2, i])
        )
        for i, label in enumerate(labels)
    ]


def tallies(truth: Ints, said: Ints, classes: int, weight: npt.NDArray[np.floating]) -> Floats:
    """Return (3, classes) sums of weights: taken rightly for a class, truly of it, taken for it."""
    right = truth == said
    return np.stack(
        [
            np.bincount(truth[right], weight[right], classes),
            np.bincount(truth, weight, classes),
            np.bincount(said, weight, classes),
        ]
    )


def shares(table: Floats) -> tuple[Floats, Floats, Floats]:
    """Return (precision, recall, F1) of `tallies`, each (classes,), 0 where nothing was counted."""
    right, count, said = table
    return right / np.maximum(said, 1), right / np.maximum(count, 1), 2 * right / np.maximum(count + said, 1)


def macro(table: Floats) -> Floats:
    """Return (3,): precision, recall and F1, averaged over the classes that have pictures."""
    there = table[1] > 0
    return np.array([share[there].mean() if there.any() else 0.0 for share in shares(table)])
