"""`search` and `similar` from outside: what may be typed, what comes back, what it says when nothing does."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.conftest import COLORS, ROOT, Inside, Pixseek


def paths(pixseek: Pixseek, *arguments: str | bytes | Path, **options: object) -> list[str]:
    """Return the names of the files found, without folder and suffix."""
    out = pixseek(*arguments, "--paths-only", **options).stdout  # type: ignore[arg-type]
    return [Path(os.fsdecode(line)).stem for line in out.splitlines()]


# --- what may be typed


@pytest.mark.parametrize(
    "arguments",
    [
        ["the", "red", "one"], ["red"], ["--", "red"], ["--plus", "red"], ["-a", "red"], ["red", "-t", "2"],
        ["--image", "photos/red.png"], ["--image=photos/red.png:0.5"], ["./photos/red.png"], ["red", "-n"],
        ["image:photos/red.png"], ["--literal", "red"], ["red", "in:photos"], ["path:*/red.png"],
        ["--where", "path:*/red.png"], ["red", "--in", "photos", "--where", "type:png", "--top=3"],
        ["red", "--min-probability", "0"], ["red", "--fusion", "late", "--sort", "score"],
        ["red", "--diverse=0"], ["-n", "red", "-k1"],
    ],
)  # fmt: skip
def test_a_question_has_many_forms(inside: Inside, arguments: list[str]) -> None:
    assert paths(inside, "search", *arguments)[0] == "red"


def test_conditions_alone_are_answered_without_the_encoder(library: Pixseek) -> None:
    """Of a friend's index, say: asked by a pixseek that has no encoder called color."""
    asked = [sys.executable, str(ROOT / "cli.py"), "search"]
    options = {"env": library.environ | {"PYTHONPATH": str(ROOT)}, "cwd": library.home, "check": False}
    listed = subprocess.run([*asked, "path:*/red.png", "--json"], capture_output=True, **options)  # type: ignore
    answer = json.loads(listed.stdout)
    assert [Path(hit["path"]).name for hit in answer["hits"]] == ["red.png"]
    assert (answer["encoder"], answer["searched"]) == ("color", 4)
    assert subprocess.run([*asked, "red"], capture_output=True, **options).returncode == 2  # type: ignore


def test_more_is_found_like_a_hit_and_less_like_another(inside: Inside) -> None:
    answer = json.loads(inside("search", "red", "-k", "4", "--json").stdout)
    ids = {Path(hit["path"]).stem: str(hit["file_id"]) for hit in answer["hits"]}
    assert paths(inside, "search", "--like", ids["blue"], "-k", "1") == ["blue"]
    assert paths(inside, "search", "id:" + ids["green"], "-k", "1") == ["green"]
    assert paths(inside, "similar", "id:" + ids["green"], "-k", "1") == ["green"]
    assert "green" not in paths(inside, "similar", "id:" + ids["green"], "--exclude-self")
    inside("search", "--like", "999999", exits=2)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["search"], "pixseek search"),
        (["search", "", "--where", "type:png"], "blank"),
        (["search", "red", "--json", "--csv"], "--json and --csv"),
        (["search", "red", "-0", "--jsonl"], "--jsonl and -0"),
        (["search", "-json"], "--json"),
        (["search", "red", "--sort", "up"], "score, taken, name, size"),
        (["search", "red", "--min-probability", "2"], "from 0 to 1"),
        (["search", "red", "--where", "a dog"], "taken:2023"),
        (["search", "red", "--copy"], "--export-to"),
        (["search", "red", "--export-to", "x", "--copy", "--symlink"], "--copy and --symlink"),
        (["search", "red", "--force"], "--contact-sheet"),
        (["search", "red", "--contact-sheet", "a.gif"], ".png"),
        (["search", "red", "--contact-sheet", "photos/red.png", "--force"], "among your indexed pictures"),
        (["search", "--image", "missing.png"], "missing.png"),
        (["similar", "photos/red.png", "--crop", "1,2,3"], "x,y,width,height"),
        (["similar", "photos/red.png", "--crop", "0,0,65,10"], "64 x 48 pixels"),
        (["similar", "photos/red.png", "photos/blue.png", "--crop", "0,0,5,5"], "one picture"),
        (["similar", "-", "-"], "read once"),
        (["search", "-", "--image", "-"], "read once"),
        (["similar", "id:x"], "file_id"),
    ],
)
def test_wrong_usage_is_2_and_says_what_is_right(inside: Inside, arguments: list[str], said: str) -> None:
    done = inside(*arguments, exits=2)
    assert done.stdout == b""
    assert said in done.stderr.decode()
    assert not (inside.home / "x").exists()


