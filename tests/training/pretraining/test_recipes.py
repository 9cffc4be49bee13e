"""Recipes: what is wrong is named by its key, with what would be right."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from encoders import UsageError
from tests.training.squares import CLIP, table, write_recipe
from training.pretraining.recipes import (
    BuiltinRecipe,
    OpenClipRecipe,
    differences,
    example_recipe,
    examples,
    load_recipe,
    parse_recipe,
)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    return folder


def parsed(photos: Path, **changes: Any) -> OpenClipRecipe:
    recipe = parse_recipe(table(photos, Path("out"), **changes), base=photos.parent)
    assert isinstance(recipe, OpenClipRecipe)
    return recipe


def test_a_recipe_file_is_read_and_its_paths_start_at_its_folder(photos: Path) -> None:
    given = table(photos, Path("out")) | {"data": [{"source": "photos", "weight": 2}]}
    recipe = load_recipe(write_recipe(photos.parent / "r.toml", given))
    assert isinstance(recipe, OpenClipRecipe)
    assert recipe.data[0].source == photos
    assert recipe.data[0].weight == 2.0
    assert recipe.out == photos.parent / "out"
    assert recipe.model_cfg == CLIP
    assert recipe.rates.image == 2e-3


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"epoch": 3}, "epoch is not a key; did you mean epochs?"),
        ({"zzz": 3}, "zzz is not a key; the keys here are out, data, model"),
        ({"epochs": "three"}, "epochs = 'three' is text; it must be a whole number"),
        ({"epochs": 2.5}, "epochs = 2.5 is a number; it must be a whole number"),
        ({"epochs": True}, "epochs = True is true or false; it must be a whole number"),
        ({"epochs": 0}, "epochs = 0; it must be 1 or more"),
        ({"augment": 2}, "augment = 2; it must be from 0 to 1"),
        ({"loss": "triplet"}, "loss is 'triplet'; it must be one of clip, siglip, coca, distill"),
        ({"rates": 3}, "rates is a whole number; it must be a table"),
        ({"rates": {"image": float("nan")}}, "rates.image = nan; it must be 0 or more"),
        ({"rates": {"imagge": 1}}, "rates.imagge is not a key; did you mean image?"),
        ({"data": []}, "data is empty; add a [[data]] table"),
        ({"data": {"source": "x"}}, "data = {'source': 'x'} is a table; it must be a list"),
        ({"data": [{"source": "gone"}]}, "data[0].source: no such file or folder"),
        ({"data": [{}]}, "data[0].source is missing"),
        ({"init": "gone.safetensors"}, "init: no such file or folder"),
        ({"model": "ViT-B-32"}, "give either model"),
        ({"loss": "distill"}, "needs teacher.encoder"),
        ({"teacher": {"texts": ["."]}}, "teacher.texts needs teacher.encoder"),
        ({"preprocess": {"mean": [0.5]}}, "preprocess.mean must be three numbers"),
        ({"held_out": {"templates": ["a photo"]}}, "held_out.templates: 'a photo' must have {} once"),
    ],
)
def test_a_wrong_key_is_named_with_what_would_be_right(
    photos: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError) as caught:
        parsed(photos, **changes)
    assert said in str(caught.value)


def test_what_is_no_recipe_at_all_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read the recipe .*pixseek train --example"):
        load_recipe(tmp_path / "gone.toml")
    (tmp_path / "r.toml").write_text("epochs = = 3")
    with pytest.raises(UsageError, match="is not TOML"):
        load_recipe(tmp_path / "r.toml")
    (tmp_path / "r.toml").write_text("epochs = 3")
    with pytest.raises(UsageError, match='kind is None; it must be "open_clip" or "builtin"'):
        load_recipe(tmp_path / "r.toml")
    (tmp_path / "r.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="is not TOML"):
        load_recipe(tmp_path / "r.toml")


def test_the_keys_that_differ_are_named_and_where_it_runs_is_none_of_them(photos: Path) -> None:
    first = parsed(photos).facts(CLIP)
    second = parsed(photos, epochs=5, rates={"image": 1.0}, threads=2, device="cpu").facts(CLIP)
    assert [line.partition(" ")[0] for line in differences(first, second)] == [
        "epochs", "rates.decoder", "rates.image", "rates.rest", "rates.text",
    ]  # fmt: skip
    assert "epochs (was 2, is 5)" in differences(first, second)
    assert differences(first, parsed(photos, out="elsewhere").facts(CLIP)) == []


@pytest.mark.parametrize("name", sorted({*examples()} - {"builtin"}))
def test_an_example_is_a_recipe_once_its_sources_are_there(tmp_path: Path, name: str) -> None:
    given = tomllib.loads(example_recipe(name))
    for source in [one["source"] for one in [*given["data"], given["held_out"]] if "source" in one]:
        (tmp_path / source).mkdir(parents=True)
    recipe = parse_recipe(given, base=tmp_path)
    assert isinstance(recipe, OpenClipRecipe)
    assert recipe.model_cfg


def test_the_examples_are_named_to_who_asks_for_another() -> None:
    assert examples() == ["builtin", "coca-small", "tiny-clip"]
    with pytest.raises(UsageError, match="there are builtin, coca-small, tiny-clip"):
        example_recipe("huge")


def test_the_builtin_recipe_keeps_its_table(tmp_path: Path) -> None:
    given = {"kind": "builtin", "data": ".", "cache": "c", "out": "o", "epochs": 3}
    recipe = parse_recipe(given, base=tmp_path)
    assert recipe == BuiltinRecipe(tmp_path / ".", tmp_path / "c", tmp_path / "o", {"epochs": 3})
    with pytest.raises(UsageError, match="cache is missing"):
        parse_recipe({"kind": "builtin", "data": "."}, base=tmp_path)
