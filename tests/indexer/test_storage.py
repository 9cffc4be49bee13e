"""Damage: cut, flipped, foreign, newer, missing. Answers are right or there is an error, never wrong."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from indexer import (
    Index,
    IndexDamagedError,
    IndexMissingError,
    IndexNewerError,
    backup,
    check,
    prune,
    repair,
)  # fmt: skip
from tests.indexer.conftest import Library
from tests.indexer.crash import violations


@pytest.fixture
def indexed(library: Library) -> Library:
    library.fill(40)
    library.index()
    return library


def snapshot_of(library: Library) -> Path:
    (path,) = library.index_dir.glob("vectors-*.faiss")
    return path


def answers(library: Library) -> list[tuple[int, float]]:
    with Index.open(library.index_dir) as index:
        query = library.encoder.encode_texts(["a dog"])[0]
        return [(near.frame_id, round(near.score, 5)) for near in index.nearest(query, 40)]


@pytest.mark.parametrize("seed", range(10))
def test_flipped_bit_in_a_snapshot_changes_no_answer(indexed: Library, seed: int):
    right = answers(indexed)
    path = snapshot_of(indexed)
    data = bytearray(path.read_bytes())
    rng = random.Random(seed)
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    assert answers(indexed) == right
    assert [problem.kind for problem in check(indexed.index_dir).problems] == ["snapshot"]
    with Index.open(indexed.index_dir) as index:
        index.nearest(indexed.encoder.encode_texts(["x"])[0], 1)
        assert len(index.warnings) == 1
    indexed.index()
    assert check(indexed.index_dir).ok


@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.7, 0.99])
def test_cut_snapshot_changes_no_answer(indexed: Library, share: float):
    right = answers(indexed)
    path = snapshot_of(indexed)
    os.truncate(path, int(path.stat().st_size * share))
    assert answers(indexed) == right


@pytest.mark.parametrize("thing", ["missing", "folder", "fifo", "dangling link"])
def test_snapshot_replaced_by_something_else_changes_no_answer(indexed: Library, thing: str):
    right = answers(indexed)
    path = snapshot_of(indexed)
    path.unlink()
    if thing == "folder":
        path.mkdir()
    elif thing == "fifo":
        os.mkfifo(path)
    elif thing == "dangling link":
        path.symlink_to("nowhere")
    assert answers(indexed) == right


def test_snapshot_of_another_index_is_not_used(indexed: Library, tmp_path: Path):
    right = answers(indexed)
    other_base = tmp_path / "other"
    other_base.mkdir()
    other = Library(other_base)
    other.fill(40, start=1000)
    other.index()
    shutil.copy(snapshot_of(other), snapshot_of(indexed))
    assert answers(indexed) == right


def test_mid_run_snapshot_and_tail_agree_with_exact_search(library: Library):
    paths = library.fill(30)
    library.index()
    library.fill(25, start=500)
    library.index()
    with Index.open(library.index_dir) as index:
        assert index.status().snapshot_embeddings == 30, "the tail is searched without a new snapshot"
        query = library.encoder.encode_texts(["query"])[0]
        near = index.nearest(query, 55)
        records = index.frames([n.frame_id for n in near])
        scores = {records[n.frame_id][0].path: n.score for n in near}
    from tests.indexer.crash import expected_vector

    assert len(scores) == 55
    assert len(paths) == 30
    for path, score in scores.items():
        assert score == pytest.approx(
            float(expected_vector(os.fsdecode(path)).astype(np.float32) @ query), abs=2e-3
        )
    assert [n.score for n in near] == sorted((n.score for n in near), reverse=True)


@pytest.mark.parametrize("size", [0, 1, 100, "half"])
def test_cut_catalog_is_reported_and_never_replaced(indexed: Library, size):
    path = indexed.index_dir / "catalog.sqlite"
    os.truncate(path, path.stat().st_size // 2 if size == "half" else size)
    damaged = path.read_bytes()
    with pytest.raises(IndexDamagedError, match="repair"):
        Index.open(indexed.index_dir)
    with pytest.raises(IndexDamagedError):
        indexed.index()
    assert path.read_bytes() == damaged


def test_salvage_does_not_count_up_to_a_flipped_row_id(indexed: Library):
    database = sqlite3.connect(indexed.index_dir / "catalog.sqlite")
    database.execute("update file set id = id + (1 << 50) where id = 7")
    database.execute("update frame set content_id = 999 where id = 9")  # a broken link makes repair copy all
    database.commit()
    database.close()
    report = repair(indexed.index_dir)
    assert report.set_aside
    indexed.index()
    assert check(indexed.index_dir).ok
    assert len(indexed.paths()) == 40


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("update space set active = 0", IndexDamagedError),
        ("update content set format = cast(x'ff' as text) where id = 3", None),
        ("update file set path = 7 where id = 3", None),
        ("update embedding set vector = 1099511627776 where id = 3", None),
        ("update snapshot set name = 5", None),
    ],
)
def test_values_of_another_type_are_damage_and_never_a_crash(indexed: Library, statement: str, error):
    database = sqlite3.connect(indexed.index_dir / "catalog.sqlite")
    database.execute(statement)
    database.commit()
    database.close()
    if error:
        with pytest.raises(error):
            answers(indexed)
        return
    assert 39 <= len(answers(indexed)) <= 40
    assert not check(indexed.index_dir).ok or "snapshot" in statement
    repair(indexed.index_dir)
    indexed.index()
    assert check(indexed.index_dir).ok
    assert len(indexed.paths()) == 40


@pytest.mark.parametrize("seed", range(12))
def test_flips_in_the_catalog_never_give_a_wrong_answer_and_repair_mends_them(indexed: Library, seed: int):
    right = dict(answers(indexed))
    path = indexed.index_dir / "catalog.sqlite"
    data = bytearray(path.read_bytes())
    rng = random.Random(seed)
    for _ in range(3):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    for snapshot in indexed.index_dir.glob("vectors-*"):
        snapshot.unlink()
    try:
        found = dict(answers(indexed))
        assert found.items() <= right.items()
    except IndexDamagedError:
        pass
    repair(indexed.index_dir)
    assert check(indexed.index_dir).ok
    indexed.index()
    assert check(indexed.index_dir).ok
    assert violations(indexed.index_dir, []) == []
    assert len(indexed.paths()) == 40


@pytest.mark.parametrize(
    ("table", "column"), [("embedding", "vector"), ("file", "path"), ("frame", "check"), ("content", "hash")]
)
def test_check_names_a_flipped_bit_and_repair_has_it_encoded_again(indexed: Library, table: str, column: str):
    database = sqlite3.connect(indexed.index_dir / "catalog.sqlite")
    value = bytearray(database.execute(f'select "{column}" from {table} where id=7').fetchone()[0])
    value[3] ^= 4
    database.execute(f'update {table} set "{column}"=? where id=7', (bytes(value),))
    database.commit()
    database.close()
    problems = check(indexed.index_dir).problems
    assert any(f"{table} 7" in problem.where for problem in problems)
    report = repair(indexed.index_dir)
    assert report.lost_rows >= 1
    indexed.index()
    assert check(indexed.index_dir).ok
    assert len(indexed.paths()) == 40


def test_catalog_that_is_not_ours_is_not_touched(library: Library):
    library.fill(1)
    library.index_dir.mkdir()
    path = library.index_dir / "catalog.sqlite"
    for content in (library.photos.joinpath("IMG_00000.png").read_bytes(), b"text"):
        path.write_bytes(content)
        for attempt in (lambda: Index.open(library.index_dir), library.index):
            with pytest.raises(IndexDamagedError):
                attempt()
        assert path.read_bytes() == content
    path.unlink()
    foreign = sqlite3.connect(path)
    foreign.execute("create table t(x)")
    foreign.commit()
    foreign.close()
    with pytest.raises(IndexDamagedError, match="not a pixseek catalog"):
        library.index()


def test_newer_format_is_refused_and_not_touched(indexed: Library):
    path = indexed.index_dir / "catalog.sqlite"
    database = sqlite3.connect(path)
    database.execute("pragma user_version=999")
    database.commit()
    database.close()
    before = path.read_bytes()
    for attempt in (lambda: Index.open(indexed.index_dir), indexed.index, lambda: repair(indexed.index_dir)):
        with pytest.raises(IndexNewerError, match="newer version"):
            attempt()
    assert path.read_bytes() == before


def test_lost_catalog_beside_a_snapshot_is_damage_not_a_new_index(indexed: Library):
    (indexed.index_dir / "catalog.sqlite").unlink()
    with pytest.raises(IndexDamagedError):
        indexed.index()


def test_no_index_is_said_so(tmp_path: Path):
    with pytest.raises(IndexMissingError, match="pixseek index"):
        Index.open(tmp_path)


def test_repair_of_a_headless_catalog_sets_it_aside(indexed: Library):
    path = indexed.index_dir / "catalog.sqlite"
    with path.open("r+b") as stream:
        stream.write(b"garbage!" * 8)
    report = repair(indexed.index_dir)
    assert report.set_aside
    assert Path(report.set_aside).exists()
    assert indexed.index().indexed == 40


def test_backup_is_an_index_of_its_own(indexed: Library, tmp_path: Path):
    right = answers(indexed)
    indexed.index_dir = backup(indexed.index_dir, tmp_path / "copy")
    assert answers(indexed) == right
    assert indexed.index().unchanged == 40


def test_prune_gives_space_back_and_only_when_told(indexed: Library):
    for path in sorted(indexed.photos.iterdir())[:15]:
        path.unlink()
    indexed.index()
    assert prune(indexed.index_dir).embeddings == 15
    with Index.open(indexed.index_dir) as index:
        assert index.status().dead_embeddings == 15
    assert prune(indexed.index_dir, apply=True).applied
    with Index.open(indexed.index_dir) as index:
        assert (index.status().dead_embeddings, index.status().embeddings) == (0, 25)
    assert check(indexed.index_dir).ok
    assert len(indexed.paths()) == 25


def test_reader_sees_what_was_there_while_a_writer_adds(indexed: Library):
    with Index.open(indexed.index_dir) as reader:
        query = indexed.encoder.encode_texts(["q"])[0]
        before = reader.nearest(query, 5)
        indexed.fill(300, start=900)
        indexed.index()
        assert reader.nearest(query, 5) == before
        reader.refresh()
        assert len(reader.nearest(query, 1000)) == 340
