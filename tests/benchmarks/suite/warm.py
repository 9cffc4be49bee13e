"""Nearest neighbours in a process that stays: pixseek's index beside vector engines, on the same vectors.

p50, p95, p99 and questions a second of single questions one after the other, recall@10 beside them; what an
engine needs to build its index and to answer. Approximate engines search with the least effort that reaches
recall 0.98 on questions that are not timed. The floor is the time in which all cores read the float16
vectors once: nothing exact passes it but by reading less.
"""

from __future__ import annotations

import inspect
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.suite import environments, libraries, machine
from tests.benchmarks.suite.results import Round, Store, percentiles
from tests.benchmarks.suite.settings import HOME, Sizes

ENGINES = (
    "faiss-flat",
    "usearch-f16",
    "usearch-i8",
    "hnswlib",
    "sqlite-vec",
    "lancedb-ivf-pq",
    "lancedb-hnsw-sq",
)
_PACKAGES = {
    "faiss-flat": "faiss-cpu",
    "usearch-f16": "usearch",
    "usearch-i8": "usearch",
    "lancedb-ivf-pq": "lancedb",
    "lancedb-hnsw-sq": "lancedb",
}
_SHORT = "left out to keep the run short; see the size below"
_LEFT_OUT = {
    1_000_000: {
        "usearch-f16": _SHORT,
        "usearch-i8": _SHORT,
        "lancedb-ivf-pq": "more than an hour to build: 100,000 took 385 s of one core, 10,000 took 38",
        "lancedb-hnsw-sq": _SHORT,
    },
    10_000_000: {
        "lancedb-ivf-pq": "more than ten hours to build",
        "usearch-f16": "an hour or more to build on two cores, and 10 GB",
        "usearch-i8": _SHORT,
        "hnswlib": "17 GB in memory, two hours to build on two cores",
        "sqlite-vec": "reads 15 GB for each question",
        "lancedb-hnsw-sq": _SHORT,
        "faiss-flat": "the same scan as pixseek asked exactly, and 8 GB on disk once more",
    },
}
"""Engines that are not asked at a size, and why."""
_SCRIPT = Path(__file__).parent / "peers" / "engines.py"


def measure(sizes: Sizes, store: Store) -> None:
    """Measure every size but ten millions."""
    store.write("environment-peers", {"found": environments.make("peers", environments.PEERS)})
    for rows in sizes.libraries:
        _measure(sizes, store, rows, sizes.slow_rounds)


def measure_10m(sizes: Sizes, store: Store) -> None:
    """Measure ten millions, with those engines that are done in time."""
    store.write("environment-peers", {"found": environments.make("peers", environments.PEERS)})
    _measure(sizes, store, 10_000_000, 2)


def build(sizes: Sizes, store: Store, rows: int) -> tuple[list[str], dict[str, str]]:
    """Return the engines that have an index of that many vectors, built if need be, and why not others."""
    found = (store.read("environment-peers") or {}).get("found", {})
    vectors = libraries.vectors(sizes, rows)
    usable, skipped = [], {}
    for engine in ENGINES:
        said = found.get(_PACKAGES.get(engine, engine), "not installed")
        why = said if not said[:1].isdigit() else _LEFT_OUT.get(rows, {}).get(engine)
        if why is None:
            if not _folder(sizes, rows, engine).is_dir():
                store.drop(f"build-{rows}-{engine}")
            built = store.once(
                f"build-{rows}-{engine}",
                lambda engine=engine: _build(sizes, rows, engine, vectors),
                lasting=True,
            )
            why = built.get("failed")
        if why:
            skipped[engine] = why
        else:
            usable.append(engine)
    return usable, skipped


