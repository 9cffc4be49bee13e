"""What a person taught the index is kept, checked and mended like everything else in it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from encoders import UsageError
from indexer import (
    Index,
    IndexLockedError,
    IndexMissingError,
    Look,
    backup,
    check,
    prune,
    remove_concept,
    repair,
    save_concept,
    save_verdicts,
)  # fmt: skip
from indexer.lock import WriterLock
from tests.indexer.catalogs import DIM, content, shown_at, write

LOOKS = [Look(0, 0.0), Look(2**64 - 1, 12.5), Look(2**63, 1e-9)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    contents = [content(number, look=look) for number, look in enumerate([*LOOKS, None])]
    return write(tmp_path / "index", contents, [shown_at(f"/{number}.jpg", number) for number in range(4)])


def direction(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(DIM).astype(np.float32)


def test_concept_comes_back_as_a_unit_vector(folder: Path):
    save_concept(folder, "our dog", 3 * direction(1), 5, 0.25)
    save_concept(folder, "海边", direction(2), 1)
    with Index.open(folder) as index:
        dog = index.concept("our dog")
        assert dog is not None
        assert (dog.name, dog.examples, dog.threshold) == ("our dog", 5, 0.25)
        assert dog.vector.dtype == np.float32
        assert np.allclose(dog.vector, direction(1) / np.linalg.norm(direction(1)), atol=1e-3)
        assert [concept.name for concept in index.concepts()] == ["our dog", "海边"]
        assert index.concept("our cat") is None


def test_concept_saved_again_is_replaced_and_removed_once(folder: Path):
    save_concept(folder, "dog", direction(1), 1, 0.5)
    save_concept(folder, "dog", direction(2), 7)
    with Index.open(folder) as index:
        (dog,) = index.concepts()
        assert (dog.examples, dog.threshold) == (7, None)
    assert remove_concept(folder, "dog")
    assert not remove_concept(folder, "dog")
    with Index.open(folder) as index:
        assert index.concepts() == []
    assert check(folder).ok


@pytest.mark.parametrize(
    "vector", [np.zeros(DIM, np.float32), np.ones(DIM + 1, np.float32), np.full(DIM, np.nan, np.float32)]
)
def test_vector_that_is_none_is_refused(folder: Path, vector: np.ndarray):
    with pytest.raises(UsageError, match="dog"):
        save_concept(folder, "dog", vector, 1)


def test_concept_needs_a_name_an_index_and_the_lock(folder: Path, tmp_path: Path):
    with pytest.raises(UsageError, match="name"):
        save_concept(folder, " ", direction(1), 1)
    with pytest.raises(IndexMissingError):
        save_concept(tmp_path / "none", "dog", direction(1), 1)
    assert not (tmp_path / "none").exists()
    lock = WriterLock(folder)
    try:
        with pytest.raises(IndexLockedError):
            save_concept(folder, "dog", direction(1), 1)
    finally:
        lock.close()


def test_verdict_is_about_a_pair_in_either_order_and_the_last_one_counts(folder: Path):
    save_verdicts(folder, [(b"b" * 32, b"a" * 32, "different"), (b"c" * 32, b"d" * 32, "same")])
    save_verdicts(folder, [(b"a" * 32, b"b" * 32, "same")])
    with Index.open(folder) as index:
        found = index.verdicts()
    assert {pair: verdict.verdict for pair, verdict in found.items()} == {
        (b"a" * 32, b"b" * 32): "same", (b"c" * 32, b"d" * 32): "same",
    }  # fmt: skip
    assert all(verdict.decided_at.endswith("+00:00") for verdict in found.values())
    assert check(folder).ok


def test_looks_keep_all_64_bits(folder: Path):
    with Index.open(folder) as index:
        assert [look for _, look in index.looks()] == LOOKS


def test_prune_and_backup_take_looks_along(folder: Path, tmp_path: Path):
    save_concept(folder, "dog", direction(1), 1)
    database = sqlite3.connect(folder / "catalog.sqlite")
    database.execute("delete from names where rowid = 1")
    database.execute("delete from file where id = 1")
    database.commit()
    database.close()
    prune(folder, apply=True)
    with Index.open(backup(folder, tmp_path / "copy")) as index:
        assert [look for _, look in index.looks()] == LOOKS[1:]
        assert [concept.name for concept in index.concepts()] == ["dog"]
    assert check(folder).ok


@pytest.mark.parametrize(
    "statement",
    [
        "update look set phash = phash + 1 where content_id = 2",
        "update look set sharpness = x'ff' where content_id = 2",
        "update concept set vector = zeroblob(32)",
        "update concept set vector = 5",
        "update concept set name = cast(x'ff' as text)",
        "update concept set space_id = 7",
        "update verdict set first = x'00'",
        "update verdict set verdict = 'same'",
    ],
)
def test_changed_bits_are_left_out_named_and_dropped(folder: Path, statement: str):
    save_concept(folder, "dog", direction(1), 1)
    save_verdicts(folder, [(b"a" * 32, b"b" * 32, "different")])
    database = sqlite3.connect(folder / "catalog.sqlite")
    database.execute(statement)
    database.commit()
    database.close()
    with Index.open(folder) as index:
        kept = (len(list(index.looks())), len(index.concepts()), len(index.verdicts()))
        assert sum(kept) == 4
        query = content(3).vectors[0].astype(np.float32)
        assert index.nearest(query, 1)[0].score > 0.99
    table = statement.split()[1]
    assert any(
        problem.where.startswith(table) or "concept" in problem.where for problem in check(folder).problems
    )
    report = repair(folder)
    assert report.to_encode == []
    assert check(folder).ok
    with Index.open(folder) as index:
        assert len(index.listed(index.select(None), 9, "name")) == 4
        assert (len(list(index.looks())), len(index.concepts()), len(index.verdicts())) == kept
