"""A library of tiny pictures and a way to index it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from indexer import Index, IndexReport, index_folders
from tests.indexer.crash import SeedEncoder, make_photos


class Library:
    """A photo folder and its index in one test's folder."""

    def __init__(self, base: Path) -> None:
        self.photos = base / "photos"
        self.index_dir = base / "index"
        self.encoder = SeedEncoder()
        self.photos.mkdir()

    def fill(self, count: int, start: int = 0) -> list[Path]:
        return make_photos(self.photos, count, start)

    def index(self, *folders: Path | bytes, **options) -> IndexReport:
        chosen = [os.fsencode(folder) for folder in (folders or (self.photos,))]
        return index_folders(
            chosen, index_dir=self.index_dir, encoder=lambda space: self.encoder, workers=1, **options
        )

    def paths(self) -> list[bytes]:
        """Return every path a query can answer with."""
        with Index.open(self.index_dir) as index:
            if index.space is None:
                return []
            query = self.encoder.encode_texts(["anything"])[0]
            near = index.nearest(query, 10_000)
            records = index.frames([neighbor.frame_id for neighbor in near])
            return sorted({record.path for rows in records.values() for record in rows})


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path)
