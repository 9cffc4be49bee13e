"""The recipe of the built-in encoder: what `pixseek train` does with `kind = "builtin"`.

Stages: views of the pictures, teacher embeddings, tokenizer, distil (words), head (pictures alone),
contrast (both towers and the decoder), told (the decoder alone), export, judge. Every stage keeps what
it made in the cache folder; after a kill the same command goes on from there.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer

from encoders import EncoderError, UsageError, normalize
from training.builtin.backbone import load_backbone
from training.builtin.captions import Vocabulary
from training.builtin.collection import (
    CAPTIONED,
    LABELLED,
    chinese_names,
    distinct,
    imagenet_classes,
    normalised,
)
from training.builtin.contrast import TOLD, Dev, Pairs, Settings, Step, Towers, train_towers
from training.builtin.distil import TextData, initialise, train_text
from training.builtin.export import export_encoder
from training.builtin.features import BACKBONE, PREPROCESS, PictureSet, cache_features, load_set
from training.builtin.frozen import cache_pooled, opinions, train_frozen
from training.builtin.judge import judge
from training.builtin.models import Decoder, ImageHead, ImageTower, Shape, TextTower
from training.builtin.teacher import english_texts, teacher_embeddings
from training.builtin.tokenizer import encode_all, load_tokenizer, train_tokenizer
from training.judging.metrics import owners, recall
from training.pretraining.recipes import differences, read_table
from training.run import DivergedError

log = logging.getLogger(__name__)
RECIPE = "builtin-2"
SETS = (*CAPTIONED, *LABELLED, "drawings", "plain")


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a person may set: lengths of the stages in epochs, and the settings of the longest one.

    Attributes:
        distil_epochs, head_epochs, told_epochs: lengths; that of `contrast` is among its settings.
        distil_horizon: epochs over which its learning rate falls; the next stage takes over earlier.
        seed: of everything drawn.
        threads: of the computation; 0 leaves it to torch.
    """

    distil_epochs: int = 3
    distil_horizon: int = 4
    head_epochs: int = 6
    told_epochs: int = 10
    contrast: Settings = field(default_factory=Settings)
    seed: int = 0
    threads: int = 0


@dataclass(frozen=True, slots=True)
class Words:
    """The sentences and what is made from them.

    Attributes:
        texts: every training sentence, English first, then Chinese.
        data: the same as ids with targets.
        tokenizer: of the text tower.
        vocabulary: of the decoder.
        captions: (texts, length) the decoder's ids.
        classes: (1000, dim) float32 the teacher's embeddings of the ImageNet names.
    """

    texts: list[str]
    data: TextData
    tokenizer: Tokenizer
    vocabulary: Vocabulary
    captions: npt.NDArray[np.int16]
    classes: npt.NDArray[np.float32]


def words(data: Path, cache: Path, sets: Sequence[PictureSet], dev: PictureSet | None, shape: Shape) -> Words:
    """Return the sentences with their targets; trains the tokenizer once.

    The teacher reads English only. A Chinese caption's target is the mean of what the teacher says of the
    English captions of the same picture, a Chinese name's that of its English name.
    """
    english, removed = english_texts(data)
    vectors = teacher_embeddings(english, cache / "teacher").astype(np.float32)
    row = {text: number for number, text in enumerate(english)}
    banned = {normalised(text) for group in (dev.chinese if dev else ()) for text in group}
    meant: dict[str, list[int]] = {}
    for pictures in sets:
        for theirs, ours in zip(pictures.english, pictures.chinese, strict=True):
            for text in ours:
                meant.setdefault(text, []).extend(row[other] for other in theirs if other in row)
    for name, synonyms in chinese_names().items():
        for text in synonyms:
            meant.setdefault(text, []).extend([row[name]] if name in row else [])
    wanted = {t: rows for t, rows in meant.items() if rows and normalised(t) not in banned and t not in row}
    chinese = list(wanted)
    log.info(
        f"{len(english)} English sentences, {removed} near development captions removed; "
        f"{len(chinese)} Chinese, {sum(normalised(t) in banned for t in meant)} removed",
    )
    targets = [vectors, *(normalize(vectors[wanted[text]].mean(0, keepdims=True)) for text in chinese)]
    texts = [*english, *chinese]
    path = cache / "tokenizer.json"
    if not path.exists():
        train_tokenizer(texts, vocab=shape.vocab, context=shape.context).save(str(path))
    tokenizer = load_tokenizer(path)
    told = {text for pictures in sets if pictures.name in TOLD for text in distinct(pictures.english)}
    vocabulary = Vocabulary.of([text for text in texts if text in told], tokenizer)
    captions = np.zeros((len(texts), shape.length), dtype=np.int16)
    rows = np.array([number for number, text in enumerate(texts) if text in told], dtype=np.int64)
    if len(rows):
        captions[rows] = vocabulary.ids([texts[number] for number in rows], tokenizer, shape.length)
    ids = encode_all(tokenizer, texts, shape.context)
    return Words(
        texts,
        TextData.of(texts, ids, np.concatenate(targets).astype(np.float16)),
        tokenizer,
        vocabulary,
        captions,
        class_vectors(data, cache),
    )


