"""The recipe of the built-in encoder, one command:

`python -m training.builtin --data ../shared/data --out encoders/weights/builtin`

Stages: views of the pictures, teacher embeddings, tokenizer, distil (words), head (pictures alone),
contrast (both), export, evaluate. Every stage keeps what it made in the cache folder; after a kill the
same command goes on from there.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from training.builtin.backbone import TRUNK, SameConv, load_backbone
from training.builtin.collection import CAPTIONED, LABELLED
from training.builtin.contrast import Pairs, Towers, dev_recall, train_towers
from training.builtin.distil import TextData, initialise, train_text
from training.builtin.drawings import drawing_captions, drawing_samples
from training.builtin.export import export_towers
from training.builtin.features import BACKBONE, PREPROCESS, PictureSet, cache_features, load_set
from training.builtin.models import ImageHead, ImageTower, Shape, TextTower
from training.builtin.teacher import teacher_embeddings, training_texts
from training.builtin.tokenizer import encode_all, load_tokenizer, train_tokenizer

RECIPE = "builtin-1"


@dataclass(frozen=True, slots=True)
class Recipe:
    """Lengths of the stages, in epochs, and their learning rates."""

    distil_epochs: int = 1
    distil_horizon: int = 3
    head_epochs: int = 8
    contrast_epochs: int = 5
    text_rate: float = 6e-4
    head_rate: float = 6e-4
    top_rate: float = 1e-4
    wide: int = 128
    teach: float = 3.0
    seed: int = 0


def stage(name: str) -> None:
    """Announce a stage with the time of day."""
    print(f"[{time.strftime('%H:%M:%S')}] {name}", flush=True)


def text_data(data: Path, cache: Path, shape: Shape) -> TextData:
    """Return every training sentence as ids and teacher embeddings; trains the tokenizer once."""
    texts, removed = training_texts(data, drawing_captions())
    print(f"{len(texts)} sentences, {removed} development captions removed", flush=True)
    targets = teacher_embeddings(texts, cache / "teacher")
    path = cache / "tokenizer.json"
    if not path.exists():
        train_tokenizer(texts, vocab=shape.vocab, context=shape.context).save(str(path))
    tokenizer = load_tokenizer(path)
    return TextData.of(texts, encode_all(tokenizer, texts, shape.context), targets)


def new_text_tower(cache: Path, shape: Shape, seed: int) -> TextTower:
    """Return a text tower that starts as a bag of its tokens' teacher embeddings."""
    tokenizer = load_tokenizer(cache / "tokenizer.json")
    tokens = [str(tokenizer.id_to_token(row)).replace("##", "") for row in range(tokenizer.get_vocab_size())]
    torch.manual_seed(seed)
    tower = TextTower(shape)
    if len(tokens) != shape.vocab:
        raise ValueError(f"the tokenizer has {len(tokens)} tokens, the tower {shape.vocab}")
    initialise(tower, teacher_embeddings(tokens, cache / "teacher").astype(np.float32))
    return tower


def train(data: Path, cache: Path, out: Path, recipe: Recipe, shape: Shape) -> None:
    """Run every stage and write the encoder to `out`."""
    features, runs = cache / "features", cache / "runs"
    stage("views")
    drawn = (features / "drawings.v0.npy").exists()
    cache_features(data, features, seed=recipe.seed, drawings=None if drawn else drawing_samples())
    stage("teacher")
    texts = text_data(data, cache, shape)
    sets = [
        pictures for name in (*CAPTIONED, *LABELLED, "drawings") if (pictures := load_set(features, name))
    ]
    print({pictures.name: (len(pictures.captions), len(pictures.views)) for pictures in sets}, flush=True)
    stage("distil")
    tower = new_text_tower(cache, shape, recipe.seed)
    train_text(
        tower,
        texts,
        folder=runs,
        epochs=recipe.distil_epochs,
        horizon=recipe.distil_horizon,
        seed=recipe.seed,
    )
    stage("head")
    backbone = load_backbone(data / BACKBONE)
    top = list(backbone.convs)[TRUNK]
    torch.manual_seed(recipe.seed)
    head = ImageHead(shape, top if isinstance(top, SameConv) else None)
    photos = [pictures for pictures in sets if pictures.name != "drawings"]
    train_towers(
        Towers(TextTower(shape), head),
        Pairs.of(photos, texts),
        texts,
        folder=runs,
        epochs=recipe.head_epochs,
        text_rate=0.0,
        name="head",
        seed=recipe.seed,
    )
    stage("contrast")
    towers = Towers(tower, head)
    dev = dev_set(features, cache, shape)
    if dev:
        print("before:", str(dev_recall(towers, *dev)).replace("\n", " | "), flush=True)
    train_towers(
        towers,
        Pairs.of(sets, texts),
        texts,
        folder=runs,
        epochs=recipe.contrast_epochs,
        dev=dev,
        rate=recipe.head_rate,
        text_rate=recipe.text_rate,
        top_rate=recipe.top_rate,
        wide=recipe.wide,
        teach=recipe.teach,
        seed=recipe.seed,
    )
    stage("export")
    export(towers, data, cache, out, shape)


def dev_set(features: Path, cache: Path, shape: Shape) -> tuple[PictureSet, np.ndarray] | None:
    """Return flickr8k/dev as views and caption ids, to watch; nothing is trained on it."""
    pictures = load_set(features, "flickr8k/dev")
    if pictures is None:
        return None
    captions = [caption for group in pictures.captions for caption in group]
    return pictures, encode_all(load_tokenizer(cache / "tokenizer.json"), captions, shape.context)


def export(towers: Towers, data: Path, cache: Path, out: Path, shape: Shape) -> None:
    """Write the encoder's files and print how well ONNX and torch agree."""
    image = ImageTower(load_backbone(data / BACKBONE), towers.head)
    cosines = export_towers(
        image,
        towers.text,
        (cache / "tokenizer.json").read_text(encoding="utf-8"),
        out,
        dim=shape.dim,
        context=shape.context,
        preprocess=PREPROCESS,
        recipe=RECIPE,
    )
    sizes = {path.name: path.stat().st_size for path in sorted(out.iterdir()) if path.is_file()}
    print(f"lowest cosine to torch {cosines}; bytes {sizes}", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, export and evaluate the built-in encoder."""
    parser = argparse.ArgumentParser(description="Train the built-in encoder; resumes from its cache folder.")
    parser.add_argument("--data", type=Path, required=True, help="folder of the training sets")
    parser.add_argument("--out", type=Path, required=True, help="folder for image.onnx, text.onnx, ...")
    parser.add_argument(
        "--cache", type=Path, default=Path("work") / "builtin", help="views, teacher, checkpoints"
    )
    parser.add_argument("--epochs", type=int, default=Recipe().contrast_epochs, help="of the contrast stage")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    recipe = Recipe(contrast_epochs=options.epochs, seed=options.seed)
    train(options.data, options.cache, options.out, recipe, Shape())
    if options.out.resolve() == (Path(__file__).parent.parent / "encoders" / "weights" / "builtin").resolve():
        from training.evaluate import evaluate_tar

        for name in ("flickr8k/dev", "coco/dev"):
            path = options.data / f"{name}.tar"
            if path.exists():
                result, pictures, sentences = evaluate_tar(path, "builtin")
                print(f"{name}: {pictures} pictures, {sentences} sentences\n{result}", flush=True)
    stage("done")


if __name__ == "__main__":
    main()
