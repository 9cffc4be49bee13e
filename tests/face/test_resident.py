"""With and without the resident helper: the same bytes, the same exit codes, whatever happens to either."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import draw
from tests.face.resident_home import NOT_ANSWERED, Home, Said, make_home, until

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this system has no Unix sockets")


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    """A home with a helper, for tests that leave both as they were."""
    # Not in pytest's folder: the path of a socket has 104 bytes.
    with tempfile.TemporaryDirectory(prefix="pixseek-") as folder:
        made = make_home(Path(folder))
        made.start()
        yield made
        made.stop()


def both(home: Home, *arguments: Any, times: int = 2, **options: Any) -> Said:
    """Return what a command says, which is the same by the helper, also the second time, as without it."""
    expected = home.ask(*arguments, **options)
    for _ in range(times):
        assert home.ask_helper(*arguments, **options) == expected
    return expected


TABLE: list[tuple[int, list[Any], dict[str, Any]]] = [
    (0, ["search", "a red picture"], {}),
    (0, ["search", "red", "-k", "2", "--json"], {}),
    (0, ["search", "red", "--csv"], {}),
    (0, ["search", "red", "-0"], {}),
    (0, ["search", "red", "-green", "type:png", "--jsonl"], {}),
    (0, ["search", "red", "--exact"], {}),
    (0, ["search", "red"], {"environ": {"PIXSEEK_REMEMBER": "0"}}),
    (0, ["search", "taken:2023"], {}),
    (0, ["search", "asdf qwer zxcv"], {}),
    (0, ["search", "红色"], {}),
    (0, ["search", b"\xff\xfe red"], {}),
    (0, ["search", "red", "in:."], {}),
    (0, ["search", "red", "--in", "photos", "--paths-only"], {}),
    (0, ["search", "--image", "photos/red.png", "--not", "blue"], {}),
    (0, ["search", "-"], {"given": b"a blue picture\n"}),
    (0, ["search", "red", "--preview"], {}),
    (0, ["search", "long " * 200], {}),
    (0, ["similar", "photos/blue.png"], {}),
    (0, ["similar", "blue.png", "--exclude-self"], {"cwd": "photos"}),
    (0, ["similar", "id:1", "--crop", "0,0,0.5,0.5"], {}),
    (0, ["search", "red"], {"environ": {"LANG": "", "LC_ALL": "C.UTF-8", "TZ": "Asia/Tokyo"}}),
    (0, ["search", "red"], {"environ": {"PIXSEEK_INDEX": "index"}}),
    (0, ["search", "red", "--index", "../index"], {"cwd": "photos"}),
    (2, ["search"], {}),
    (2, ["search", ""], {}),
    (2, ["search", "red taken:soon"], {}),
    (2, ["search", "red", "--nonsense"], {}),
    (2, ["search", "red", "-k", "0"], {}),
    (2, ["search", "red", "--index", ""], {}),
    (2, ["similar"], {}),
    (2, ["similar", "missing.png"], {}),
    (2, ["similar", "photos"], {}),
    (2, ["similar", "-"], {"given": b"no picture"}),
    (2, ["search", "red", "--contact-sheet", "a.gif"], {}),
    (10, ["search", "red", "--index", "nowhere"], {}),
    (10, ["search", "red"], {"environ": {"PIXSEEK_INDEX": "photos"}}),
    (12, ["search", "red", "--encoder", "local-dir:photos"], {}),
    (12, ["search", "red", "--encoder", "ViT-B-32/openai", "--offline"], {}),
    (13, ["search", "red", "--index", "broken"], {}),
    (14, ["search", "red"], {"stdout": "/dev/full"}),
]


def options_of(home: Home, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a row of the table as `Home.ask` takes them."""
    options = dict(options)
    if "cwd" in options:
        options["cwd"] = home.folder / options["cwd"]
    if "stdout" in options:
        options["stdout"] = os.open(options["stdout"], os.O_WRONLY)
    return options


@pytest.fixture(scope="module")
def without(home: Home) -> Iterator[list[Future[Said]]]:
    """What the commands of the table say without a helper, side by side: they take most of the time."""
    (home.folder / "broken").mkdir()
    (home.folder / "broken" / "catalog.sqlite").write_bytes(b"SQLite format 3\0" + bytes(500))

    def ask(arguments: list[Any], options: dict[str, Any]) -> Said:
        return home.ask(*arguments, **options_of(home, options))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield [pool.submit(ask, arguments, options) for _, arguments, options in TABLE]


