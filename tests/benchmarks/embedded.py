"""Labelled sets as embeddings of the built-in encoder, kept in a folder; means with intervals.

For `composed_retrieval` and `learning_from_examples`. `DATA` holds SET/train.tar and SET/dev.tar, pictures
beside JSON records with `label`, `style` or `captions`.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from encoders.builtin import BuiltinEncoder
from training import decoded, read_dataset

Floats = npt.NDArray[np.float64]
DRAWS = 2000
STYLES = {
    "sketch": ("a sketch", "a pencil drawing", "sketch"),
    "cartoon": ("a cartoon", "a cartoon picture", "cartoon"),
    "art painting": ("a painting", "an oil painting", "painting"),
}
_NOTHING_SAID = re.compile(
    "(the|and|are|with|his|her|its|their|she|they|there|this|that|for|from|into|while|over|near|down|out|some|"
    "other|very|one|two|three|four|five|who|which|what|has|have|had|being|been|was|were|not|off|through|"
    "around|behind|front|next|each|another)"
)


@dataclass(frozen=True, slots=True)
class Embedded:
    """A set: row i of everything is picture i."""

    name: str
    images: npt.NDArray[np.float32]
    labels: npt.NDArray[np.str_]
    styles: npt.NDArray[np.str_]
    captions: list[list[str]]


@cache
def encoder() -> BuiltinEncoder:
    """Return the built-in encoder, one for all."""
    return BuiltinEncoder()


_TEXTS: dict[str, npt.NDArray[np.float32]] = {}


def encode(texts: list[str]) -> npt.NDArray[np.float32]:
    """Return (len(texts), dim); each sentence is encoded once."""
    new = [text for text in dict.fromkeys(texts) if text not in _TEXTS]
    _TEXTS.update(zip(new, encoder().encode_texts(new), strict=True))
    return np.stack([_TEXTS[text] for text in texts])


def read(source: Path, name: str, kept: Path) -> Embedded:
    """Return a set; its embeddings are computed once and kept as `kept/NAME-FINGERPRINT.npz`."""
    path = kept / f"{name}-{encoder().fingerprint[:12]}.npz"
    if not path.exists():
        print(f"encoding {source}", flush=True)
        rows, labels, styles, captions = [], [], [], []
        batch = []
        for sample, image in decoded(read_dataset(source), min_side=encoder().image_size):
            batch.append(image)
            labels.append(sample.label)
            styles.append(str(sample.meta.get("style", "")))
            captions.append("\n".join(sample.captions))
            if len(batch) == 32:
                rows.append(encoder().encode_images(batch))
                batch = []
        rows.append(encoder().encode_images(batch))
        kept.mkdir(parents=True, exist_ok=True)
        part = kept / f".{name}.npz"
        np.savez(part, images=np.concatenate(rows), labels=labels, styles=styles, captions=captions)
        os.replace(part, path)
    with np.load(path) as file:
        captions = [text.split("\n") if text else [] for text in file["captions"].tolist()]
        return Embedded(name, file["images"], file["labels"], file["styles"], captions)


def words(sentence: str) -> list[str]:
    """Return the words of a sentence that say something."""
    return [word for word in re.findall("[a-z]{3,}", sentence.lower()) if not _NOTHING_SAID.fullmatch(word)]


def shown(data: Embedded, least: int, most: float) -> dict[str, npt.NDArray[np.int64]]:
    """Return {word: pictures that at least two of their captions say it of}, between `least` and a share."""
    said: dict[str, Counter[int]] = {}
    for picture, captions in enumerate(data.captions):
        for caption in captions:
            for word in set(words(caption)):
                said.setdefault(word, Counter())[picture] += 1
    found = {
        word: np.array(sorted(picture for picture, times in pictures.items() if times >= 2))
        for word, pictures in sorted(said.items())
    }
    return {word: of for word, of in found.items() if least <= len(of) <= most * len(data.captions)}


def recall(scores: Floats, right: npt.NDArray[np.bool_], ks: tuple[int, ...] = (1, 10, 50)) -> Floats:
    """Return (q, len(ks)): right ones among the first k over those there could be, min(k, all right ones).

    Args:
        scores: (q, n), -inf for what is no answer.
        right: (q, n).
    """
    order = np.argsort(-scores, axis=1, kind="stable")[:, : max(ks)]
    hits = np.take_along_axis(right, order, axis=1)
    could = right.sum(axis=1)
    return np.stack([hits[:, :k].sum(axis=1) / np.minimum(k, np.maximum(could, 1)) for k in ks], axis=1)


def interval(
    values: Floats, units: npt.NDArray[np.int64] | None = None, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % interval of the mean of (q,) values, in percent, by a bootstrap over units."""
    _, unit = np.unique(np.arange(len(values)) if units is None else units, return_inverse=True)
    sums = np.bincount(unit, values)
    counts = np.bincount(unit)
    drawn = np.random.default_rng(seed).integers(0, len(sums), (DRAWS, len(sums)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.percentile(100 * means, (2.5, 97.5))
    return float(low), float(high)


def said(values: Floats, units: npt.NDArray[np.int64] | None = None) -> str:
    """Return `mean (low to high)` in percent."""
    low, high = interval(values, units)
    return f"{100 * values.mean():5.1f} ({low:.1f} to {high:.1f})"
