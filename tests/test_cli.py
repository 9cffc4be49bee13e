"""The command line's contract: exit codes, documents, messages."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, Pixseek, draw


def test_help_answers_at_once(pixseek: Pixseek) -> None:
    command = [sys.executable, str(ROOT / "cli.py"), "--help"]
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command, capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # Processor time: a busy machine is no reason to fail.
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert b"similar" in done.stdout
    assert min(seconds) < 0.3, seconds


def test_help_imports_nothing_heavy() -> None:
    heavy = (
        "numpy",
        "PIL",
        "sqlalchemy",
        "rich",
        "faiss",
        "onnxruntime",
        "torch",
        "encoders",
        "indexer",
        "search",
    )
    code = (
        "import sys, cli; sys.argv = ['pixseek', 'index', '--help']\n"
        "try: cli.main()\n"
        f"finally: print([m for m in {heavy!r} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=ROOT, check=True)
    assert done.stderr.strip() == b"[]"


def test_a_question_brings_nothing_of_indexing_along() -> None:
    heavy = ("indexer.ledger", "indexer.images", "indexer.workers", "search.duplicates", "numpy.ma")
    code = (
        "import sys, indexer, search; indexer.Index, search.Searcher\n"
        f"print([m for m in {heavy!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == b"[]"


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_every_command_explains_itself(pixseek: Pixseek, flag: str) -> None:
    listed = pixseek(flag).stdout.decode()
    for command in (
        "index",
        "search",
        "similar",
        "status",
        "failures",
        "check",
        "repair",
        "prune",
        "backup",
        "caption",
        "evaluate",
    ):
        assert command in listed
    assert b"-0, --print0" in pixseek("search", flag).stdout


def test_version(pixseek: Pixseek) -> None:
    assert pixseek("--version").stdout.startswith(b"pixseek ")


# --- 0: done


def test_index_then_search_then_similar(pixseek: Pixseek, photos: Path) -> None:
    done = pixseek("index", photos)
    assert done.stdout == b""
    assert b"indexed 4, unchanged 0, renamed 0, removed 0, failed 0 in " in done.stderr
    found = pixseek("search", "the red one", "-k", "2").stdout.splitlines()
    assert len(found) == 2
    score, path = found[0].split(b"\t")
    assert (float(score), path) == (pytest.approx(1, abs=1e-3), os.fsencode(photos / "red.png"))
    paths = pixseek("similar", photos / "blue.png", "--paths-only").stdout.splitlines()
    assert paths[0] == os.fsencode(photos / "blue.png")
    assert len(paths) == 4
    others = pixseek("similar", photos / "blue.png", "--paths-only", "--exclude-self").stdout.splitlines()
    assert sorted(others) == sorted(paths[1:])


def test_second_run_has_nothing_to_do(indexed: Pixseek, photos: Path) -> None:
    assert b"indexed 0, unchanged 4, renamed 0" in indexed("index", photos).stderr


def test_index_json_is_the_report(pixseek: Pixseek, photos: Path) -> None:
    (photos / "bad.jpg").write_bytes(b"no picture")
    report = json.loads(pixseek("index", photos, "--json", exits=3).stdout)
    expected = {"scanned": 5, "indexed": 4, "unchanged": 0, "renamed": 0, "removed": 0, "failed": 1}
    assert {name: report[name] for name in expected} == expected
    assert report["seconds"] > 0
    assert [failure["path"] for failure in report["failures"]] == [str(photos / "bad.jpg")]
    assert report["failures"][0]["reason"]


def test_search_json_is_one_document(library: Pixseek) -> None:
    answer = json.loads(library("search", "green", "-k", "3", "--json").stdout)
    assert (answer["query"], answer["encoder"], answer["count"]) == ("green", "color", 3)
    first = answer["hits"][0]
    assert (first["rank"], first["path"], first["timestamp_ms"]) == (
        1,
        str(library.photos / "green.png"),
        None,
    )
    assert first["score"] == pytest.approx(1, abs=1e-3)
    assert (first["width"], first["height"], first["format"]) == (64, 48, "PNG")
    assert "path_b64" not in first
    assert [hit["rank"] for hit in answer["hits"]] == [1, 2, 3]


def test_picture_from_standard_input(library: Pixseek) -> None:
    data = (library.photos / "yellow.png").read_bytes()
    answer = json.loads(library("similar", "-", "-k", "1", "--json", input=data).stdout)
    assert answer["query"] == "-"
    assert answer["hits"][0]["path"] == str(library.photos / "yellow.png")


def test_sentence_from_standard_input_may_be_a_megabyte(library: Pixseek) -> None:
    done = library("search", "-", "-k", "1", "--paths-only", input=b"blue " * 200_000)
    assert done.stdout == os.fsencode(library.photos / "blue.png") + b"\n"


@pytest.mark.parametrize(
    "text", [b"\xff red", "🔴 red", "a\u202ered red", "[bold]red[/]", "%s red", "red " * 500]
)
def test_odd_questions_are_answered(library: Pixseek, text: str | bytes) -> None:
    done = library("search", text, "-k", "1", "--json")
    assert json.loads(done.stdout)["hits"][0]["path"] == str(library.photos / "red.png")


def test_words_are_understood_where_the_locale_knows_no_utf8(library: Pixseek) -> None:
    plain = {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = library("search", "rötlich red", "-k", "1", "--json", environ=plain)
    assert json.loads(done.stdout)["query"] == "rötlich red"


def test_the_shell_can_complete_commands(library: Pixseek) -> None:
    bash = {"_PIXSEEK_COMPLETE": "complete_bash", "COMP_WORDS": "pixseek se", "COMP_CWORD": "1"}
    assert library(environ=bash).stdout.split() == [b"search", b"serve"]


def test_huge_k_is_no_error(library: Pixseek) -> None:
    assert len(library("search", "red", "-k", "1000000000").stdout.splitlines()) == 4


def test_empty_folder_and_empty_index(pixseek: Pixseek, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    assert b"indexed 0" in pixseek("index", tmp_path / "nothing").stderr
    done = pixseek("search", "red")
    assert (done.stdout, b"index is empty" in done.stderr) == (b"", True)
    document = json.loads(pixseek("search", "red", "--json").stdout)
    assert (document["count"], document["hits"]) == (0, [])


def test_index_folder_comes_from_the_option_then_the_environment_then_the_platform(
    pixseek: Pixseek, photos: Path, tmp_path: Path
) -> None:
    pixseek("index", photos, "--index", tmp_path / "chosen")
    assert (tmp_path / "chosen" / "catalog.sqlite").exists()
    assert not pixseek.index.exists()
    pixseek("status", exits=10)
    pixseek("status", environ={"PIXSEEK_INDEX": str(tmp_path / "chosen")})
    del pixseek.environ["PIXSEEK_INDEX"]
    done = pixseek("status", exits=10)
    assert os.fsencode(pixseek.home / "data" / "pixseek" / "index") in done.stderr


def test_quiet_and_json_runs_print_no_summary(pixseek: Pixseek, photos: Path) -> None:
    done = pixseek("index", photos, "--quiet")
    assert (done.stdout, done.stderr) == (b"", b"")
    assert pixseek("index", photos, "--json").stderr == b""


def test_status_failures_check_prune_backup_answer_in_json_too(
    pixseek: Pixseek, photos: Path, tmp_path: Path
) -> None:
    (photos / "bad.jpg").write_bytes(b"no picture")
    done = pixseek("index", photos, exits=3)
    assert b"1 file could not be indexed; why: pixseek failures" in done.stderr
    state = json.loads(pixseek("status", "--json").stdout)
    assert (state["files"], state["failed"], state["roots"]) == (4, 1, [str(photos)])
    assert state["space"]["spec"] == "color"
    assert b"pictures  4" in pixseek("status").stdout
    failures = json.loads(pixseek("failures", "--json").stdout)
    assert (failures["count"], failures["failures"][0]["path"]) == (1, str(photos / "bad.jpg"))
    path, reason = pixseek("failures").stdout.rstrip(b"\n").split(b"\t")
    assert path == os.fsencode(photos / "bad.jpg")
    assert reason
    assert json.loads(pixseek("check", "--json").stdout) == {
        "ok": True,
        "rows": pytest.approx(20, abs=10),
        "problems": [],
    }
    (photos / "red.png").unlink()
    pixseek("index", photos, exits=3)
    assert json.loads(pixseek("prune", "--json").stdout)["applied"] is False
    assert b"would remove 1 embedding" in pixseek("prune").stdout
    assert b"removed 1 embedding" in pixseek("prune", "--apply").stdout
    assert json.loads(pixseek("repair", "--json").stdout)["to_encode"] == []
    made = pixseek("backup", tmp_path / "copy").stdout.rstrip(b"\n")
    assert made == os.fsencode(tmp_path / "copy")
    assert len(pixseek("search", "green", "--index", tmp_path / "copy").stdout.splitlines()) == 3


def test_encoders_lists_builtin_first(pixseek: Pixseek) -> None:
    assert pixseek("encoders").stdout.startswith(b"builtin ")
    listed = json.loads(pixseek("encoders", "--json").stdout)
    assert listed["encoders"][0]["spec"] == "builtin"
    assert listed["count"] == len(listed["encoders"])


# --- 2: wrong usage


@pytest.mark.parametrize(
    "arguments",
    [
        [], ["nonsense"], ["search"], ["search", ""], ["search", "  "], ["search", "x", "-k", "0"],
        ["search", "x", "-k", "-1"], ["search", "x", "-k", "many"], ["search", "x", "--nonsense"], ["index"],
        ["index", ""], ["index", "/nowhere/at/all"], ["index", ".", "--workers", "0"],
        ["similar", "/nowhere.jpg"], ["similar", "/"], ["similar", "ftp://example.com/a.jpg"],
        ["similar", "http://127.0.0.1/a.jpg"], ["similar", "-"], ["backup"],
    ],
)  # fmt: skip
def test_wrong_usage_is_2_and_one_message(library: Pixseek, arguments: list[str]) -> None:
    done = library(*arguments, exits=2)
    assert done.stdout == b"" or arguments == []
    assert len(done.stderr.splitlines()) == (1 if arguments else 0)


def test_a_query_picture_that_is_none_is_2(library: Pixseek, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    done = library("similar", tmp_path / "a.jpg", exits=2)
    assert b"a.jpg" in done.stderr


def test_a_broken_query_picture_gets_one_line_of_ours_and_none_of_a_library(
    library: Pixseek, tmp_path: Path
) -> None:
    from PIL import Image

    cut = tmp_path / "cut.tif"
    Image.effect_noise((200, 200), 80).save(cut, compression="tiff_lzw")
    data = cut.read_bytes()
    # The directory stands at the end: blank the strip in the middle instead of cutting.
    cut.write_bytes(data[:100] + b"\xff" * (len(data) - 600) + data[-500:])
    done = library("similar", cut, exits=2)
    assert len(done.stderr.splitlines()) == 1, done.stderr


# --- 3: finished, but


def test_bad_files_are_3_and_the_good_ones_are_found(pixseek: Pixseek, photos: Path) -> None:
    for name, data in {"empty.jpg": b"", "cut.jpg": b"\xff\xd8\xff", "text.png": b"hello"}.items():
        (photos / name).write_bytes(data)
    done = pixseek("index", photos, exits=3)
    assert b"failed 3" in done.stderr
    assert len(pixseek("search", "red").stdout.splitlines()) == 4
    assert pixseek("index", photos, exits=3).stdout == b""


def test_missing_root_is_3_and_keeps_what_is_known(indexed: Pixseek, photos: Path) -> None:
    photos.rename(photos.with_name("unmounted"))
    done = indexed("index", photos, exits=3)
    assert os.fsencode(photos) in done.stderr
    assert len(indexed("search", "red").stdout.splitlines()) == 4


# --- 10 to 14


@pytest.mark.parametrize(
    "arguments",
    [["search", "x"], ["similar", __file__], ["status"], ["failures"], ["check"], ["prune"], ["repair"]],
)
def test_no_index_is_10_and_names_the_next_command(pixseek: Pixseek, arguments: list[str]) -> None:
    done = pixseek(*arguments, exits=10)
    assert b"pixseek index FOLDER" in done.stderr
    assert not pixseek.index.exists()


def test_index_being_written_is_11_and_can_be_waited_for(
    indexed: Pixseek, photos: Path, tmp_path: Path
) -> None:
    import fcntl

    with (indexed.index / "lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert b"is being updated by" in indexed("index", photos, exits=11).stderr
        assert len(indexed("search", "red").stdout.splitlines()) == 4
        draw(photos / "more.png", "orange")
        waiting = indexed.start("index", photos, "--wait", stderr=subprocess.PIPE)
        assert waiting.stderr is not None
        assert b"waiting for" in waiting.stderr.readline()
    _, said = waiting.communicate(timeout=30)
    assert waiting.returncode == 0, said
    assert len(indexed("search", "red").stdout.splitlines()) == 5


def test_another_encoder_is_12(library: Pixseek) -> None:
    for command in (["index", library.photos], ["search", "red"], ["similar", library.photos / "red.png"]):
        done = library(*command, "--encoder", "color-2", exits=12)
        assert b"use --encoder color" in done.stderr


def test_unavailable_encoder_is_12(library: Pixseek) -> None:
    done = library("search", "red", "--encoder", "ViT-B-32/nonsense", "--offline", exits=None)
    assert done.returncode in (2, 12)
    assert len(done.stderr.splitlines()) == 1


def test_damaged_index_is_13_and_names_repair(indexed: Pixseek) -> None:
    catalog = indexed.index / "catalog.sqlite"
    catalog.write_bytes(b"SQLite format 4" + catalog.read_bytes()[15:])
    for command in (["search", "red"], ["status"]):
        assert b"pixseek repair" in indexed(*command, exits=13).stderr
    assert b"pixseek repair" in indexed("check", exits=13).stdout


def test_unwritten_answer_is_14(library: Pixseek) -> None:
    with Path("/dev/full").open("wb") as full:
        for command in (["search", "red"], ["search", "red", "--json"], ["status"], ["--help"]):
            done = library(*command, exits=14, stdout=full)
            assert b"No space left on device" in done.stderr


def test_a_reader_that_leaves_is_no_error(library: Pixseek) -> None:
    for command in (["search", "red"], ["search", "red", "--json"], ["--help"]):
        read, write = os.pipe()
        os.close(read)
        try:
            done = library(*command, stdout=write)
        finally:
            os.close(write)
        assert done.stderr == b""


def test_no_folder_for_the_index_is_14(pixseek: Pixseek, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = pixseek("index", photos, "--index", tmp_path / "file" / "index", exits=14)
    assert len(done.stderr.splitlines()) == 1


# --- 1: a bug


def test_a_bug_is_1_and_one_line_unless_debug() -> None:
    code = (
        "import sys; sys.argv = ['pixseek', 'status', *sys.argv[1:]]; import cli, indexer\n"
        "class Index:\n"
        "    open = staticmethod(lambda folder: 1 / 0)\n"
        "indexer.Index = Index; cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=ROOT, check=False)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert b"ZeroDivisionError" in done.stderr
    assert b"--debug" in done.stderr
    done = subprocess.run([sys.executable, "-c", code, "--debug"], capture_output=True, cwd=ROOT, check=False)
    assert done.returncode == 1
    assert b"Traceback" in done.stderr


def test_debug_shows_where_an_error_came_from(pixseek: Pixseek) -> None:
    done = subprocess.run(
        pixseek.command("status", "--debug"),
        capture_output=True,
        env=pixseek.environ,
        cwd=pixseek.home,
        check=False,
    )
    assert done.returncode == 10
    assert b"Traceback" in done.stderr
    assert b"IndexMissingError" in done.stderr
