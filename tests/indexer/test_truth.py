"""What the index says is what is on disk: unchanged, renamed, copied, deleted, unmounted, failed."""

from __future__ import annotations

import os
import shutil
import stat as stat_module
import threading
from pathlib import Path

import numpy as np
import pytest

from encoders import EncoderMismatchError, UsageError
from indexer import Index, IndexLockedError
from indexer.lock import WriterLock
from tests.indexer.conftest import Library
from tests.indexer.crash import SeedEncoder, make_photos


def counts(report):
    return {
        name: getattr(report, name)
        for name in ("scanned", "indexed", "unchanged", "renamed", "removed", "failed", "encoded")
    }


def test_second_run_encodes_nothing(library: Library):
    library.fill(5)
    assert counts(library.index()) == {
        "scanned": 5, "indexed": 5, "unchanged": 0, "renamed": 0, "removed": 0, "failed": 0, "encoded": 5,
    }  # fmt: skip
    again = library.index()
    assert (again.unchanged, again.encoded, again.indexed) == (5, 0, 0)


def test_renamed_photo_keeps_its_embedding(library: Library):
    paths = library.fill(4)
    library.index()
    paths[0].rename(library.photos / "new name.png")
    report = library.index()
    assert (report.renamed, report.encoded, report.removed, report.indexed) == (1, 0, 0, 0)
    assert os.fsencode(library.photos / "new name.png") in library.paths()
    assert os.fsencode(paths[0]) not in library.paths()


def test_copied_photo_costs_no_encoding_and_both_are_found(library: Library):
    paths = library.fill(2)
    library.index()
    shutil.copy(paths[0], library.photos / "copy.png")
    report = library.index()
    assert (report.indexed, report.encoded) == (1, 0)
    assert len(library.paths()) == 3


def test_copies_met_in_one_run_are_encoded_once(library: Library):
    paths = library.fill(1)
    for number in range(5):
        shutil.copy(paths[0], library.photos / f"copy{number}.png")
    report = library.index()
    assert (report.indexed, report.encoded, report.scanned) == (6, 1, 6)
    assert len(library.paths()) == 6


def test_deleted_photo_leaves_the_results_and_comes_back_for_free(library: Library):
    paths = library.fill(6)
    library.index()
    kept = paths[0].read_bytes()
    paths[0].unlink()
    assert library.index().removed == 1
    assert len(library.paths()) == 5
    paths[0].write_bytes(kept)
    report = library.index()
    assert (report.indexed, report.encoded) == (1, 0)
    assert len(library.paths()) == 6


def test_emptied_root_deletes_nothing_and_comes_back_with_no_encoding(library: Library):
    library.fill(6)
    library.index()
    away = library.photos.with_name("away")
    library.photos.rename(away)
    library.photos.mkdir()
    report = library.index()
    assert report.removed == 0
    assert "--prune" in report.problems[0]
    assert len(library.paths()) == 6
    library.photos.rmdir()
    missing = library.index()
    assert missing.removed == 0
    assert "--prune" in missing.problems[0]
    away.rename(library.photos)
    back = library.index()
    assert (back.encoded, back.unchanged, back.problems) == (0, 6, [])


def test_emptied_root_is_forgotten_when_the_person_says_so(library: Library):
    library.fill(3)
    library.index()
    shutil.rmtree(library.photos)
    library.photos.mkdir()
    assert library.index(prune=True).removed == 3
    assert library.paths() == []


def test_mass_disappearance_is_refused(library: Library):
    paths = library.fill(260)
    library.index()
    for path in paths[:120]:
        path.unlink()
    report = library.index()
    assert report.removed == 0
    assert "120 of 260" in report.problems[0]
    assert len(library.paths()) == 260
    assert library.index(prune=True).removed == 120


