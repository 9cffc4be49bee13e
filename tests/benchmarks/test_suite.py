"""The harness itself: what it says of numbers, what it keeps, and the page it writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks.suite import figures, indexing, libraries, machine, page, pictures
from tests.benchmarks.suite.results import Store, percentiles, ratios, spread
from tests.benchmarks.suite.settings import QUICK


def test_ratios_are_paired_round_by_round() -> None:
    # The machine was twice as slow in the second round: the medians of each would say 1.33, the pairs say 2.
    rounds = [{"a": {"rate": 10.0}, "b": {"rate": 5.0}}, {"a": {"rate": 5.0}, "b": {"rate": 2.5}}]
    found = ratios(rounds, "a", "b", "rate")
    assert found is not None
    assert (found.median, found.least, found.most) == (2.0, 2.0, 2.0)


def test_a_round_in_which_one_failed_is_in_no_ratio() -> None:
    rounds = [{"a": {"rate": 10.0}, "b": {"failed": "no memory"}}, {"a": {"rate": 9.0}, "b": {"rate": 3.0}}]
    found = ratios(rounds, "a", "b", "rate")
    assert found is not None
    assert found.median == 3.0
    assert ratios(rounds[:1], "a", "b", "rate") is None


def test_nothing_has_no_median() -> None:
    with pytest.raises(ValueError, match="no numbers"):
        spread([])


def test_percentiles_are_those_of_the_sorted_times() -> None:
    seconds = [number / 1000 for number in range(100, 0, -1)]
    found = percentiles(seconds)
    assert [found[f"p{share}_ms"] for share in (50, 95, 99)] == [50.0, 95.0, 99.0]
    assert found["per_s"] == pytest.approx(100 / sum(seconds))
    assert percentiles([0.004])["p99_ms"] == 4.0


def test_a_cut_run_goes_on_where_it_was(tmp_path: Path) -> None:
    done: list[int] = []

    def measure(number: int) -> dict[str, int]:
        if number == 2 and len(done) == 2:
            done.append(-1)
            raise KeyboardInterrupt
        done.append(number)
        return {"number": number}

    with pytest.raises(KeyboardInterrupt):
        Store(tmp_path, "code").rounds("part", 3, measure)
    assert Store(tmp_path, "code").rounds("part", 3, measure) == [{"number": n} for n in range(3)]
    assert done == [0, 1, -1, 2]


def test_results_of_other_code_are_measured_again_unless_they_last(tmp_path: Path) -> None:
    Store(tmp_path, "old").once("part", lambda: {"value": 1})
    new = Store(tmp_path, "new")
    assert new.current("part") is None
    assert new.once("part", lambda: {"value": 2}, lasting=True)["value"] == 1
    assert new.once("part", lambda: {"value": 2})["value"] == 2


def test_a_part_is_forgotten_without_the_builds_of_the_peers(tmp_path: Path) -> None:
    store = Store(tmp_path, "code")
    for key in ("warm-1000", "floor-1000", "build-1000-hnswlib", "cold-1000"):
        store.write(key, {})
    store.forget("warm")
    assert store.keys() == ["build-1000-hnswlib", "cold-1000"]


def test_the_page_keeps_what_people_wrote() -> None:
    before = f"# Title\n\nwords\n\n{page.BEGIN}\nold\n{page.END}\n\nmore words\n"
    after = page.replaced(before, "new")
    assert after == f"# Title\n\nwords\n\n{page.BEGIN}\n\nnew\n\n{page.END}\n\nmore words\n"
    assert page.replaced(after, "new") == after
    with pytest.raises(ValueError, match="needs one line"):
        page.replaced("# Title\n", "new")


def test_the_page_in_the_docs_can_be_written() -> None:
    assert page.BEGIN in page.replaced(page.PAGE.read_text(), "new")


def test_tables_say_what_was_measured_and_what_failed(tmp_path: Path) -> None:
    store = Store(tmp_path, "code")
    assert page.generated(QUICK, store) == ""
    numbers = {"wall_s": 0.5, "cpu_s": 0.5, "peak_mb": 100.0, "busy": 0.5}
    rounds = [{"pixseek": numbers, "rclip": {**numbers, "wall_s": 5.0}}] * 3
    store.write("cold-1000000", {"rounds": rounds})
    store.write("cold-10000", {"rounds": [{"pixseek": numbers, "rclip": {"failed": "no memory"}}]})
    text = page.generated(QUICK, store)
    assert "| 1,000,000 | 0.50 | 100 | - | 5.00 | 100 | 10.0 |" in text
    assert "| 10,000 | 0.50 | 100 | - | no memory | - | - |" in text
    assert "| ... times faster than rclip | >= 8 | 10.0 | yes |" in text
    assert figures.figures(QUICK, store)["lines"]["rclip -n, one process"] == [(1_000_000, 5.0)]


def test_what_was_measured_of_every_part_stands_on_the_page(tmp_path: Path) -> None:
    store = Store(tmp_path, "code")
    ran = {"wall_s": 10.0, "cpu_s": 18.0, "peak_mb": 300.0, "busy": 0.9, "done": 24, "of": 24}
    quality = {"cosine_worst": 0.9951, "cosine_median": 0.9999, "overlap": 0.97, "spread": 0.4}
    store.write(
        "indexing-12mp",
        {
            "rounds": [
                {"pixseek": {**ran, "rate": 30.0, "quality": quality}, "rclip": {**ran, "rate": 8.0}},
                {
                    "pixseek": {**ran, "rate": 33.0, "quality": quality},
                    "rclip": {"failed": "ended with 1: no"},
                },
            ]
        },
    )
    store.write("indexing-12mp-decode", {"decode_ms": 20.0})
    store.write("limits-gemm", {"bf16": 380.0})
    store.write("machine", {**machine.describe(), "cores": 2})
    asked = {"p50_ms": 2.0, "p95_ms": 3.0, "p99_ms": 4.0, "per_s": 480.0, "recall": 0.985, "effort": 64}
    engine = {"open_s": 0.1, "peak_mb": 900.0, "texts": asked, "pictures": asked}
    store.write("warm-1000000", {"rounds": [{"pixseek": engine, "hnswlib": engine}]})
    store.write("warm-1000000-skipped", {"usearch-i8": "no wheel"})
    store.write("floor-1000000", {"read_s": 0.03, "bytes": 768_000_000})
    store.write("reindex-1000", {"rounds": [{"pixseek": ran, "rclip": {**ran, "wall_s": 40.0}}]})
    store.write("open-1000", {"rounds": [{"pixseek": ran}]})
    text = page.generated(QUICK, store)
    # 20 ms on one of two cores, and 11.5 GFLOP at 380 a second: 10 + 30.3 ms.
    assert "bf16 25/s (reached: 127%)" in text
    assert "failed: ended with 1: no" in text
    assert "| pixseek | 2.00 / 3.00 / 4.00 | 480 | 0.985 |" in text
    assert "Left out: usearch HNSW i8 (no wheel)." in text
    assert "in 30.0 ms (25.6 GB/s)" in text
    assert "| 1,000 | 10.00 | 300 | 40.00 | 300 | 4.0 |" in text
    assert "| ... its worst cosine with float32 | >= 0.99 | 0.9951 | yes |" in text
    shown = figures.figures(QUICK, store)
    assert shown["bars"]["24 JPEGs of 12 megapixels"] == {
        "pixseek": 31.5,
        "rclip 3.3.0": 8.0,
        "plain loop": None,
    }
    assert shown["points"]["hnswlib HNSW f32"]["texts"] == [2.0, 0.985]


def test_the_true_nearest_are_those_of_one_large_product() -> None:
    rng = np.random.default_rng(0)
    library = rng.standard_normal((500, 16)).astype(np.float16)
    asked = rng.standard_normal((7, 16)).astype(np.float32)
    slow = np.argsort(-(asked @ library.astype(np.float32).T), axis=1)[:, :10]
    assert np.array_equal(libraries.nearest(library, asked, step=37), slow)


def test_quality_is_of_pictures_by_their_names() -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((30, 8)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    names = [str(number) for number in range(30)]
    order = rng.permutation(30)
    same = indexing.quality(([names[n] for n in order], rows[order]), (names, rows))
    assert same["cosine_worst"] == pytest.approx(1, abs=1e-6)
    assert same["overlap"] == 1.0
    turned = rows.copy()
    turned[3] = -turned[3]
    assert indexing.quality((names, turned), (names, rows))["cosine_worst"] == pytest.approx(-1, abs=1e-6)


def test_a_command_is_measured_with_its_memory_and_its_end(tmp_path: Path) -> None:
    import sys

    ran = machine.run([sys.executable, "-c", "print(len(b'x' * 80_000_000))"], cwd=tmp_path)
    assert ran.stdout == "80000000\n"
    assert 80 <= ran.peak_mb < 400
    with pytest.raises(RuntimeError, match=r"ended with 3: no"):
        machine.run(
            [sys.executable, "-c", "import sys; print('no', file=sys.stderr); sys.exit(3)"], cwd=tmp_path
        )


def test_a_command_that_hangs_is_ended_with_what_it_began(tmp_path: Path) -> None:
    import sys
    import time

    child = "import pathlib, time; time.sleep(3); pathlib.Path('alive').touch()"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with pytest.raises(RuntimeError, match="not done after 1 s"):
        machine.run([sys.executable, "-c", parent], cwd=tmp_path, timeout_s=1)
    time.sleep(2.5)
    assert not (tmp_path / "alive").exists()


def test_a_photo_of_12_megapixels_is_one(tmp_path: Path) -> None:
    import random

    from PIL import Image

    source = tmp_path / "source.jpg"
    Image.effect_noise((320, 240), 60).convert("RGB").save(source)
    made = pictures._camera(pictures._open(source), [source], random.Random(0))
    assert made.size == (4000, 3000)
    out = tmp_path / "made.jpg"
    made.save(out, quality=90, exif=pictures._exif(3, random.Random(0)))
    assert out.stat().st_size > 1_500_000
    with Image.open(out) as read:
        assert read.getexif().get_ifd(0x8769)[0x9003].startswith("2017:")
