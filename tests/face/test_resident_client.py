"""The asking side against servers that misbehave: it does it itself unless something was printed."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from face.resident import client, protocol

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this system has no Unix sockets")


@pytest.fixture
def listener(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[socket.socket]:
    folder = Path(os.path.realpath("/tmp")) / f"pixseek-test-{os.getpid()}"
    folder.mkdir(mode=0o700)
    path = folder / "s"
    monkeypatch.setenv("PIXSEEK_SOCKET", str(path))
    monkeypatch.delenv("PIXSEEK_RESIDENT", raising=False)
    with socket.socket(socket.AF_UNIX) as made, open(os.devnull) as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        made.bind(str(path))
        made.listen(1)
        yield made
        monkeypatch.undo()
    path.unlink()
    folder.rmdir()


def answering(listener: socket.socket, serve: Callable[[socket.socket], None]) -> threading.Thread:
    def run() -> None:
        connection, _ = listener.accept()
        with connection:
            serve(connection)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def ready(connection: socket.socket) -> None:
    """Take the circumstances and the request as a worker does."""
    read(connection)
    connection.sendall(protocol.READY)
    head, fds, _, _ = socket.recv_fds(connection, 4, 4)
    for fd in fds:
        os.close(fd)
    assert len(fds) == 4
    connection.recv(int.from_bytes(head, "big"), socket.MSG_WAITALL)


def read(connection: socket.socket) -> bytes:
    length = int.from_bytes(connection.recv(4, socket.MSG_WAITALL), "big")
    return connection.recv(length, socket.MSG_WAITALL)


def test_the_exit_code_is_the_helpers(listener: socket.socket) -> None:
    def serve(connection: socket.socket) -> None:
        ready(connection)
        connection.sendall(protocol.TOUCHED + protocol.DONE + bytes([13]))

    answering(listener, serve)
    assert client.ask(["search", "red"]) == 13


def test_the_request_comes_when_the_circumstances_are_the_same_and_not_before(
    listener: socket.socket,
) -> None:
    heard = []

    def serve(connection: socket.socket) -> None:
        heard.append(read(connection))
        time.sleep(0.05)
        connection.setblocking(False)
        with pytest.raises(BlockingIOError):
            connection.recv(1)

    thread = answering(listener, serve)
    assert client.ask(["search", "red"]) is None
    thread.join()
    assert heard == [protocol.circumstances()]


@pytest.mark.parametrize("last", [b"", b"?", b"D"], ids=["closes", "nonsense", "cut"])
def test_a_helper_that_fails_before_it_prints_leaves_it_to_us(listener: socket.socket, last: bytes) -> None:
    def serve(connection: socket.socket) -> None:
        ready(connection)
        connection.sendall(last)

    answering(listener, serve)
    assert client.ask(["search", "red"]) is None


def test_a_helper_that_fails_after_it_printed_is_an_error(
    listener: socket.socket, capfd: pytest.CaptureFixture[str]
) -> None:
    def serve(connection: socket.socket) -> None:
        ready(connection)
        connection.sendall(protocol.TOUCHED)

    answering(listener, serve)
    assert client.ask(["search", "red"]) == 1
    assert "ask again" in capfd.readouterr().err


def test_a_helper_that_says_nothing_is_left_soon(listener: socket.socket) -> None:
    began = time.monotonic()
    assert client.ask(["search", "red"]) is None
    assert time.monotonic() - began < 1


def test_no_helper_and_no_socket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path, Path("/" + "long" * 50), Path("nul\\0")):
        monkeypatch.setenv("PIXSEEK_SOCKET", str(path))
        assert client.ask(["search", "red"]) is None


@pytest.mark.parametrize(
    "arguments", [[], ["status"], ["search", "--help"], ["search", "red", "--open"], ["--version"]], ids=str
)
def test_other_commands_are_not_asked(listener: socket.socket, arguments: list[str]) -> None:
    listener.setblocking(False)
    assert client.ask(arguments) is None
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_client_imports_next_to_nothing() -> None:
    import subprocess
    import sys

    code = (
        f"import sys; sys.path.insert(0, {protocol.ROOT!r}); import os; before = set(sys.modules); "
        "import cli; from face.resident import protocol; protocol.circumstances(); import _socket; "
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    )
    allowed = {"cli", "face", "face.resident", "face.resident.client", "face.resident.protocol", "__future__",
               "resource", "_socket"}  # fmt: skip
    assert set(done.stdout.split()) <= allowed
