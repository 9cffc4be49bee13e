"""The recipe of the shipped encoder: what may be written in it, and whose a cache is."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch", reason="training needs torch: pip install 'pixseek[train]'")

from encoders import EncoderError, UsageError
from training.builtin.collection import Captioned
from training.builtin.frozen import train_frozen
from training.builtin.models import Shape
from training.builtin.recipe import Recipe, claim, train_recipe
from training.pretraining.recipes import example_recipe, read_table


def test_the_example_is_the_recipe_of_the_shipped_encoder() -> None:
    table = tomllib.loads(example_recipe("builtin"))
    for key in ("kind", "data", "cache", "out"):
        assert table.pop(key)
    assert read_table(Recipe, table, "", Path(), "builtin") == Recipe()


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ({"epochs": 3}, "epochs is not a key"),
        ({"contrast": {"epoch": 3}}, "did you mean epochs"),
        ({"contrast": {"rate": "fast"}}, "must be a number"),
        ({"contrast": {"alone": "head"}}, "alone is not for a recipe"),
        ({"seed": 1.5}, "must be a whole number"),
    ],
)
def test_a_mistake_in_the_recipe_is_named_before_anything_is_written(
    tmp_path: Path, table: dict[str, object], why: str
) -> None:
    with pytest.raises(UsageError, match=why):
        train_recipe(table, data=tmp_path, cache=tmp_path / "c", out=tmp_path / "o", report=print)
    assert not list(tmp_path.iterdir())


def test_a_cache_of_another_recipe_is_refused_and_kept(tmp_path: Path) -> None:
    recipe = Recipe()
    claim(tmp_path, recipe)
    claim(tmp_path, replace(recipe, threads=2))  # threads change nothing but the time
    before = (tmp_path / "recipe.json").read_bytes()
    other = replace(recipe, seed=1, contrast=replace(recipe.contrast, rate=1e-3))
    with pytest.raises(
        EncoderError, match=r"contrast\.rate \(was 0\.0006, is 0\.001\); seed \(was 0, is 1\)"
    ):
        claim(tmp_path, other)
    assert (tmp_path / "recipe.json").read_bytes() == before


LAYERS = [(8, 3, 3, 2), (8, 1, 3, 1), (8, 8, 1, 1)] + [
    shape
    for block in range(16)
    for shape in (
        (16, 160 if block >= 13 else 8, 1, 1),
        (16, 1, 3, 2 if block in (0, 2, 5, 12) else 1),
        (160 if 12 <= block < 15 else 16 if block == 15 else 8, 16, 1, 1),
    )
]


def write_data(data: Path) -> None:
    """Write sets of coloured squares, a backbone of the real plan and few channels, and a little text."""
    rng = np.random.default_rng(0)
    arrays = {}
    for number, (out, into, side, stride) in enumerate([*LAYERS, (32, 16, 1, 1), (4, 32, 1, 1)]):
        arrays[f"{number:02d}.weight"] = rng.normal(
            0, (2 / (into * side * side)) ** 0.5, (out, into, side, side)
        )
        arrays[f"{number:02d}.bias"] = np.zeros(out)
        arrays[f"{number:02d}.stride"] = np.array(stride)
    (data / "backbone").mkdir(parents=True)
    np.savez(data / "backbone" / "mobilenet_v2_1.0_224_imagenet.npz", **arrays)
    (data / "backbone" / "imagenet_labels.txt").write_text("background\ndog, hound\ncat\nred car\n")
    colours = {"red": "红", "green": "绿", "blue": "蓝", "white": "白", "black": "黑", "yellow": "黄"}
    for split, count in (("train", 8), ("dev", 1)):
        metas = {}
        for name, chinese in colours.items():
            for number in range(count):
                captions = [f"a {name} square", f"one square that is {name}"]
                if split == "dev":
                    captions = [f"the {name} thing seen from near by"]
                metas[f"{name}{number}"] = {"captions": captions, "captions_zh": [f"{chinese}色{split}方块"]}
        write_squares(data / "flickr8k" / f"{split}.tar", metas)
    (data / "text").mkdir()
    for name, lines in (
        ("multi30k_en", colours),
        ("phrases_flavors", ["sharp focus"]),
        ("phrases_mediums", ["a cartoon"]),
    ):
        with gzip.open(data / "text" / f"{name}.txt.gz", "wt", encoding="utf-8") as handle:
            handle.write("\n".join(f"{line} things" for line in lines))


def square(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(buffer, "WEBP")
    return buffer.getvalue()


def write_squares(path: Path, metas: dict[str, dict[str, list[str]]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for key, meta in metas.items():
            picture = square(key.rstrip("0123456789"))
            for name, content in ((f"{key}.json", json.dumps(meta).encode()), (f"{key}.webp", picture)):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


def said(texts: Sequence[str], cache: Path) -> np.ndarray:
    """Return for each text the mean of a fixed random vector per word: a teacher that knows words only."""
    rows = np.zeros((len(texts), 384), dtype=np.float32)
    for row, text in enumerate(texts):
        for word in text.lower().split():
            seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "little")
            rows[row] += np.random.default_rng(seed).normal(size=384)
    rows[np.linalg.norm(rows, axis=1) == 0, 0] = 1
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


@pytest.mark.slow
def test_the_whole_recipe_goes_from_pictures_to_an_encoder_that_searches_and_describes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from encoders import load_captioner, load_encoder
    from training.builtin import features, recipe, teacher

    write_data(tmp_path / "data")
    few = Captioned("plain", square("grey"), ("nothing",))
    drawn = Captioned("drawn", square("pink"), ("a pink drawing",))
    for room in (features, teacher):
        monkeypatch.setattr(room, "drawing_samples", lambda: [drawn])
        monkeypatch.setattr(room, "plain_samples", lambda: [few])
    for room in (features, teacher, recipe):
        monkeypatch.setattr(room, "chinese_names", lambda: {"red car": ("红车",)})
    monkeypatch.setattr(recipe, "teacher_embeddings", said)
    monkeypatch.setattr(
        recipe, "Shape", lambda: Shape(vocab=400, width=32, layers=1, hidden=64, decoder_layers=1)
    )
    monkeypatch.setattr(recipe, "judge", lambda *_: {})
    monkeypatch.setattr(recipe, "train_frozen", lambda *a: train_frozen(*a, batch=16, epochs=2))
    table = {"distil_epochs": 4, "head_epochs": 4, "told_epochs": 20, "threads": 1}
    contrast = {"epochs": 30, "batch": 16, "wide": 4, "rate": 3e-3, "text_rate": 3e-3, "upper_rate": 1e-3}
    lines: list[str] = []
    train_recipe(
        table | {"contrast": contrast},
        data=tmp_path / "data",
        cache=tmp_path / "cache",
        out=tmp_path / "out",
        report=lines.append,
    )
    assert any("baseline flickr8k/dev" in line for line in lines)
    assert any("told epoch 20/20" in line for line in lines)
    spec = f"local-dir:{tmp_path / 'out'}"
    encoder = load_encoder(spec, cache_dir=tmp_path / "exports", offline=True)
    names = ("red", "green", "blue", "white", "black", "yellow")
    images = [Image.new("RGB", (64, 64), name) for name in names]
    scores = encoder.encode_texts([f"a {name} square" for name in names]) @ encoder.encode_images(images).T
    # The backbone is random and its colours wash out: four of six is far above the chance of one.
    assert (scores.argmax(1) == np.arange(len(names))).sum() >= 4
    captioner = load_captioner(spec, cache_dir=tmp_path / "exports", offline=True)
    told = captioner.caption(images)
    assert sum(name in sentence for name, sentence in zip(names, told, strict=True)) >= 3
