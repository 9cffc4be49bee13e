"""Decode processes: paths in, pixels out; a file can end its worker and nothing else.

Each worker has a thread of the parent that starts it, feeds it, waits for it and buries it. The thread
lives as long as the pool, since the kernel ends a worker with the thread that started it. A worker holds
the file it decodes and the next one; when it dies, the first is to blame and the second goes to another.
Not `ProcessPoolExecutor`: one dead worker breaks that as a whole.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from indexer.images import DecodeLimits
from indexer.outcomes import (
    Decoded,
    DecodeFailure,
    DecodeTask,
    FileStat,
    Outcome,
    read_answer,
    read_stat,
)
from indexer.process import WorkerDied, WorkerProcess
from indexer.sandbox import Setup

if TYPE_CHECKING:
    from types import TracebackType

    from encoders import Preprocess

__all__ = ["DecodeFailure", "DecodePool", "DecodeTask", "Decoded", "FileStat", "Outcome", "WorkerStartError"]

AHEAD: Final = 2  # files a worker holds: the one it decodes and the next
AHEAD_BYTES: Final = 32 * 1024  # of the next task's message: what any pipe takes without a reader
TRIES: Final = 2  # workers a file may kill; the first death may be the kernel's, short of memory
START_S: Final = 60.0  # a worker that is not ready by then is not coming
BAD_STARTS: Final = 5  # in a row: the installation is broken, not a file


class WorkerStartError(RuntimeError):
    """Decode workers cannot be started at all."""


class DecodePool:
    """Worker processes that decode files, in no particular order.

    One thread submits and collects; results wait in memory until collected, so submit no more than
    `capacity` ahead.

    Args:
        preprocess: makes the encoder's square; pickled once per worker.
        workers: processes.
        decoder: "module:function" with the signature of `indexer.images.decode`.
    """

    def __init__(
        self,
        preprocess: Preprocess,
        *,
        workers: int,
        limits: DecodeLimits | None = None,
        decoder: str = "indexer.images:decode",
    ) -> None:
        if workers < 1:
            raise ValueError("a pool needs at least one worker")
        self.capacity = workers * 3
        self.outstanding = 0
        self._setup = Setup(preprocess, limits or DecodeLimits(), decoder, os.getpid())
        self._changed = threading.Condition()
        self._waiting: deque[tuple[DecodeTask, int]] = deque()
        self._done: list[Outcome] = []
        self._closing = self._woken = False
        self._broken: BaseException | None = None
        self._slots = [_Slot(self) for _ in range(workers)]
        for slot in self._slots:
            slot.start()

    def submit(self, task: DecodeTask) -> None:
        """Queue a file."""
        with self._changed:
            if self._closing:
                raise ValueError("the pool is closed")
            self.outstanding += 1
            self._waiting.append((task, 0))
            self._changed.notify_all()

    def results(self, timeout_s: float) -> list[Outcome]:
        """Return what has come out since the last call; waits for one, at most `timeout_s` seconds.

        Returns at once when nothing is outstanding, and when `wake` is called.
        Raises:
            WorkerStartError: no worker comes up; the installation is damaged.
        """
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while not (self._done or self._woken) and self.outstanding and self._broken is None:
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            if self._broken is not None and not self._done:
                raise WorkerStartError(str(self._broken)) from self._broken
            self._woken = False
            done, self._done = self._done, []
            self.outstanding -= len(done)
            return done

    def wake(self) -> None:
        """Let `results` return, from another thread: something else is there for its caller."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    @property
    def worker_pids(self) -> list[int]:
        """Return the process ids of the living workers."""
        return [slot.worker.process.pid for slot in self._slots if slot.worker is not None]

    def close(self) -> None:
        """End the workers at once; what is outstanding is dropped."""
        with self._changed:
            self._closing = True
            self._waiting.clear()
            self._changed.notify_all()
        for slot in self._slots:
            slot.interrupt()
        for slot in self._slots:
            slot.join(timeout=5)

    def __enter__(self) -> DecodePool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- for the slots -------------------------------------------------------------------------------

    def _take(self, block: bool) -> tuple[DecodeTask, int] | None:
        """Return the next file and how many workers it has killed; None when there is none (or ever)."""
        with self._changed:
            while block and not self._waiting and not self._closing:
                self._changed.wait()
            return None if self._closing or not self._waiting else self._waiting.popleft()

    def _return(self, tasks: list[tuple[DecodeTask, int]]) -> None:
        with self._changed:
            self._waiting.extendleft(reversed(tasks))
            self._changed.notify_all()

    def _finish(self, outcome: Outcome) -> None:
        with self._changed:
            self._done.append(outcome)
            self._changed.notify_all()

    def _break(self, error: BaseException) -> None:
        with self._changed:
            self._broken = error
            self._changed.notify_all()


