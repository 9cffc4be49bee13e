"""An index opened for questions: the catalog and the vectors, kept in step."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

from indexer import asked, memory, rows
from indexer import vectors as vector_files
from indexer.catalog import Catalog
from indexer.database import CATALOG_NAME
from indexer.filters import Filter
from indexer.records import (
    Concept,
    Failure,
    FrameRecord,
    IndexStatus,
    Look,
    Neighbor,
    Space,
    Verdict,
    WordHit,
    snapshot_path,
)  # fmt: skip
from indexer.selection import Selection, refuse_deep, select_files
from indexer.tiers import tier_status

if TYPE_CHECKING:
    from types import TracebackType

    from indexer.copies import Copies

_MOST_KEPT = 16
"""Filters whose files are remembered."""
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class Index:
    """Read-only view of an index folder; any number may be open, also while the index is being written.

    Example:
        with Index.open(Path("~/.local/share/pixseek").expanduser()) as index:
            for neighbor in index.nearest(query, 10): ...
    """

    def __init__(
        self, folder: Path, catalog: Catalog, *, remember: bool = False, exact: bool = False
    ) -> None:
        self.folder = folder
        self._exact = exact
        self._remember = remember
        self._asked: dict[bytes, npt.NDArray[np.float32]] = {}
        self._catalog = catalog
        self.space: Space | None = catalog.space()
        """The active encoder's space, None while the index is empty."""
        self._vectors: vector_files.Vectors | None = None
        self._warnings: list[str] = []
        self._selections: dict[Filter | None, Selection] = {}
        self._files: int | None = None
        self._samples: dict[int, npt.NDArray[np.float32]] = {}
        self._written: tuple[tuple[str, Filter | None, int], list[rows.Written]] | None = None
        self._embeddings_left: dict[Filter, tuple[rows.Embedded, vector_files.Among]] = {}

    @classmethod
    def open(cls, folder: Path | str, *, remember: bool = False, exact: bool = False) -> Index:
        """Return the index in a folder.

        Args:
            remember: these are a person's own questions: where `status().tier` says that questions read a
                part of a very large index, keep their embeddings: its recall is measured on such ones.
            exact: answer every question as `nearest(..., exact=True)` does.
        Raises:
            IndexMissingError, IndexDamagedError, IndexNewerError, IndexStorageError.
        """
        folder = Path(folder)
        return cls(folder, Catalog.open(folder), remember=remember, exact=exact)

    def close(self) -> None:
        """Let go of the files, and keep what was asked."""
        self._catalog.close()
        self.keep_asked()

    def keep_asked(self) -> None:
        """Write down what was asked until now, where that is to be remembered (`open`)."""
        if self._asked and self.space is not None:
            asked.remember(self.folder, self.space, list(self._asked.values()))
            self._asked.clear()

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
        self._catalog.reread_version()
        self.space = self._catalog.space()
        self._vectors = None
        self._selections.clear()
        self._files = None
        self._embeddings_left.clear()
        self._samples.clear()
        self._written = None

    # -- what is near

    def select(self, where: Filter | None) -> Selection:
        """Return the files that a filter leaves; the last few are remembered until `refresh`.

        Raises:
            UsageError: the filter is nested too deep.
        """
        refuse_deep(where)
        known = self._selections.get(where)
        if known is None:
            known = select_files(self._catalog, where, self._files)
            self._files = known.total
            _keep(self._selections, where, known)
        return known

    def nearest(
        self,
        query: npt.NDArray[np.float32],
        k: int,
        among: Selection | None = None,
        *,
        exact: bool = False,
    ) -> list[Neighbor]:
        """Return the k frames nearest to a query that belong to a file the index still has, best first.

        Args:
            query: (dim,) float32, unit L2 norm, of this index's encoder.
            among: count only frames that at least one of these files shows.
            exact: compare with every frame, also where `status().tier` says that questions read a part of a
                very large index. The scores are exact in any case; without a tier the answer is, too.
        """
        if self.space is None or k <= 0:
            return []
        vectors = self._load_vectors(self.space)
        exact = exact or self._exact
        if self._remember and vectors.tier is not None and len(self._asked) < asked.MOST:
            self._asked[query.tobytes()] = query
        if among is not None and among.where is not None:
            left, places = self._embeddings_of(among, self.space, vectors)
            ids, scores = vectors.nearest(query, k, places, exact=exact)
            frames = left.frames[np.searchsorted(left.ids, ids)]
            return [Neighbor(int(frame), float(score)) for frame, score in zip(frames, scores, strict=True)]
        wanted = min(k, len(vectors))
        fetch = min(len(vectors), wanted + 16)
        while fetch:
            ids, scores = vectors.nearest(query, fetch, exact=exact)
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

    def frames(
        self, frame_ids: Sequence[int], among: Selection | None = None
    ) -> dict[int, list[FrameRecord]]:
        """Return, for each frame, a record per file that shows it and is `among` the files that count."""
        found = self._catalog.frames(frame_ids)
        if among is None or among.where is None:
            return found
        left = {frame: [row for row in records if among.has(row.file_id)] for frame, records in found.items()}
        return {frame: records for frame, records in left.items() if records}

    def files_of(self, frame_ids: Sequence[int], among: Selection | None = None) -> npt.NDArray[np.int64]:
        """Return (n, 2) int64, each of these frames with each file that shows it and is `among` those that
        count. Ids alone, a tenth of what `frames` costs; no checksum is looked at."""
        pairs = rows.files_of(self._catalog, frame_ids)
        if among is None or among.file_ids is None:
            return pairs
        return pairs[np.isin(pairs[:, 1], among.file_ids)]

    def sample(self, size: int = 4096) -> npt.NDArray[np.float32]:
        """Return (n, dim) embeddings of living frames, spread evenly over the library in the order it grew.

        n is `size`, or all there are when those are fewer. The same ones every time until the index changes.
        """
        if self.space is None:
            return np.empty((0, 0), np.float32)
        if size not in self._samples:
            self._samples[size] = self._draw_sample(self._load_vectors(self.space), size)
        return self._samples[size]

    def _draw_sample(self, vectors: vector_files.Vectors, size: int) -> npt.NDArray[np.float32]:
        wanted = min(size, len(vectors))
        take = wanted
        while take:
            places = np.arange(take, dtype=np.int64) * len(vectors) // take
            kept = places[rows.living(self._catalog, vectors.ids_at(places))]
            if len(kept) >= wanted or take == len(vectors):
                kept = kept[np.arange(min(wanted, len(kept))) * len(kept) // max(1, min(wanted, len(kept)))]
                return vectors.rows_at(kept)
            take = min(len(vectors), take * 4)
        return np.empty((0, vectors.dim), np.float32)

    # -- what is written there

    def matching_words(self, words: str, k: int, among: Selection | None = None) -> list[WordHit]:
        """Return up to k files whose caption, keywords or names hold any of the words: those that hold all of
        them first, then by BM25.

        Each file stands there by its first frame; files of one content are one hit. Nothing in `words` is
        syntax; stop words alone find nothing. Where the text tables are missing or damaged the answer is
        empty and `warnings` says so.
        """
        if self._catalog.version < 2:
            self._warn(
                "this index was written by an older pixseek and has no words yet; "
                "run pixseek index once to search captions, keywords and names"
            )
            return []
        question = words, among.where if among else None, max(k, rows.MOST_WORD_ROWS)
        if k <= 0:
            return []
        # A question asks again when it needs more.
        if self._written is None or self._written[0] != question:
            ranked, trouble = rows.ranked_words(self._catalog, words, k, among)
            if trouble:
                self._warn(
                    f"captions, keywords and names were not searched: {trouble}; "
                    f"run: pixseek repair --index {self.folder}"
                )
                return []
            self._written = question, ranked
        return rows.word_hits(self._catalog, self._written[1][:k])

    def listed(self, among: Selection, k: int, sort: rows.Order = "taken") -> list[FrameRecord]:
        """Return up to k files by their first whole frame, without any ranking by what they show.

        Args:
            sort: `taken`: newest first, undated last; `name`: by path; `size`: largest first.
        """
        file_ids = rows.listed_files(self._catalog, among, k, sort)
        whole = self.whole_frames(file_ids)
        records = self._catalog.frames(sorted(set(whole.values())))
        by_file = {record.file_id: record for found in records.values() for record in found}
        return [by_file[file_id] for file_id in file_ids if file_id in by_file]

    def whole_frames(self, file_ids: Sequence[int]) -> dict[int, int]:
        """Return {file id: its first whole frame, else its first frame}; unknown ids are left out."""
        return rows.whole_frames(self._catalog, file_ids)

    # -- what a person taught it

    def concept(self, name: str) -> Concept | None:
        """Return the concept of that name, of the active space, or None."""
        return next((concept for concept in self.concepts() if concept.name == name), None)

    def concepts(self) -> list[Concept]:
        """Return the concepts of the active space by name."""
        if self.space is None or self._catalog.version < 2:
            return []
        return memory.read_concepts(self._catalog, self.space)

    def verdicts(self) -> dict[tuple[bytes, bytes], Verdict]:
        """Return {(smaller content hash, larger): what a person decided about the two}."""
        return memory.read_verdicts(self._catalog) if self._catalog.version >= 2 else {}

    @property
    def copies(self) -> Copies:
        """Return the files as copies of contents: what finding duplicates reads."""
        from indexer.copies import Copies

        return Copies(self._catalog, self.space)

    def looks(self) -> Iterator[tuple[int, Look]]:
        """Yield (content id, look) by content id, of contents that were indexed with one."""
        return memory.read_looks(self._catalog) if self._catalog.version >= 2 else iter(())

    # -- all of it

    def vectors_of(self, frame_ids: Sequence[int]) -> dict[int, npt.NDArray[np.float32]]:
        """Return {frame id: (dim,) float32 unit embedding}."""
        if self.space is None:
            return {}
        if self._vectors is None:
            return self._catalog.vectors_of(frame_ids, self.space)
        # A search has the snapshot open anyway: a row of it costs a fiftieth of one of the catalog.
        known = rows.embeddings_of_frames(self._catalog, frame_ids, self.space)
        places = self._vectors.places_of(known.ids)
        there = places >= 0
        embeddings = self._vectors.rows_at(places[there])
        found = dict(zip(known.frames[there].tolist(), embeddings, strict=True))
        newer = known.frames[~there].tolist()
        return {**found, **self._catalog.vectors_of(newer, self.space)} if newer else found

    def embeddings(self) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
        """Yield (frame ids (n,), unit embeddings (n, dim)) of all frames of files the index still has."""
        for ids, vectors in self._catalog.embeddings_after(self.space, 0) if self.space else ():
            live = self._catalog.live_frames(ids.tolist())
            kept = np.array([number in live for number in ids.tolist()], bool)
            frames = np.array([live[number] for number in ids[kept].tolist()], np.int64)
            yield frames, vectors[kept].astype(np.float32)

    def roots(self) -> list[bytes]:
        """Return the real paths of the folders that were indexed."""
        return list(self._catalog.roots())

    def failures(self) -> Iterator[Failure]:
        """Yield the files that could not be indexed, or only in part, by path."""
        return self._catalog.failures()

    def status(self) -> IndexStatus:
        """Return the index in numbers."""
        counts = self._catalog.counts()
        newest = next(iter(self._catalog.snapshots()), None)
        path = snapshot_path(self.folder, newest) if newest else None
        there = path is not None and path.is_file()
        tier = next(iter(self._catalog.tiers()), None)
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
            tier=tier_status(tier) if tier and (self.folder / Path(tier.name).name).is_file() else None,
        )

    def _warn(self, line: str) -> None:
        if line not in self._warnings:
            self._warnings.append(line)

    def _embeddings_of(
        self, among: Selection, space: Space, vectors: vector_files.Vectors
    ) -> tuple[rows.Embedded, vector_files.Among]:
        assert among.where is not None
        known = self._embeddings_left.get(among.where)
        if known is None:
            left = rows.embeddings_of(self._catalog, among, space)
            known = left, vectors.among(left.ids)
            _keep(self._embeddings_left, among.where, known)
        return known

    def _load_vectors(self, space: Space) -> vector_files.Vectors:
        if self._vectors is None:
            self._vectors = vector_files.load(self._catalog, space)
            if self._vectors.rebuilt:
                self._warnings.append(
                    f"snapshot not usable ({self._vectors.rebuilt}); answered from the catalog, "
                    "which is complete; the next pixseek index writes a new one"
                )
            if self._vectors.slower:
                self._warnings.append(
                    f"lists not usable ({self._vectors.slower}); every embedding was read instead, which is "
                    "slower and right; the next pixseek index writes new ones"
                )
        return self._vectors


def _keep(known: dict[_Key, _Value], key: _Key, value: _Value) -> None:
    """Remember a value and forget the oldest: a million files are 16 MB."""
    known[key] = value
    if len(known) > _MOST_KEPT:
        del known[next(iter(known))]