@pytest.mark.parametrize("row", range(len(TABLE)), ids=lambda row: str(TABLE[row])[:60])
def test_a_command_says_the_same_with_and_without(home: Home, without: list[Future[Said]], row: int) -> None:
    code, arguments, options = TABLE[row]
    if not os.path.exists(options.get("stdout", "/")):
        pytest.skip(f"{options['stdout']} is not on this system")
    expected = without[row].result()
    assert expected.code == code
    assert home.ask_helper(*arguments, **options_of(home, options)) == expected


@pytest.mark.parametrize("environ", [{"TERM": "xterm"}, {"TERM": "xterm-kitty", "COLUMNS": "40"}], ids=str)
def test_a_terminal_shows_the_same(home: Home, environ: dict[str, str]) -> None:
    for arguments in (["search", "red", "--preview"], ["search", "red", "--nonsense"], ["similar", "photos"]):
        expected = home.ask_on_terminal(*arguments, by_helper=False, environ=environ)
        assert expected.out
        assert home.ask_on_terminal(*arguments, by_helper=True, environ=environ) == expected


def test_reading_from_a_terminal_is_left_to_the_command_itself(home: Home) -> None:
    said = home.ask_on_terminal("search", "red", "--image=-", by_helper=True, environ={"TERM": "xterm"})
    assert said.code == NOT_ANSWERED


def test_what_is_written_is_the_clients_in_its_folder_and_with_its_umask(home: Home) -> None:
    where = home.folder / "elsewhere"
    modes = []
    for by_helper in (False, True):
        shutil.rmtree(where, ignore_errors=True)
        where.mkdir()
        said = home.ask(
            "search", "red", "--export-to", "out", "--contact-sheet", "sheet.png", "-k", "2",
            by_helper=by_helper, cwd=where, preexec_fn=lambda: os.umask(0o027),
        )  # fmt: skip
        assert said.code == 0, said.err
        modes.append(sorted((str(path), oct(path.stat().st_mode)) for path in where.rglob("*")))
    assert modes[0] == modes[1]
    assert any("sheet.png" in name for name, _ in modes[0])


def test_a_reader_that_goes_away_is_no_error(home: Home) -> None:
    for by_helper in (False, True):
        reading, writing = os.pipe()
        os.close(reading)
        assert home.ask("search", "red", by_helper=by_helper, stdout=writing) == Said(0, b"", b"")
        os.close(writing)


def test_nothing_of_a_client_stays(home: Home) -> None:
    assert home.ask("search", "red", by_helper=True, environ={"SECRET": "tell nobody"}).code == 0
    for pid in home.workers():
        if os.path.isdir("/proc/self/fd"):
            places = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in (0, 1, 2)} | {
                os.readlink(f"/proc/{pid}/cwd")
            }
            assert places == {"/dev/null", "/"}


# --- other circumstances


@pytest.mark.parametrize(
    "environ",
    [{"OMP_NUM_THREADS": "2"}, {"PYTHONWARNINGS": "error"}, {"LC_ALL": "C"}, {"PIXSEEK_RESIDENT": "0"}],
    ids=str,
)
def test_other_surroundings_are_not_answered(home: Home, environ: dict[str, str]) -> None:
    assert home.ask("search", "red", by_helper=True, environ=environ) == Said(NOT_ANSWERED, b"", b"")


def test_other_limits_are_not_answered(home: Home) -> None:
    import resource

    said = home.ask(
        "search", "red", by_helper=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10**9, 10**9)),
    )  # fmt: skip
    assert said == Said(NOT_ANSWERED, b"", b"")


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_another_user_is_not_answered(home: Home) -> None:
    for place, mode in ((home.folder, 0o755), (home.socket.parent, 0o777), (home.socket, 0o777)):
        os.chmod(place, mode)
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            child = os.fork()
            if child == 0:
                os.setuid(65534)
                connection.connect(str(home.socket))
                os._exit(connection.recv(1) != b"")  # closed, and nothing said
            assert os.waitpid(child, 0)[1] == 0
    finally:
        os.chmod(home.socket, 0o600)
        os.chmod(home.socket.parent, 0o700)


# --- an index that changes