def _measure(sizes: Sizes, store: Store, rows: int, rounds: int) -> None:
    index, vectors = libraries.make(sizes, rows), libraries.vectors(sizes, rows)
    questions = libraries.questions(sizes, rows)
    usable, skipped = build(sizes, store, rows)
    store.write(f"warm-{rows}-skipped", skipped)
    block = np.load(vectors, mmap_mode="r")
    store.once(f"floor-{rows}", lambda: {"read_s": _floor(block), "bytes": block.nbytes})
    store.rounds(
        f"warm-{rows}",
        rounds,
        lambda number: _round(sizes, rows, number, index, vectors, questions, usable),
    )
    print(f"warm {rows:,}: {rounds} rounds", flush=True)


def _floor(block: np.ndarray) -> float:
    if block.nbytes < 2e9:
        block = np.array(block)
    return machine.read_seconds(block, 7 if block.nbytes < 2e9 else 3)


def _folder(sizes: Sizes, rows: int, engine: str) -> Path:
    return sizes.home / "engines" / str(rows) / engine


def _build(sizes: Sizes, rows: int, engine: str, vectors: Path) -> dict[str, Any]:
    folder = _folder(sizes, rows, engine)
    shutil.rmtree(folder, ignore_errors=True)
    print(f"  building {engine} of {rows:,}", flush=True)
    try:
        ran = machine.run([environments.python_of("peers"), _SCRIPT, "build", engine, vectors, folder])
    except RuntimeError as error:
        return {"failed": str(error)}
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {**ran.numbers(), "bytes": size}


def _round(
    sizes: Sizes, rows: int, number: int, index: Path, vectors: Path, questions: Path, engines: list[str]
) -> Round:
    from indexer import Index

    exact = "exact" in inspect.signature(Index.nearest).parameters
    turns = ["pixseek", *(["pixseek-exact"] if exact else []), *engines]
    shift = number * 3 % len(turns)
    result: Round = {}
    out = HOME / "asked.json"
    for name in turns[shift:] + turns[:shift]:
        if name.startswith("pixseek"):
            command = [sys.executable, "-m", __name__, name, index, vectors, questions, out]
            environ = machine.pixseek_environ()
        else:
            folder = _folder(sizes, rows, name)
            command = [environments.python_of("peers"), _SCRIPT, "ask", name, vectors, folder, questions, out]
            environ = {}
        try:
            ran = machine.run(list(map(str, command)), environ=environ)
        except RuntimeError as error:
            result[name] = {"failed": str(error)}
            continue
        said = json.loads(out.read_text())
        result[name] = {"peak_mb": ran.peak_mb, "open_s": said["open_s"]}
        for kind in libraries.KINDS:
            asked = said[kind]
            result[name][kind] = {
                **percentiles(asked["seconds"]), "recall": asked["recall"], "effort": asked["effort"],
            }  # fmt: skip
    return result


def _ask_pixseek(name: str, folder: Path, vectors: Path, questions: Path) -> dict[str, Any]:
    from indexer import Index

    ids = np.load(vectors.with_name(vectors.stem + "-ids.npy"), mmap_mode="r")
    asked = np.load(questions)
    more: dict[str, Any] = {"exact": True} if name == "pixseek-exact" else {}
    began = time.perf_counter()
    with Index.open(folder) as index:
        index.nearest(asked["pictures"][0], 10, **more)
        result: dict[str, Any] = {"open_s": time.perf_counter() - began}
        for kind in libraries.KINDS:
            queries, near = asked[kind], asked[f"{kind}_near"]
            quarter = len(queries) // 4
            for query in queries[:quarter]:
                index.nearest(query, 10, **more)
            seconds, right = [], []
            for query, best in zip(queries[quarter:], near[quarter:], strict=True):
                began = time.perf_counter()
                found = index.nearest(query, 10, **more)
                seconds.append(time.perf_counter() - began)
                right.append(len({one.frame_id for one in found} & set(ids[best].tolist())) / len(best))
            result[kind] = {"seconds": seconds, "recall": float(np.mean(right)), "effort": None}
    return result


if __name__ == "__main__":
    Path(sys.argv[5]).write_text(json.dumps(_ask_pixseek(sys.argv[1], *map(Path, sys.argv[2:5]))))
    os._exit(0)