def test_a_query_that_cannot_be_read_is_shown_with_a_caret(inside: Inside) -> None:
    first, query, caret = inside("search", "red taken:soon", exits=2).stderr.decode().splitlines()
    assert "column" in first
    assert query.strip() == "red taken:soon"
    assert query[caret.index("^") :].startswith("soon")


# Nobody can hand a program a NUL, or text that is neither UTF-8 nor bytes.
_WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.one_of(
        st.lists(_WORDS, max_size=4),
        st.lists(
            st.sampled_from(["-", "+", "red", "-blue", "type:png", "taken:x", "or", "(", ")", '"', "-k", "3"])
        ),
    )
)
def test_whatever_is_typed_ends_in_an_answer_or_in_2(inside: Inside, words: list[str]) -> None:
    done = inside("search", *words, exits=None)
    assert done.returncode in (0, 2), done.stderr


def test_a_question_without_end_is_cut(library: Pixseek) -> None:
    command = ["sh", "-c", 'yes red | "$@"', "sh", *library.command("search", "-", "-k", "1", "--paths-only")]
    done = subprocess.run(command, env=library.environ, cwd=library.home, capture_output=True, check=True)
    assert done.stdout == os.fsencode(library.photos / "red.png") + b"\n"


# --- pictures


@pytest.fixture
def half(tmp_path: Path) -> Path:
    """A large picture outside of the index, red left, blue right."""
    image = Image.new("RGB", (1000, 500), COLORS["red"])
    image.paste(COLORS["blue"], (600, 0, 1000, 500))
    image.save(tmp_path / "half.png")
    return tmp_path / "half.png"


@pytest.mark.parametrize(("crop", "found"), [("700,0,300,500", "blue"), ("0,0,0.5,1", "red")])
def test_a_crop_finds_what_is_in_it(inside: Inside, half: Path, crop: str, found: str) -> None:
    assert paths(inside, "similar", half, "--crop", crop, "-k", "1") == [found]


def test_several_pictures_are_one_question(inside: Inside, half: Path) -> None:
    red, yellow = inside.photos / "red.png", inside.photos / "yellow.png"
    assert sorted(paths(inside, "similar", red, yellow, "-k", "2")) == ["red", "yellow"]
    assert (
        sorted(paths(inside, "similar", red, "-", "--exclude-self", input=yellow.read_bytes()))[-1]
        == "yellow"
    )


def test_the_clipboard_is_a_picture_too(inside: Inside, tmp_path: Path) -> None:
    reader = tmp_path / "xclip"
    reader.write_text(
        f'#!/bin/sh\ncase "$*" in *TARGETS*) echo image/png;; *) cat "{inside.photos}/green.png";; esac\n'
    )
    reader.chmod(0o755)
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    assert paths(inside, "similar", "clipboard:", "-k", "1", environ=environ) == ["green"]


# --- forms of the answer


def test_jsonl_and_csv_hold_the_same_hits_as_json(inside: Inside) -> None:
    document = json.loads(inside("search", "red", "--json").stdout)
    assert (document["query"], document["searched"], document["left"]) == ("red", 4, 4)
    assert document["count"] == len(document["hits"]) > 0
    assert "probability" in document["hits"][0]
    lines = inside("search", "red", "--jsonl").stdout.splitlines()
    assert [json.loads(line) for line in lines] == document["hits"]
    rows = list(csv.DictReader(io.StringIO(inside("search", "red", "--csv").stdout.decode(), newline="")))
    assert [row["path"] for row in rows] == [hit["path"] for hit in document["hits"]]
    assert [float(row["score"]) for row in rows] == [hit["score"] for hit in document["hits"]]