def test_the_next_answer_is_of_the_index_as_it_is_now(home: Home) -> None:
    index, kept, aside = home.index, home.folder / "kept", home.folder / "aside"
    shutil.copytree(index, kept)
    everything = ["search", "type:png", "--sort", "name", "--paths-only"]
    try:
        before = both(home, *everything).out
        assert before.count(b"\n") == 5
        draw(home.photos / "more.png", "green", mark=7)
        assert home.ask("index", home.photos, "--quiet").code == 0
        assert both(home, *everything).out.count(b"\n") == 6
        assert b"more.png" in both(home, "search", "green", "--paths-only").out
        (home.photos / "more.png").unlink()
        assert home.ask("index", home.photos, "--quiet").code == 0
        assert b"more.png" not in both(home, "search", "green", "--paths-only").out

        index.rename(aside)
        assert both(home, *everything).code == 10
        assert both(home, *everything, "--index", str(aside)).out == before
        shutil.copytree(kept, index)  # another index in the same place
        assert both(home, *everything).out == before

        for snapshot in index.glob("vectors-*.faiss"):
            snapshot.write_bytes(b"damaged")
        assert b"snapshot not usable" in both(home, "search", "red").err
        for snapshot in index.glob("vectors-*.faiss"):
            snapshot.unlink()
        both(home, "search", "red")
        with (index / "catalog.sqlite").open("r+b") as catalog:
            catalog.truncate(5000)
        assert both(home, *everything).code == 13
        shutil.rmtree(index)
        index.write_bytes(b"")
        assert both(home, *everything).code != 0
        index.unlink()
    finally:
        shutil.rmtree(index, ignore_errors=True)
        index.unlink(missing_ok=True)
        shutil.copytree(kept, index)
        shutil.rmtree(kept)
        shutil.rmtree(aside, ignore_errors=True)


def test_each_commit_is_seen_while_a_writer_has_the_index_open(home: Home) -> None:
    from indexer.ledger import Ledger
    from indexer.lock import WriterLock

    kept = home.folder / "kept"
    shutil.copytree(home.index, kept)
    lock = WriterLock(home.index)
    try:
        with Ledger.open_or_create(home.index) as ledger:
            paths = sorted(path for _, path, _ in ledger.files_under(os.fsencode(home.photos)))
            for left in range(len(paths) - 1, 0, -1):
                ledger.remove_files([ledger.lookup([paths[left]])[paths[left]].id])
                said = home.ask_helper("search", "a picture", "--min-probability=0", "--paths-only")
                assert said.out.count(b"\n") == left
    finally:
        lock.close()
        shutil.rmtree(home.index)
        shutil.copytree(kept, home.index)
        shutil.rmtree(kept)


# --- signals


def begin_reading(home: Home, *, by_helper: bool = True) -> subprocess.Popen[bytes]:
    """Start a question that the helper reads from a pipe, and return when it waits for more of it."""
    import fcntl
    import termios

    process = subprocess.Popen(
        home.command("search", "-", by_helper=by_helper),
        env=home.environ | ({} if by_helper else {"PIXSEEK_RESIDENT": "0"}), cwd=home.folder,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(b"red")
    process.stdin.flush()
    pipe = process.stdin.fileno()
    until(lambda: fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)) == bytes(4), "the question was not begun")
    return process


def end_of(process: subprocess.Popen[bytes]) -> tuple[int, bytes, bytes]:
    """Return exit code, stdout and stderr of a command whose stdin stays open until it ended."""
    code = process.wait(timeout=10)
    out, err = process.communicate(timeout=10)
    return code, out, err


def test_ctrl_c_stops_a_question(home: Home) -> None:
    home.await_answer()
    ends = []
    for by_helper in (False, True):
        process = begin_reading(home, by_helper=by_helper)
        process.send_signal(signal.SIGINT)
        ends.append(end_of(process))
    assert ends[0] == ends[1]
    assert ends[0][0] == 130
    home.await_answer()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP])
def test_a_client_that_dies_holds_nobody_up(home: Home, number: signal.Signals) -> None:
    home.await_answer()
    process = begin_reading(home)
    process.send_signal(number)
    assert end_of(process) == (-number, b"", b"")
    home.await_answer()
    assert len(home.workers()) <= 4


