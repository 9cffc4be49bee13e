"""A worker: answers one question after another, each on the streams and in the surroundings of whoever asked.

It gets connections from the server and says when it is free again. Whoever goes away ends it: the server
starts another. What it leaves of a request is nothing: streams, folder, environment and umask are put back
before the exit code is sent.
"""

from __future__ import annotations

import contextlib
import gc
import io
import locale
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from face.resident import protocol
from face.resident.kept import keep

FREE = b"f"
STALE = 3
"""Exit code of a worker whose program was changed on disk: the helper ends."""
_MOST_ANSWERS = 1000  # then a fresh one takes over: nothing that libraries hold can pile up
_GREETING_S = 1.0  # a connection on which nobody speaks is let go
# Codes after which everything is as it was: answers, wrong usage, an index or encoder that is not there.
_CALM = frozenset({0, 2, 3, 10, 11, 12, 13, 14})
Run = Callable[[list[str]], int]


@dataclass(frozen=True, slots=True)
class Request:
    """What a client hands over.

    Attributes:
        streams: (encoding, errors) of stdin, stdout and stderr.
        fds: of stdin, stdout, stderr and the working directory.
    """

    arguments: list[str]
    environ: dict[bytes, bytes]
    umask: int
    streams: tuple[tuple[str, str], ...]
    fds: tuple[int, ...]


def main(control_fd: int, run: Run) -> None:
    """Serve until the server closes its end.

    Args:
        control_fd: a Unix socket to the server.
        run: a command line to its exit code; never raises.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    control = socket.socket(fileno=control_fd)
    own, same, written = dict(os.environb), protocol.circumstances(), _program_on_disk()
    _open_nowhere()
    kept = keep()
    # Read by OpenMP when it is loaded: threads that wait asleep leave a core to others, and change no score.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    run(["search", "a photo", "-k", "1"])  # everything a question needs is imported and opened
    _return_to(own)
    gc.collect()
    gc.freeze()
    control.sendall(FREE)
    for answered in range(1, _MOST_ANSWERS + 1):
        connection = _next(control)
        if connection is None:
            return
        if _program_on_disk() != written:
            os._exit(STALE)
        request = _received(connection, same)
        if request is None:
            control.sendall(FREE)
            connection.close()
            continue
        code = _answer(connection, request, run)
        _return_to(own)
        goes_on = code in _CALM and answered < _MOST_ANSWERS
        if goes_on:  # first: whoever asks again at once finds a worker
            control.sendall(FREE)
        connection.sendall(protocol.DONE + bytes([code]))
        connection.close()
        if not goes_on:
            return
        if code:
            kept.forget_index()
        gc.collect(1)


def _next(control: socket.socket) -> socket.socket | None:
    _, fds, _, _ = socket.recv_fds(control, 1, 1)
    return socket.socket(fileno=fds[0]) if fds else None


def _received(connection: socket.socket, same: bytes) -> Request | None:
    """Return the request of a client whose circumstances are ours; None for any other, and for none."""
    fds: list[int] = []
    try:
        connection.settimeout(_GREETING_S)
        if _payload(connection, _exactly(connection, 4)) != same:
            return None
        connection.sendall(protocol.READY)
        head, fds, _, _ = socket.recv_fds(connection, 4, 4)
        payload = _payload(connection, head)
        connection.settimeout(None)
        umask, *rest = payload.split(b"\0")
        streams = tuple(tuple(field.decode().split(":")) for field in rest[:3])
        count = int(rest[3])
        arguments, variables = rest[4 : 4 + count], rest[4 + count :]
        if len(fds) != 4 or any(len(pair) != 2 for pair in streams):
            raise ValueError("not a request")
        return Request(
            [os.fsdecode(word) for word in arguments],
            dict(_pair(variable) for variable in variables if variable),
            int(umask, 8),
            tuple((pair[0], pair[1]) for pair in streams),
            tuple(fds),
        )
    except (OSError, ValueError, EOFError):
        for fd in fds:
            os.close(fd)
        return None


def _pair(variable: bytes) -> tuple[bytes, bytes]:
    name, _, value = variable.partition(b"=")
    return name, value


def _payload(connection: socket.socket, head: bytes) -> bytes:
    """Return the payload of a frame, of which the length was read already, and not a byte more."""
    length = int.from_bytes(head, "big")
    if len(head) != 4 or length > protocol.MAX_BYTES:
        raise ValueError("not a frame")
    return _exactly(connection, length)


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        block = connection.recv(min(1 << 16, count - len(data)))
        if not block:
            raise EOFError
        data += block
    return bytes(data)


# --- one answer


def _answer(connection: socket.socket, request: Request, run: Run) -> int:
    """Return the exit code of a request, run in the client's place."""
    watch = _Watch(connection)
    try:
        _enter(request, watch.touch)
        watch.start()
        code = run(request.arguments)
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    finally:
        watch.end()
    return 128 + signal.SIGINT if watch.interrupted and code == 0 else code


