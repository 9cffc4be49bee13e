"""Indexing the same pictures with the same weights: pixseek, rclip, and the loop a person would write.

Every time is that of a whole command, start included, on a new index; the models are on disk and the export
that pixseek makes once per encoder, and its choice of a runtime, are made before (and timed by themselves).
Beside the rate stands how near the embeddings are to float32 on pictures decoded in full, and how near the
machine's limit: decoding at the least scale that will do on all cores, then the tower's arithmetic at the
fastest matrix product measured here.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sqlite3
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.benchmarks.suite import environments, machine, pictures, weights
from tests.benchmarks.suite.results import Round, Store
from tests.benchmarks.suite.settings import Sizes

Embedded = tuple[list[str], npt.NDArray[np.float32]]
_SCRIPT = Path(__file__).parent / "peers" / "plain_loop.py"


def measure(sizes: Sizes, store: Store) -> None:
    """Measure all collections, round by round."""
    weights.make()
    rclip = environments.make("rclip", environments.RCLIP)
    store.write("environment-rclip", {"found": rclip})
    store.once("indexing-first-use", lambda: _first_use(sizes))
    store.once("limits-gemm", machine.gemm_peaks)
    for name, count in sizes.pictures.items():
        folder = pictures.make(name, sizes)
        store.once(f"indexing-{name}-decode", lambda folder=folder: {"decode_ms": _decode_ms(folder)})
        rounds = store.rounds(
            f"indexing-{name}", sizes.slow_rounds, lambda number, folder=folder: _round(sizes, folder, number)
        )
        print(f"indexing {name}: {len(rounds)} rounds of {count:,} pictures", flush=True)


def _first_use(sizes: Sizes) -> dict[str, Any]:
    """Return what the first use of an encoder costs on 16 pictures, the second, and what its runtimes give.

    `encoders --benchmark` measures the runtimes, and what it finds is remembered: no round pays for that.
    """
    some = sizes.home / "pictures" / "first-use"
    shutil.rmtree(some, ignore_errors=True)
    some.mkdir(parents=True)
    for path in _files(pictures.make("small", sizes))[:16]:
        shutil.copy(path, some)
    shutil.rmtree(machine.pixseek_cache(), ignore_errors=True)
    used = {}
    for name in ("first", "again"):
        index = sizes.home / "first-use-index"
        shutil.rmtree(index, ignore_errors=True)
        ran = machine.pixseek("index", some, "--index", index, "--encoder", weights.SPEC, "--json")
        used[name] = ran.numbers()
    measured = machine.pixseek("encoders", "--benchmark", "--encoder", weights.SPEC, accept=(0, 2))
    return {**used, "runtimes": measured.stdout.rstrip().splitlines()}


def _round(sizes: Sizes, folder: Path, number: int) -> Round:
    """Index one collection with each, in an order that turns with the round."""
    work = sizes.home / "indexing"
    turns = {"rclip": _rclip, "plain": _plain, "pixseek": _pixseek}
    names = list(turns)
    names = names[number % 3 :] + names[: number % 3]
    if number:
        names.remove("plain")  # takes longest, and only once matters: its ratio is far from any border
    found: dict[str, Embedded] = {}
    result: Round = {}
    count = len(_files(folder))
    for name in names:
        print(f"  round {number + 1}: {name} on {folder.name}", flush=True)
        own = work / name
        shutil.rmtree(own, ignore_errors=True)
        own.mkdir(parents=True)
        try:
            ran, found[name] = turns[name](folder, own)
        except (RuntimeError, OSError, sqlite3.Error) as error:
            result[name] = {"failed": str(error)}
            continue
        done = len(found[name][0])
        result[name] = {**ran.numbers(), "done": done, "of": count, "rate": done / ran.wall_s}
    reference = work / f"reference-{folder.name}.npz"
    if "plain" in found:
        np.savez(reference, paths=np.array(found["plain"][0]), vectors=found["plain"][1])
    if reference.exists():
        kept = np.load(reference)
        for name, embedded in found.items():
            if name != "plain":
                result[name]["quality"] = quality(embedded, (kept["paths"].tolist(), kept["vectors"]))
    return result


def _pixseek(folder: Path, own: Path) -> tuple[machine.Ran, Embedded]:
    index = own / "index"
    ran = machine.pixseek(
        "index", folder, "--index", index, "--encoder", weights.SPEC, "--json", accept=(0, 3)
    )
    return ran, embeddings_of(index)


def embeddings_of(index: Path) -> Embedded:
    """Return (paths, embeddings) of the whole pictures of an index."""
    from indexer import Index

    paths: list[str] = []
    rows = []
    with Index.open(index) as opened:
        for frames, vectors in opened.embeddings():
            shown = opened.frames(frames.tolist())
            for frame, vector in zip(frames.tolist(), vectors, strict=True):
                for record in shown[frame]:
                    if record.region is None:
                        paths.append(os.fsdecode(record.path))
                        rows.append(vector)
    return paths, np.array(rows, np.float32)


def _rclip(folder: Path, own: Path) -> tuple[machine.Ran, Embedded]:
    data = weights.rclip_datadir(own)
    ran = machine.run(
        [*environments.rclip_command(), "a dog on a beach"],
        environ={"RCLIP_DATADIR": str(data), "HF_HUB_OFFLINE": "1"},
        cwd=folder,
    )
    with sqlite3.connect(data / "db.sqlite3") as database:
        found = database.execute("SELECT filepath, vector FROM images WHERE deleted IS NULL").fetchall()
    vectors = np.array([np.frombuffer(vector, np.float32) for _, vector in found], np.float32)
    return ran, ([os.path.realpath(path) for path, _ in found], vectors)


def _plain(folder: Path, own: Path) -> tuple[machine.Ran, Embedded]:
    out = own / "vectors.npz"
    ran = machine.run(
        [sys.executable, _SCRIPT, weights.MODEL, weights.WEIGHTS, folder, out],
        environ={"HF_HUB_OFFLINE": "1"},
    )
    kept = np.load(out)
    return ran, (kept["paths"].tolist(), kept["vectors"])


def quality(embedded: Embedded, reference: Embedded, k: int = 10) -> dict[str, float]:
    """Return how near embeddings are to a reference of the same pictures.

    `cosine_worst` and `cosine_median` of each picture with itself; `overlap`, the mean share of the k
    pictures nearest to each that are the same k; `spread`, 1 - the median cosine of two different pictures
    in the reference: where it is small, the nearest are told apart by little.
    """
    at = {path: row for row, path in enumerate(reference[0])}
    both = [(row, at[path]) for row, path in enumerate(embedded[0]) if path in at]
    ours = embedded[1][[row for row, _ in both]]
    theirs = reference[1][[row for _, row in both]]
    cosines = np.sum(ours * theirs, axis=1)
    near = [np.argsort(-_without_self(rows), axis=1, kind="stable")[:, :k] for rows in (ours, theirs)]
    overlap = np.mean([len(set(a) & set(b)) / min(k, len(a)) for a, b in zip(*near, strict=True)])
    between = theirs @ theirs.T
    return {
        "cosine_worst": float(cosines.min()),
        "cosine_median": float(np.median(cosines)),
        "overlap": float(overlap),
        "spread": float(1 - np.median(between[~np.eye(len(between), dtype=bool)])),
    }


def _without_self(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    scores = rows @ rows.T
    np.fill_diagonal(scores, -2)
    return scores


# -- limits


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name[0] != ".")


def _decode_ms(folder: Path, most: int = 80) -> float:
    """Return milliseconds of one core for a picture: read, decode at the least scale, bring to 256 pixels.

    Plain Pillow (libjpeg's reduced scale, libheif), with every core at it: what no pipeline around the same
    libraries passes.
    """
    files = _files(folder)
    some = files[:: max(1, len(files) // most)][:most]
    halves = [some[number :: machine.cores()] for number in range(machine.cores())]
    with multiprocessing.get_context("spawn").Pool(machine.cores()) as pool:
        pool.map(_decode_all, [half[:2] for half in halves])
        return 1000 * statistics.mean(pool.map(_decode_all, halves))


def _decode_all(files: list[Path]) -> float:
    from PIL import Image
    from pillow_heif import register_heif_opener

    register_heif_opener()
    began = time.perf_counter()
    for path in files:
        with Image.open(path) as image:
            image.draft("RGB", (256, 256))
            short = min(image.size)
            size = (image.width * 256 // short, image.height * 256 // short)
            image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    return (time.perf_counter() - began) / len(files)
