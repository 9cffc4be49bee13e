"""What the built-in encoder is trained on: sets of pictures with sentences, and sentences alone.

Labels become sentences by prompts, as in Radford et al. 2021, section 3.1.4; `words_zh.tsv` gives them
their Chinese names. No caption of a development set is read by any part of the training.
"""

from __future__ import annotations

import gzip
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from training.sets.datasets import Sample, read_tar
from training.sets.samples import in_words

CAPTIONED = ("flickr8k", "coco", "openstax")
LABELLED = ("imagenet_samples", "caltech101", "flowers", "pacs")
DEVS = ("flickr8k/dev", "coco/dev", "caltech101/dev")
HELD_BACK = 10
"""Every tenth picture of a Caltech-101 class is kept out of training: the set `caltech101/dev`."""
WORDS_ZH = Path(__file__).resolve().parent / "words_zh.tsv"

PROMPTS = (
    "a photo of a {}",
    "{}",
    "a {}",
    "a picture of a {}",
    "a photo of the {}",
    "a close-up photo of a {}",
    "one {} in a photo",
)
PROMPTS_ZH = ("{}", "一张{}的照片", "一个{}", "{}的图片")
STYLED = ("{style} of a {label}", "a {label}, {style}", "{label}", "a {label}", "a {style} showing a {label}")
STYLE_NAMES = {
    "art painting": ("an art painting", "a painting"),
    "cartoon": ("a cartoon", "a cartoon drawing"),
    "sketch": ("a sketch", "a pencil sketch", "a line drawing"),
    "photo": ("a photo", "a photograph"),
}


@dataclass(frozen=True, slots=True)
class Captioned:
    """One training picture and every sentence that describes it.

    Attributes:
        key: name of the picture in its set.
        image: encoded bytes.
        english: one or more sentences; made from the label by prompts where people wrote none.
        chinese: sentences, none where there are none.
    """

    key: str
    image: bytes
    english: tuple[str, ...]
    chinese: tuple[str, ...] = field(default=())


# --- sentences for pictures


def first_sentence(text: str, limit: int = 200) -> str:
    """Return the first sentence of alt text, at most `limit` characters, cut at a word."""
    text = " ".join(text.split())
    sentence = re.split(r"(?<=[a-z0-9)\"'][.!?]) +(?=[A-Z])", text, maxsplit=1)[0]
    return sentence if len(sentence) <= limit else sentence[:limit].rsplit(" ", 1)[0]


def label_captions(label: str, style: str = "") -> tuple[str, ...]:
    """Return the sentences for a class name: every prompt, every name of its style."""
    label = in_words(label)
    if not style:
        return tuple(prompt.format(label) for prompt in PROMPTS)
    names = STYLE_NAMES.get(style, (style,))
    made = [prompt.format(style=name, label=label) for name in names for prompt in STYLED]
    return tuple(dict.fromkeys(made))


def chinese_names() -> dict[str, tuple[str, ...]]:
    """Return English name, lower case, to its Chinese names."""
    names = {}
    for line in WORDS_ZH.read_text(encoding="utf-8").splitlines():
        english, tab, chinese = line.partition("\t")
        if tab and not line.startswith("#"):
            names[english.lower()] = tuple(chinese.split("|"))
    return names


