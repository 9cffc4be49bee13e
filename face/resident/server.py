"""Who listens: gives each connection to a worker that is free, and none where all are busy.

The server itself reads nothing of a request and imports nothing heavy, so that it cannot hang or fall with
one. Workers are processes of their own, begun afresh (no fork of a process with threads). A client that finds
no worker free is let go at once and answers its question by itself; for the next ones a worker more is begun.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from face.resident import protocol
from face.resident.worker import FREE, STALE

_SPARE_S = 60.0  # a worker beyond the first one ends when it had nothing to do for so long
_GRACE_S = 2.0  # for a worker to notice that its client is gone
_LOOK_S = 5.0  # between two looks whether the socket is still ours
_FAILURES = 3  # workers in a row that end before they are ready: something is wrong with all of them
_START = (
    "import sys; sys.path.insert(0, {root!r}); import cli; from face.resident import worker; "
    "worker.main({fd}, lambda arguments: cli._run(arguments, debug=False))"
)


class HelperBusyError(Exception):
    """Another helper listens there already."""

    def __init__(self, pid: int | None) -> None:
        self.pid = pid
        super().__init__(f"a helper is there already{f' (process {pid})' if pid else ''}")


class _Worker:
    """One process, and what the server knows of it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        os.set_inheritable(theirs.fileno(), True)
        self.process = subprocess.Popen(
            [sys.executable, "-c", _START.format(root=protocol.ROOT, fd=theirs.fileno())],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()], cwd="/", start_new_session=True,
        )  # fmt: skip
        theirs.close()
        self.control = ours
        self.ready = self.free = False
        self.since = time.monotonic()
        self.client: socket.socket | None = None
        self.deserted: float | None = None

    def give(self, connection: socket.socket) -> bool:
        """Return whether the worker took a connection."""
        try:
            socket.send_fds(self.control, [b"c"], [connection.fileno()])
        except OSError:
            return False
        self.free, self.client, self.since = False, connection, time.monotonic()
        return True

    def release(self) -> None:
        if self.client is not None:
            self.client.close()
        self.client = self.deserted = None

    def end(self, *, kill: bool = False) -> None:
        """Close our end: it leaves when it has answered. One that is free holds nothing and may be killed."""
        self.release()
        self.control.close()
        if kill:
            self.process.kill()


