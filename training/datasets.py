"""Training and development sets: pictures with captions or labels, read from WebDataset tars.

A tar holds pairs `KEY.webp` + `KEY.json`; the json has `captions` (people's sentences) or `label`
(and `style`). Labels become sentences by prompts, as in Radford et al. 2021, section 3.1.4.
"""

from __future__ import annotations

import gzip
import json
import re
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

CAPTIONED = ("flickr8k", "coco", "openstax")
LABELLED = ("imagenet_samples", "caltech101", "flowers", "pacs")
DEVS = ("flickr8k/dev", "coco/dev")

PROMPTS = (
    "a photo of a {}",
    "{}",
    "a {}",
    "a picture of a {}",
    "a photo of the {}",
    "a close-up photo of a {}",
    "one {} in a photo",
)
STYLED = ("{style} of a {label}", "a {label}, {style}", "{label}", "a {label}", "a {style} showing a {label}")
STYLE_NAMES = {
    "art painting": ("an art painting", "a painting"),
    "cartoon": ("a cartoon", "a cartoon drawing"),
    "sketch": ("a sketch", "a pencil sketch", "a line drawing"),
    "photo": ("a photo", "a photograph"),
}


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture and every sentence that describes it.

    Attributes:
        key: name of the pair inside the tar.
        image: encoded bytes (WebP).
        captions: one or more sentences; made from the label by prompts where people wrote none.
        label: class name, empty where people wrote captions.
    """

    key: str
    image: bytes
    captions: tuple[str, ...]
    label: str


def first_sentence(text: str, limit: int = 200) -> str:
    """Return the first sentence of alt text, at most `limit` characters, cut at a word."""
    text = " ".join(text.split())
    sentence = re.split(r"(?<=[a-z0-9)\"'][.!?]) +(?=[A-Z])", text, maxsplit=1)[0]
    return sentence if len(sentence) <= limit else sentence[:limit].rsplit(" ", 1)[0]


def label_captions(label: str, style: str = "") -> tuple[str, ...]:
    """Return the sentences for a class name: every prompt, every name of its style."""
    label = label.replace("_", " ").strip()
    if not style:
        return tuple(prompt.format(label) for prompt in PROMPTS)
    names = STYLE_NAMES.get(style, (style,))
    made = [prompt.format(style=name, label=label) for name in names for prompt in STYLED]
    return tuple(dict.fromkeys(made))


def captions_of(meta: dict[str, object]) -> tuple[tuple[str, ...], str]:
    """Return (captions, label) from a sample's json."""
    if "label" in meta:
        label = str(meta["label"])
        return label_captions(label, str(meta.get("style", ""))), label
    captions = meta["captions"]
    if not isinstance(captions, list):
        raise ValueError("captions must be a list of strings")
    texts = [" ".join(str(caption).split()) for caption in captions]
    if "book" in meta:  # alt text: the first sentence names the picture, the rest describes details
        texts = [text for whole in texts for text in (first_sentence(whole), whole[:200])]
    return tuple(dict.fromkeys(text for text in texts if text)), ""


def read_tar(path: Path) -> Iterator[Sample]:
    """Yield the samples of a tar in its order."""
    image, key = b"", ""
    with tarfile.open(path) as tar:
        metas: dict[str, dict[str, object]] = {}
        images: dict[str, bytes] = {}
        for member in tar:
            key, _, suffix = member.name.rpartition(".")
            handle = tar.extractfile(member)
            if handle is None:
                continue
            if suffix == "json":
                metas[key] = json.loads(handle.read())
            else:
                images[key] = handle.read()
            if key in metas and key in images:
                image = images.pop(key)
                captions, label = captions_of(metas.pop(key))
                yield Sample(key, image, captions, label)


def normalised(text: str) -> str:
    """Return a sentence without case, punctuation and runs of spaces, to compare sentences by."""
    return " ".join(re.sub(r"[^\w]+", " ", text.lower()).split())


def dev_sentences(data: Path) -> frozenset[str]:
    """Return every normalised caption of the development sets: none may be trained on."""
    return frozenset(
        normalised(caption)
        for name in DEVS
        if (data / f"{name}.tar").exists()
        for sample in read_tar(data / f"{name}.tar")
        for caption in sample.captions
    )


def without(texts: Iterable[str], banned: frozenset[str]) -> tuple[list[str], int]:
    """Return (texts not banned, number removed); compared normalised."""
    kept, removed = [], 0
    for text in texts:
        if normalised(text) in banned:
            removed += 1
        else:
            kept.append(text)
    return kept, removed


def read_lines(path: Path) -> list[str]:
    """Return the non-empty lines of a gzipped text file."""
    with gzip.open(path, "rt", encoding="utf-8") as handle:
        return [line.strip() for line in handle if line.strip()]


def class_names(data: Path) -> list[str]:
    """Return the LVIS names and the ImageNet labels, first synonym and all, in words."""
    names: list[str] = []
    lvis = data / "clip_text_vectors" / "lvis_names.txt"
    if lvis.exists():
        names += [line.replace("_", " ").strip() for line in lvis.read_text(encoding="utf-8").splitlines()]
    imagenet = data / "backbone" / "imagenet_labels.txt"
    if imagenet.exists():
        for line in imagenet.read_text(encoding="utf-8").splitlines()[1:]:
            names += [name.strip() for name in line.split(",")]
    return list(dict.fromkeys(name for name in names if name))


def wide_texts(data: Path, *, phrases: int = 40_000) -> list[str]:
    """Return sentences without pictures: descriptions, phrases, and class names in prompts."""
    texts = read_lines(data / "text" / "multi30k_en.txt.gz")
    flavors = read_lines(data / "text" / "phrases_flavors.txt.gz")
    step = max(1, len(flavors) // phrases)
    texts += flavors[::step] + read_lines(data / "text" / "phrases_mediums.txt.gz")
    for name in class_names(data):
        texts += [name, f"a {name}", f"a photo of a {name}", f"a picture of a {name}"]
    return list(dict.fromkeys(texts))
