"""A person's pictures as an encoder sees them, with the words that belong to each, split for learning.

Three kinds of words: `captions` describe one picture each, `keywords` and `labels` are names that many
pictures share. Names are asked for as a person would (`TEMPLATES`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from encoders import Embeddings, Encoder, UsageError
from training.finetuning.memory import Memory, Record, embed_texts
from training.sets.samples import Say

Kind: TypeAlias = Literal["captions", "keywords", "labels"]
Right: TypeAlias = tuple[tuple[int, ...], ...]
"""For each picture the texts that are right for it, as rows of `texts`, ascending."""
Worded: TypeAlias = tuple[Record, tuple[str, ...]]
"""A picture and the words of one kind that belong to it."""

TEMPLATES = ("a photo of {}", "{}", "a picture of {}")
TEMPLATES_ZH = ("一张{}的照片", "{}", "{}的图片")
"""How a name is asked for. Source: prompt ensembles, Radford et al. 2021, arXiv:2103.00020, section 3.1.4."""
LEARN, VALIDATE, HELD_OUT = 0, 1, 2
SHARES = {HELD_OUT: 0.2, VALIDATE: 0.1}
"""Share of the pictures that only judge the result, and that only say when to stop learning."""
FEWEST = 20
"""With fewer pictures the held-out numbers say nothing: four pictures are ranked."""


@dataclass(frozen=True, slots=True)
class Examples:
    """Pictures, words, and who belongs to whom.

    Attributes:
        kind: what the words are.
        texts: distinct captions, or distinct names.
        right: see `Right`.
        part: (n,) LEARN, VALIDATE or HELD_OUT for each picture.
        rows: (n,) number of each picture in the order of reading, for pixels kept elsewhere.
        contents: sha256 of each picture's file.
        images: (n, dim) by the base encoder.
        prompts: (templates, texts, dim) by the base encoder; one template, the caption itself, for captions.
    """

    kind: Kind
    texts: tuple[str, ...]
    right: Right
    part: npt.NDArray[np.int8]
    rows: npt.NDArray[np.int64]
    contents: tuple[bytes, ...]
    images: Embeddings
    prompts: npt.NDArray[np.float32]

    def pictures(self, part: int) -> npt.NDArray[np.int64]:
        """Return the pictures of a part, ascending."""
        return np.flatnonzero(self.part == part)


def choose(
    records: Sequence[Record], encoder: Encoder, memory: Memory, *, say: Say, step: Callable[[int, int], None]
) -> Examples:
    """Return the examples that the records give: what the words are, who shares them, which part learns.

    The same picture twice is one picture with the words of both. The split is by picture and by words:
    pictures that share a caption stay together. It depends on the pixels alone, not on a seed, so that a
    picture once held out stays held out when the same pictures are learned from again.

    Args:
        say: told, a line each, what was left out and why.
        step: told (texts, texts encoded) now and then.
    Raises:
        UsageError: too few pictures, one class only, nothing that tells pictures apart.
    """
    kind, worded = _words(records)
    merged = _merged(worded, kind, say)
    if kind == "captions":
        merged = _without_boilerplate(merged, say)
    names = sorted({text for _, words in merged for text in words})
    if kind != "captions" and len(names) < 2:
        only = f" ({names[0]!r})" if names else ""
        raise UsageError(
            f"one class only{only}: nothing tells the pictures apart; give folders of several kinds of "
            "pictures, or captions"
        )
    if len(merged) < FEWEST:
        raise UsageError(
            f"{len(merged):,} different pictures with words; {FEWEST} are the least to learn from and to "
            "measure by, a few hundred are better"
        )
    number = {text: index for index, text in enumerate(names)}
    right = tuple(tuple(sorted(number[text] for text in words)) for _, words in merged)
    return Examples(
        kind=kind,
        texts=tuple(names),
        right=right,
        part=split([record.pixels for record, _ in merged], right, kind),
        rows=np.array([record.row for record, _ in merged], dtype=np.int64),
        contents=tuple(record.content for record, _ in merged),
        images=memory.vectors([record.content for record, _ in merged]),
        prompts=embed_prompts(kind, names, encoder, memory, step=step),
    )


def embed_prompts(
    kind: Kind, names: Sequence[str], encoder: Encoder, memory: Memory, *, step: Callable[[int, int], None]
) -> npt.NDArray[np.float32]:
    """Return (templates, names, dim) unit rows: how each name is asked for; a caption is asked as it is."""
    asked = [asked_as(kind, name) for name in names]
    flat = [sentence for turn in zip(*asked, strict=True) for sentence in turn]
    return embed_texts(flat, encoder, memory, step=step).reshape(len(asked[0]), len(names), encoder.dim)


def asked_as(kind: Kind, name: str) -> tuple[str, ...]:
    """Return the sentences that ask for a name, in Chinese for a Chinese one; for a caption itself."""
    if kind == "captions":
        return (name,)
    chinese = any("\u3400" <= character <= "\u9fff" for character in name)
    return tuple(template.format(name) for template in (TEMPLATES_ZH if chinese else TEMPLATES))


def clean_name(name: str) -> str:
    """Return a folder's or class's name as a person would say it: `2019-Beach_Trip` is `beach trip`."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    words = re.sub(r"[\s_.\-+,;()\[\]]+", " ", words).strip()
    kept = [word for word in words.split() if not word.isdecimal()]
    return " ".join(kept or words.split()).lower() or name