class _Watch:
    """Listens to the client while it is answered: Ctrl-C is raised here, a client that is gone ends us."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection, self._over = connection, threading.Lock()
        self._done = self._touched = self.interrupted = False
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def touch(self) -> None:
        """Tell the client, once, that from here on only we can answer."""
        if not self._touched:
            self._touched = True
            try:
                self._connection.sendall(protocol.TOUCHED)
            except OSError:  # gone: nobody is left to print for
                os._exit(0)

    def _listen(self) -> None:
        while True:
            try:
                said = self._connection.recv(1)
            except OSError:
                said = b""
            with self._over:
                if self._done:
                    return
                if not said:
                    os._exit(0)
                self.interrupted = True
                # To that thread: only then a system call that it waits in ends.
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def end(self) -> None:
        """From here on the client may leave."""
        with self._over:
            self._done = True


class _Stream(io.FileIO):
    """A standard stream that says when it is used for the first time."""

    def __init__(self, fd: int, mode: str, touch: Callable[[], None]) -> None:
        super().__init__(fd, mode, closefd=False)
        self._touch = touch

    def write(self, data: object, /) -> int:
        self._touch()
        return super().write(data)  # type: ignore[arg-type]

    def readinto(self, buffer: object, /) -> int:
        self._touch()
        return super().readinto(buffer)  # type: ignore[arg-type]

    def readall(self) -> bytes:
        self._touch()
        return super().readall()

    def read(self, size: int | None = -1, /) -> bytes:
        self._touch()
        return super().read(-1 if size is None else size)


def _enter(request: Request, touch: Callable[[], None]) -> None:
    """Take the client's place: its folder, variables, umask and streams."""
    *streams, here = request.fds
    for fd, stream in enumerate(streams):
        os.dup2(stream, fd)
    os.fchdir(here)
    for fd in request.fds:
        os.close(fd)
    os.umask(request.umask)
    _set_environ(request.environ)
    _open_streams(request.streams, touch)


def _return_to(environ: dict[bytes, bytes]) -> None:
    """Let go of everything of the client's, so that whoever reads its output sees the end of it."""
    _open_nowhere()
    _set_environ(environ)
    os.chdir("/")
    os.umask(0o077)


def _open_nowhere() -> None:
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
    # What could not be written must not come out on the next client's streams.
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.close()
    _open_streams((("utf-8", "surrogateescape"),) * 3, lambda: None)


def _open_streams(kinds: Sequence[tuple[str, str]], touch: Callable[[], None]) -> None:
    """Make sys.stdin, stdout and stderr as Python makes them when it starts."""
    made: list[io.TextIOWrapper] = []
    for fd, (encoding, errors) in enumerate(kinds):
        raw = _Stream(fd, "r" if fd == 0 else "w", touch)
        buffer = io.BufferedReader(raw) if fd == 0 else io.BufferedWriter(raw)
        lines = fd == 2 or raw.isatty()
        made.append(io.TextIOWrapper(buffer, encoding, errors, newline="\n", line_buffering=lines))
    sys.stdin, sys.stdout, sys.stderr = made
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = made  # type: ignore[misc]


def _set_environ(wanted: dict[bytes, bytes]) -> None:
    """Make the environment that one, and what libraries derive from it."""
    for name in os.environb.keys() - wanted.keys():
        del os.environb[name]
    for name, value in wanted.items():
        if os.environb.get(name) != value:
            os.environb[name] = value
    time.tzset()
    try:
        locale.setlocale(locale.LC_CTYPE, "")
    except locale.Error:  # as Python does it: the locale is not on this machine
        locale.setlocale(locale.LC_CTYPE, "C")


# --- the program on disk


def _program_on_disk() -> tuple[object, ...]:
    """Return what changes when pixseek, or a package beside it, is written anew."""
    seen: list[object] = []
    for room in ("", "encoders", "indexer", "search", "face"):
        for folder, folders, files in os.walk(os.path.join(protocol.ROOT, room)):
            folders[:] = [name for name in folders if room and name not in ("__pycache__", "weights")]
            for name in files:
                if name.endswith(".py"):
                    info = os.stat(os.path.join(folder, name))
                    seen.append((folder, name, info.st_ino, info.st_size, info.st_mtime_ns))
    for place in sys.path:
        if place.endswith(("site-packages", "dist-packages")) and os.path.isdir(place):
            seen.append((place, os.stat(place).st_mtime_ns))
    return tuple(seen)
