"""Embeddings by frame: from the snapshot, its tail and the catalog they are the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from indexer import Index
from indexer.catalog import Catalog
from tests.indexer.catalogs import content, shown_at, write


def made(folder: Path, numbers: range, *, frames: int = 1, snapshot: bool = True) -> Path:
    contents = [content(number, frames=frames) for number in numbers]
    files = [shown_at(f"/p/{number}.jpg", number) for number in numbers]
    return write(folder, contents, files, snapshot=snapshot)


def test_embeddings_are_those_of_the_catalog_wherever_they_are_read(tmp_path: Path):
    folder = made(tmp_path / "index", range(1, 40), frames=3)
    made(folder, range(40, 50), snapshot=False)  # the tail
    with Index.open(folder) as index, Catalog.open(folder) as catalog:
        assert index.space is not None
        index.sample()
        made(folder, range(50, 60), snapshot=False)  # newer than what is in memory
        asked = [140, 3, 5, 3, 127, 128, 1, 117, 10_000, -1]
        expected = catalog.vectors_of(asked, index.space)
        found = index.vectors_of(asked)
        assert sorted(found) == sorted(expected) == [1, 3, 5, 117, 127, 128]
        for frame, vector in expected.items():
            np.testing.assert_array_equal(found[frame], vector)
            assert found[frame].dtype == np.float32
        newest = range(128, 138)
        assert index.vectors_of(newest).keys() == set(newest)


def test_embeddings_in_memory_are_not_read_from_the_catalog_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = made(tmp_path / "index", range(1, 40))
    with Index.open(folder) as index:
        index.sample()
        monkeypatch.delattr(Catalog, "vectors_of")
        assert index.vectors_of(range(1, 40)).keys() == set(range(1, 40))
        assert index.vectors_of([]) == {}
