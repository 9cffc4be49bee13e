"""One worker process and its pipes, seen from the parent."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import select
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from indexer.sandbox import FRAME, Setup

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_HEAD_BYTES: Final = 4 * 2**20
MAX_BODY_BYTES: Final = 2**28


class WorkerDied(Exception):
    """The pipe is closed; `overdue` when we closed it because of the clock."""

    def __init__(self, overdue: bool = False) -> None:
        self.overdue = overdue


class WorkerProcess:
    """One process and its two pipes."""

    def __init__(self, setup: Setup) -> None:
        code = f"import sys; sys.path[:] = {sys.path!r}; from indexer.sandbox import main; main()"
        # Its own session: Ctrl-C in the terminal reaches the parent only. exec: no lock comes along.
        self.process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,  # until it is ready; then it has none
            bufsize=0,
            start_new_session=True,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._in, self._out = self.process.stdin.fileno(), self.process.stdout.fileno()
        self._poll = select.poll() if hasattr(select, "poll") else None
        if self._poll is not None:
            self._poll.register(self._out, select.POLLIN)
        if sys.platform == "linux":
            import fcntl

            with contextlib.suppress(OSError):  # a whole answer fits: the worker goes on while we are busy
                fcntl.fcntl(self._out, 1031, 2**20)  # F_SETPIPE_SZ
        try:
            self.send(pickle.dumps(setup))
        except OSError:
            self.close()
            raise

    def send(self, head: bytes) -> None:
        """Write one frame; raises OSError when the worker is gone."""
        view = memoryview(FRAME.pack(len(head), 0) + head)
        while view:
            view = view[os.write(self._in, view) :]

    def receive(self, deadline: float, closing: Callable[[], bool]) -> tuple[dict[str, Any], bytearray]:
        """Return the next answer.

        Args:
            deadline: on the monotonic clock; past it the worker counts as dead and overdue.
            closing: asked now and then; when true the worker counts as dead.
        Raises:
            WorkerDied: the pipe is closed, or the deadline has passed.
            ValueError: what came is not an answer.
        """
        head_size, body_size = FRAME.unpack(self._read(FRAME.size, deadline, closing))
        if head_size > MAX_HEAD_BYTES or body_size > MAX_BODY_BYTES:
            raise ValueError("not an answer")
        head = json.loads(bytes(self._read(head_size, deadline, closing)))
        if not isinstance(head, dict):
            raise ValueError("not an answer")
        return head, self._read(body_size, deadline, closing)

    def _read(self, size: int, deadline: float, closing: Callable[[], bool]) -> bytearray:
        data = bytearray(size)
        view = memoryview(data)
        while view:
            while self._poll is not None and not self._poll.poll(
                max(0.0, min(1.0, deadline - time.monotonic())) * 1000
            ):
                if closing():
                    raise WorkerDied
                if time.monotonic() >= deadline:
                    raise WorkerDied(overdue=True)
            try:
                count = os.readv(self._out, [view])
            except OSError:
                count = 0
            if count == 0:
                raise WorkerDied
            view = view[count:]
        return data

    def last_words(self) -> str:
        """Return the last line of a worker that died at its start: its exception."""
        self.kill()
        assert self.process.stderr is not None
        lines = self.process.stderr.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:200] if lines else ""

    def kill(self) -> None:
        """Send SIGKILL; the pipe closes."""
        with contextlib.suppress(OSError):
            self.process.kill()

    def close(self) -> int | None:
        """Kill, close the pipes, and return the exit code; None when the process does not end in a second."""
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(0.05)  # a crash has its own exit code: let it be seen before we kill
        self.kill()
        try:
            return self.process.wait(1)
        except subprocess.TimeoutExpired:
            return None
