"""Exports: every hit arrives once, and nothing that was there is touched."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoders import UsageError
from face import exports, terminal
from face.exports import export_files, open_with_desktop, require_folder
from tests.conftest import draw
from tests.hits import hit


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    require_folder(folder)
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_copies_keep_name_time_and_content(tmp_path: Path, out: Path) -> None:
    red = draw(tmp_path / "a" / "red.png", "red")
    red.chmod(0o444)
    os.utime(red, ns=(1_500_000_000_123456789, 1_400_000_000_123456789))
    done = export_files([hit(red)], out, link=False)
    assert (done.made, done.there, done.failed) == (1, 0, [])
    assert (out / "red.png").read_bytes() == red.read_bytes()
    made = (out / "red.png").stat()
    assert made.st_mtime_ns == red.stat().st_mtime_ns
    assert made.st_mode & stat.S_IWUSR  # a copy of a read-only file is not in its owner's way


def test_a_taken_name_gets_a_number_and_a_second_run_makes_nothing(tmp_path: Path, out: Path) -> None:
    hits = [hit(draw(tmp_path / folder / "x.png", color)) for folder, color in (("a", "red"), ("b", "blue"))]
    hits.append(hit(draw(tmp_path / "c" / "x.png", "green")))
    (out / "x.png").write_bytes(b"somebody's")
    for made, there in ((3, 0), (0, 3)):
        done = export_files(hits, out, link=False)
        assert (done.made, done.there) == (made, there)
        assert names(out) == ["x-2.png", "x-3.png", "x-4.png", "x.png"]
        assert (out / "x.png").read_bytes() == b"somebody's"


def test_links_point_at_the_pictures_and_are_made_once(tmp_path: Path, out: Path) -> None:
    hits = [hit(draw(tmp_path / folder / "x.png", "red")) for folder in ("a", "b")]
    assert export_files(hits, out, link=True).made == 2
    assert export_files(hits, out, link=True).there == 2
    assert [os.readlink(out / name) for name in names(out)] == [
        str(tmp_path / "b" / "x.png"), str(tmp_path / "a" / "x.png"),
    ]  # fmt: skip


def test_a_dangling_link_in_the_way_is_left_alone(tmp_path: Path, out: Path) -> None:
    (out / "x.png").symlink_to(tmp_path / "nowhere")
    red = draw(tmp_path / "a" / "x.png", "red")
    assert export_files([hit(red)], out, link=False).made == 1
    assert export_files([hit(red)], out, link=True).made == 1
    assert names(out) == ["x-2.png", "x-3.png", "x.png"]
    assert not (tmp_path / "nowhere").exists()


def test_a_vanished_picture_is_told_and_the_others_arrive(tmp_path: Path, out: Path) -> None:
    done = export_files([hit(tmp_path / "gone.png"), hit(draw(tmp_path / "red.png"))], out, link=False)
    assert (done.made, [path for path, _ in done.failed]) == (1, [os.fsencode(tmp_path / "gone.png")])


def test_a_hit_that_lies_in_the_folder_already_stays_one(tmp_path: Path, out: Path) -> None:
    red = draw(out / "red.png", "red")
    for link in (False, True):
        assert export_files([hit(red)], out, link=link).there == 1
    assert names(out) == ["red.png"]


def test_names_that_are_no_text_arrive_as_they_are(tmp_path: Path, out: Path) -> None:
    odd = [b"bad\xff.png", b"new\nline.png", b"-rf.png", b" .png", b"\x1b[31m.png"]
    for name in odd:
        draw(os.path.join(os.fsencode(tmp_path), name), "red")
    hits = [hit(os.path.join(os.fsencode(tmp_path), name)) for name in odd]
    assert export_files(hits, out, link=False).made == len(odd)
    assert set(os.listdir(os.fsencode(out))) == set(odd)


def test_a_stopped_copy_leaves_no_half_file_and_goes_on(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hits = [hit(draw(tmp_path / f"{color}.png", color)) for color in ("red", "green", "blue")]
    real, calls = shutil.copyfileobj, []

    def stop_in_the_second(source: object, target: object, *more: object) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(source, target, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(shutil, "copyfileobj", stop_in_the_second)
    with pytest.raises(KeyboardInterrupt):
        export_files(hits, out, link=False)
    assert names(out) == ["red.png"]
    monkeypatch.undo()
    done = export_files(hits, out, link=False)
    assert (done.made, done.there) == (2, 1)


def test_what_a_killed_run_left_is_swept_later(tmp_path: Path, out: Path) -> None:
    for name, age in ((".pixseek-old.part", 7200), (".pixseek-new.part", 0), ("old.part", 7200)):
        (out / name).touch()
        os.utime(out / name, (time.time() - age, time.time() - age))
    export_files([], out, link=False)
    assert names(out) == [".pixseek-new.part", "old.part"]


def test_a_full_disk_ends_the_export_and_leaves_no_half_file(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(terminal.OutputFailed, match="No space left"):
        export_files([hit(draw(tmp_path / "red.png"))], out, link=False)
    assert names(out) == []


def test_without_hard_links_nothing_is_overwritten_either(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", unsupported)
    hits = [hit(draw(tmp_path / folder / "x.png", color)) for folder, color in (("a", "red"), ("b", "blue"))]
    assert export_files(hits, out, link=False).made == 2
    assert names(out) == ["x-2.png", "x.png"]
    assert (out / "x.png").read_bytes() == (tmp_path / "a" / "x.png").read_bytes()


@given(
    sources=st.lists(
        st.tuples(st.sampled_from("ab"), st.sampled_from(["x.png", "x-2.png", "x"]), st.binary(max_size=1)),
        max_size=6,
    )
)
def test_every_content_arrives_and_a_second_run_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, sources: list[tuple[str, str, bytes]]
) -> None:
    base = tmp_path_factory.mktemp("export")
    (base / "out").mkdir()
    hits = []
    for number, (_, name, content) in enumerate(sources):
        path = base / str(number) / name
        path.parent.mkdir()
        path.write_bytes(content)
        hits.append(hit(path))
    export_files(hits, base / "out", link=False)
    first = {path.name: path.read_bytes() for path in (base / "out").iterdir()}
    assert set(first.values()) == {content for _, _, content in sources}
    assert export_files(hits, base / "out", link=False).made == 0
    assert {path.name: path.read_bytes() for path in (base / "out").iterdir()} == first


def test_a_folder_that_cannot_be_is_wrong_usage(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "deeper"):
        with pytest.raises(UsageError, match="--export-to"):
            require_folder(folder)


# --- opening


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="the opener has another name there")
def test_the_desktop_opens_or_says_why_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shell = shutil.which("sh")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="xdg-utils"):
        open_with_desktop("/a.png")
    opener = tmp_path / "xdg-open"
    opener.write_text(f'#!{shell}\nprintf %s "$1" > {tmp_path}/opened\n')
    opener.chmod(0o755)
    open_with_desktop("/a\udcff b.png")
    assert (tmp_path / "opened").read_bytes() == b"/a\xff b.png"
    opener.write_text(f"#!{shell}\nexit 3\n")
    with pytest.raises(UsageError, match="code 3"):
        open_with_desktop("/a.png")


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="the opener has another name there")
def test_a_viewer_that_stays_open_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sleep = shutil.which("sleep")
    shell = shutil.which("sh")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(exports, "_OPENER_S", 0.1)
    (tmp_path / "xdg-open").write_text(f"#!{shell}\nexec {sleep} 3\n")
    (tmp_path / "xdg-open").chmod(0o755)
    before = time.monotonic()
    open_with_desktop("/a.png")
    assert time.monotonic() - before < 2
