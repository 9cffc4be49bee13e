"""The command line over an index whose questions read a part of it."""

from __future__ import annotations

import json
import stat

import faiss
import pytest

from indexer import tiers
from tests.color import draw
from tests.conftest import Inside


@pytest.fixture
def listed(inside_new: Inside, monkeypatch: pytest.MonkeyPatch) -> Inside:
    """pixseek with lists over six pictures."""
    monkeypatch.setattr(tiers, "FROM_ROWS", 5)
    faiss.omp_set_num_threads(1)
    for number, color in enumerate(("red", "green", "blue", "yellow", "purple", "orange")):
        draw(inside_new.photos / f"{number}-{color}.png", color)
    inside_new("index", inside_new.photos)
    return inside_new


def best(pixseek: Inside, *arguments: str) -> str:
    hits = json.loads(pixseek("search", "red", "--json", *arguments).stdout)["hits"]
    return str(hits[0]["path"])


def test_status_says_what_questions_read_and_find(listed: Inside):
    tier = json.loads(listed("status", "--json").stdout)["tier"]
    assert (tier["kind"], tier["embeddings"]) == ("IVF,SQ8", 6)
    assert tier["recall_at_10"] >= 0.98
    assert b" lists and find 100.0% of the 10 nearest" in listed("status").stdout


def test_questions_are_kept_unless_one_says_no(listed: Inside):
    assert best(listed).endswith("red.png")
    (kept,) = listed.index.glob("asked-*")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    kept.unlink()
    listed("search", "red", environ={"PIXSEEK_REMEMBER": "0"})
    assert not list(listed.index.glob("asked-*"))


def test_exact_reads_every_embedding(listed: Inside):
    assert best(listed, "--exact").endswith("red.png")
    listed("similar", str(listed.photos / "0-red.png"), "--exact")


def test_a_small_index_has_no_lists_to_tell_of(inside: Inside):
    assert json.loads(inside("status", "--json").stdout)["tier"] is None
    assert b"lists" not in inside("status").stdout
