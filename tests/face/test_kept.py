"""What a worker of the resident helper keeps open: answers are those of a command by itself."""

from __future__ import annotations

import faiss
import pytest

import encoders
from face.resident import kept
from face.resident.kept import Kept
from indexer import tiers
from tests.color import draw
from tests.conftest import Inside


@pytest.fixture
def listed(inside_new: Inside, monkeypatch: pytest.MonkeyPatch) -> Inside:
    """pixseek with lists over six pictures."""
    monkeypatch.setattr(tiers, "FROM_ROWS", 5)
    monkeypatch.setattr(encoders, "builtin_folder", lambda spec: None)  # `color` is no spec
    faiss.omp_set_num_threads(1)
    for number, color in enumerate(("red", "green", "blue", "yellow", "purple", "orange")):
        draw(inside_new.photos / f"{number}-{color}.png", color)
    inside_new("index", inside_new.photos)
    return inside_new


def test_lists_answer_the_same_from_an_index_that_stays_open(
    listed: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = [("red",), ("red", "--exact"), ("blue", "type:png"), ("red", "-green"), ("type:png",)]
    alone = [listed("search", *words, "--json").stdout for words in questions]
    holder = Kept()
    monkeypatch.setattr(kept, "_kept", holder)
    for _ in range(2):
        assert [listed("search", *words, "--json").stdout for words in questions] == alone
    holder.forget_index()


def test_an_index_stays_open_for_questions_of_its_kind(listed: Inside) -> None:
    holder = Kept()
    first = holder.index(listed.index, remember=True, exact=False)
    assert holder.index(listed.index, remember=True, exact=False) is first
    assert holder.index(listed.index, remember=True, exact=True) is not first
    assert holder.index(listed.index, remember=False, exact=False) is not first
    holder.forget_index()


def test_questions_are_remembered_although_the_index_stays_open(
    listed: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = Kept()
    monkeypatch.setattr(kept, "_kept", holder)
    listed("search", "red", environ={"PIXSEEK_REMEMBER": "0"})
    assert not list(listed.index.glob("asked-*"))
    listed("search", "red")
    (written,) = listed.index.glob("asked-*")
    once = written.stat().st_size
    assert once
    opened = holder.index(listed.index, remember=True, exact=False)  # what was written closed nothing
    listed("search", "green")
    assert written.stat().st_size > once
    assert holder.index(listed.index, remember=True, exact=False) is opened
    holder.forget_index()
