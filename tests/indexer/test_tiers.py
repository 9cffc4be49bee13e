"""Very many embeddings: the scan and the lists against slow references, and lists that were damaged."""

from __future__ import annotations

import mmap
import os
import random
import shutil
import stat
import threading
from collections.abc import Sequence
from pathlib import Path

import faiss
import numpy as np
import pytest

from encoders import normalize
from indexer import Index, Number, backup, check, prune, repair, scanning, snapshots, tier_building, tiers
from indexer.asked import MOST, asked_path, asked_vectors, remember
from indexer.clusters import Clusters
from indexer.ledger import Ledger, NewContent
from indexer.records import TierRecord
from indexer.scanning import Rows
from tests.indexer import catalogs
from tests.indexer.catalogs import DIM, shown_at, write

ROWS = 1_500


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists from a thousand rows on, and parts of a scan of a hundred."""
    monkeypatch.setattr(tiers, "FROM_ROWS", 1_000)
    monkeypatch.setattr(tier_building, "_SLAB_ROWS", 400)
    monkeypatch.setattr(tier_building, "_NICE", 0)
    monkeypatch.setattr(scanning, "_LEAST_ROWS", 100)
    monkeypatch.setattr(scanning, "threads", lambda: 2)
    faiss.omp_set_num_threads(1)


def content(number: int) -> NewContent:
    """Return a content near one of forty points: pictures are alike in groups."""
    made = catalogs.content(number)
    about = catalogs.content(100_000 + number % 40).vectors
    made.vectors = normalize((about + 0.35 * made.vectors).astype(np.float32)).astype(np.float16)
    return made


def some_texts(sentences: Sequence[str]) -> np.ndarray:
    rng = np.random.default_rng(len(sentences))
    return normalize(rng.standard_normal((len(sentences), DIM)).astype(np.float32))


def make_lists(folder: Path, **options: threading.Event) -> TierRecord | None:
    with Ledger.open_or_create(folder) as ledger:
        space = ledger.space()
        assert space is not None
        return tier_building.build_tier(ledger, space, some_texts, **options)


def add(folder: Path, numbers: range, *, snapshot: bool = True) -> Path:
    files = [shown_at(f"/p/{number}.jpg", number) for number in numbers]
    return write(folder, [content(number) for number in numbers], files, snapshot=snapshot)


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index with lists."""
    folder = add(tmp_path_factory.mktemp("tiers") / "index", range(1, ROWS + 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiers, "FROM_ROWS", 1_000)
        patch.setattr(tier_building, "_SLAB_ROWS", 400)
        patch.setattr(tier_building, "_NICE", 0)
        faiss.omp_set_num_threads(1)
        assert make_lists(folder) is not None
    return folder


@pytest.fixture
def index_dir(ready: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "index"
    # With its inodes and times: what the catalog recorded of its files is part of what is tested.
    shutil.copytree(ready, folder)
    return folder


def queries(count: int) -> np.ndarray:
    return normalize(np.random.default_rng(7).standard_normal((count, DIM)).astype(np.float32))


def slow(query: np.ndarray, k: int, numbers: Sequence[int]) -> list[float]:
    rows = np.concatenate([content(number).vectors for number in numbers]).astype(np.float32)
    return np.sort(rows @ query)[::-1][:k].tolist()


def recall(index: Index, k: int, numbers: Sequence[int], **options: object) -> float:
    shares = []
    for query in queries(20):
        best = slow(query, k, numbers)
        near = index.nearest(query, k, **options)  # type: ignore[arg-type]
        assert len(near) == min(k, len(numbers))
        assert [n.score for n in near] == sorted((n.score for n in near), reverse=True)
        shares.append(np.mean([one.score >= best[-1] - 1e-5 for one in near]))
    return float(np.mean(shares))


def lists_of(folder: Path) -> Path:
    (path,) = folder.glob("lists-*.faiss")
    return path


# -- the exact scan


def rows_in_memory(count: int, dim: int = DIM) -> Rows:
    flat = faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    index = faiss.IndexIDMap(flat)
    vectors = normalize(np.random.default_rng(1).standard_normal((count, dim)).astype(np.float32))
    index.add_with_ids(vectors, np.arange(count, dtype=np.int64) * 3 + 1)
    return Rows(index)


@pytest.mark.parametrize("count", [1, 7, 99, 200, 1001, 5003])
@pytest.mark.parametrize("first", [0, 1, 13, 800])
@pytest.mark.parametrize("share", [None, 0.0, 0.03, 0.6])
def test_scan_in_parts_is_the_slow_answer(count: int, first: int, share: float | None):
    rows = rows_in_memory(count)
    rng = np.random.default_rng(count)
    chosen = np.ones(count, bool) if share is None else rng.random(count) < share
    bitmap = None if share is None else np.packbits(chosen, bitorder="little")
    query = normalize(rng.standard_normal((1, DIM)).astype(np.float32))[0]
    for k in (1, 10, 400):
        places, scores = rows.scan(query, k, first=min(first, count), bitmap=bitmap)
        left = np.flatnonzero(chosen & (np.arange(count) >= first))
        exact = rows.at(left) @ query
        order = np.argsort(-scores, kind="stable")[:k]
        np.testing.assert_allclose(scores[order], np.sort(exact)[::-1][:k], atol=1e-5)
        assert len(set(places.tolist())) == len(places)
        assert set(places.tolist()) <= set(left.tolist())
        np.testing.assert_allclose(rows.at(places) @ query, scores, atol=1e-5)


def test_a_snapshot_is_byte_for_byte_what_faiss_writes(index_dir: Path, tmp_path: Path):
    vectors = np.concatenate([content(number).vectors for number in range(1, ROWS + 1)])
    flat = faiss.IndexScalarQuantizer(DIM, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    index = faiss.IndexIDMap(flat)
    index.add_with_ids(vectors.astype(np.float32), np.arange(1, ROWS + 1, dtype=np.int64))
    (path,) = index_dir.glob("vectors-*.faiss")
    faiss.write_index(index, str(tmp_path / "by-faiss"))
    assert path.read_bytes() == (tmp_path / "by-faiss").read_bytes()


def test_rows_of_a_mapped_snapshot_are_read_without_the_map(index_dir: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(snapshots, "ALWAYS_HASHED_BYTES", 100)
    with Ledger.open_or_create(index_dir) as ledger:
        space, (record,) = ledger.space(), ledger.snapshots()
        assert space is not None
        rows, trouble = snapshots.open_snapshot(index_dir, record, space)
    assert (trouble, rows is None) == (None, False)
    assert rows is not None
    places = np.array([0, 17, 3, ROWS - 1])
    expected = np.concatenate([content(int(place) + 1).vectors for place in places]).astype(np.float32)
    np.testing.assert_array_equal(rows.at(places), expected)
    np.testing.assert_array_equal(rows.read(16, 18)[1], expected[1])
    np.testing.assert_array_equal(rows.codes[places].view(np.float16), expected)


# -- lists


def test_lists_are_byte_for_byte_what_faiss_writes(index_dir: Path, tmp_path: Path):
    path = lists_of(index_dir)
    index = faiss.read_index(str(path))
    assert index.ntotal == ROWS
    faiss.write_index(index, str(tmp_path / "again"))
    assert path.read_bytes() == (tmp_path / "again").read_bytes()
    places = np.concatenate([
        faiss.rev_swig_ptr(index.invlists.get_ids(number), index.invlists.list_size(number)).copy()
        for number in range(index.nlist) if index.invlists.list_size(number)
    ])  # fmt: skip
    assert sorted(places.tolist()) == list(range(ROWS))


def test_every_row_is_in_its_nearest_list(ready: Path):
    rows = normalize(np.random.default_rng(2).standard_normal((4_000, DIM)).astype(np.float32))
    clusters = Clusters.of(rows, 64)
    assert clusters.centroids.shape == (64, DIM)
    nearest = np.argmax(rows @ clusters.centroids.T, axis=1)
    found = clusters.assign(rows)
    # Two groups of eight are looked at; what a row loses by that is little.
    cosines = (rows * clusters.centroids[found]).sum(1), (rows * clusters.centroids[nearest]).sum(1)
    assert np.mean(found == nearest) > 0.5
    assert float(np.mean(cosines[1] - cosines[0])) < 0.05


def test_fewer_rows_than_lists_and_equal_rows_make_lists():
    assert len(Clusters.of(np.eye(5, dtype=np.float32), 5).centroids) == 5
    same = np.repeat(normalize(np.ones((1, DIM), np.float32)), 300, axis=0)
    clusters = Clusters.of(same, 16)
    assert set(clusters.assign(same).tolist()) <= set(range(16))


def test_questions_find_what_the_catalog_promises(index_dir: Path):
    with Index.open(index_dir) as index:
        tier = index.status().tier
        assert tier is not None
        assert (tier.embeddings, tier.queries, tier.own_queries) == (ROWS, 64 + 64, 0)
        assert tier.recall_at_10 >= tier_building.RECALL
        assert recall(index, 10, range(1, ROWS + 1)) > 0.96
        assert recall(index, 10, range(1, ROWS + 1), exact=True) == 1.0
        assert index.warnings == []


def test_answers_stay_when_the_mapped_lists_are_let_go(index_dir: Path, monkeypatch: pytest.MonkeyPatch):
    with Index.open(index_dir) as index:
        before = [index.nearest(query, 10) for query in queries(20)]
    let_go: list[int] = []
    release = tiers.release

    def seen(mapped: np.ndarray) -> None:
        assert mapped.ctypes.data % mmap.PAGESIZE == 0
        let_go.append(mapped.nbytes)
        release(mapped)

    monkeypatch.setattr(tiers, "_MOST_MAPPED_BYTES", 10_000)
    monkeypatch.setattr(tiers, "release", seen)
    with Index.open(index_dir) as index:
        assert [index.nearest(query, 10) for query in queries(20)] == before
    assert let_go[0] == lists_of(index_dir).stat().st_size


def test_one_core_reads_the_lists_and_other_threads_keep_theirs(
    index_dir: Path, monkeypatch: pytest.MonkeyPatch
):
    faiss.omp_set_num_threads(3)
    seen: list[int] = []
    inside: list[int] = []
    search = faiss.IndexIVFScalarQuantizer.search

    def spied(self: object, *args: object, **options: object) -> object:
        inside.append(faiss.omp_get_max_threads())
        other = threading.Thread(target=lambda: seen.append(faiss.omp_get_max_threads()))
        other.start()
        other.join()
        return search(self, *args, **options)

    other_before: list[int] = []
    before = threading.Thread(target=lambda: other_before.append(faiss.omp_get_max_threads()))
    before.start()
    before.join()
    monkeypatch.setattr(faiss.IndexIVFScalarQuantizer, "search", spied)
    with Index.open(index_dir) as index:
        index.nearest(queries(1)[0], 10)
    assert inside == [1]
    assert seen == other_before
    assert faiss.omp_get_max_threads() == 3


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system does not say what is in memory")
def test_what_is_let_go_is_no_longer_in_memory(tmp_path: Path):
    path = tmp_path / "large"
    path.write_bytes(bytes(64 << 20))
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        array = np.frombuffer(mapped, np.uint8)

        def shared_pages() -> int:
            return int(Path("/proc/self/statm").read_text().split()[2])

        assert not array.any()
        full = shared_pages()
        tiers.release(array[100:])
        assert full - shared_pages() > array.nbytes // mmap.PAGESIZE * 0.9
        assert not array.any()
        del array


def test_scores_are_those_of_the_exact_answer(index_dir: Path):
    with Index.open(index_dir) as index:
        for query in queries(5):
            exact = {one.frame_id: one.score for one in index.nearest(query, ROWS, exact=True)}
            for one in index.nearest(query, 50):
                assert one.score == pytest.approx(exact[one.frame_id], abs=1e-6)


def test_fewer_lists_are_read_than_there_are(index_dir: Path, monkeypatch: pytest.MonkeyPatch):
    with Index.open(index_dir) as index:
        tier = index.status().tier
        assert tier is not None
        assert tier.probes < tier.lists / 2
        scan, began = Rows.scan, []

        def seen(self: Rows, query: np.ndarray, k: int, *, first: int = 0, bitmap=None):
            began.append(first)
            return scan(self, query, k, first=first, bitmap=bitmap)

        monkeypatch.setattr(Rows, "scan", seen)
        assert len(index.nearest(queries(1)[0], 10)) == 10
        assert began == [ROWS], "only what is newer than the lists is scanned"


@pytest.mark.parametrize("most", [3, 15, 150, 750, 1400])
def test_among_a_selection_the_answer_is_right_at_every_size(index_dir: Path, most: int):
    with Index.open(index_dir) as index:
        among = index.select(Number("size_bytes", None, most))  # content n has n bytes
        assert among.files == most
        assert recall(index, 10, range(1, most + 1), among=among) >= 0.98
        assert recall(index, 10, range(1, most + 1), among=among, exact=True) == 1.0


@pytest.mark.parametrize("seed", range(4))
def test_a_selection_far_from_the_question_is_answered_right(index_dir: Path, seed: int):
    with Index.open(index_dir) as index:
        index.sample()
        vectors = index._vectors
        assert vectors is not None
        numbers = np.arange(1, ROWS + 1)
        groups = np.random.default_rng(seed).permutation(40)
        among = vectors.among(numbers[np.isin(numbers % 40, groups[:12])])
        for group in groups[12:24]:  # asked about what was left out
            query = content(int(group) + 400).vectors[0].astype(np.float32)
            exact, found = vectors.nearest(query, 10, among, exact=True), vectors.nearest(query, 10, among)
            assert np.mean(found[1] >= exact[1][-1] - 1e-6) >= 0.9
            assert set(found[0] % 40) <= set(groups[:12])


def test_all_hits_are_all_there_are(index_dir: Path):
    with Index.open(index_dir) as index:
        near = index.nearest(queries(1)[0], ROWS + 5)
        assert len({one.frame_id for one in near}) == ROWS


def test_lists_that_hold_too_few_hits_are_not_the_answer(index_dir: Path):
    with Index.open(index_dir) as index:
        index.nearest(queries(1)[0], 1)
        assert index._vectors is not None
        tier = index._vectors.tier
        assert tier is not None
        tier.probes_for = lambda k, *, among=False: 1  # type: ignore[method-assign]
        assert recall(index, 200, range(1, ROWS + 1)) == 1.0


def test_newer_rows_are_found_beside_the_lists(index_dir: Path):
    add(index_dir, range(ROWS + 1, ROWS + 41))  # in the snapshot
    add(index_dir, range(ROWS + 41, ROWS + 61), snapshot=False)  # in the tail
    with Index.open(index_dir) as index:
        for number in (5, ROWS + 3, ROWS + 50):
            (best,) = index.nearest(content(number).vectors[0].astype(np.float32), 1)
            assert index.frames([best.frame_id])[best.frame_id][0].path == b"/p/%d.jpg" % number
        assert recall(index, 10, range(1, ROWS + 61)) > 0.96
        assert index.warnings == []


def test_lists_are_made_anew_when_the_index_has_grown(index_dir: Path):
    assert make_lists(index_dir) is None, "nothing has changed"
    add(index_dir, range(ROWS + 1, ROWS + 50))
    assert make_lists(index_dir) is None, "a few newer rows are read exactly"
    add(index_dir, range(ROWS + 50, ROWS + 100))
    old = lists_of(index_dir)
    made = make_lists(index_dir)
    assert made is not None
    assert made.count == ROWS + 99
    assert lists_of(index_dir) != old, "and the old file is gone"
    assert check(index_dir).ok


def test_after_prune_the_lists_are_not_used_and_made_anew(index_dir: Path):
    with Ledger.open_or_create(index_dir) as ledger:
        ledger.remove_files(range(1, 11))
    prune(index_dir, apply=True)
    with Index.open(index_dir) as index:
        assert recall(index, 10, range(11, ROWS + 1)) == 1.0
        assert index.warnings == []
    assert make_lists(index_dir) is not None
    with Index.open(index_dir) as index:
        assert recall(index, 10, range(11, ROWS + 1)) > 0.96


def test_a_small_index_gets_no_lists(tmp_path: Path):
    folder = add(tmp_path / "index", range(1, 900))
    assert make_lists(folder) is None
    assert not list(folder.glob("lists-*"))
    with Index.open(folder) as index:
        assert index.status().tier is None


def test_stop_leaves_nothing_and_the_next_run_makes_them(tmp_path: Path):
    folder = add(tmp_path / "index", range(1, 1200))
    stop = threading.Event()
    stop.set()
    assert make_lists(folder, stop=stop) is None
    assert not list(folder.glob("lists-*"))
    assert make_lists(folder) is not None


def test_stop_is_heard_between_any_two_groups_of_lists():
    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise tier_building.Stopped

    rows = normalize(np.random.default_rng(2).standard_normal((4_000, DIM)).astype(np.float32))
    with pytest.raises(tier_building.Stopped):
        Clusters.of(rows, 64, check=check)
    assert calls == 3


def test_index_makes_lists_at_its_end_and_status_tells(tmp_path: Path):
    from tests.indexer.conftest import Library

    library = Library(tmp_path)
    tiers.FROM_ROWS = 40  # put back by `small`
    library.fill(50)
    told: list[int] = []
    library.index(on_progress=lambda progress: told.append(progress.listing))
    assert max(told) == 50, "a person is told before the long step begins"
    assert lists_of(library.index_dir)
    with Index.open(library.index_dir) as index:
        assert index.status().tier is not None
    told.clear()
    library.index(on_progress=lambda progress: told.append(progress.listing))
    assert set(told) == {0}, "nothing has changed"
    assert check(library.index_dir).ok


# -- damage


def damaged(index_dir: Path, way: str) -> None:
    path = lists_of(index_dir)
    data = bytearray(path.read_bytes())
    if way == "cut":
        os.truncate(path, len(data) // 3)
    elif way == "missing":
        path.unlink()
    elif way == "fifo":
        path.unlink()
        os.mkfifo(path)
    elif way == "foreign":
        path.write_bytes(os.urandom(len(data)))
    elif way == "record":
        with Ledger.open_or_create(index_dir) as ledger, ledger.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE tier SET probes = 7000")
    else:
        rng = random.Random(way)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)


WAYS = ["cut", "missing", "fifo", "foreign", "bit 1", "bit 2", "bit 3"]


@pytest.mark.parametrize("way", WAYS)
def test_damaged_lists_are_found_and_every_row_is_read_instead(index_dir: Path, way: str):
    damaged(index_dir, way)
    with Index.open(index_dir) as index:
        assert recall(index, 10, range(1, ROWS + 1)) == 1.0
        (line,) = index.warnings
        assert "lists not usable" in line
    assert [problem.kind for problem in check(index_dir).problems] == ["lists"]
    assert repair(index_dir).lists_dropped
    assert check(index_dir).ok
    assert make_lists(index_dir) is not None
    assert check(index_dir).ok


@pytest.mark.parametrize("way", WAYS)
def test_the_next_run_makes_damaged_lists_anew(index_dir: Path, way: str):
    damaged(index_dir, way)
    assert make_lists(index_dir) is not None
    with Index.open(index_dir) as index:
        index.nearest(queries(1)[0], 1)
        assert index.warnings == []
    assert check(index_dir).ok


def test_a_damaged_record_names_nothing(index_dir: Path):
    damaged(index_dir, "record")
    with Index.open(index_dir) as index:
        assert recall(index, 10, range(1, ROWS + 1)) == 1.0
        assert index.status().tier is None
    assert make_lists(index_dir) is not None
    assert lists_of(index_dir), "the one that nothing names is gone"
    assert check(index_dir).ok


def test_lists_of_another_index_are_not_used(index_dir: Path, tmp_path: Path):
    other = add(tmp_path / "other", range(5_000, 5_000 + ROWS))
    make_lists(other)
    shutil.copy(lists_of(other), lists_of(index_dir))
    with Index.open(index_dir) as index:
        assert recall(index, 10, range(1, ROWS + 1)) == 1.0
        assert len(index.warnings) == 1


def test_a_backup_has_no_lists_and_answers(index_dir: Path, tmp_path: Path):
    backup(index_dir, tmp_path / "copy")
    with Index.open(tmp_path / "copy") as index:
        assert recall(index, 10, range(1, ROWS + 1)) == 1.0


# -- a person's own questions


def test_own_questions_are_kept_and_measured(index_dir: Path):
    own = queries(5)
    with Index.open(index_dir, remember=True) as index:
        assert index.space is not None
        for query in own:
            index.nearest(query, 3)
            index.nearest(query, 12)
        space = index.space
    np.testing.assert_allclose(asked_vectors(index_dir, space), own, atol=1e-3)
    assert stat.S_IMODE(asked_path(index_dir, space).stat().st_mode) == 0o600
    add(index_dir, range(ROWS + 1, ROWS + 200))
    made = make_lists(index_dir)
    assert made is not None
    assert (made.own_queries, made.queries) == (5, 5 + 64 + 64)


def test_without_being_told_to_nothing_is_kept(index_dir: Path):
    with Index.open(index_dir) as index:
        index.nearest(queries(1)[0], 3)
    assert not list(index_dir.glob("asked-*"))


def test_the_last_questions_are_kept_and_nonsense_is_not_read(index_dir: Path):
    with Index.open(index_dir) as index:
        assert index.space is not None
        space = index.space
    rows = normalize(np.random.default_rng(3).standard_normal((300, DIM)).astype(np.float32))
    for start in range(0, 300, 100):
        remember(index_dir, space, list(rows[start : start + 100]))
    np.testing.assert_allclose(asked_vectors(index_dir, space), rows[-MOST:], atol=1e-3)
    asked_path(index_dir, space).write_bytes(np.full(3 * DIM + 1, np.nan, np.float16).tobytes())
    assert len(asked_vectors(index_dir, space)) == 0
    asked_path(index_dir, space).unlink()
    asked_path(index_dir, space).symlink_to("/dev/zero")
    assert len(asked_vectors(index_dir, space)) == 0
    assert not list(index_dir.glob("*.tmp"))
