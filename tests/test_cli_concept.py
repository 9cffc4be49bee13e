"""`pixseek concept`: a name for a few pictures, learned, asked for, shown and forgotten."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.conftest import Inside, draw


@pytest.fixture
def indexed(inside_new: Inside, photos: Path) -> Inside:
    inside_new("index", photos, "--workers", "1")
    return inside_new


def test_a_concept_is_learned_asked_for_and_forgotten(indexed: Inside, photos: Path, tmp_path: Path) -> None:
    examples = [draw(tmp_path / f"{number}.jpg", "blue", mark=number + 1) for number in range(3)]
    done = indexed("concept", "add", "our-sea", *examples)
    assert b"learned our-sea from 3 pictures" in done.stderr
    assert indexed("concept", "list").stdout == b"our-sea\t3 pictures\n"
    found = indexed("search", "concept:our-sea", "-k", "1", "--paths-only").stdout
    assert found == os.fsencode(photos / "blue.png") + b"\n"
    shown = json.loads(indexed("concept", "show", "our-sea", "--json").stdout)
    assert (shown["name"], shown["examples"], shown["encoder"], len(shown["vector"])) == (
        "our-sea",
        3,
        "color",
        8,
    )
    assert b"examples  3" in indexed("concept", "show", "our-sea").stdout
    assert json.loads(indexed("concept", "remove", "our-sea", "--json").stdout) == {"removed": "our-sea"}
    assert b"known: none yet" in indexed("concept", "remove", "our-sea", exits=2).stderr
    assert b"no concept called our-sea" in indexed("search", "concept:our-sea", exits=2).stderr


def test_examples_may_be_hits_and_come_from_anywhere(indexed: Inside, photos: Path) -> None:
    answer = json.loads(indexed("search", "green", "-k", "1", "--json").stdout)
    number = answer["hits"][0]["file_id"]
    data = (photos / "green.png").read_bytes()
    done = indexed("concept", "add", "lawn", f"id:{number}", "-", "--json", input=data)
    assert json.loads(done.stdout) == {"name": "lawn", "examples": 2, "failed": []}
    assert json.loads(indexed("concept", "list", "--json").stdout) == {
        "count": 1,
        "concepts": [{"name": "lawn", "examples": 2}],
    }


def test_a_name_is_taken_until_it_is_replaced(indexed: Inside, photos: Path) -> None:
    indexed("concept", "add", "mine", photos / "red.png")
    assert b"--replace" in indexed("concept", "add", "mine", photos / "blue.png", exits=2).stderr
    indexed("concept", "add", "mine", photos / "blue.png", "--replace")
    found = indexed("search", "concept:mine", "-k", "1", "--paths-only").stdout
    assert found == os.fsencode(photos / "blue.png") + b"\n"


def test_a_bad_example_is_told_and_the_others_count(indexed: Inside, photos: Path) -> None:
    (photos / "bad.png").write_bytes(b"no picture")
    done = indexed("concept", "add", "mine", photos / "bad.png", photos / "red.png", exits=3)
    assert b"bad.png" in done.stderr
    assert b"learned mine from 1 picture;" in done.stderr
    for examples in ([photos / "bad.png"], [photos / "bad.png", photos / "gone.png"], ["id:99999"]):
        indexed("concept", "add", "other", *examples, exits=2)
    assert b"other" not in indexed("concept", "list").stdout


@pytest.mark.parametrize("name", ["", " ", "-x", 'a"b', "a:b", "a^2", "x" * 65, "a\nb", "a[0]", "(a)"])
def test_a_name_that_no_query_could_hold_is_wrong_usage(inside: Inside, name: str) -> None:
    done = inside("concept", "show", "--", name, exits=2)
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("words", [[], ["nonsense"], ["add"], ["add", "x"], ["show"]])
def test_half_a_command_is_one_line(inside: Inside, words: list[str]) -> None:
    done = inside("concept", *words, exits=2)
    assert len(done.stderr.splitlines()) == 1
    assert b"--help" in done.stderr


def test_concepts_need_an_index_that_holds_something(inside_new: Inside, tmp_path: Path) -> None:
    for command in (["list"], ["show", "x"], ["remove", "x"], ["add", "x", "y.png"]):
        inside_new("concept", *command, exits=10)
    (tmp_path / "none").mkdir()
    inside_new("index", tmp_path / "none")
    assert b"no concepts yet" in inside_new("concept", "list").stderr


def test_another_encoder_learns_nothing(inside: Inside) -> None:
    done = inside("concept", "add", "x", inside.photos / "red.png", "--encoder", "color-2", exits=12)
    assert b"use --encoder color" in done.stderr


def test_a_concept_can_be_excluded(indexed: Inside, photos: Path, tmp_path: Path) -> None:
    examples = [draw(tmp_path / f"{number}.jpg", "blue", mark=number + 1) for number in range(3)]
    indexed("concept", "add", "our-sea", *examples)
    answer = json.loads(indexed("search", "-concept:our-sea", "--json").stdout)
    assert answer["excluded"] == 1
    assert sorted(Path(hit["path"]).stem for hit in answer["hits"]) == ["green", "red", "yellow"]