def class_vectors(data: Path, cache: Path) -> npt.NDArray[np.float32]:
    """Return (1000, dim) float32 unit rows: the teacher's mean over synonyms and prompts of each class."""
    classes = imagenet_classes(data)
    prompts = [[p.format(name) for name in names for p in ("{}", "a photo of a {}")] for names in classes]
    flat = distinct(prompts)
    vectors = teacher_embeddings(flat, cache / "teacher").astype(np.float32)
    row = {text: number for number, text in enumerate(flat)}
    means = [vectors[[row[text] for text in texts]].mean(0) for texts in prompts]
    return normalize(np.stack(means)) if means else np.zeros((0, vectors.shape[1]), dtype=np.float32)


def new_text_tower(tokenizer: Tokenizer, cache: Path, shape: Shape, seed: int) -> TextTower:
    """Return a text tower that starts as a bag of its tokens' teacher embeddings."""
    tokens = [str(tokenizer.id_to_token(row)).replace("##", "") for row in range(tokenizer.get_vocab_size())]
    torch.manual_seed(seed)
    tower = TextTower(shape)
    initialise(tower, teacher_embeddings(tokens, cache / "teacher").astype(np.float32))
    return tower


class _Lines(logging.Handler):
    """Hands each line of the log to a function."""

    def __init__(self, report: Callable[[str], None]) -> None:
        super().__init__(logging.INFO)
        self.report = report

    def emit(self, record: logging.LogRecord) -> None:
        """Report the line with the time of day."""
        self.report(f"{time.strftime('%H:%M:%S')} {record.getMessage()}")


def train_recipe(
    table: dict[str, Any], *, data: Path, cache: Path, out: Path, report: Callable[[str], None]
) -> None:
    """Train, export and judge the built-in encoder; goes on from what the cache holds.

    Args:
        table: keys of `Recipe`.
        data: folder of the training sets.
        cache: views, teacher embeddings, checkpoints; of one recipe.
        out: folder for image.onnx, text.onnx, decoder.onnx, tokenizer.json and config.json.
        report: told a line now and then.
    Raises:
        UsageError: an unknown key or a value of the wrong type.
        EncoderError: the cache is another recipe's, the loss diverged, the teacher is not installed.
    """
    recipe: Recipe = read_table(Recipe, table, "", Path(), "recipe")
    if recipe.contrast.alone:
        raise UsageError("recipe: contrast.alone is not for a recipe; leave it out")
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    claim(cache, recipe)
    room, lines = logging.getLogger("training.builtin"), _Lines(report)
    before = room.level
    room.setLevel(logging.INFO)
    room.addHandler(lines)
    try:
        train(data, cache, out, recipe, Shape())
        log.info("judge")
        judge(data, cache, out)
    except DivergedError as error:
        raise EncoderError(
            f"{error}; the last epoch is kept: lower contrast.rate, in another cache"
        ) from error
    finally:
        room.removeHandler(lines)
        room.setLevel(before)