class Server:
    """Listens on a socket until it was idle for long enough, or told to stop.

    Args:
        path: of the socket; its folder is made, and must be the person's own where it is the default one.
        idle_s: seconds without a question after which everything ends; 0: never.
        most: workers at most.
    Raises:
        HelperBusyError: another one is there.
        OSError: the socket cannot be made.
    """

    def __init__(self, path: str, *, idle_s: float, most: int | None = None) -> None:
        self.path, self._idle_s = path, idle_s
        self._most = most or max(2, min(4, (os.cpu_count() or 2) // 2))
        self._workers: list[_Worker] = []
        self._stopping = False
        self._failures = 0
        self._asked = time.monotonic()
        private_folder(os.path.dirname(path))
        self._lock = _locked(path)
        try:
            self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            with contextlib.suppress(FileNotFoundError):
                if not stat.S_ISSOCK(os.lstat(path).st_mode):
                    raise FileExistsError(17, "this is no socket", path)
                os.unlink(path)  # of one that was killed: we hold the lock
            before = os.umask(0o177)
            try:
                self._listener.bind(path)
            finally:
                os.umask(before)
            self._listener.listen(16)
            self._listener.setblocking(False)
            self._inode = os.lstat(path).st_ino
        except BaseException:
            os.close(self._lock)
            raise

    def run(self) -> None:
        """Serve; returns when it is over and nothing of it is left but its lock file."""
        woken, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, lambda number, frame: self._stop())
        try:
            self._workers.append(_Worker())
            while not self._stopping:
                self._turn(woken)
        finally:
            with contextlib.suppress(OSError):
                if os.lstat(self.path).st_ino == self._inode:
                    os.unlink(self.path)
            self._listener.close()
            for worker in self._workers:
                worker.end(kill=worker.free)
            os.close(self._lock)

    def _stop(self) -> None:
        self._stopping = True

    def _turn(self, woken: int) -> None:
        """Wait for something to happen, and see to it."""
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        poll.register(woken, select.POLLIN)
        for worker in self._workers:
            poll.register(worker.control, select.POLLIN)
            if worker.client is not None and worker.deserted is None:
                poll.register(worker.client, 0)  # that it hangs up is told unasked
        events = dict(poll.poll(1000 * min(self._patience(), _LOOK_S)))
        if woken in events:
            os.read(woken, 64)
        for worker in list(self._workers):
            if worker.client is not None and worker.client.fileno() in events:
                worker.deserted = time.monotonic()
            if worker.control.fileno() in events:
                self._hear(worker)
        if self._listener.fileno() in events:
            self._accept()
        self._tidy()

    def _patience(self) -> float:
        """Return the seconds until something has to be done unasked."""
        now, dues = time.monotonic(), [_LOOK_S]
        dues += [worker.deserted + _GRACE_S - now for worker in self._workers if worker.deserted]
        if self._idle_s:
            dues.append(self._asked + self._idle_s - now)
        return max(0.01, min(dues))

    def _hear(self, worker: _Worker) -> None:
        try:
            said = worker.control.recv(16)
        except OSError:
            said = b""
        if said.endswith(FREE):
            worker.release()
            worker.ready = worker.free = True
            worker.since = time.monotonic()
            self._failures = 0
            return
        worker.end()
        self._workers.remove(worker)
        try:
            code = worker.process.wait(timeout=_GRACE_S)
        except subprocess.TimeoutExpired:  # on its way out, and stuck there
            worker.process.kill()
            code = worker.process.wait()
        if not worker.ready:
            self._failures += 1
        if code == STALE or self._failures >= _FAILURES:
            self._stopping = True
        elif not self._workers:
            self._workers.append(_Worker())

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        if protocol.peer_uid(connection) != os.getuid():
            connection.close()
            return
        self._asked = time.monotonic()
        # The one that was used last has the most in its caches.
        free = sorted((worker for worker in self._workers if worker.free), key=lambda one: -one.since)
        for worker in free:
            if worker.give(connection):
                return
        connection.close()
        if all(worker.ready for worker in self._workers) and len(self._workers) < self._most:
            self._workers.append(_Worker())

    def _tidy(self) -> None:
        now = time.monotonic()
        for worker in self._workers:
            if worker.deserted is not None and now - worker.deserted > _GRACE_S:
                worker.process.kill()  # it hangs in a library; its end is heard
            elif worker.free and len(self._workers) > 1 and now - worker.since > _SPARE_S:
                worker.end(kill=True)
                worker.process.wait()
                self._workers.remove(worker)
                break
        try:
            ours = os.lstat(self.path).st_ino == self._inode
        except OSError:
            ours = False
        if not ours or (self._idle_s and now - self._asked > self._idle_s):
            self._stopping = True


def private_folder(folder: str) -> None:
    """Make a folder that is ours alone. Raises OSError when it is somebody else's."""
    if not folder or os.path.isdir(folder):
        if os.path.basename(folder).startswith("pixseek") and os.lstat(folder).st_uid != os.getuid():
            raise PermissionError(13, "the folder is not yours", folder)
        return
    os.makedirs(folder, mode=0o700)


def _locked(path: str) -> int:
    """Return the lock of a socket's place, held; the kernel frees it whatever becomes of us."""
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise HelperBusyError(running(path)) from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, b"%d\n" % os.getpid(), 0)
    return lock


def running(path: str) -> int | None:
    """Return the process of the helper that listens at a path, None when there is none."""
    try:
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        digits = os.pread(lock, 32, 0).strip()
        return int(digits) if digits.isdigit() else None
    finally:
        os.close(lock)
    return None


def stop(path: str, patience_s: float = 10.0) -> bool:
    """Return whether a helper was there and has ended; it answers what it is at first."""
    pid = running(path)
    if pid is None:
        return False
    os.kill(pid, signal.SIGTERM)
    return any(running(path) != pid for _ in _ticks(patience_s))


def _ticks(seconds: float) -> Iterator[None]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.02)
        yield


def default_folder() -> Path:
    """Return where the socket is unless told otherwise."""
    return Path(protocol.socket_path()).parent
