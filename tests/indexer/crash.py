"""A writer to be killed, and the checker that looks at what it left (invariants I1 to I9).

python -m tests.indexer.crash write INDEX PHOTOS     acknowledges each committed path on stdout, as JSON lines
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from encoders import Preprocess, normalize

DIM = 32
SIDE = 8


class SeedEncoder:
    """Pixels to a vector drawn from their own hash: any mix-up of files and vectors shows."""

    spec = "seed"
    fingerprint = hashlib.sha256(b"seed encoder 1").hexdigest()
    dim = DIM
    image_size = SIDE
    preprocess = Preprocess(SIDE)

    def encode_pixels(self, pixels):
        if not len(pixels):
            return np.empty((0, DIM), np.float32)
        return normalize(np.stack([_seeded(row.tobytes()) for row in pixels]))

    def encode_images(self, images: Sequence[Image.Image]):
        return self.encode_pixels(np.stack([self.preprocess(image) for image in images]))

    def encode_texts(self, texts: Sequence[str]):
        return normalize(np.stack([_seeded(text.encode()) for text in texts]))


def _seeded(data: bytes):
    seed = int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")
    return np.random.default_rng(seed).standard_normal(DIM).astype(np.float32)


def expected_vector(path: str | Path):
    with Image.open(path) as image:
        return SeedEncoder().encode_images([image.convert("RGB")])[0].astype(np.float16)


def make_photos(folder: Path, count: int, start: int = 0) -> list[Path]:
    """Write tiny pictures, no two alike."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(start, start + count):
        rng = np.random.default_rng(number)
        path = folder / f"IMG_{number:05d}.png"
        Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(path, compress_level=1)
        paths.append(path)
    return paths


def write(index_dir: str, photos: str) -> int:
    from indexer import index_folders, pipeline, tiers
    from indexer.ledger import Ledger

    pipeline.COMMIT_ROWS = 16
    pipeline.ENCODE_FRAMES = 8
    tiers.FROM_ROWS = 60
    commit = Ledger.commit

    def acknowledged(self, space, contents, files, *more):
        commit(self, space, contents, files, *more)
        paths = [os.fsdecode(update.path) for update in files if update.status == "ok"]
        os.write(1, json.dumps(paths).encode() + b"\n")

    Ledger.commit = acknowledged  # type: ignore[method-assign]
    report = index_folders(
        [os.fsencode(photos)], index_dir=Path(index_dir), encoder=lambda space: SeedEncoder(), workers=1
    )
    os.write(
        1,
        json.dumps({"done": report.scanned, "failed": report.failed, "encoded": report.encoded}).encode()
        + b"\n",
    )
    return 0


def acknowledged_paths(stdout: bytes) -> list[str]:
    lines = [line for line in stdout.splitlines() if line.startswith(b"[") and line.endswith(b"]")]
    return [path for line in lines for path in json.loads(line)]


def violations(index_dir: Path, acknowledged: Sequence[str], sample: int = 10_000) -> list[str]:
    """Return what is wrong with an index a writer left behind, without writing to it."""
    from indexer import Index, IndexMissingError, check

    found: list[str] = []
    catalog = index_dir / "catalog.sqlite"
    if not catalog.exists():
        return [f"{len(acknowledged)} acknowledged, no catalog"] if acknowledged else []
    found += [f"check: {problem}" for problem in check(index_dir).problems]
    database = sqlite3.connect(f"file:{catalog}?mode=ro", uri=True)
    try:
        paths = {os.fsdecode(path) for (path,) in database.execute("select path from file where status='ok'")}
        lost = set(acknowledged) - paths
        if lost:
            found.append(f"{len(lost)} acknowledged paths lost")
        bare = database.execute(
            "select count(*) from file f where status='ok' and not exists (select 1 from frame r "
            "join embedding e on e.frame_id=r.id where r.content_id=f.content_id)"
        ).fetchone()[0]
        if bare:
            found.append(f"{bare} files without a vector")
        rows = database.execute(
            "select f.path, e.vector, e.id, r.id from file f join frame r on r.content_id=f.content_id "
            "join embedding e on e.frame_id=r.id"
        ).fetchall()
        for path, vector, _, _ in rows[:sample]:
            if expected_vector(os.fsdecode(path)).tobytes() != vector:
                found.append(f"wrong vector: {path!r}")
                break
    finally:
        database.close()
    try:
        with Index.open(index_dir) as index:
            for path, vector, _, frame_id in rows[:: max(1, len(rows) // 5)]:
                query = np.frombuffer(vector, np.float16).astype(np.float32)
                best = index.nearest(query, 1)
                if not best or best[0].frame_id != frame_id:
                    found.append(f"{path!r} does not find itself")
    except IndexMissingError:
        found.append("index missing")
    with open(index_dir / "lock", "ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            found.append("stale lock")
    return found


if __name__ == "__main__":
    sys.exit(write(sys.argv[2], sys.argv[3]))
