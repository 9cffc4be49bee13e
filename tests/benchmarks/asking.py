"""How long questions take on an index of N made-up pictures, cold and warm, and what memory they need.

`python -m tests.benchmarks.asking --rows N [--index FOLDER] [--rounds R] [--only NAME]...`, from the root:
makes the index where FOLDER has none (a temporary folder without --index; a million takes five minutes and
2.2 GB, ten million an hour and 24 GB), then prints the median of each question in one process, the first time
and after, with the processor's time beside it and what the process holds, of the parts of a question that
read the index, and of whole commands with their peak memory. What is timed is the machine as it is: nothing
is dropped from its page cache.

The pictures are points around what the built-in encoder says of 40 sentences, as near to them as photos are;
one of ten has a caption, one of fifty a look-alike, three of a hundred stand in two folders.
"""

from __future__ import annotations

import argparse
import dataclasses
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from encoders import Encoder
from encoders.builtin import BuiltinEncoder
from indexer import Index
from indexer.ledger import FileUpdate, Ledger, NewContent
from indexer.lock import WriterLock
from indexer.metadata import Metadata
from indexer.records import Look
from indexer.snapshots import publish
from indexer.workers import FileStat
from search import Query, Searcher, compose_query

SUBJECTS = (
    *("dog", "cat", "bird", "horse", "sheep", "people", "child", "family", "smile", "party"),
    *("beach", "sunset", "mountain", "river", "lake", "island", "snow", "rain", "night", "fire"),
    *("city", "street", "tower", "bridge", "church", "museum", "market", "garden", "window", "stairs"),
    *("car", "bike", "train", "plane", "boat", "tree", "flower", "food", "cake", "football"),
)
CAMERAS = ("Canon EOS R6", "FUJIFILM X-T5", "Apple iPhone 13", "NIKON Z 6")
CLUSTERS, NEARNESS, BATCH = 400, 0.3, 10_000
"""Of embeddings; the cosine of a picture and the sentence about it; pictures of a transaction."""


