"""`pixseek duplicates`: the plan, the trash, hard links, what is never removed, and what is remembered."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Inside, Pixseek
from tests.scenes import save, scene

ROOT_USER = pytest.mark.skipif(os.geteuid() == 0, reason="root writes where nobody may")


@pytest.fixture
def pixseek(inside_new: Inside) -> Pixseek:
    """pixseek in this process; `start` makes one of its own, to be killed."""
    return inside_new


@pytest.fixture
def twins(pixseek: Pixseek) -> Pixseek:
    """pixseek with an original, its exact copy, a small version with words beside it, and another picture."""
    return fill(pixseek)


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Pixseek:
    """The same for all tests that only read."""
    return fill(Pixseek(tmp_path_factory.mktemp("still")))


def fill(pixseek: Pixseek) -> Pixseek:
    folder = pixseek.photos
    save(scene(1, (640, 480)), folder / "original.jpg", quality=92)
    (folder / "sub").mkdir()
    (folder / "sub" / "original-copy.jpg").write_bytes((folder / "original.jpg").read_bytes())
    save(scene(1), folder / "sub" / "small.jpg", quality=70)
    (folder / "sub" / "small.jpg.xmp").write_text("<x/>")
    save(scene(2), folder / "other.jpg")
    pixseek("index", folder)
    return pixseek


def plan(pixseek: Pixseek, *arguments: str | Path) -> Any:
    return json.loads(pixseek("duplicates", "--json", *arguments).stdout)


def contents(folder: Path) -> set[str]:
    return {
        hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix == ".jpg"
    }


def trash_of(pixseek: Pixseek) -> Path:
    return Path(pixseek.environ["XDG_DATA_HOME"]) / "Trash"


def test_plan_is_shown_and_changes_nothing(still: Pixseek) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in still.photos.rglob("*"))
    done = still("duplicates")
    lines = [line.split(b"\t") for line in done.stdout.splitlines() if line]
    assert [(line[0], os.path.basename(line[1])) for line in lines] == [
        (b"keep", b"original.jpg"),
        (b"remove", b"original-copy.jpg"),
        (b"remove", b"small.jpg"),
    ]
    assert b"with small.jpg.xmp" in lines[2][2]
    assert b"2 files could go" in done.stderr
    assert b"--apply trash" in done.stderr
    assert sorted((path, path.stat().st_mtime_ns) for path in still.photos.rglob("*")) == before


def test_json_and_paths_say_the_same(still: Pixseek) -> None:
    document = plan(still)
    assert (document["count"], document["removable_files"]) == (1, 2)
    (group,) = document["groups"]
    assert group["kind"] == "near"
    assert [member["relation"] for member in group["members"]] == ["exact", "near"]
    paths = [member["path"].encode() for member in group["members"]]
    assert still("duplicates", "-0").stdout == b"".join(path + b"\0" for path in paths)
    assert still("duplicates", "--paths-only").stdout.split() == paths
    assert document["removable_bytes"] == sum(os.stat(path).st_size for path in paths)


def test_kinds_and_folders_narrow_the_plan(still: Pixseek) -> None:
    assert plan(still, "--kind", "exact")["removable_files"] == 1
    assert plan(still, "--kind", "near")["removable_files"] == 1
    assert plan(still, "--kind", "burst")["count"] == 0
    assert plan(still, "--in", still.photos / "sub")["removable_files"] == 1
    with_reference = plan(still, "--reference", still.photos / "sub")
    assert [(m["action"], m["why"]) for m in with_reference["groups"][0]["members"]] == [
        ("remove", None),
        ("keep", "in a reference folder"),
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--kind", "similar"),
        ("--keep", "prettiest"),
        ("--apply", "delete"),
        ("--apply", "hardlink", "--kind", "near"),
        ("--in", "/nowhere"),
        ("--undo", "--decided"),
        ("--undo",),
        ("a.jpg",),
        ("--keep-both", "a.jpg"),
        ("--keep-both", "a.jpg", "b.jpg"),
    ],
)
def test_wrong_usage_ends_in_one_line(still: Pixseek, arguments: tuple[str, ...]) -> None:
    done = still("duplicates", *arguments, exits=2)
    assert done.stdout == b""
    assert len(done.stderr.splitlines()) == 1


# -- trash


def test_trash_takes_copies_and_their_sidecars_and_undo_brings_them_back(twins: Pixseek) -> None:
    before = contents(twins.photos)
    done = twins("duplicates", "--apply", "trash")
    assert done.stdout.count(b"trashed\t") == 2
    assert sorted(path.name for path in twins.photos.rglob("*.*")) == ["original.jpg", "other.jpg"]
    trash = trash_of(twins)
    assert sorted(path.name for path in (trash / "files").iterdir()) == [
        "original-copy.jpg", "small.jpg", "small.jpg.xmp",
    ]  # fmt: skip
    note = (trash / "info" / "small.jpg.trashinfo").read_text()
    assert f"Path={twins.photos}/sub/small.jpg\n" in note
    assert plan(twins)["count"] == 0
    assert json.loads(twins("status", "--json").stdout)["files"] == 2, "the index knows at once"

    twins("duplicates", "--undo")
    assert contents(twins.photos) == before
    assert (twins.photos / "sub" / "small.jpg.xmp").read_text() == "<x/>"
    assert list((trash / "info").iterdir()) == []
    twins("duplicates", "--undo", exits=2)
    twins("index", twins.photos)
    assert plan(twins)["removable_files"] == 2


def test_trash_never_overwrites_what_lies_in_it(twins: Pixseek) -> None:
    files = trash_of(twins) / "files"
    files.mkdir(parents=True)
    (files / "small.jpg").write_text("mine")
    twins("duplicates", "--apply", "trash")
    assert (files / "small.jpg").read_text() == "mine"
    assert (files / "small 2.jpg").exists()


def test_what_changed_after_indexing_is_left_alone(twins: Pixseek) -> None:
    copy = twins.photos / "sub" / "original-copy.jpg"
    data = bytearray(copy.read_bytes())
    data[-3] ^= 1
    copy.write_bytes(data)
    done = twins("duplicates", "--kind", "exact", "--apply", "trash", exits=3)
    assert b"it has changed since it was indexed" in done.stderr
    assert copy.read_bytes() == data


def test_nothing_goes_when_the_file_to_keep_is_gone_or_changed(twins: Pixseek) -> None:
    original, copy = twins.photos / "original.jpg", twins.photos / "sub" / "original-copy.jpg"
    data = original.read_bytes()
    original.write_bytes(data[:-2] + b"xx")
    assert (
        b"the file to keep has changed"
        in twins("duplicates", "--kind", "exact", "--apply", "trash", exits=3).stderr
    )
    original.unlink()
    assert (
        b"the file to keep is gone"
        in twins("duplicates", "--kind", "exact", "--apply", "trash", exits=3).stderr
    )
    assert copy.read_bytes() == data


def test_a_link_in_place_of_the_kept_file_is_no_file_to_keep(twins: Pixseek) -> None:
    original, copy = twins.photos / "original.jpg", twins.photos / "sub" / "original-copy.jpg"
    original.unlink()
    original.symlink_to(copy)
    for how in ("trash", "hardlink"):
        assert b"pixseek: 0 " in twins("duplicates", "--kind", "exact", "--apply", how).stderr
    assert copy.is_file()
    assert not copy.is_symlink()


def test_names_that_are_not_text_go_and_come_back(pixseek: Pixseek) -> None:
    folder = os.fsencode(pixseek.photos)
    save(scene(1, (640, 480)), pixseek.photos / "a.jpg")
    strange = folder + b"/zz-\xff\n%.jpg"
    Path(os.fsdecode(strange)).write_bytes((pixseek.photos / "a.jpg").read_bytes())
    pixseek("index", pixseek.photos)
    pixseek("duplicates", "--apply", "trash")
    assert not os.path.exists(strange)
    pixseek("duplicates", "--undo")
    assert os.path.exists(strange)


def test_no_place_for_a_trash_is_one_line_and_loses_nothing(twins: Pixseek) -> None:
    blocked = Path(twins.environ["XDG_DATA_HOME"])
    blocked.write_text("a file where a folder should be")
    before = contents(twins.photos)
    done = twins("duplicates", "--apply", "trash", exits=3)
    assert done.stderr.count(b"left alone") == 2
    assert b"no trash" in done.stderr
    assert contents(twins.photos) == before


@ROOT_USER
def test_read_only_folder_is_a_line(twins: Pixseek) -> None:
    (twins.photos / "sub").chmod(0o500)
    try:
        done = twins("duplicates", "--apply", "trash", exits=3)
    finally:
        (twins.photos / "sub").chmod(0o700)
    assert b"permission denied" in done.stderr
    assert (twins.photos / "sub" / "small.jpg").exists()


def test_index_that_is_being_written_is_left_alone(twins: Pixseek) -> None:
    from indexer.lock import WriterLock

    lock = WriterLock(twins.index)
    try:
        twins("duplicates", "--apply", "trash", exits=11)
    finally:
        lock.close()
    assert (twins.photos / "sub" / "small.jpg").exists()


def test_bursts_are_applied_only_when_named(pixseek: Pixseek) -> None:
    for second in range(3):
        image = scene(1).crop((second, 0, 300 + second, 230))
        save(image, pixseek.photos / f"{second}.jpg", taken_at=f"2024:05:01 10:00:0{second}", camera="K1")
    pixseek("index", pixseek.photos)
    assert plan(pixseek, "--kind", "all")["removable_files"] == 2
    pixseek("duplicates", "--kind", "all", "--apply", "trash")
    assert len(list(pixseek.photos.iterdir())) == 3
    pixseek("duplicates", "--kind", "burst", "--apply", "trash")
    assert len(list(pixseek.photos.iterdir())) == 1


# -- hard links


def test_hardlink_makes_copies_one_on_disk(twins: Pixseek) -> None:
    original, copy = twins.photos / "original.jpg", twins.photos / "sub" / "original-copy.jpg"
    done = twins("duplicates", "--apply", "hardlink")
    assert b"1 copy made hard links" in done.stderr
    assert original.stat().st_ino == copy.stat().st_ino
    assert (twins.photos / "sub" / "small.jpg").exists()
    assert sorted(path.name for path in copy.parent.iterdir()) == [
        "original-copy.jpg", "small.jpg", "small.jpg.xmp",
    ]  # fmt: skip
    assert plan(twins, "--kind", "exact")["count"] == 0
    report = json.loads(twins("index", twins.photos, "--json").stdout)
    assert report["encoded"] == 0


def test_hardlink_keeps_permissions_apart(twins: Pixseek) -> None:
    copy = twins.photos / "sub" / "original-copy.jpg"
    copy.chmod(0o600)
    (twins.photos / "original.jpg").chmod(0o644)
    done = twins("duplicates", "--apply", "hardlink", exits=3)
    assert b"other permissions" in done.stderr
    assert copy.stat().st_nlink == 1


# -- stopped in the middle


@pytest.mark.parametrize("how", ["trash", "hardlink"])
def test_kill_in_the_middle_leaves_every_content_at_least_once(pixseek: Pixseek, how: str) -> None:
    for seed in range(100):
        for folder in ("one", "two"):
            save(scene(seed, (32, 24)), pixseek.photos / folder / f"{seed}.jpg")
    pixseek("index", pixseek.photos)
    before = contents(pixseek.photos)
    process = pixseek.start("duplicates", "--kind", "exact", "--apply", how, stdout=-3, stderr=-3)
    journal = pixseek.index / "removed.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if journal.exists() and journal.read_bytes().count(b"\n") > 20:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.001)
    process.wait()
    assert process.returncode == -signal.SIGKILL, "it was killed in the middle"
    assert contents(pixseek.photos) == before
    pixseek("index", pixseek.photos)
    pixseek("duplicates", "--kind", "exact", "--apply", how)
    assert contents(pixseek.photos) == before
    assert plan(pixseek, "--kind", "exact")["count"] == 0


# -- decisions


def test_decisions_are_remembered_listed_and_forgotten(twins: Pixseek) -> None:
    original, small = twins.photos / "original.jpg", twins.photos / "sub" / "small.jpg"
    copy = twins.photos / "sub" / "original-copy.jpg"
    twins("duplicates", "--keep-both", original, small)
    assert plan(twins)["removable_files"] == 1, "the exact copy was not decided about"
    twins("duplicates", "--keep-both", original, copy)
    done = twins("duplicates")
    assert done.stdout == b""
    assert b"no duplicates" in done.stderr
    small.rename(small.with_name("renamed.jpg"))
    twins("index", twins.photos)
    assert plan(twins)["count"] == 0
    assert len(twins("duplicates", "--decided").stdout.splitlines()) == 2
    listed = json.loads(twins("duplicates", "--decided", "--json").stdout)
    assert listed["count"] == 2
    twins("duplicates", "--forget", original, small.with_name("renamed.jpg"), copy)
    assert plan(twins)["removable_files"] == 2
    assert b"nothing was decided" in twins("duplicates", "--decided").stderr


def test_words_that_would_be_lost_are_named(pixseek: Pixseek) -> None:
    save(scene(1, (640, 480)), pixseek.photos / "large.jpg")
    save(scene(1), pixseek.photos / "small.jpg", camera="K1", taken_at="2024:05:01 10:00:00")
    pixseek("index", pixseek.photos)
    (member,) = plan(pixseek)["groups"][0]["members"]
    assert member["loses"] == ["taken_at", "camera"]
    assert b"the kept one has no taken_at, camera of it" in pixseek("duplicates").stdout


def test_empty_index_and_missing_index(pixseek: Pixseek, tmp_path: Path) -> None:
    pixseek("duplicates", exits=10)
    (tmp_path / "none").mkdir()
    pixseek("index", tmp_path / "none")
    assert plan(pixseek, "--kind", "all")["count"] == 0


# -- hits of a search


def test_search_shows_one_hit_for_look_alikes_and_for_a_burst(still: Pixseek, pixseek: Pixseek) -> None:
    def groups(of: Pixseek, by: str) -> list[list[str]]:
        # No words: every picture, so that nothing but the grouping is asked.
        done = of("search", "--where", "size:>1B", "--group", by, "--json", "--sort", "name")
        return [
            [os.path.basename(hit["path"]) for hit in (first, *first["group"])]
            for first in json.loads(done.stdout)["hits"]
        ]

    found = groups(still, "near-duplicate")
    assert sorted(map(sorted, found)) == [["original-copy.jpg", "original.jpg", "small.jpg"], ["other.jpg"]]
    for second in (0, 2, 30):
        save(
            scene(1).crop((second, 0, 280 + second, 230)),
            pixseek.photos / f"{second}.jpg",
            taken_at=f"2024:05:01 10:00:{second:02}",
            camera="K1",
        )
    pixseek("index", pixseek.photos)
    assert sorted(map(sorted, groups(pixseek, "burst"))) == [["0.jpg", "2.jpg"], ["30.jpg"]]