def test_the_query_of_the_document_asks_the_same_again(inside: Inside) -> None:
    first = json.loads(inside("search", "red", "--plus", "2:blue", "--where", "type:png", "--json").stdout)
    again = json.loads(inside("search", first["query"], "--json").stdout)
    assert again["hits"] == first["hits"]
    assert again["query"] == first["query"]


def test_a_terminal_shows_columns(library: Pixseek) -> None:
    leader, follower = pty.openpty()
    library("search", "red", "-k", "1", stdout=follower)
    os.close(follower)
    shown = os.read(leader, 10_000).decode()
    os.close(leader)
    assert shown.split()[0] == "1"
    assert shown.rstrip().endswith("red.png")


# --- what comes of it


def test_a_contact_sheet_is_drawn_beside_the_answer(inside: Inside, tmp_path: Path) -> None:
    sheet = tmp_path / "out.png"
    done = inside("search", "red", "-k", "3", "--contact-sheet", sheet)
    assert len(done.stdout.splitlines()) == 3
    assert b"drew 3 pictures on" in done.stderr
    with Image.open(sheet) as picture:
        assert picture.format == "PNG"
    before = sheet.read_bytes()
    assert b"--force" in inside("search", "blue", "--contact-sheet", sheet, exits=2).stderr
    assert sheet.read_bytes() == before
    inside("search", "blue", "-k", "1", "--contact-sheet", sheet, "--force")
    assert sheet.read_bytes() != before