def test_a_worker_that_dies_while_it_reads_is_said_so(home: Home) -> None:
    home.await_answer()
    process = begin_reading(home)
    for pid in home.workers():
        os.kill(pid, signal.SIGKILL)
    code, out, err = end_of(process)
    assert (code, out) == (1, b"")
    assert b"ended while it answered; ask again" in err
    home.await_answer()


def test_a_worker_that_hangs_holds_nobody_up(home: Home) -> None:
    home.await_answer()
    for pid in home.workers():
        os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    assert home.ask("search", "red", by_helper=True).code == NOT_ANSWERED
    assert time.monotonic() - began < 2
    home.await_answer()


# --- the helper itself


@pytest.fixture
def lonely(tmp_path: Path) -> Iterator[Home]:
    """A home without an index and without a helper; what the test starts there ends."""
    with tempfile.TemporaryDirectory(prefix="pixseek-") as folder:
        home = Home(Path(folder))
        yield home
        home.ask("serve", "--stop")
        home.stop()


def test_kill_leaves_nothing_that_breaks_the_next_command(lonely: Home) -> None:
    lonely.start()
    assert lonely.server is not None
    workers = lonely.workers()
    lonely.server.kill()
    lonely.server.communicate()
    assert lonely.socket.exists()
    without = lonely.ask("search", "red")
    assert lonely.ask("search", "red", environ={"PIXSEEK_RESIDENT": ""}) == without
    assert without.code == 10
    until(lambda: not any(map(alive, workers)), "a worker outlived its server")
    lonely.start()  # on the stale socket
    assert lonely.ask("search", "red", by_helper=True) == without


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_there_is_one_helper_and_it_can_be_asked_and_ended(lonely: Home) -> None:
    assert lonely.ask("serve", "--status").out == b"no helper is there\n"
    assert lonely.ask("serve", "--stop") == Said(0, b"", b"pixseek: no helper is there\n")
    lonely.start()
    second = lonely.ask("serve", "--socket")
    assert second.code == 2
    assert b"a helper is there already" in second.err
    assert b"process" in lonely.ask("serve", "--status").out
    assert (lonely.socket.stat().st_mode & 0o777, lonely.socket.parent.stat().st_mode & 0o777) == (
        0o600, 0o700,
    )  # fmt: skip
    assert lonely.ask("serve", "--stop").code == 0
    assert lonely.server is not None
    assert lonely.server.wait(timeout=10) == 0
    assert not lonely.socket.exists()
    assert lonely.ask("serve").code == 2


def test_what_lies_in_its_place_is_not_replaced(lonely: Home) -> None:
    lonely.socket.parent.mkdir(mode=0o700)
    lonely.socket.write_text("a letter")
    said = lonely.ask("serve", "--socket")
    assert said.code == 2
    assert b"cannot listen" in said.err
    assert lonely.socket.read_text() == "a letter"
    assert lonely.ask("serve", "--socket", "/nowhere/" + "long" * 40).code == 2


def test_it_ends_when_it_is_idle(lonely: Home) -> None:
    lonely.start("--idle", "2")
    assert lonely.server is not None
    workers = lonely.workers()
    assert lonely.server.wait(timeout=20) == 0
    assert not lonely.socket.exists()
    until(lambda: not any(map(alive, workers)), "a worker outlived its server")


def test_it_ends_when_its_socket_is_gone(lonely: Home) -> None:
    lonely.start()
    lonely.socket.unlink()
    assert lonely.server is not None
    assert lonely.server.wait(timeout=20) == 0


def test_it_is_started_on_demand_where_that_is_wished(lonely: Home) -> None:
    quiet = lonely.ask("search", "red", environ={"PIXSEEK_RESIDENT": ""})
    assert lonely.ask("serve", "--status").out == b"no helper is there\n"
    wished = lonely.ask("search", "red", environ={"PIXSEEK_RESIDENT": "1"})
    assert wished == quiet
    until(lambda: lonely.ask("search", "red", by_helper=True) == quiet, "none was started")
    assert lonely.ask("serve", "--stop").err == b"pixseek: stopped\n"


def test_another_socket_is_found_by_its_variable(lonely: Home) -> None:
    place = str(lonely.folder / "mine.sock")
    lonely.environ["PIXSEEK_SOCKET"] = place
    lonely.start()
    assert os.path.exists(place)
    assert not lonely.socket.exists()
    assert lonely.ask("search", "red", by_helper=True).code == 10
