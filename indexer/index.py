"""An index opened for questions: the catalog and the vectors, kept in step."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from indexer import vectors as vector_files
from indexer.catalog import CATALOG_NAME, Catalog
from indexer.records import Failure, FrameRecord, IndexStatus, Neighbor, Space, snapshot_path

if TYPE_CHECKING:
    from types import TracebackType


class Index:
    """Read-only view of an index folder; any number may be open, also while the index is being written.

    Example:
        with Index.open(Path("~/.local/share/pixseek").expanduser()) as index:
            for neighbor in index.nearest(query, 10): ...
    """

    def __init__(self, folder: Path, catalog: Catalog) -> None:
        self.folder = folder
        self._catalog = catalog
        self.space: Space | None = catalog.space()
        """The active encoder's space, None while the index is empty."""
        self._vectors: vector_files.Vectors | None = None
        self._warnings: list[str] = []

    @classmethod
    def open(cls, folder: Path) -> Index:
        """Return the index in a folder.

        Raises:
            IndexMissingError, IndexDamagedError, IndexNewerError, IndexStorageError.
        """
        return cls(folder, Catalog.open(folder))

    def close(self) -> None:
        self._catalog.close()

    def __enter__(self) -> Index:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def warnings(self) -> list[str]:
        """Return what a person should know about the answers given so far, a line each."""
        lines = list(self._warnings)
        if self._catalog.bad_rows:
            lines.append(
                f"{self._catalog.bad_rows} damaged rows were left out; "
                f"run: pixseek check --index {self.folder}"
            )
        return lines

    def refresh(self) -> None:
        """See what was written since the index was opened."""
        self.space = self._catalog.space()
        self._vectors = None

    def nearest(self, query: npt.NDArray[np.float32], k: int) -> list[Neighbor]:
        """Return the k frames nearest to a query that belong to a file the index still has, best first.

        Args:
            query: (dim,) float32, unit L2 norm, of this index's encoder.
        """
        if self.space is None or k <= 0:
            return []
        vectors = self._load_vectors(self.space)
        wanted = min(k, len(vectors))
        fetch = min(len(vectors), wanted + 16)
        while fetch:
            ids, scores = vectors.nearest(query, fetch)
            live = self._catalog.live_frames(ids.tolist())
            found = [
                Neighbor(live[int(number)], float(score))
                for number, score in zip(ids, scores, strict=True)
                if int(number) in live
            ]
            if len(found) >= wanted or fetch >= len(vectors):
                return found[:wanted]
            fetch = min(len(vectors), fetch * 4)
        return []

    def frames(self, frame_ids: Sequence[int]) -> dict[int, list[FrameRecord]]:
        """Return, for each frame, a record per file that shows it."""
        return self._catalog.frames(frame_ids)

    def vectors_of(self, frame_ids: Sequence[int]) -> dict[int, npt.NDArray[np.float32]]:
        """Return {frame id: (dim,) float32 unit embedding}."""
        return self._catalog.vectors_of(frame_ids, self.space) if self.space else {}

    def embeddings(self) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
        """Yield (frame ids (n,), unit embeddings (n, dim)) of all frames of files the index still has."""
        for ids, vectors in self._catalog.embeddings_after(self.space, 0) if self.space else ():
            live = self._catalog.live_frames(ids.tolist())
            kept = np.array([number in live for number in ids.tolist()], bool)
            frames = np.array([live[number] for number in ids[kept].tolist()], np.int64)
            yield frames, vectors[kept].astype(np.float32)

    def failures(self) -> Iterator[Failure]:
        """Yield the files that could not be indexed, or only in part, by path."""
        return self._catalog.failures()

    def status(self) -> IndexStatus:
        """Return the index in numbers."""
        counts = self._catalog.counts()
        newest = next(iter(self._catalog.snapshots()), None)
        path = snapshot_path(self.folder, newest) if newest else None
        there = path is not None and path.is_file()
        catalog_bytes = sum(
            os.path.getsize(self.folder / (CATALOG_NAME + tail))
            for tail in ("", "-wal")
            if (self.folder / (CATALOG_NAME + tail)).exists()
        )
        return IndexStatus(
            folder=str(self.folder),
            space=self.space,
            roots=list(self._catalog.roots()),
            files=counts["ok"] + counts["partial"],
            failed=counts["failed"],
            partial=counts["partial"],
            frames=counts["frames"],
            embeddings=counts["embeddings"],
            dead_embeddings=counts["dead"],
            snapshot=path.name if path and there else None,
            snapshot_embeddings=newest.count if newest and there else 0,
            catalog_bytes=catalog_bytes,
            snapshot_bytes=path.stat().st_size if path and there else 0,
        )

    def _load_vectors(self, space: Space) -> vector_files.Vectors:
        if self._vectors is None:
            self._vectors = vector_files.load(self._catalog, space)
            if self._vectors.rebuilt:
                self._warnings.append(
                    f"snapshot not usable ({self._vectors.rebuilt}); answered from the catalog, "
                    "which is complete; the next pixseek index writes a new one"
                )
        return self._vectors
