"""The odd files of other projects' test suites, against what is expected of each.

The corpora lie beside the repository (`../shared/corpora`, with a manifest); without them there is nothing
to test. A file outside the candidates' suffixes goes through all the same: it may be renamed tomorrow.
"""

from __future__ import annotations

import csv
import itertools
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from encoders.base import Preprocess
from indexer.formats import openers, sniff
from indexer.workers import Decoded, DecodeFailure, DecodePool, DecodeTask, Outcome

CORPORA = Path(__file__).parents[3] / "shared" / "corpora"
pytestmark = pytest.mark.skipif(not (CORPORA / "manifest.csv").exists(), reason="the corpora are not here")

OUTSIDE = {
    ".fits",
    ".pfm",
    ".svs",
    ".iiq",
    ".nef",
    ".pcd",
    ".tga",
    ".jp2",
    ".pcx",
    ".flc",
    ".ico",
    ".icns",
    ".fli",
    ".sgi",
    ".j2k",
    ".dds",
    ".blp",
    ".psd",
    ".eps",
}
"""Formats that are not parsed, or RAW files cut down to their metadata: a reason is all that is asked."""


class Whole:
    """Every file of the corpora through one pool."""

    def __init__(self) -> None:
        files = sorted(path for path in CORPORA.rglob("*") if path.is_file())
        start, self.peak, self.found = time.perf_counter(), 0, {}
        process = psutil.Process()
        before = resident(process)  # what other tests have imported is not this one's
        waiting = list(reversed(files))
        with DecodePool(Preprocess(224), workers=2) as pool:
            while waiting or pool.outstanding:
                while waiting and pool.outstanding < pool.capacity:
                    path = waiting.pop()
                    pool.submit(DecodeTask(0, os.fsencode(path)))
                for outcome in pool.results(1):
                    self.found[os.fsdecode(outcome.path)] = outcome
                self.peak = max(
                    self.peak, resident(process) - before + sum(map(resident, pool_processes(pool)))
                )
        self.seconds = time.perf_counter() - start
        self.files = files

    found: dict[str, Outcome]

    def __getitem__(self, path: str) -> Outcome:
        return self.found[str(CORPORA / path)]