def claim(cache: Path, recipe: Recipe) -> None:
    """Write down whose the cache is. Raises EncoderError when it is another recipe's, and leaves it."""
    path = cache / "recipe.json"
    facts = {"recipe": RECIPE, **asdict(recipe)}
    facts |= {f"contrast.{key}": value for key, value in facts.pop("contrast").items()}
    del facts["threads"]
    if path.exists():
        changes = differences(json.loads(path.read_text(encoding="utf-8")), facts)
        if changes:
            raise EncoderError(
                f"{cache} is the cache of another recipe and was left as it is: {'; '.join(changes[:4])}; "
                "set another cache, or put back what changed"
            )
    cache.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def train(data: Path, cache: Path, out: Path, recipe: Recipe, shape: Shape) -> None:
    """Run every stage and write the encoder to `out`."""
    features, runs = cache / "features", cache / "runs"
    log.info("views")
    cache_features(data, features, seed=recipe.seed)
    sets = [pictures for name in SETS if (pictures := load_set(features, name))]
    log.info("%s", {pictures.name: (len(pictures.english), len(pictures.views)) for pictures in sets})
    log.info("teacher")
    watched = load_set(features, "flickr8k/dev")
    known = words(data, cache, sets, watched, shape)
    shape = replace(shape, vocab=known.tokenizer.get_vocab_size())  # fewer where there are few words
    pooled = cache_pooled(data, features, sets)
    pairs = Pairs.of(sets, known.data, opinions(data, pooled))
    log.info("baseline")
    baseline(data, cache, pairs, pooled, known)
    log.info("distil")
    tower = new_text_tower(known.tokenizer, cache, shape, recipe.seed)
    train_text(
        tower,
        known.data,
        folder=runs,
        epochs=recipe.distil_epochs,
        horizon=recipe.distil_horizon,
        seed=recipe.seed,
    )
    torch.manual_seed(recipe.seed)
    head = ImageHead(shape, load_backbone(data / BACKBONE).upper())
    towers = Towers(tower, head, Decoder(shape, len(known.vocabulary.tokens)))
    dev = dev_set(features, known.tokenizer, shape)
    stages: tuple[tuple[str, Pairs, Settings], ...] = (
        ("head", pairs, replace(recipe.contrast, epochs=recipe.head_epochs, alone="head")),
        ("contrast", pairs, recipe.contrast),
        ("told", pairs.of_sets(TOLD), replace(recipe.contrast, epochs=recipe.told_epochs, alone="decoder")),
    )
    for name, seen, settings in stages:
        log.info(name)
        step = Step(towers, seen, known.data, known.captions, known.classes, settings)
        train_towers(step, folder=runs, dev=dev, seed=recipe.seed, name=name)
    log.info("export")
    export(towers, data, cache, out, known, shape)


def baseline(
    data: Path, cache: Path, pairs: Pairs, pooled: Sequence[npt.NDArray[np.float16]], known: Words
) -> None:
    """Print the recall of frozen features under a small head against the teacher's sentence embeddings."""
    rows = np.stack([pooled[number][picture] for number, picture in pairs.index])
    targets = [known.data.targets[sentences] for sentences in pairs.english]
    head = train_frozen(rows, targets, pairs.weights)
    for name in ("flickr8k/dev", "coco/dev"):
        pictures = load_set(cache / "features", name)
        if pictures is None:
            continue
        (features,) = cache_pooled(data, cache / "features", [pictures])
        with torch.inference_mode():
            images = head(torch.from_numpy(features.astype(np.float32))).numpy()
        texts = [text for group in pictures.english for text in group]
        vectors = teacher_embeddings(texts, cache / "teacher").astype(np.float32)
        found = recall(images, vectors, owners(pictures.english))
        log.info(f"baseline {name}: {found}".replace("\n", " | "))


def dev_set(features: Path, tokenizer: Tokenizer, shape: Shape) -> Dev | None:
    """Return flickr8k/dev as views and caption ids, to watch; nothing is trained on it."""
    pictures = load_set(features, "flickr8k/dev")
    if pictures is None:
        return None
    captions = {"english": pictures.english, "chinese": pictures.chinese}
    return Dev(
        pictures,
        {
            language: encode_all(tokenizer, [text for group in groups for text in group], shape.context)
            for language, groups in captions.items()
        },
    )


def export(towers: Towers, data: Path, cache: Path, out: Path, known: Words, shape: Shape) -> None:
    """Write the encoder's files and print how well ONNX and torch agree."""
    cosines = export_encoder(
        ImageTower(load_backbone(data / BACKBONE), towers.head),
        towers.text,
        towers.decoder,
        (cache / "tokenizer.json").read_text(encoding="utf-8"),
        known.vocabulary.tokens,
        out,
        shape=shape,
        preprocess=PREPROCESS,
        recipe=RECIPE,
    )
    sizes = {path.name: path.stat().st_size for path in sorted(out.iterdir()) if path.is_file()}
    log.info(f"lowest cosine to torch {cosines}; bytes {sizes}, {sum(sizes.values())} in all")