def chinese_captions(label: str, names: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Return Chinese sentences for a class name, none where it has no Chinese name."""
    return tuple(prompt.format(name) for name in names.get(label.lower(), ()) for prompt in PROMPTS_ZH)


def captioned(sample: Sample, names: dict[str, tuple[str, ...]]) -> Captioned:
    """Return a sample of any of the sets with its sentences."""
    if sample.label:
        label, style = in_words(sample.label), str(sample.meta.get("style", ""))
        return Captioned(
            sample.key, sample.image, label_captions(label, style), chinese_captions(label, names)
        )
    captions = sample.captions
    if "book" in sample.meta:  # alt text: the first sentence names the picture, the rest describes details
        parts = [text for whole in captions for text in (first_sentence(whole), whole[:200])]
        captions = tuple(dict.fromkeys(parts))
    chinese = tuple(dict.fromkeys(str(text).strip() for text in sample.meta.get("captions_zh", [])))
    return Captioned(sample.key, sample.image, captions, chinese)


# --- the sets


def held_back(samples: Iterable[Sample]) -> Iterator[tuple[Sample, bool]]:
    """Yield each sample and whether it is kept for judging: every tenth of its class, in the set's order."""
    seen: Counter[str] = Counter()
    for sample in samples:
        yield sample, seen[sample.label] % HELD_BACK == HELD_BACK - 1
        seen[sample.label] += 1


def read_set(data: Path, name: str) -> list[Sample] | None:
    """Return the raw samples of a training set (`flickr8k`) or development set (`flickr8k/dev`)."""
    if name.startswith("caltech101"):
        path = data / "caltech101" / "train.tar"
        judged = name.endswith("/dev")
        return [s for s, kept in held_back(read_tar(path)) if kept == judged] if path.exists() else None
    path = data / (f"{name}.tar" if name in DEVS else f"{name}/train.tar")
    return list(read_tar(path)) if path.exists() else None


# --- sentences alone


def normalised(text: str) -> str:
    """Return a sentence without case, punctuation and runs of spaces, to compare sentences by."""
    return " ".join(re.sub(r"[^\w]+", " ", text.lower()).split())


def dev_sentences(data: Path) -> frozenset[str]:
    """Return every normalised caption of the development sets, both languages: none may be trained on."""
    return frozenset(
        normalised(caption)
        for name in DEVS
        for sample in read_set(data, name) or ()
        for caption in (*sample.captions, *map(str, sample.meta.get("captions_zh", ())))
    )


class Overlap:
    """Which sentences are a development caption, word for word or nearly.

    Nearly: a Jaccard index of at least `near` between the sets of words. Flickr30k's annotators' files and
    Flickr8k's spell the same caption differently ("t-shirt", "tshirt"; "," dropped).

    Args:
        banned: normalised development captions.
    """

    def __init__(self, banned: Iterable[str], near: float = 0.8) -> None:
        self.near, self.banned = near, frozenset(banned)
        self.words = [frozenset(text.split()) for text in self.banned]
        counts = Counter(word for words in self.words for word in words)
        self.rare: dict[str, list[int]] = {}
        self.order = counts
        for number, words in enumerate(self.words):
            for word in self._key(words):
                self.rare.setdefault(word, []).append(number)

    def _key(self, words: frozenset[str]) -> list[str]:
        """Return the rarest words: two sets this alike share at least one of them (prefix filtering)."""
        kept = len(words) - int(self.near * len(words) + 0.999) + 1
        return sorted(words, key=lambda word: (self.order.get(word, 0), word))[:kept]

    def __contains__(self, text: str) -> bool:
        plain = normalised(text)
        if plain in self.banned:
            return True
        words = frozenset(plain.split())
        if len(words) < 4:
            return False
        for word in self._key(words):
            for number in self.rare.get(word, ()):
                other = self.words[number]
                if len(words & other) >= self.near * len(words | other):
                    return True
        return False


def without(texts: Iterable[str], overlap: Overlap) -> tuple[list[str], int]:
    """Return (texts that are no development caption, number removed)."""
    every = list(texts)
    kept = [text for text in every if text not in overlap]
    return kept, len(every) - len(kept)


def read_lines(path: Path) -> list[str]:
    """Return the non-empty lines of a gzipped text file."""
    with gzip.open(path, "rt", encoding="utf-8") as handle:
        return [line.strip() for line in handle if line.strip()]


def class_names(data: Path) -> list[str]:
    """Return the LVIS names and the ImageNet labels, first synonym and all, in words."""
    names: list[str] = []
    lvis = data / "clip_text_vectors" / "lvis_names.txt"
    if lvis.exists():
        names += [in_words(line) for line in lvis.read_text(encoding="utf-8").splitlines()]
    for synonyms in imagenet_classes(data):
        names += synonyms
    return list(dict.fromkeys(name for name in names if name))


def imagenet_classes(data: Path) -> list[list[str]]:
    """Return the synonyms of each of the 1000 ImageNet classes, in the order of the classifier's outputs."""
    path = data / "backbone" / "imagenet_labels.txt"
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()[1:]
    return [[name.strip() for name in line.split(",")] for line in lines]


def wide_texts(data: Path, *, phrases: int = 40_000) -> list[str]:
    """Return English sentences without pictures: descriptions, phrases, and class names in prompts."""
    texts = read_lines(data / "text" / "multi30k_en.txt.gz")
    flavors = read_lines(data / "text" / "phrases_flavors.txt.gz")
    step = max(1, len(flavors) // phrases)
    texts += flavors[::step] + read_lines(data / "text" / "phrases_mediums.txt.gz")
    for name in class_names(data):
        texts += [name, f"a {name}", f"a photo of a {name}", f"a picture of a {name}"]
    return list(dict.fromkeys(texts))


def distinct(groups: Iterable[Sequence[str]]) -> list[str]:
    """Return every sentence once, in order of appearance."""
    return list(dict.fromkeys(text for group in groups for text in group))