def _words(records: Sequence[Record]) -> tuple[Kind, list[Worded]]:
    """Return what kind of words to learn from, and the records that have such.

    Captions say most and labels least: the first kind that half of the worded pictures have.
    """
    found: dict[Kind, list[Worded]] = {"captions": [], "keywords": [], "labels": []}
    for record in records:
        if record.captions:
            found["captions"].append((record, record.captions))
        if record.keywords:
            found["keywords"].append((record, tuple(dict.fromkeys(word.lower() for word in record.keywords))))
        if record.label:
            name = clean_name(record.label)
            found["labels"].append((record, (name,)))
    most = max(len(having) for having in found.values())
    kind = next(kind for kind, having in found.items() if 2 * len(having) >= most)
    having = found[kind]
    if kind == "captions" and len({text for _, texts in having for text in texts}) * 3 < len(having):
        # A handful of captions over many pictures are names: what is in a title column, or an album's.
        kind = "labels" if all(len(texts) == 1 for _, texts in having) else "keywords"
    return kind, having


def _merged(worded: Sequence[Worded], kind: Kind, say: Say) -> list[Worded]:
    """Return every picture once; one that stands under two labels is left out."""
    together: dict[bytes, tuple[Record, dict[str, None]]] = {}
    for record, texts in worded:
        together.setdefault(record.pixels, (record, {}))[1].update(dict.fromkeys(texts))
    merged: list[Worded] = [(record, tuple(texts)) for record, texts in together.values()]
    if len(merged) < len(worded):
        say(f"{len(worded) - len(merged):,} pictures are copies of others and count once")
    if kind == "labels":
        single = [worded for worded in merged if len(worded[1]) == 1]
        if len(single) < len(merged):
            say(f"{len(merged) - len(single):,} pictures stand under several labels and were left out")
        merged = single
    return merged


def _without_boilerplate(merged: list[Worded], say: Say) -> list[Worded]:
    """Return the pictures less the captions that stand under very many: they say nothing of any one."""
    shared = Counter(text for _, texts in merged for text in texts)
    limit = max(10, len(merged) // 20)
    for text, count in shared.most_common():
        if count <= limit:
            break
        say(f"{count:,} pictures are captioned {text[:60]!r}: that caption was left out")
    kept = [(record, tuple(t for t in texts if shared[t] <= limit)) for record, texts in merged]
    return [(record, texts) for record, texts in kept if texts]


def split(pixels: Sequence[bytes], right: Right, kind: Kind) -> npt.NDArray[np.int8]:
    """Return the part of each picture: SHARES of the pictures, of every class where there are classes.

    Args:
        pixels: sha256 of each picture's pixels, all different.
    """
    group = np.arange(len(pixels))
    if kind == "captions":
        group = _groups(right)
    order: dict[int, bytes] = {}
    for index, hashed in enumerate(pixels):
        known = order.get(int(group[index]))
        order[int(group[index])] = hashed if known is None else min(known, hashed)
    strata: dict[int, list[int]] = {}
    for index in sorted(range(len(pixels)), key=lambda i: (order[int(group[i])], pixels[i])):
        strata.setdefault(right[index][0] if kind == "labels" else 0, []).append(index)
    part = np.full(len(pixels), LEARN, dtype=np.int8)
    for members in strata.values():
        held_out = max(round(SHARES[HELD_OUT] * len(members)), int(len(members) >= 3))
        validate = held_out + max(round(SHARES[VALIDATE] * len(members)), int(len(members) >= 4))
        for place, index in enumerate(members):
            part[index] = HELD_OUT if place < held_out else VALIDATE if place < validate else LEARN
    if kind == "captions":  # no group over two parts: it goes where its first picture went
        sizes = Counter(group.tolist())
        first: dict[int, int] = {}
        for index in strata[0]:
            mine = int(group[index])
            large = sizes[mine] > SHARES[VALIDATE] * len(pixels)  # a chain of pictures that share captions
            part[index] = first.setdefault(mine, LEARN if large else int(part[index]))
    return part


def _groups(right: Right) -> npt.NDArray[np.int64]:
    """Return a number for each picture, equal for those linked by shared texts (union-find)."""
    parent = np.arange(len(right))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = int(parent[index])
        return index

    owner: dict[int, int] = {}
    for index, texts in enumerate(right):
        for text in texts:
            parent[root(index)] = root(owner.setdefault(text, index))
    return np.array([root(index) for index in range(len(right))])
