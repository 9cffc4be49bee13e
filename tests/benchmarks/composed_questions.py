"""Questions of two parts whose right answers are known: for `composed_retrieval`."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from search.fusion import Kind, join_texts
from tests.benchmarks.embedded import STYLES, Embedded, encode, shown, words

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Embeddings = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Task:
    """Questions of the same shape.

    Attributes:
        parts: (q, dim) each.
        right: (q, n), the right answers. not_asked: (q, n), what is no answer: the question's own picture.
        joined: (q, dim), the texts as one sentence; None where there is only one text.
        unit: (q,) what is drawn again by the bootstrap.
    """

    name: str
    images: Embeddings
    kinds: list[Kind]
    parts: list[Embeddings]
    weights: list[float]
    right: Bools
    not_asked: Bools
    joined: Embeddings | None
    unit: Ints

    def half(self, second: bool) -> Task:
        """Return the questions of every other unit."""
        kept = np.random.default_rng(1).permutation(self.unit.max() + 1)[self.unit] % 2 == second
        return Task(
            self.name, self.images, self.kinds, [part[kept] for part in self.parts], self.weights,
            self.right[kept], self.not_asked[kept], None if self.joined is None else self.joined[kept],
            self.unit[kept],
        )  # fmt: skip


def task(
    name: str,
    images: Embeddings,
    parts: list[Embeddings | list[str]],
    right: list[Bools],
    own: list[list[int]],
    weights: tuple[float, ...] = (1.0, 1.0),
    unit: list[int] | None = None,
) -> Task:
    """Return a task; a part is sentences or embeddings."""
    kinds: list[Kind] = ["text" if isinstance(part, list) else "image" for part in parts]
    texts = [part for part in parts if isinstance(part, list)]
    joined = None
    if len(texts) > 1 and min(weights) > 0:
        joined = encode([join_texts(pair, [1.0] * len(pair))[0][0] for pair in zip(*texts, strict=True)])
    not_asked = np.zeros((len(right), len(images)), bool)
    for row, pictures in enumerate(own):
        not_asked[row, pictures] = True
    answers = np.array(right) & ~not_asked
    rows = [encode(part) if isinstance(part, list) else part for part in parts]
    units = np.arange(len(right)) if unit is None else np.array(unit)
    return Task(name, images, kinds, rows, list(weights), answers, not_asked, joined, units)


def picture_and_style(data: Embedded, count: int = 1000) -> Task:
    """A picture of a dog in one style and the name of another: dogs in that style."""
    rng = np.random.default_rng(0)
    asked = rng.choice(len(data.images), count, replace=False)
    texts, right = [], []
    for picture in asked:
        style = rng.choice([name for name in STYLES if name != data.styles[picture]])
        texts.append(STYLES[style][rng.integers(3)])
        right.append((data.labels == data.labels[picture]) & (data.styles == style))
    own = [[int(picture)] for picture in asked]
    return task(f"{data.name}: picture + style", data.images, [data.images[asked], texts], right, own)


def name_and_style(data: Embedded, sign: int) -> Task:
    """The name of a thing and of a style, or of a style that it shall not have."""
    names, styles, right, unit = [], [], [], []
    for number, label in enumerate(np.unique(data.labels)):
        for style, ways in STYLES.items():
            same, drawn = data.labels == label, data.styles == style
            if (same & drawn).any():
                for way, name in zip(
                    ways, (f"a {label}", f"a picture of a {label}", str(label)), strict=True
                ):
                    names.append(name)
                    styles.append(way)
                    right.append(same & (drawn if sign > 0 else ~drawn))
                    unit.append(number)
    title = f"{data.name}: name {'+' if sign > 0 else '-'} style"
    return task(title, data.images, [names, styles], right, [[]] * len(names), (1.0, float(sign)), unit)


def two_pictures(data: Embedded, count: int = 500) -> Task:
    """Two pictures of one class, of two styles where the set has styles: the class."""
    rng = np.random.default_rng(0)
    first, second = [], []
    for picture in rng.permutation(len(data.images))[:count]:
        same = data.labels == data.labels[picture]
        if (data.styles != "").any():
            same &= data.styles != data.styles[picture]
        same[picture] = False
        if same.sum() >= 3:
            first.append(int(picture))
            second.append(int(rng.choice(np.flatnonzero(same))))
    right = [data.labels == data.labels[picture] for picture in first]
    own = [list(pair) for pair in zip(first, second, strict=True)]
    return task(
        f"{data.name}: two pictures", data.images, [data.images[first], data.images[second]], right, own
    )


def picture_and_name(data: Embedded) -> Task:
    """A picture and the name of what it shows: the others of its class."""
    asked = [i for i, label in enumerate(data.labels) if (data.labels == label).sum() >= 3]
    names = [f"a {data.labels[picture]}" for picture in asked]
    right = [data.labels == data.labels[picture] for picture in asked]
    title = f"{data.name}: picture + its name"
    return task(title, data.images, [data.images[asked], names], right, [[picture] for picture in asked])


def two_words(data: Embedded, most: int = 800) -> Task:
    """Two words that captions say of the same pictures: those pictures."""
    of = {word: set(pictures.tolist()) for word, pictures in shown(data, 8, 0.2).items()}
    pairs = [
        (a, b) for a, b in combinations(of, 2) if 3 <= len(of[a] & of[b]) < 0.6 * min(len(of[a]), len(of[b]))
    ]
    pairs = [pairs[number] for number in np.random.default_rng(0).permutation(len(pairs))[:most]]
    right = np.zeros((len(pairs), len(data.images)), bool)
    for row, (a, b) in enumerate(pairs):
        right[row, sorted(of[a] & of[b])] = True
    parts: list[Embeddings | list[str]] = [[a for a, _ in pairs], [b for _, b in pairs]]
    return task(f"{data.name}: word + word", data.images, parts, list(right), [[]] * len(pairs))


def picture_and_difference(data: Embedded, *, whole: bool) -> Task:
    """A picture and what a person wrote of one that reads alike, or its words that are new: the other one."""
    said_of = [{word for caption in captions for word in words(caption)} for captions in data.captions]
    vocabulary = {word: number for number, word in enumerate(sorted(set().union(*said_of)))}
    table = np.zeros((len(said_of), len(vocabulary)))
    for picture, captions in enumerate(data.captions):
        for caption in captions[:-1]:  # the last one is asked with
            for word in words(caption):
                table[picture, vocabulary[word]] += 1
    table = np.log1p(table) * np.log(len(table) / (1 + (table > 0).sum(axis=0)))
    table /= np.linalg.norm(table, axis=1, keepdims=True) + 1e-9
    alike = table @ table.T
    np.fill_diagonal(alike, -1)
    rng = np.random.default_rng(0)
    asked, texts, right = [], [], []
    for picture in range(len(table)):
        other = int(rng.choice(np.argsort(-alike[picture], kind="stable")[:5]))
        caption = data.captions[other][-1]
        new = [word for word in words(caption) if word not in said_of[picture]]
        if whole or new:
            asked.append(picture)
            texts.append(caption if whole else " ".join(new))
            right.append(np.arange(len(table)) == other)
    title = f"{data.name}: picture + {'caption' if whole else 'new words'} of another"
    return task(title, data.images, [data.images[asked], texts], right, [[picture] for picture in asked])