def test_hits_are_exported_and_a_second_run_has_nothing_to_do(inside: Inside, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    assert b"copied 2: " in inside("search", "red", "-k", "2", "--export-to", out).stderr
    assert b"copied 0, 2 there already" in inside("search", "red", "-k", "2", "--export-to", out).stderr
    assert (out / "red.png").read_bytes() == (inside.photos / "red.png").read_bytes()
    links = tmp_path / "links"
    assert b"linked 1: " in inside("search", "blue", "-k", "1", "--export-to", links, "--symlink").stderr
    assert os.readlink(links / "blue.png") == str(inside.photos / "blue.png")


def test_an_export_does_not_end_with_the_reader_of_the_names(library: Pixseek, tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        library("search", "red", "-k", "4", "--export-to", tmp_path / "out", stdout=write)
    finally:
        os.close(write)
    assert len(list((tmp_path / "out").iterdir())) == 4


def test_a_closed_stdout_is_no_bug(library: Pixseek) -> None:
    command = ["sh", "-c", '"$@" >&-', "sh", *library.command("search", "red")]
    done = subprocess.run(command, env=library.environ, cwd=library.home, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_closed_stdin_is_no_bug(library: Pixseek) -> None:
    def closed() -> None:
        os.close(0)

    asked = library("similar", library.photos / "red.png", "-k", "1", "--paths-only", preexec_fn=closed)
    assert asked.stdout.strip().endswith(b"red.png")
    for words in (("similar", "-"), ("search", "-")):
        assert library(*words, exits=2, preexec_fn=closed).stderr.count(b"\n") == 1


@pytest.mark.parametrize("option", ["--export-to", "--contact-sheet", "--index"])
def test_an_empty_name_is_not_this_folder(inside: Inside, option: str) -> None:
    before = set(inside.home.iterdir())
    for command in (("search", "red"), ("similar", inside.photos / "red.png")):
        said = inside(*command, option, "", exits=2)
        assert f"'{option}': the name is empty".encode() in said.stderr
    assert set(inside.home.iterdir()) == before


def test_an_export_that_misses_a_picture_is_3(inside_new: Inside, photos: Path, tmp_path: Path) -> None:
    inside_new("index", photos)
    (photos / "red.png").unlink()
    done = inside_new("search", "red", "-k", "2", "--export-to", tmp_path / "out", exits=3)
    assert b"red.png: No such file" in done.stderr
    assert b"copied 1, 1 failed" in done.stderr
    assert len(done.stdout.splitlines()) == 2


@pytest.mark.root
def test_a_full_disk_under_a_sheet_or_an_export_is_14(library: Pixseek, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", str(small)], check=True)
    try:
        big = tmp_path / "big"
        for number in range(3):
            image = Image.effect_noise((200, 200), 90)
            (big / "x").parent.mkdir(exist_ok=True)
            image.save(big / f"{number}.png")
        library("index", big, "--index", tmp_path / "index")
        for option in (["--contact-sheet", small / "out.png"], ["--export-to", small]):
            done = library("search", "white", *option, "--index", tmp_path / "index", exits=14)
            assert b"No space left" in done.stderr
            assert not list(small.iterdir())
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_open_hands_the_best_hit_or_a_sheet_to_the_desktop(library: Pixseek, tmp_path: Path) -> None:
    opener = tmp_path / "xdg-open"
    opener.write_text(f'#!/bin/sh\nprintf %s "$1" > {tmp_path}/opened\n')
    opener.chmod(0o755)
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    library("search", "red", "-k", "1", "--open", environ=environ)
    assert (tmp_path / "opened").read_text() == str(library.photos / "red.png")
    library("search", "red", "-k", "3", "--open", environ=environ)
    opened = Path((tmp_path / "opened").read_text())
    assert opened.is_relative_to(library.home / "cache")
    assert stat.S_IMODE(opened.parent.stat().st_mode) & 0o077 == 0
    with Image.open(opened) as picture:
        assert picture.format == "PNG"


def test_a_machine_without_a_desktop_is_told_so(inside: Inside, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    done = inside("search", "red", "-k", "1", "--open", environ={"PATH": str(tmp_path / "bin")}, exits=2)
    assert len(done.stdout.splitlines()) == 1
    assert b"xdg-utils" in done.stderr


# --- nothing found


def test_an_empty_answer_says_why(inside: Inside) -> None:
    for arguments, said in (
        (["red", "type:raw"], "type:raw left 0 of 4 pictures"),
        (["type:png", "rating:5", "red"], "there is none with rating:5"),
        (["path:*/red.png", "path:*/blue.png"], "without path:*/red.png there would be 1"),
    ):
        done = inside("search", *arguments)
        assert done.stdout == b""
        assert said in done.stderr.decode()


def test_an_index_without_pictures_says_what_to_do(inside_new: Inside, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    inside_new("index", tmp_path / "none")
    for command in (["search", "red"], ["search", "type:raw"], ["search", "red", "--json"]):
        done = inside_new(*command)
        assert b"the index is empty; fill it with: pixseek index FOLDER" in done.stderr


def test_any_number_of_hits_may_be_asked_for(inside: Inside) -> None:
    assert len(paths(inside, "search", "red", "-k", "1000000000")) == 4


def test_the_words_of_a_long_question_that_were_not_read_are_told(inside_new: Inside, photos: Path) -> None:
    """The built-in encoder reads 48 tokens."""
    inside_new("index", photos, "--encoder", "builtin", "--workers", "1")
    done = inside_new("search", "dog " * 500, "--min-probability", "0")
    assert b"truncated to the context length, its first 47 words" in done.stderr
    assert len(done.stdout.splitlines()) == 4
    assert inside_new("search", "dog " * 40, "--min-probability", "0").stderr == b""


def test_search_completes_at_a_shell(library: Pixseek) -> None:
    shell = shutil.which("bash")
    if shell is None:
        pytest.skip("no bash")
    done = subprocess.run(
        library.command("search", "--contact"),
        env=library.environ
        | {"_PIXSEEK_COMPLETE": "complete_bash", "COMP_WORDS": "pixseek search --conta", "COMP_CWORD": "2"},
        capture_output=True,
        cwd=ROOT,
        check=False,
    )
    assert b"--contact-sheet" in done.stdout, done.stderr
