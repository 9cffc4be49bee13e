"""Indexes of N made-up pictures, the same vectors for the peers, and questions with their true answers.

The pictures are those of `tests.benchmarks.asking`: clusters around what the built-in encoder says of 40
sentences. Questions are of two kinds, because recall on one says little of the other: sentences, which lie
away from all pictures as they do in CLIP's space, and pictures near one of the library.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tests.benchmarks.suite import environments, weights
from tests.benchmarks.suite.settings import ROOT, Sizes

KINDS = ("texts", "pictures")
DIM_RCLIP = 512
_FILL = Path(__file__).parent / "peers" / "fill_rclip.py"


def make(sizes: Sizes, rows: int) -> Path:
    """Return the index of that many pictures, made where it is not there or of another
    encoder or format.

    Raises:
        LookupError: it is too large to be made one by one here, and nothing says where one is.
    """
    if rows >= 10_000_000 and (given := os.environ.get("BENCH_INDEX_10M")):
        return Path(given)
    folder = sizes.home / "libraries" / str(rows)
    stamp = folder / ".complete"
    from encoders.builtin import BuiltinEncoder
    from tests.benchmarks.suite.storing import FORMAT

    made_by = f"{BuiltinEncoder().fingerprint} format {FORMAT}"
    if stamp.exists() and stamp.read_text() == made_by:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    print(f"making an index of {rows:,} pictures in {folder}", flush=True)
    if rows < 10_000_000:
        code = (
            "import sys; from pathlib import Path; from encoders.builtin import BuiltinEncoder;"
            "from tests.benchmarks.asking import make_index;"
            "make_index(Path(sys.argv[1]), int(sys.argv[2]), BuiltinEncoder())"
        )
        subprocess.run([sys.executable, "-c", code, folder, str(rows)], cwd=ROOT, check=True)
    elif (Path(__file__).parents[1] / "bulk.py").exists():
        subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.bulk", str(rows), str(folder)], cwd=ROOT, check=True
        )
    else:
        raise LookupError("no index of 10,000,000 pictures: BENCH_INDEX_10M=FOLDER names one")
    subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.suite.storing", "lists", folder], cwd=ROOT, check=True
    )
    stamp.write_text(made_by)
    return folder


def vectors(sizes: Sizes, rows: int) -> Path:
    """Return a .npy of the library's embeddings, (n, dim) float16, beside it `-ids.npy` of their frames.

    When the library holds others than those kept, all that was made of them is thrown away.
    """
    path = sizes.home / "vectors" / f"{rows}.npy"
    from indexer import Index

    with Index.open(make(sizes, rows)) as index:
        assert index.space is not None
        if path.exists():
            frames, embeddings = next(index.embeddings())
            kept = np.load(path, mmap_mode="r")
            if kept.shape[0] == rows and np.array_equal(kept[: len(frames)], embeddings.astype(np.float16)):
                return path
            shutil.rmtree(sizes.home / "engines" / str(rows), ignore_errors=True)
            for stale in path.parent.glob(f"{rows}[.-]*"):
                stale.unlink()
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        out = np.lib.format.open_memmap(partial, "w+", np.float16, (rows, index.space.dim))
        ids = np.empty(rows, np.int64)
        done = 0
        for frames, embeddings in index.embeddings():
            out[done : done + len(frames)] = embeddings
            ids[done : done + len(frames)] = frames
            done += len(frames)
        if done != rows:
            raise RuntimeError(f"the index holds {done:,} pictures and not {rows:,}")
        out.flush()
    np.save(path.with_name(f"{rows}-ids.npy"), ids)
    os.replace(partial, path)
    return path


def questions(sizes: Sizes, rows: int) -> Path:
    """Return a .npz of questions (`texts`, `pictures`: (n, dim) float32) and their true nearest (`*_near`).

    The truth is float32 arithmetic over the float16 that all are given: positions of the 10 nearest.
    """
    path = sizes.home / "vectors" / f"{rows}-questions-{sizes.queries}.npz"
    if path.exists():
        return path
    from encoders.builtin import BuiltinEncoder
    from tests.benchmarks.asking import SUBJECTS

    library = np.load(vectors(sizes, rows), mmap_mode="r")
    rng = np.random.default_rng(1)
    places = ("on a beach", "in the snow", "at night", "in a garden", "near a river", "in the city")
    sentences = [
        f"{'a' if number % 2 else 'two'} {SUBJECTS[number % len(SUBJECTS)]} "
        + places[number // 7 % len(places)]
        + (f" with a {SUBJECTS[number * 7 % len(SUBJECTS)]}" if number % 3 else "")
        for number in range(sizes.queries)
    ]
    texts = BuiltinEncoder().encode_texts(sentences)
    chosen = np.sort(rng.choice(rows, sizes.queries, replace=False))
    noise = rng.standard_normal((sizes.queries, library.shape[1])).astype(np.float32)
    pictures = library[chosen] + 0.3 * noise / np.linalg.norm(noise, axis=1, keepdims=True)
    pictures /= np.linalg.norm(pictures, axis=1, keepdims=True)
    asked = {"texts": texts.astype(np.float32), "pictures": pictures.astype(np.float32)}
    truth = {f"{kind}_near": nearest(library, rows_asked) for kind, rows_asked in asked.items()}
    np.savez(path, **asked, **truth)
    return path


def nearest(
    library: npt.NDArray[np.float16], asked: npt.NDArray[np.float32], k: int = 10, step: int = 50_000
) -> npt.NDArray[np.int64]:
    """Return (n, k) positions of the true nearest, best first, a block of the library at a time."""
    best = np.full((len(asked), k), -2, np.float32)
    at = np.zeros((len(asked), k), np.int64)
    for start in range(0, len(library), step):
        scores = asked @ library[start : start + step].astype(np.float32).T
        count = min(k, scores.shape[1])
        near = np.argpartition(-scores, count - 1, axis=1)[:, :count]
        both = np.concatenate([best, np.take_along_axis(scores, near, 1)], axis=1)
        places = np.concatenate([at, near + start], axis=1)
        order = np.argsort(-both, axis=1, kind="stable")[:, :k]
        best, at = np.take_along_axis(both, order, 1), np.take_along_axis(places, order, 1)
    return at


def rclip_library(sizes: Sizes, rows: int) -> tuple[Path, Path]:
    """Return (data folder, folder of the photos) of rclip with that many rows of random unit vectors."""
    folder = sizes.home / "rclip" / str(rows)
    photos = folder / "photos"
    stamp = folder / ".complete"
    if not stamp.exists():
        shutil.rmtree(folder, ignore_errors=True)
        photos.mkdir(parents=True)
        weights.rclip_datadir(folder)
        print(f"filling rclip's database with {rows:,} rows", flush=True)
        subprocess.run(
            [environments.python_of("rclip"), _FILL, folder / "db.sqlite3", photos, str(rows)], check=True
        )
        stamp.write_text(json.dumps({"rows": rows}))
    return folder, photos