def make_index(folder: Path, rows: int, encoder: Encoder) -> None:
    """Write an index of that many pictures, the same every time."""
    rng = np.random.default_rng(0)
    sentences = encoder.encode_texts([f"a photo of a {subject}" for subject in SUBJECTS])
    about = np.arange(CLUSTERS) % len(SUBJECTS)
    centres = NEARNESS * sentences[about] + 0.7 * _unit(rng.standard_normal((CLUSTERS, encoder.dim)))
    centres = centres.astype(np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    lock = WriterLock(folder)
    with Ledger.open_or_create(folder) as ledger:
        space = ledger.set_space("builtin", encoder.fingerprint, encoder.dim, 224)
        for start in range(0, rows, BATCH):
            count = min(BATCH, rows - start)
            cluster = rng.integers(0, CLUSTERS, count)
            vectors = centres[cluster] + 0.64 * _unit(rng.standard_normal((count, encoder.dim)))
            looks = rng.integers(0, 2**63, count)
            for place in range(1, count, 50):  # a look-alike of the one before
                vectors[place] = vectors[place - 1] + 0.1 * vectors[place]
                looks[place], cluster[place] = looks[place - 1], cluster[place - 1]
            vectors = _unit(vectors).astype(np.float16)
            contents, files = [], []
            for place in range(count):
                content, shown = _picture(
                    start + place, SUBJECTS[about[cluster[place]]], rng.random(8).tolist(),
                    vectors[place : place + 1], int(looks[place]),
                )  # fmt: skip
                contents.append(content)
                files += shown
            ledger.commit(space, contents, files)
        publish(ledger, space)
    lock.close()


def _picture(
    number: int, subject: str, draw: list[float], vector: np.ndarray, look: int
) -> tuple[NewContent, list[FileUpdate]]:
    day = int(draw[0] * 3650)
    year, month, of_month = 2014 + day // 365, 1 + day % 365 // 31, 1 + day % 365 % 31 % 28
    words = (subject, "with", SUBJECTS[int(draw[1] * 40)], "near", SUBJECTS[int(draw[2] * 40)])
    placed = draw[3] < 0.5
    metadata = Metadata(
        taken_at=f"{year}-{month:02}-{of_month:02}T12:00:00" if draw[4] < 0.9 else None,
        camera=CAMERAS[number % 4],
        latitude=draw[1] * 140 - 70 if placed else None,
        longitude=draw[2] * 360 - 180 if placed else None,
        iso=100 * 2 ** int(draw[3] * 6),
        caption=" ".join(words) if draw[5] < 0.1 else None,
        keywords=("Fido",) if number % 5003 == 0 else (),
    )
    digest = number.to_bytes(32, "big")
    # The sizes are even, so that a filter of a size leaves as many as one likes.
    content = NewContent(
        digest, 1_000_000 + number % 100_000, 4000, 3000, "JPEG", None, metadata, [None], vector,
        Look(look, 1.0),
    )  # fmt: skip
    paths = [f"/photos/{year}/{month:02}/{SUBJECTS[number % 40]}/IMG_{number:07}.jpg"]
    if draw[6] < 0.03:
        paths.append(f"/photos/copies/{number % 100}/IMG_{number:07}.jpg")
    stat = FileStat(1_000_000 + number % 100_000, number, number, number, 1)
    return content, [FileUpdate(path.encode(), stat, "ok", None, digest) for path in paths]


def _unit(vectors: np.ndarray) -> np.ndarray:
    unit: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def questions() -> dict[str, Query]:
    """Return what is asked, by what the table calls it."""
    scene = "a dog on a beach"
    asked: dict[str, tuple[str, dict[str, object]]] = {
        "text": (scene, {}),
        **{
            f"text, a filter of {share:g} %": (f"{scene} size:..{999_999 + round(1000 * share)}b", {})
            for share in (0.1, 1, 10, 50)
        },
        "text, of one year": (f"{scene} taken:2019", {}),
        "text, of one folder": (f"{scene} in:/photos/2019", {}),
        "text, path by a pattern": (f"{scene} path:*beach*", {}),
        "text, near a place": (f"{scene} near:48,2,500km", {}),
        "text without a thing": ("a dog -people", {}),
        "a thing without itself": ("dog -dog", {}),
        "two texts": ("a dog +beach", {}),
        "text and picture": ("a dog +id:17", {}),
        "text and picture, late": ("a dog +id:17", {"fusion": "late"}),
        "a rare name": ("Fido", {}),
        "a word of many captions": ("flower", {}),
        "words of most captions": ("dog with cat near train", {}),
        "text without words": (scene, {"fusion": "early"}),
        "best of each day": (scene, {"group": "day"}),
        "look-alikes together": (scene, {"group": "near-duplicate"}),
        "diverse": (scene, {"diversity": 0.3}),
        "auto-cut": (scene, {"auto_cut": True}),
        "from 50 %": (scene, {"min_probability": 0.5}),
        "1,000 hits": (scene, {"k": 1000}),
        "10,000 hits": (scene, {"k": 10_000}),
        "like and unlike": (scene, {"like": (17, 170), "unlike": (400,)}),
        "conditions alone": ("taken:2023", {}),
        "nonsense": ("asdf qwer zxcv", {}),
        "without much": ("tree -photo -scene -people -dog -beach", {}),
        "without itself, 2,000 hits": ("dog -dog", {"k": 2000}),
        "a common word, auto-cut": ("dog", {"auto_cut": True}),
        "a common word, from 5 %": ("dog", {"min_probability": 0.05}),
    }
    return {
        name: dataclasses.replace(compose_query([line]), **changes)  # type: ignore[arg-type]
        for name, (line, changes) in asked.items()
    }


def warm(folder: Path, encoder: Encoder, query: Query, rounds: int) -> tuple[float, float, float]:
    """Return seconds of a question the first time, and the medians after, by the clock and by the processor,
    in an index that was asked before.

    Between the rounds another question is asked, so that only filters are remembered.
    """
    with Index.open(folder) as index:
        searcher = Searcher(index, encoder)
        other = compose_query(["a photo of a castle"])
        searcher.search(other)
        times, busy = [], []
        for _ in range(rounds + 1):
            began, worked = time.perf_counter(), time.process_time()
            searcher.search(query)
            times.append(time.perf_counter() - began)
            busy.append(time.process_time() - worked)
            searcher.search(other)
    return times[0], statistics.median(times[1:]), statistics.median(busy[1:])


def parts(folder: Path, rounds: int) -> dict[str, float]:
    """Return the median seconds of what a question reads of the index beside the vectors."""
    words = "a dog on a beach"
    read: dict[str, Callable[[Index], object]] = {
        "opening": lambda index: index.space,
        "counting the files": lambda index: index.select(None),
        "opening the vectors, a sample": lambda index: index.sample(),
        "words": lambda index: index.matching_words(words, 1000),
        "rows of 1,000 frames": lambda index: index.frames(range(1, 1001)),
        "ids of 100,000 frames": lambda index: index.files_of(range(1, 100_001)),
    }
    times: dict[str, list[float]] = {name: [] for name in read}
    for _ in range(rounds):
        for name, part in read.items():
            began = time.perf_counter()
            with Index.open(folder) as index:
                part(index)
            times[name].append(time.perf_counter() - began)
    return {name: statistics.median(taken) for name, taken in times.items()}


def resident_mb() -> int:
    """Return what this process holds now, mapped files in it, in MB; 0 where the system does not say."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith("VmRSS")), 0)


_COMMAND = """
import resource, subprocess, sys
subprocess.run([sys.executable, "cli.py", "search", *sys.argv[1:]], stdout=subprocess.DEVNULL, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
"""


def cold(folder: Path, arguments: list[str], rounds: int) -> tuple[float, int]:
    """Return the median of seconds of a whole command, and its peak memory in MB (the mapped index in it)."""
    times, peak = [], 0
    for _ in range(rounds):
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", _COMMAND, *arguments, "--index", str(folder)],
            capture_output=True, check=True, text=True,
        )  # fmt: skip
        times.append(time.perf_counter() - began)
        peak = max(peak, int(done.stdout))
    return statistics.median(times), peak


def main() -> None:
    """Make the index where there is none, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--index", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", action="append", help="a question by its name in the table")
    wanted = parser.parse_args()
    encoder = BuiltinEncoder()
    with tempfile.TemporaryDirectory() as made:
        folder = wanted.index or Path(made) / "index"
        if not (folder / "catalog.sqlite").exists():
            began = time.perf_counter()
            make_index(folder, wanted.rows, encoder)
            print(f"an index of {wanted.rows:,} pictures, made in {time.perf_counter() - began:.0f} s")
        print(f"{'in one process':28} {'first':>8} {'then':>8} {'busy':>8} {'holds':>8}")
        for name, query in questions().items():
            if wanted.only and name not in wanted.only:
                continue
            spans = " ".join(f"{s * 1000:5.0f} ms" for s in warm(folder, encoder, query, wanted.rounds))
            print(f"{name:28} {spans} {resident_mb():5,} MB", flush=True)
        print(f"{'a part, opened anew':28} {'median':>8}")
        for name, seconds in parts(folder, wanted.rounds).items():
            print(f"{name:28} {seconds * 1000:5.0f} ms", flush=True)
        print(f"{'a whole command':28} {'median':>8} {'peak':>8}")
        for arguments in (["a dog on a beach"], ["a dog on a beach", "taken:2019"], ["taken:2023", "--json"]):
            seconds, peak = cold(folder, arguments, wanted.rounds)
            print(f"{' '.join(arguments):28} {seconds * 1000:5.0f} ms {peak:5,} MB", flush=True)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(f"peak memory of the one process: {peak:,} MB")


if __name__ == "__main__":
    main()
