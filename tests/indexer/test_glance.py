"""What an index says of itself before it is opened."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from indexer import Index, spec_of
from tests.conftest import ROOT
from tests.indexer.conftest import Library


@pytest.fixture
def indexed(library: Library) -> Library:
    library.fill(3)
    library.index()
    return library


def test_the_spec_is_that_of_the_open_index(indexed: Library) -> None:
    with Index.open(indexed.index_dir) as index:
        assert index.space is not None
        assert spec_of(indexed.index_dir) == index.space.spec


def test_a_glance_writes_nothing_but_what_every_reader_does(indexed: Library) -> None:
    def sight() -> list[tuple[str, int]]:
        files = sorted(indexed.index_dir.iterdir())
        return [(path.name, path.stat().st_mtime_ns) for path in files if not path.name.endswith("-shm")]

    with Index.open(indexed.index_dir):
        before = sight()
    spec_of(indexed.index_dir)
    assert sight() == before


def test_where_anything_is_in_the_way_there_is_no_spec(indexed: Library, tmp_path: Path) -> None:
    whole = (indexed.index_dir / "catalog.sqlite").read_bytes()
    page = int.from_bytes(whole[16:18], "big")
    odd = {
        "empty": b"",
        "letter": b"a letter",
        "foreign": whole[:68] + b"abcd" + whole[72:],
        "cut": whole[: page + 10],
        "torn": whole[:100] + bytes(len(whole) - 100),
    }
    assert spec_of(tmp_path / "nowhere") is None
    for name, data in odd.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "catalog.sqlite").write_bytes(data)
        assert spec_of(folder) is None, name
        assert (folder / "catalog.sqlite").read_bytes() == data
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / "catalog.sqlite")
    assert spec_of(tmp_path / "pipe") is None  # and nobody waits for a writer
    shutil.rmtree(indexed.index_dir)
    assert spec_of(indexed.index_dir) is None


def test_a_glance_waits_for_no_import() -> None:
    code = (
        "import sys; from indexer import spec_of; print({'sqlalchemy', 'numpy', 'faiss'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