def test_unreadable_subfolder_keeps_what_is_known_of_it(library: Library, monkeypatch: pytest.MonkeyPatch):
    library.fill(2)
    make_photos(library.photos / "locked", 3, start=50)
    library.index()
    real = os.scandir

    def refuse(path):
        if os.fsencode(path).endswith(b"/locked"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    report = library.index()
    assert report.removed == 0
    assert "permission denied" in report.problems[0]
    assert len(library.paths()) == 5


def test_failure_is_remembered_with_its_reason_and_not_tried_again(library: Library):
    library.fill(1)
    bad = library.photos / "bad.jpg"
    bad.write_bytes(b"not a picture at all")
    first = library.index()
    assert (first.failed, first.indexed) == (1, 1)
    with Index.open(library.index_dir) as index:
        (failure,) = index.failures()
    assert failure.path == os.fsencode(bad)
    assert failure.reason
    second = library.index()
    assert (second.failed, second.unchanged) == (1, 1)
    assert second.failures[0].reason == first.failures[0].reason
    bad.write_bytes(library.fill(1, start=77)[0].read_bytes())
    third = library.index()
    assert third.failed == 0
    with Index.open(library.index_dir) as index:
        assert list(index.failures()) == []


def test_photo_that_breaks_leaves_the_results(library: Library):
    paths = library.fill(2)
    library.index()
    paths[0].write_bytes(b"\xff\xd8\xff broken")
    assert library.index().failed == 1
    assert library.paths() == [os.fsencode(paths[1])]


def test_same_size_and_mtime_with_new_content_is_found(library: Library):
    path = library.photos / "same.bmp"
    from PIL import Image

    Image.new("RGB", (8, 8), (255, 0, 0)).save(path)
    before = path.stat()
    library.index()
    Image.new("RGB", (8, 8), (0, 0, 255)).save(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert library.index().encoded == 1


def test_touch_costs_no_encoding(library: Library):
    path = library.fill(1)[0]
    library.index()
    os.utime(path, ns=(1, 2**62 // 10**9 * 10**9 % 4_000_000_000_000_000_000))
    report = library.index()
    assert (report.encoded, report.unchanged, report.indexed) == (0, 1, 0)
    assert library.index().unchanged == 1


def test_same_size_pictures_that_differ_in_the_middle_get_two_vectors(library: Library):
    from PIL import Image

    pixels = np.zeros((800, 800, 3), np.uint8)
    Image.fromarray(pixels).save(library.photos / "a.bmp")
    pixels[300:500] = 255
    Image.fromarray(pixels).save(library.photos / "b.bmp")
    assert library.index().encoded == 2


def test_overlapping_folders_index_a_file_once(library: Library):
    library.fill(2)
    make_photos(library.photos / "sub", 2, start=10)
    link = library.photos.with_name("link")
    link.symlink_to(library.photos)
    report = library.index(library.photos, library.photos / "sub", link, library.photos / "sub" / "..")
    assert (report.scanned, report.indexed) == (4, 4)
    assert library.index(library.photos / "sub").unchanged == 2
    assert len(library.paths()) == 4


def test_own_folder_hidden_files_and_thumbnails_are_never_indexed(library: Library):
    source = library.fill(1)[0]
    library.index_dir = library.photos / "my index"
    for place in ("my index", ".git", "@eaDir", ".thumbnails"):
        (library.photos / place).mkdir()
        shutil.copy(source, library.photos / place / "inside.png")
    shutil.copy(source, library.photos / "._IMG.png")
    assert library.index().scanned == 1


def test_links_are_followed_once_and_never_in_circles(library: Library):
    source = library.fill(2)[0]
    outside = make_photos(library.photos.with_name("outside"), 1, start=90)[0]
    (library.photos / "loop").symlink_to(".")
    (library.photos / "root").symlink_to("/")
    (library.photos / "inside.png").symlink_to(source)
    (library.photos / "outside.png").symlink_to(outside)
    (library.photos / "outside again.png").symlink_to(outside)
    (library.photos / "me.png").symlink_to("me.png")
    (library.photos / "gone.png").symlink_to("nowhere.png")
    report = library.index()
    assert report.indexed == 3
    assert sorted(os.path.basename(failure.path) for failure in report.failures) == [b"gone.png", b"me.png"]


def test_names_that_no_tool_expects_are_indexed_and_found(library: Library):
    source = library.fill(1)[0]
    names = [b"bad\xff.png", b"new\nline.png", b"\x1b[31m.png", "\u202egnp.png".encode(), b"-rf.png",
             b"[red].png", b"%s.png", b"'\".png", b"x" * 251 + b".png", b" .png"]  # fmt: skip
    for number, name in enumerate(names):
        other = make_photos(library.photos.with_name("spare"), 1, start=200 + number)[0]
        os.rename(other, os.path.join(os.fsencode(library.photos), name))
    source.unlink()
    report = library.index()
    assert (report.indexed, report.failed) == (len(names), 0)
    assert {os.path.basename(path) for path in library.paths()} == set(names)


def test_things_that_are_not_files_are_never_opened(library: Library):
    library.fill(1)
    os.mkfifo(library.photos / "pipe.jpg")
    (library.photos / "folder.jpg").mkdir()
    with open(library.photos / "huge.jpg", "wb") as sparse:
        sparse.truncate(2**40)
    report = library.index()
    reasons = {os.path.basename(failure.path): failure.reason for failure in report.failures}
    assert report.indexed == 1
    assert set(reasons) == {b"pipe.jpg", b"huge.jpg"}
    assert "FIFO" in reasons[b"pipe.jpg"]


def test_photos_are_never_written_to(library: Library):
    library.fill(3)
    (library.photos / "bad.jpg").write_bytes(b"x")

    def tree():
        return {
            path: (path.stat().st_mtime_ns, path.stat().st_mode, path.read_bytes())
            for path in library.photos.iterdir()
        }

    before = tree()
    library.index()
    assert tree() == before


def test_missing_folder_is_a_usage_error_and_makes_no_index(library: Library):
    with pytest.raises(UsageError):
        library.index(library.photos / "nowhere")
    assert not library.index_dir.exists()


def test_encoder_that_is_not_there_leaves_no_index_behind(library: Library):
    from encoders import EncoderUnavailableError
    from indexer import index_folders

    def missing(space):
        raise EncoderUnavailableError("x/y", "not here", "use another")

    with pytest.raises(EncoderUnavailableError):
        index_folders([os.fsencode(library.photos)], index_dir=library.index_dir, encoder=missing)
    assert not library.index_dir.exists()


def test_empty_folder_makes_an_empty_index(library: Library):
    report = library.index()
    assert counts(report)["scanned"] == 0
    assert report.problems == []
    assert library.paths() == []


def test_one_picture_can_be_indexed_by_its_name(library: Library):
    paths = library.fill(3)
    assert library.index(paths[1]).indexed == 1
    assert library.paths() == [os.fsencode(paths[1])]


def test_second_indexer_is_told_who_holds_the_index(library: Library):
    library.index_dir.mkdir()
    lock = WriterLock(library.index_dir)
    try:
        with pytest.raises(IndexLockedError, match=f"pid {os.getpid()}"):
            library.index()
    finally:
        lock.close()
    library.index()


def test_another_encoder_is_refused_and_nothing_is_written(library: Library):
    library.fill(1)
    library.index()
    before = (library.index_dir / "catalog.sqlite").read_bytes()

    class Other(SeedEncoder):
        fingerprint = "f" * 64

    library.encoder = Other()
    with pytest.raises(EncoderMismatchError, match="seed"):
        library.index()
    assert (library.index_dir / "catalog.sqlite").read_bytes() == before


def test_nan_from_the_encoder_is_a_failure_and_is_never_stored(library: Library):
    paths = library.fill(3)

    class Broken(SeedEncoder):
        def encode_pixels(self, pixels):
            rows = super().encode_pixels(pixels)
            rows[0] = np.nan
            return rows

    library.encoder = Broken()
    report = library.index()
    assert report.failed >= 1
    assert report.indexed + report.failed == len(paths)
    assert all(b"png" in path for path in library.paths())


def test_stop_commits_what_is_done(library: Library):
    library.fill(40)
    stop = threading.Event()
    report = library.index(stop=stop, on_progress=lambda progress: stop.set() if progress.done >= 5 else None)
    assert report.stopped
    assert report.removed == 0
    assert len(library.paths()) == report.indexed
    rest = library.index()
    assert rest.unchanged == report.indexed
    assert rest.indexed == 40 - report.indexed


def test_index_folder_that_is_a_file_is_a_storage_error(library: Library):
    from indexer import IndexStorageError

    library.fill(1)
    library.index_dir.write_text("I am a file")
    with pytest.raises(IndexStorageError):
        library.index()
    assert stat_module.S_ISREG(library.index_dir.stat().st_mode)


def test_moved_folder_costs_no_encoding(library: Library, tmp_path: Path):
    make_photos(library.photos / "2023", 7)
    library.index()
    (library.photos / "2023").rename(library.photos / "holiday")
    report = library.index()
    assert (report.renamed, report.encoded, report.removed) == (7, 0, 0)
