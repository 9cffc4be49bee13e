"""The writer's lock: flock on a file that is never deleted, so the kernel frees it whatever happens."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
from pathlib import Path

from indexer.errors import IndexLockedError, IndexStorageError, storage_errors

LOCK_NAME = "lock"


class WriterLock:
    """Held from construction until `close` or the end of the process.

    Args:
        folder: the index folder; must exist.
        wait_s: how long to wait for another writer; None not at all.
    Raises:
        IndexLockedError: someone else holds it; the message says who, where and since when.
    """

    def __init__(self, folder: Path, wait_s: float | None = None) -> None:
        self.folder = folder
        self.path = folder / LOCK_NAME
        with storage_errors(folder):
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        deadline = time.monotonic() + (wait_s or 0)
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    os.close(self._fd)
                    raise IndexStorageError(folder, f"cannot lock it: {error.strerror}") from error
                if time.monotonic() >= deadline:
                    holder = os.pread(self._fd, 200, 0).decode("utf-8", "replace").strip()
                    os.close(self._fd)
                    raise IndexLockedError(folder, holder or "another process") from error
                time.sleep(0.1)
        note = f"pid {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}"
        with storage_errors(folder):
            os.pwrite(self._fd, note.encode(), 0)
            os.ftruncate(self._fd, len(note.encode()))

    def verify(self) -> None:
        """Raise IndexStorageError when the folder was moved or deleted under us: our writes would be lost."""
        try:
            same = os.path.samestat(os.stat(self.path), os.fstat(self._fd))
        except OSError:
            same = False
        if not same:
            raise IndexStorageError(self.folder, "the folder was removed or replaced while in use")

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
