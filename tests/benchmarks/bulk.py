"""A very large index of made-up pictures, written as rows: ten million take a quarter of an hour and 20 GB.

`python -m tests.benchmarks.bulk ROWS FOLDER`, from the root. The embeddings are those of
`tests.benchmarks.asking`: points around what the built-in encoder says of 40 sentences. There are no captions
and no looks; every other row is what `Ledger.commit` would have written, with its checksum.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from encoders import Encoder
from encoders.builtin import BuiltinEncoder
from indexer import tables as t
from indexer import words
from indexer.ledger import Ledger
from indexer.lock import WriterLock
from tests.benchmarks.asking import CAMERAS, CLUSTERS, NEARNESS, SUBJECTS
from tests.benchmarks.suite.storing import write_snapshot

CHUNK = 50_000


def centres_of(encoder: Encoder) -> np.ndarray:
    """Return (CLUSTERS, dim) float32 points that pictures lie around."""
    rng = np.random.default_rng(0)
    sentences = encoder.encode_texts([f"a photo of a {subject}" for subject in SUBJECTS])
    away = rng.standard_normal((CLUSTERS, encoder.dim))
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    return np.asarray(NEARNESS * sentences[np.arange(CLUSTERS) % len(SUBJECTS)] + 0.7 * away, np.float32)


def vectors_of(rng: np.random.Generator, centres: np.ndarray, count: int) -> np.ndarray:
    """Return (count, dim) float16 unit embeddings."""
    rows = rng.standard_normal((count, centres.shape[1]), np.float32)
    rows *= 0.64 / np.linalg.norm(rows, axis=1, keepdims=True)
    rows += centres[rng.integers(0, len(centres), count)]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows.astype(np.float16)


def make_rows(folder: Path, rows: int, encoder: Encoder) -> None:
    """Write the catalog of an index of that many pictures, the same every time; no snapshot."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = WriterLock(folder)
    with Ledger.open_or_create(folder) as ledger:
        space = ledger.set_space("builtin", encoder.fingerprint, encoder.dim, 224)
        rng, centres = np.random.default_rng(0), centres_of(encoder)
        with ledger.engine.connect() as connection:
            own: Any = connection.connection.dbapi_connection
            # It is made again when this is cut short.
            own.execute("PRAGMA synchronous=OFF")
            own.execute("PRAGMA foreign_keys=OFF")
            indexes = own.execute(
                "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
            ).fetchall()
            for name, _ in indexes:
                own.execute(f"DROP INDEX {name}")
            for start in range(0, rows, CHUNK):
                count = min(CHUNK, rows - start)
                own.execute("BEGIN IMMEDIATE")
                _write(own, space.id, start, vectors_of(rng, centres, count), rng.random((count, 2)))
                own.execute("COMMIT")
            for _, definition in indexes:
                own.execute(definition)
            own.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    lock.close()


def _write(own: Any, space_id: int, start: int, vectors: np.ndarray, draws: np.ndarray) -> None:
    tables: dict[str, list[tuple[Any, ...]]] = {"content": [], "frame": [], "embedding": [], "file": []}
    names = []
    for place, (day, where) in enumerate(draws.tolist()):
        number = start + place
        row_id = number + 1
        size_bytes = 1_000_000 + number % 100_000
        year, of_year = 2014 + int(day * 10), int(day * 3650) % 365
        taken_at = f"{year}-{1 + of_year // 31:02}-{1 + of_year % 31 % 28:02}T12:00:00"
        path = b"/photos/%05d/IMG_%08d.jpg" % (number // 5_000, number)
        digest = number.to_bytes(32, "big")
        placed = (where * 140 - 70, day * 360 - 180) if where < 0.5 else (None, None)
        for table, row in (
            ("content", (row_id, digest, size_bytes, 4000, 3000, "JPEG", None, taken_at, CAMERAS[number % 4],
                         None, 100, *placed, None, None, None)),
            ("frame", (row_id, row_id, 0, None, None, None, None, None)),
            ("embedding", (row_id, space_id, row_id, vectors[place].tobytes())),
            ("file", (row_id, path, size_bytes, number, number, number, 1, "ok", None, row_id)),
        ):  # fmt: skip
            tables[table].append((*row, t.row_check(*row)))
        names.append((row_id, words.name_text(path)))
    for table, written in tables.items():
        columns = ", ".join(f'"{name}"' for name in (*t.CHECKED[table], "check"))
        marks = ", ".join("?" * len(written[0]))
        own.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", written)
    own.executemany("INSERT INTO names(rowid, name) VALUES (?, ?)", names)


def main() -> None:
    """Make the index, then its snapshot, and say how long both took."""
    rows, folder = int(sys.argv[1]), Path(sys.argv[2])
    encoder = BuiltinEncoder()
    began = time.perf_counter()
    if not (folder / "catalog.sqlite").exists():
        make_rows(folder, rows, encoder)
        print(f"catalog of {rows:,} pictures: {time.perf_counter() - began:.0f} s", flush=True)
    began = time.perf_counter()
    write_snapshot(folder)
    print(f"snapshot: {time.perf_counter() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
