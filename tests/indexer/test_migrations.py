"""Indexes of every older format: read as they are, brought to the newest in one step, never left between."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from indexer import (
    Index,
    IndexDamagedError,
    IndexStorageError,
    Kind,
    Like,
    Near,
    Not,
    Taken,
    backup,
    check,
    index_folders,
    prune,
    repair,
    save_concept,
)  # fmt: skip
from indexer.tables import VERSION
from tests.color import ColorEncoder
from tests.indexer.catalogs import content, migrate, shown_at, take_back_to_format_1, write
from tests.indexer.test_crash import ENV, ROOT, needs_strace

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture
def first(tmp_path: Path) -> Path:
    """An index of format 1, as its code left it."""
    return Path(shutil.copytree(GOLDEN / "format-1", tmp_path / "index"))


def version_of(folder: Path) -> int:
    database = sqlite3.connect(f"file:{folder}/catalog.sqlite?mode=ro", uri=True)
    version = database.execute("pragma user_version").fetchone()[0]
    database.close()
    return int(version)


def answers(folder: Path) -> dict[str, list[bytes]]:
    """Return what the golden index of format 1 answers, by question."""
    with Index.open(folder) as index:
        found = {}
        for color in ("yellow", "blue", "purple"):
            (best,) = index.nearest(ColorEncoder().encode_texts([color])[0], 1)
            found[color] = [row.path for row in index.frames([best.frame_id])[best.frame_id]]
        for name, where in {
            "2023": Taken("2023", "2023"), "paris": Near(48.86, 2.35, 1000), "not photo": Not(Kind("photo")),
            "keyword": Like("keyword", "ÉTÉ*"), "path": Like("path", "/pictures/holiday*"),
        }.items():  # fmt: skip
            found[name] = [row.path for row in index.listed(index.select(where), 9, "name")]
        return found


EXPECTED = {
    "yellow": [b"/pictures/2023/IMG_beach2019.jpg"],
    "blue": [b"/pictures/2023/IMG_0002.jpg", b"/pictures/copy of 2.jpg"],
    "purple": [b"/pictures/wave.gif"],
    "2023": [b"/pictures/2023/IMG_0002.jpg", b"/pictures/2023/IMG_beach2019.jpg", b"/pictures/copy of 2.jpg"],
    "paris": [b"/pictures/2023/IMG_beach2019.jpg"],
    "not photo": [b"/pictures/wave.gif"],
    "keyword": [b"/pictures/2023/IMG_beach2019.jpg"],
    "path": [b"/pictures/holiday Rome/forum.jpg", b"/pictures/holiday Rome/wholeFamily.png"],
}


def words_of(folder: Path, words: str) -> list[bytes]:
    with Index.open(folder) as index:
        hits = index.matching_words(words, 9)
        return sorted(
            row.path for rows in index.frames([hit.frame_id for hit in hits]).values() for row in rows
        )


def test_format_1_answers_as_it_is_and_says_what_is_missing(first: Path):
    before = (first / "catalog.sqlite").read_bytes()
    assert answers(first) == EXPECTED
    with Index.open(first) as index:
        assert index.sample().shape == (7, 8)
        assert (index.concepts(), index.verdicts(), list(index.looks())) == ([], {}, [])
        assert index.warnings == []
        assert index.matching_words("dog", 9) == []
        assert index.matching_words("beach", 9) == []
        (line,) = index.warnings
        assert "run pixseek index once" in line
    assert check(first).ok
    assert (first / "catalog.sqlite").read_bytes() == before, "a reader changes nothing"


@pytest.mark.root
def test_format_1_answers_from_a_read_only_medium(first: Path):
    if os.geteuid() or subprocess.run(["mount", "--bind", first, first]).returncode:
        pytest.skip("needs root and the right to mount")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", first], check=True)
        assert answers(first) == EXPECTED
    finally:
        subprocess.run(["umount", first])


def test_format_1_becomes_the_newest_with_words_and_the_same_answers(first: Path):
    migrate(first)
    assert version_of(first) == VERSION
    assert answers(first) == EXPECTED
    assert words_of(first, "dogs") == [b"/pictures/2023/IMG_beach2019.jpg"]
    assert words_of(first, "海滩") == [b"/pictures/2023/IMG_0002.jpg", b"/pictures/copy of 2.jpg"]
    assert words_of(first, "rome") == [
        b"/pictures/holiday Rome/forum.jpg",
        b"/pictures/holiday Rome/wholeFamily.png",
    ]
    assert words_of(first, "caf") == [b"/pictures/caf\xe9.png"]
    assert check(first).ok
    assert [path.name for path in first.glob("catalog.sqlite.*")] == [], "the copy goes when it is done"
    save_concept(first, "dog", np.ones(8, np.float32), 1)
    migrate(first)
    with Index.open(first) as index:
        assert len(index.concepts()) == 1, "a second opening changes nothing"


def test_reader_goes_on_over_a_migration_and_sees_words_after_refresh(first: Path):
    with Index.open(first) as reader:
        assert reader.matching_words("dog", 1) == []
        migrate(first)
        assert reader.matching_words("dog", 1) == []
        assert reader.select(Taken("2023", None)).files == 3
        reader.refresh()
        assert len(reader.matching_words("dog", 1)) == 1


def test_format_1_knows_its_pictures_again_without_encoding(first: Path):
    encoder = ColorEncoder()
    report = index_folders(
        [os.fsencode(first / "photos")], index_dir=first, encoder=lambda space: encoder, workers=1
    )
    assert (report.indexed, report.encoded, encoder.encoded) == (3, 0, 0)
    assert len(words_of(first, "beach2019")) == 2


def test_format_2_answers_with_words_concepts_and_verdicts(tmp_path: Path):
    folder = Path(shutil.copytree(GOLDEN / "format-2", tmp_path / "index"))
    migrate(folder)
    assert answers(folder) == EXPECTED
    assert words_of(folder, "dogs") == [b"/pictures/2023/IMG_beach2019.jpg"]
    assert words_of(folder, "海滩") == [b"/pictures/2023/IMG_0002.jpg", b"/pictures/copy of 2.jpg"]
    assert words_of(folder, "family") == [
        b"/pictures/2023/IMG_0002.jpg", b"/pictures/copy of 2.jpg", b"/pictures/holiday Rome/wholeFamily.png",
    ]  # fmt: skip
    with Index.open(folder) as index:
        concept = index.concept("our dog")
        assert concept is not None
        assert (concept.vector.tolist(), concept.examples, concept.threshold) == (
            [0, 0, 0, 1, 0, 0, 0, 0],
            3,
            0.5,
        )
        assert [verdict.verdict for verdict in index.verdicts().values()] == ["different"]
        assert len(list(index.looks())) == 8
        assert index.warnings == []
    assert check(folder).ok


def test_format_3_answers_by_its_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = Path(shutil.copytree(GOLDEN / "format-3", tmp_path / "index"))
    assert answers(folder) == EXPECTED
    with Index.open(folder) as index:
        tier = index.status().tier
        assert tier is not None
        assert tier.embeddings == 8
        assert index.warnings == []
        assert index._vectors is None
        index.sample()
        assert index._vectors is not None
        assert index._vectors.tier is not None
    assert check(folder).ok
    migrate(folder)
    assert answers(folder) == EXPECTED


def test_format_2_is_read_as_it_is_and_has_no_lists(tmp_path: Path):
    folder = Path(shutil.copytree(GOLDEN / "format-2", tmp_path / "index"))
    before = (folder / "catalog.sqlite").read_bytes()
    assert answers(folder) == EXPECTED
    with Index.open(folder) as index:
        assert index.status().tier is None
        assert index.warnings == []
    assert check(folder).ok
    assert (folder / "catalog.sqlite").read_bytes() == before


def test_migrated_and_new_catalogs_have_the_same_schema(first: Path, tmp_path: Path):
    migrate(first)
    new = write(tmp_path / "new", [content(1)], [shown_at("/1.jpg", 1)])

    def schema(folder: Path) -> list[tuple[str, str]]:
        database = sqlite3.connect(folder / "catalog.sqlite")
        found = database.execute("select name, sql from sqlite_master where sql is not null order by name")
        rows = found.fetchall()
        database.close()
        return rows

    assert schema(first) == schema(new)


def test_taking_back_gives_format_1(tmp_path: Path):
    """The helper that makes large old indexes makes what the golden one is."""
    folder = write(tmp_path / "new", [content(1)], [shown_at("/1.jpg", 1)])
    take_back_to_format_1(folder)

    def tables(catalog: Path) -> set[str]:
        database = sqlite3.connect(catalog)
        names = {row[0] for row in database.execute("select sql from sqlite_master where sql is not null")}
        database.close()
        return names

    copy = Path(shutil.copy(GOLDEN / "format-1" / "catalog.sqlite", tmp_path))
    assert tables(folder / "catalog.sqlite") == tables(copy)


@pytest.mark.parametrize("way", [repair, lambda folder: prune(folder, apply=True)])
def test_repair_and_prune_bring_format_1_along(first: Path, way):
    way(first)
    assert version_of(first) == VERSION
    assert check(first).ok
    assert answers(first) == EXPECTED
    assert len(words_of(first, "rome")) == 2


def test_damaged_format_1_is_salvaged_into_the_newest(first: Path):
    database = sqlite3.connect(first / "catalog.sqlite")
    database.execute("update frame set content_id = 999 where id = 3")
    database.commit()
    database.close()
    assert repair(first).set_aside
    assert version_of(first) == VERSION
    assert check(first).ok
    assert answers(first)["yellow"] == EXPECTED["yellow"]
    assert words_of(first, "dog") == [b"/pictures/2023/IMG_beach2019.jpg"]


def test_backup_of_format_1_is_format_1(first: Path, tmp_path: Path):
    assert answers(backup(first, tmp_path / "copy")) == EXPECTED
    assert version_of(tmp_path / "copy") == 1


def test_format_1_with_tables_of_a_stranger_in_the_way_is_damage_or_mended(first: Path):
    database = sqlite3.connect(first / "catalog.sqlite")
    database.execute("create table look(x)")
    database.execute("create view words as select 1 as caption")
    database.commit()
    database.close()
    assert answers(first) == EXPECTED
    with pytest.raises(IndexDamagedError):
        migrate(first)
    assert version_of(first) == 1
    assert answers(first) == EXPECTED


# -- cut short


MIGRATE = "import sys; from pathlib import Path; from tests.indexer.catalogs import migrate; migrate(Path(sys.argv[1]))"  # noqa: E501


def killed(folder: Path, inject: str) -> int:
    call = inject.split(":", 1)[0]
    command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={inject}"]
    return subprocess.run(
        [*command, sys.executable, "-c", MIGRATE, str(folder)],
        cwd=ROOT,
        env=ENV,
        capture_output=True,
        timeout=120,
    ).returncode


def old_library(tmp_path: Path) -> Path:
    """More than one chunk of pages and terms, so that there are many points to be killed at."""
    from indexer import Metadata

    folder = write(
        tmp_path / "index",
        [content(n, Metadata(caption=f"dog number{n}", keywords=(f"word{n % 7}",))) for n in range(400)],
        [shown_at(f"/photos/folder{n % 9}/IMG_{n}.jpg", n) for n in range(400)],
    )
    take_back_to_format_1(folder)
    return folder


def is_old_or_new(folder: Path) -> int:
    """Check that the index is wholly of one format and answers; return which."""
    query = content(7).vectors[0].astype(np.float32)
    with Index.open(folder) as index:
        (best,) = index.nearest(query, 1)
        assert index.frames([best.frame_id])[best.frame_id][0].path == b"/photos/folder7/IMG_7.jpg"
        assert index.select(Like("path", "img_39?.jpg")).files == 10
    assert check(folder).problems == []
    version = version_of(folder)
    database = sqlite3.connect(f"file:{folder}/catalog.sqlite?mode=ro", uri=True)
    tables = {row[0] for row in database.execute("select name from sqlite_master")}
    database.close()
    assert (
        tables >= {"words", "names", "look", "concept", "verdict", "tier"}
        if version == VERSION
        else not tables & {"words", "look", "tier"}
    )
    if version == VERSION:
        assert words_of(folder, "number7") == [b"/photos/folder7/IMG_7.jpg"]
    return version


def killed_at(call: str, when: int, tmp_path: Path) -> None:
    folder = old_library(tmp_path)
    for _ in range(2):  # the second time on what the first one left
        assert killed(folder, f"{call}:signal=KILL:when={when}") != 0 or is_old_or_new(folder) == VERSION
        is_old_or_new(folder)
    migrate(folder)
    assert is_old_or_new(folder) == VERSION
    assert not list(folder.glob("catalog.sqlite.*"))


KILL_POINTS = [
    (call, when)
    for call, points in {
        "pwrite64": range(1, 178, 8), "fdatasync": range(1, 10), "fsync": (1, 2), "rename": (1,),
        "unlink": range(1, 6), "ftruncate": (1, 2, 3),
    }.items()
    for when in points
]  # fmt: skip


@needs_strace
@pytest.mark.parametrize(("call", "when"), KILL_POINTS[::7])
def test_kill_during_migration_leaves_the_old_or_the_new(call: str, when: int, tmp_path: Path):
    killed_at(call, when, tmp_path)


@pytest.mark.slow
@needs_strace
@pytest.mark.parametrize(("call", "when"), KILL_POINTS)
def test_kill_at_every_point_of_a_migration_leaves_the_old_or_the_new(call: str, when: int, tmp_path: Path):
    killed_at(call, when, tmp_path)


@needs_strace
@pytest.mark.parametrize("inject", ["pwrite64:error=ENOSPC:when=30+", "pwrite64:error=ENOSPC:when=100+"])
def test_full_disk_during_migration_keeps_the_old(inject: str, tmp_path: Path):
    folder = old_library(tmp_path)
    assert killed(folder, inject) != 0
    assert is_old_or_new(folder) == 1
    migrate(folder)
    assert is_old_or_new(folder) == VERSION


def test_error_inside_a_migration_takes_it_back(first: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise sqlite3.OperationalError("no room")

    monkeypatch.setattr("indexer.words.add_files", full)
    with pytest.raises((IndexDamagedError, IndexStorageError)):
        migrate(first)
    monkeypatch.undo()
    assert version_of(first) == 1
    assert answers(first) == EXPECTED
    migrate(first)
    assert len(words_of(first, "rome")) == 2