class _Slot(threading.Thread):
    """The parent's half of one worker, whichever process it is at the moment."""

    def __init__(self, pool: DecodePool) -> None:
        super().__init__(name="decode-slot", daemon=True)
        self.pool = pool
        self.worker: WorkerProcess | None = None
        self.held: deque[tuple[DecodeTask, int]] = deque()
        self.bad_starts = 0
        self.graves: list[subprocess.Popen[bytes]] = []  # killed, not yet gone: stuck in a drive

    def run(self) -> None:
        pool = self.pool
        try:
            while not pool._closing:
                self._fill()
                if self.held:
                    self._one()
        except Exception as error:  # a bug here would otherwise be a run that never ends
            pool._break(error)
        finally:
            self._bury()

    def interrupt(self) -> None:
        """Make the thread notice that the pool is closing."""
        worker = self.worker
        if worker is not None:
            worker.kill()

    def _fill(self) -> None:
        """Hold up to AHEAD files; wait for the first."""
        if self.worker is None and not self._start():
            return
        while len(self.held) < AHEAD:
            task = self.pool._take(block=not self.held)
            if task is None:
                return
            if task[1] and self.held:  # it has killed a worker: it gets one to itself
                self.pool._return([task])
                return
            message = pickle.dumps((task[0].path, task[0].known_hashes))
            if self.held and len(message) > AHEAD_BYTES:  # both sides would wait for the other to read
                self.pool._return([task])
                return
            self.held.append(task)
            assert self.worker is not None
            with contextlib.suppress(OSError):  # a dead worker is found when its answer is read
                self.worker.send(message)
            if task[1]:
                return

    def _start(self) -> bool:
        """Bring a worker up; False when it did not come."""
        try:
            self.worker = WorkerProcess(self.pool._setup)
            self.worker.receive(time.monotonic() + START_S, self._is_closing)
            self.bad_starts = 0
            return True
        except (WorkerDied, OSError) as error:
            why = str(error) or (self.worker.last_words() if self.worker is not None else "")
            self._bury()
            self.bad_starts += 1
            if self.bad_starts >= BAD_STARTS:
                raise WorkerStartError(
                    f"decode workers do not start ({why or 'they end at once'}); reinstall pixseek"
                ) from error
            time.sleep(0.05 * 2**self.bad_starts)
            return False

    def _is_closing(self) -> bool:
        return self.pool._closing

    def _one(self) -> None:
        """Wait for the answer to the first file held, and pass it on."""
        worker, limits = self.worker, self.pool._setup.limits
        assert worker is not None
        task, deaths = self.held[0]
        stat: FileStat | None = None
        deadline = time.monotonic() + limits.wall_s
        try:
            head, body = worker.receive(deadline, self._is_closing)
            if head["kind"] == "reading done":
                stat = read_stat(head["stat"])
                head, body = worker.receive(deadline, self._is_closing)
            outcome = read_answer(task, head, body)
        except (WorkerDied, ValueError, KeyError, TypeError, IndexError) as error:
            self.held.popleft()
            code = self._bury()
            self.pool._return(list(self.held))
            self.held.clear()
            if self.pool._closing:
                return
            if isinstance(error, WorkerDied) and error.overdue:
                where = "" if stat else " while it was read"
                reason = f"timeout after {limits.wall_s:g} s{where}"
                outcome = DecodeFailure(task.token, task.path, stat, reason, transient=stat is None)
            elif code == -getattr(signal, "SIGPROF", 0):
                reason = f"timeout after {limits.cpu_s:g} s of processor time"
                outcome = DecodeFailure(task.token, task.path, stat, reason)
            elif deaths + 1 < TRIES:
                self.pool._return([(task, deaths + 1)])
                return
            else:
                reason = f"decoder crashed ({_signal_name(code)})"
                outcome = DecodeFailure(task.token, task.path, stat, reason)
        else:
            self.held.popleft()
        self.pool._finish(outcome)

    def _bury(self) -> int:
        """End the worker and return its exit code; 0 when it does not end (stuck in a drive)."""
        worker, self.worker = self.worker, None
        self.graves = [process for process in self.graves if process.poll() is None]
        if worker is None:
            return 0
        code = worker.close()
        if code is None:
            self.graves.append(worker.process)
        return code or 0


def _signal_name(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