def resident(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.NoSuchProcess:
        return 0


def pool_processes(pool: DecodePool) -> list[psutil.Process]:
    found = []
    for pid in pool.worker_pids:
        try:
            found.append(psutil.Process(pid))
        except psutil.NoSuchProcess:
            continue
    return found


@pytest.fixture(scope="module")
def whole() -> Whole:
    return Whole()


@pytest.fixture(scope="module")
def manifest() -> dict[str, list[dict[str, str]]]:
    rows: dict[str, list[dict[str, str]]] = {}
    with open(CORPORA / "manifest.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if (CORPORA / row["path"]).exists():
                rows.setdefault(row["category"], []).append(row)
    return rows


def test_every_file_gets_an_answer_and_none_a_crash(whole: Whole, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(whole.found) == len(whole.files)
    reasons = [outcome.reason for outcome in whole.found.values() if isinstance(outcome, DecodeFailure)]
    assert not [reason for reason in reasons if "crash" in reason or "timeout" in reason or not reason]
    assert not [reason for reason in reasons if "decoder failed" in reason]
    with capsys.disabled():
        kinds = Counter(type(outcome).__name__ for outcome in whole.found.values())
        print(
            f"\n{len(whole.files)} files in {whole.seconds:.1f} s,",
            f"peak {whole.peak / 2**20:.0f} MB, {dict(kinds)}",
        )


def test_memory_of_all_processes_stays_below_1500_mb(whole: Whole) -> None:
    assert whole.peak < 1.5e9


def indexed(outcome: Outcome) -> bool:
    return isinstance(outcome, Decoded) and len(outcome.pixels) > 0


def answered(outcome: Outcome) -> bool:
    return isinstance(outcome, Decoded) or 0 < len(outcome.reason) < 200


def refused(*starts: str) -> Callable[[Outcome], bool]:
    return lambda outcome: isinstance(outcome, DecodeFailure) and outcome.reason.startswith(starts)


def not_parsed(outcome: Outcome) -> bool:
    return refused("not an image", "format not supported", "empty file", "not a RAW")(outcome)


EXPECTED: dict[str, Callable[[Outcome], bool]] = {
    "orientation 1..8 (JPEG)": indexed,
    "orientation AVIF/HEIF": indexed,
    "CMYK JPEG/TIFF": indexed,
    "16-bit grey": indexed,
    "float / LAB": indexed,
    "palette / transparency": indexed,
    "RGBA": indexed,
    "1-bit": indexed,
    "animated GIF/APNG/WebP/AVIF": indexed,
    "multi-picture (MPO) / multi-page TIFF": indexed,
    "ICC profile": indexed,
    "GPS in EXIF": indexed,
    "HEIC/HEIF needs plugin": indexed if "HEIF" in openers() else refused("HEIC support not installed"),
    "HEIC/AVIF corrupted": refused("damaged ", "too large", "empty file"),
    "truncated, recoverable": lambda outcome: (
        refused("truncated", "damaged ", "degenerate")(outcome)
        or (isinstance(outcome, Decoded) and bool(outcome.warning))
    ),
    "decompression bomb": refused("too large", "degenerate", "damaged "),
    "bomb below limit (warning)": answered,
    "historic crash/oom/timeout cases": answered,
    "text / not an image": not_parsed,
    "EPS/PSD/FITS/... plugin outside the allow-list": not_parsed,
    "bad-EXIF files": indexed,
    "broken PNG (PngSuite x*)": refused("damaged ", "truncated", "not an image"),
    "other decode errors in allowed formats": lambda outcome: (
        refused("damaged ", "truncated")(outcome) or (isinstance(outcome, Decoded) and bool(outcome.warning))
    ),
}


@pytest.mark.parametrize("category", EXPECTED)
def test_category_is_treated_as_the_manifest_says(
    category: str, whole: Whole, manifest: dict[str, list[dict[str, str]]]
) -> None:
    rows = manifest.get(category, [])
    if not rows:
        pytest.skip(f"no file of {category!r} is here")
    wrong = []
    for row in rows:
        outcome = whole[row["path"]]
        expected = EXPECTED[category](outcome)
        if not expected and Path(row["path"]).suffix.lower() in OUTSIDE:
            expected = answered(outcome)
        if not expected:
            wrong.append((row["path"], outcome.warning if isinstance(outcome, Decoded) else outcome.reason))
    assert not wrong


def test_manifest_has_no_category_without_an_expectation(manifest: dict[str, list[dict[str, str]]]) -> None:
    assert {name for name in manifest if "video" not in name.lower()} <= set(EXPECTED)


def pixels(whole: Whole, path: str) -> np.ndarray:
    outcome = whole[path]
    assert isinstance(outcome, Decoded), outcome
    return outcome.pixels[0].astype(float)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.ravel() - a.mean(), b.ravel() - b.mean()
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("shape", ["landscape", "portrait"])
def test_eight_orientations_are_one_picture(whole: Whole, shape: str) -> None:
    first = pixels(whole, f"exif-samples/jpg/orientation/{shape}_1.jpg")
    for number in range(2, 9):
        assert cosine(first, pixels(whole, f"exif-samples/jpg/orientation/{shape}_{number}.jpg")) > 0.95, (
            number
        )


def test_16_bit_grey_is_not_white(whole: Whole, manifest: dict[str, list[dict[str, str]]]) -> None:
    for row in manifest["16-bit grey"]:
        assert 8 < pixels(whole, row["path"]).mean() < 240, row["path"]


def test_cmyk_is_not_inverted(whole: Whole) -> None:
    one = pixels(whole, "pillow/Tests/images/pil_sample_cmyk.jpg")
    other = pixels(whole, "pillow/Tests/images/tiff_strip_cmyk_jpeg.tif")
    assert cosine(one, other) > 0.95
    assert one[5, 5].tolist() == pytest.approx([255, 13, 25], abs=12)  # the red corner
    assert one[120, 10].max() < 12  # on black


def test_places_are_read(whole: Whole) -> None:
    for name in ("DSCN0010", "DSCN0012", "DSCN0021"):
        outcome = whole[f"exif-samples/jpg/gps/{name}.jpg"]
        assert isinstance(outcome, Decoded)
        assert outcome.metadata is not None
        assert outcome.metadata.latitude == pytest.approx(43.467, abs=0.01)
        assert outcome.metadata.longitude == pytest.approx(11.88, abs=0.02)
        assert (outcome.metadata.taken_at or "").startswith("2008-10-22T")


def mutant(seed: int, sources: list[bytes]) -> bytes:
    """Return a picture with wrong bytes, cut short, or continued with another."""
    rng = random.Random(seed)
    data, kind = bytearray(rng.choice(sources)), rng.random()
    if kind < 0.6:
        for _ in range(rng.choice((1, 3, 10, 60))):
            data[rng.randrange(min(len(data), rng.choice((200, 2000, 10**7))))] = rng.randrange(256)
    elif kind < 0.8:
        del data[rng.randrange(1, len(data) + 1) :]
    else:
        other, cut = rng.choice(sources), rng.randrange(len(data))
        data[cut:] = other[rng.randrange(len(other)) :]
    return bytes(data)


@pytest.mark.slow
def test_5000_mutants_crash_nothing(tmp_path: Path) -> None:
    contents = (path.read_bytes() for path in sorted(CORPORA.rglob("*")) if path.is_file())
    sources = [data for data in contents if len(data) < 400_000 and sniff(data).allowed]
    kinds: Counter[str] = Counter()
    with DecodePool(Preprocess(224), workers=2) as pool:
        left = iter(range(5000))
        while True:
            for seed in itertools.islice(left, pool.capacity - pool.outstanding):
                path = tmp_path / f"{seed}.{'dng' if seed % 10 == 0 else 'jpg'}"
                path.write_bytes(mutant(seed, sources))
                pool.submit(DecodeTask(seed, os.fsencode(path)))
            if not pool.outstanding:
                break
            for outcome in pool.results(1):
                os.unlink(outcome.path)
                kinds["decoded" if isinstance(outcome, Decoded) else outcome.reason] += 1
    assert sum(kinds.values()) == 5000
    bad = [
        reason for reason in kinds if any(word in reason for word in ("crash", "timeout", "decoder failed"))
    ]
    assert not bad
