"""The recipe of the shipped encoder: what may be written in it, and whose a cache is."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="training needs torch: pip install 'pixseek[train]'")

from encoders import EncoderError, UsageError
from training.builtin.recipe import Recipe, claim, train_recipe
from training.recipes import example_recipe, read_table


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
