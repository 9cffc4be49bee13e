"""An encoder judged on a data set: what a person wrote about pictures against what the encoder finds.

`index_quality.evaluate_index` does the same for an index.
Shares are in percent, as papers print them.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as of_field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np

from encoders import Embeddings, Encoder, EncoderError
from training.errors import DatasetError
from training.judging.bootstrap import DRAWS, Estimate, means, median, statistic
from training.judging.metrics import (
    ClassScore,
    Ints,
    Queries,
    class_embeddings,
    class_scores,
    classify,
    distinct,
    macro,
    retrieve,
    tallies,
)
from training.judging.phrasing import caption_scores, require_scorers
from training.sets.datasets import CAPTIONS, Sample, decoded, read_dataset
from training.sets.samples import in_words

if TYPE_CHECKING:
    from PIL import Image

PROMPTS = (
    "a photo of a {}", "a photo of the {}", "a picture of a {}", "a close-up photo of a {}", "a {}", "{}"
)  # fmt: skip
PROMPTS_ZH = ("一张{}的照片", "{}的图片", "一个{}", "{}")
"""Their mean stands for a class; Radford et al. 2021, arXiv:2103.00020, section 3.1.4."""
BATCH, TEXT_BATCH, CAPTION_BATCH = 32, 64, 8


@dataclass(frozen=True, slots=True)
class Measure:
    """One number about one task.

    Attributes:
        value, low, high: the number and its 95 % interval, in `unit`.
        unit: `%`, or empty for ranks, MRR, nDCG, BLEU and CIDEr.
        n: how many queries or pictures it is about.
    """

    task: str
    metric: str
    value: float
    low: float
    high: float
    unit: str
    n: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What an encoder is worth on one set.

    Attributes:
        pictures: how many were encoded.
        sentences: different ones; a sentence written of several pictures is one query.
        classes: precision, recall and F1 of every class, shares in [0, 1]; empty without zero-shot.
        notes: what was left out and why, a line each.
    """

    source: str
    encoder: str
    fingerprint: str
    pictures: int
    sentences: int
    seed: int
    measures: list[Measure] = of_field(default_factory=list)
    classes: list[ClassScore] = of_field(default_factory=list)
    notes: list[str] = of_field(default_factory=list)
    seconds: float = 0.0

    def value(self, task: str, metric: str) -> float:
        """Return one of the measures; KeyError where it was not taken."""
        for measure in self.measures:
            if (measure.task, measure.metric) == (task, metric):
                return measure.value
        raise KeyError((task, metric))


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one step is; a new total begins the next step."""

    total: int
    done: int
    scanning: bool = False


Watch: TypeAlias = Callable[[Progress], None]


class Captioner(Protocol):
    """The part of a captioner that is judged."""

    @property
    def image_size(self) -> int: ...
    def caption(self, images: Sequence[Image.Image]) -> list[str]:
        """Return one sentence per image."""


def evaluate_dataset(
    source: str | Path,
    encoder: Encoder,
    *,
    field: str = CAPTIONS,
    images: Path | None = None,
    zero_shot: bool | None = None,
    captioner: Captioner | None = None,
    limit: int | None = None,
    seed: int = 0,
    draws: int = DRAWS,
    on_progress: Watch | None = None,
) -> Evaluation:
    """Return every number that the words of a set allow.

    Sentences (captions, else keywords) give retrieval both ways; labels give zero-shot classification.

    Args:
        source, field, images: as for `read_dataset`.
        zero_shot: classify by the labels; None does it where no picture has sentences.
        captioner: also writes a caption for each picture that people captioned, and is scored.
        limit: judge so many pictures, drawn at random.
        seed: of the drawing and of the bootstrap.
    Raises:
        DatasetError: as `read_dataset`; too few pictures, sentences or classes for any number.
        EncoderError: embeddings that are not finite.
    """
    began = time.monotonic()
    watch = on_progress or (lambda progress: None)
    notes: list[str] = []
    total, worded, lots = 0, 0, []
    labels: dict[str, int] = {}
    for sample in read_dataset(source, field=field, images=images, pictures=False):
        total, worded = total + 1, worded + bool(sample.texts)
        lots.append(_lot(sample.key, seed))
        if sample.label:
            labels[in_words(sample.label)] = labels.get(in_words(sample.label), 0) + 1
        if total % 1000 == 0:
            watch(Progress(total, 0, scanning=True))
    classify_too = zero_shot if zero_shot is not None else not worded
    classes = sorted(labels)
    if captioner is not None:
        require_scorers()
    _refuse(str(source), field, worded, classes, classify_too, captioner is not None)

    samples: Iterable[Sample] = read_dataset(source, field=field, images=images, say=notes.append)
    if limit is not None and limit < total:
        drawn = np.argsort(np.array(lots, np.uint64), kind="stable")[:limit]
        samples, total = _drawn(samples, frozenset(drawn.tolist())), limit
    side = max(encoder.image_size, captioner.image_size if captioner else 0)
    pictures = decoded(samples, min_side=side, say=notes.append)
    rows, texts, truth, written = _encode(pictures, encoder, captioner, total, watch)
    result = Evaluation(str(source), encoder.spec, encoder.fingerprint, len(rows), 0, seed, notes=notes)
    if any(texts):
        sentences, sentence_of, picture_of = distinct(texts)
        result = replace(result, sentences=len(sentences))
        embedded = encode_sentences(encoder, sentences, watch)
        result.measures.extend(
            retrieval(rows, embedded, sentence_of, picture_of, seed=seed, draws=draws, both=True)
        )
    if classify_too:
        result.measures.extend(_zero_shot(rows, truth, classes, encoder, result.classes, seed, draws))
    if written:
        result.measures.extend(_captions(written, texts, seed, draws))
    return replace(result, seconds=round(time.monotonic() - began, 2))


def _refuse(
    source: str, field: str, worded: int, classes: list[str], classify_too: bool, captions: bool
) -> None:
    """Raise DatasetError where the words do not carry what was asked."""
    if not worded and (field != CAPTIONS or not classify_too):
        beside = "; it has labels: leave out --no-zero-shot" if classes and field == CAPTIONS else ""
        raise DatasetError(f"{source}: no captions in {field!r}{beside}")
    if classify_too and len(classes) < 2:
        there = f"there is one class only, {classes[0]!r}" if classes else "there are no labels"
        raise DatasetError(
            f"{source}: {there}; zero-shot classification needs two or more, such as a folder for each"
        )
    if captions and not worded:
        raise DatasetError(f"{source}: no captions there to compare written ones with; leave out --captions")


def _lot(key: str, seed: int) -> int:
    """Return a number that draws a picture by its name: the same ones in whatever order a set comes."""
    digest = hashlib.blake2b(f"{seed} {key}".encode("utf-8", "surrogateescape"), digest_size=8)
    return int.from_bytes(digest.digest(), "big")


def _drawn(samples: Iterable[Sample], drawn: frozenset[int]) -> Iterator[Sample]:
    return (sample for number, sample in enumerate(samples) if number in drawn)


# --- encoding


def _encode(
    pictures: Iterable[tuple[Sample, Image.Image]],
    encoder: Encoder,
    captioner: Captioner | None,
    total: int,
    watch: Watch,
) -> tuple[Embeddings, list[tuple[str, ...]], list[str], dict[int, str]]:
    """Return (embeddings, sentences and label of each picture, captions written by number of picture).

    Pictures are put in the order of their names: the draws of the bootstrap do not depend on the set's.
    """
    keys: list[str] = []
    rows: list[Embeddings] = []
    texts: list[tuple[str, ...]] = []
    labels: list[str] = []
    written: dict[int, str] = {}
    squares: list[np.typing.NDArray[np.uint8]] = []
    waiting: list[tuple[int, Image.Image]] = []

    def flush() -> None:
        if squares:
            rows.append(_finite(encoder.encode_pixels(np.stack(squares)), encoder))
            squares.clear()
        watch(Progress(max(total, len(texts)), len(texts)))

    def write() -> None:
        if captioner and waiting:
            sentences = captioner.caption([image for _, image in waiting])
            written.update(zip((number for number, _ in waiting), sentences, strict=True))
            waiting.clear()

    watch(Progress(total, 0))
    for sample, image in pictures:
        if captioner and sample.captions:
            waiting.append((len(texts), image))
        squares.append(encoder.preprocess(image))
        keys.append(sample.key)
        texts.append(sample.texts)
        labels.append(in_words(sample.label))
        if len(waiting) >= CAPTION_BATCH:
            write()
        if len(squares) >= BATCH:
            flush()
    write()
    flush()
    if not rows:
        raise DatasetError("no pictures were left to judge")
    order = sorted(range(len(keys)), key=keys.__getitem__)
    captions = {place: written[number] for place, number in enumerate(order) if number in written}
    return np.concatenate(rows)[order], [texts[i] for i in order], [labels[i] for i in order], captions


def encode_sentences(encoder: Encoder, sentences: Sequence[str], watch: Watch) -> Embeddings:
    """Return (len(sentences), dim) embeddings; raises EncoderError where one is not finite."""
    rows = []
    for start in range(0, len(sentences), TEXT_BATCH):
        watch(Progress(len(sentences), start))
        rows.append(_finite(encoder.encode_texts(sentences[start : start + TEXT_BATCH]), encoder))
    watch(Progress(len(sentences), len(sentences)))
    return np.concatenate(rows)


def _finite(rows: Embeddings, encoder: Encoder) -> Embeddings:
    if not np.isfinite(rows).all():
        raise EncoderError(
            f"encoder {encoder.spec} returned embeddings that are not finite; "
            "it is broken, choose another: pixseek encoders"
        )
    return rows


# --- measuring


def retrieval(
    rows: Embeddings,
    embedded: Embeddings,
    sentence_of: Ints,
    picture_of: Ints,
    *,
    seed: int,
    draws: int = DRAWS,
    both: bool,
    task: str = "text-to-image",
) -> list[Measure]:
    """Return recall@1/5/10, median rank, MRR and nDCG@10 of sentences for pictures, and the other way."""
    asked = retrieve(embedded, rows, sentence_of, picture_of)
    item = np.searchsorted(asked.query, sentence_of)
    measures = _of_queries(task, asked, item, picture_of, len(rows), seed, draws)
    if both:
        shown = retrieve(rows, embedded, picture_of, sentence_of)
        one = np.arange(len(shown.query), dtype=np.int64)
        measures += _of_queries("image-to-text", shown, one, shown.query, len(rows), seed, draws)
    return measures


def _of_queries(
    task: str, asked: Queries, item_of: Ints, picture_of: Ints, pictures: int, seed: int, draws: int
) -> list[Measure]:
    mean = means(asked.columns(), item_of, picture_of, pictures, seed=seed, draws=draws)
    middle = median(asked.rank, item_of, picture_of, pictures, seed=seed, draws=draws)
    found = {name: one for name, one in mean.items() if name.startswith("recall")}
    found |= {"median rank": middle} | {name: one for name, one in mean.items() if name not in found}
    return [measure(task, name, one, len(asked.query)) for name, one in found.items()]


def measure(task: str, metric: str, estimate: Estimate, n: int) -> Measure:
    """Return a measure; shares become percent."""
    share = metric not in ("median rank", "MRR", "nDCG@10", "BLEU-4", "CIDEr")
    scale = 100.0 if share else 1.0
    value, low, high = (round(x * scale, 6) for x in (estimate.value, estimate.low, estimate.high))
    return Measure(task, metric, value, low, high, "%" if share else "", n)


def _zero_shot(
    rows: Embeddings,
    labels: Sequence[str],
    classes: Sequence[str],
    encoder: Encoder,
    scores: list[ClassScore],
    seed: int,
    draws: int,
) -> list[Measure]:
    """Return accuracy and the macro averages; put the classes into `scores`."""
    has = np.array([bool(label) for label in labels])
    number = {label: i for i, label in enumerate(classes)}
    truth = np.array([number[label] for label in labels if label], np.int64)
    vectors = []
    for name in classes:
        prompts = PROMPTS_ZH if any("\u3400" <= character <= "\u9fff" for character in name) else PROMPTS
        prompted = _finite(encoder.encode_texts([prompt.format(name) for prompt in prompts]), encoder)
        vectors.append(class_embeddings(prompted, len(prompts)))
    said, rank = classify(rows[has], np.concatenate(vectors), truth)
    scores.extend(class_scores(truth, said, classes))
    each = np.arange(len(truth), dtype=np.int64)
    columns = {"top-1 accuracy": (rank <= 1).astype(np.float64)}
    if len(classes) > 5:
        columns["top-5 accuracy"] = (rank <= 5).astype(np.float64)
    found = means(columns, each, each, len(truth), seed=seed, draws=draws)
    averages = statistic(
        lambda weight: macro(tallies(truth, said, len(classes), weight)), len(truth), seed=seed, draws=draws
    )
    found |= dict(zip(("macro precision", "macro recall", "macro F1"), averages, strict=True))
    return [measure("zero-shot", name, one, len(truth)) for name, one in found.items()]


def _captions(
    written: dict[int, str], texts: Sequence[Sequence[str]], seed: int, draws: int
) -> list[Measure]:
    scores = caption_scores(
        list(written.values()), [texts[number] for number in written], seed=seed, draws=draws
    )
    return [measure("captions", name, one, len(written)) for name, one in scores.items()]
