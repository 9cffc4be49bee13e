"""The inside of a decode worker: one process, one file at a time, nothing it can damage.

A worker is started by `indexer.workers`, reads tasks from its standard input and writes what came out to
its standard output. It holds no lock, no database and no network, may not write files, and ends when the
parent does. Limits on time are timers of the kernel, because a decoder in a loop runs no Python.

Frames on the pipes are `<II`: bytes of the head, bytes of the body, then both. Heads to the worker are
pickles (the parent is trusted); heads from the worker are JSON, since what parsed a hostile file may not
choose what the parent unpickles.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import errno
import hashlib
import importlib
import json
import os
import pickle
import signal
import stat as stat_module
import struct
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np

from indexer import formats
from indexer.confinement import confine
from indexer.images import DecodeLimits, ImageError, Picture
from indexer.look import look_of

if TYPE_CHECKING:
    from encoders import Preprocess

FRAME: Final = struct.Struct("<II")
_OPEN_FLAGS: Final = os.O_RDONLY | sum(
    getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY")
)  # O_NONBLOCK: a pipe must not hold us
ATTEMPTS: Final = 4  # reads of a file that changes meanwhile: the first and three more
BACK_OFF_S: Final = 0.05  # before the second read; doubles
SNIFF_BYTES: Final = 64
WHOLE_BYTES: Final = 64 * 2**20  # files up to this are read before they are looked at

TRANSIENT: Final = frozenset(
    {
        errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ETIMEDOUT, errno.ESTALE, errno.EAGAIN,
        errno.EINTR, errno.EBUSY, errno.ENOTCONN, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ECONNRESET,
    }
)  # fmt: skip
"""What says nothing about the file: it is tried again on the next run."""

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3

Decoder = Callable[..., Picture]
Stat = list[int]  # size, mtime_ns, ctime_ns, inode, dev


class FileProblem(Exception):
    """A file that did not get as far as the decoder.

    Attributes:
        stat: what the file system says of it, None when not even that.
        vanished: it is no longer there.
        transient: worth another try on the next run.
    """

    def __init__(
        self, reason: str, stat: Stat | None, *, vanished: bool = False, transient: bool = False
    ) -> None:
        self.reason, self.stat, self.vanished, self.transient = reason, stat, vanished, transient
        super().__init__(reason)


@dataclasses.dataclass(frozen=True)
class Setup:
    """What a worker is told once, at its start."""

    preprocess: Preprocess
    limits: DecodeLimits
    decoder: str
    parent: int


# --- reading a file -------------------------------------------------------------------------------------


def _as_list(info: os.stat_result) -> Stat:
    return [info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino, info.st_dev]


def read_file(path: bytes, limits: DecodeLimits) -> tuple[bytes, Stat]:
    """Return the content of a regular file and its stat, both of one moment.

    Raises:
        FileProblem: it is gone, no regular file, unreadable, too large, no picture, or never holds still.
    """
    stat: Stat | None = None
    try:
        for attempt in range(ATTEMPTS):
            info = os.stat(path)
            stat = _as_list(info)
            if not stat_module.S_ISREG(info.st_mode):  # before open: opening a device can have effects
                raise FileProblem("not a regular file", stat)
            data, before, after = _read_once(path, limits)
            stat = before
            if data is not None and before == after:
                return data, after
            time.sleep(BACK_OFF_S * 2**attempt)
    except OSError as error:
        raise _problem(error, stat) from None
    raise FileProblem("changing while it was read", stat, transient=True)


def _read_once(path: bytes, limits: DecodeLimits) -> tuple[bytes | None, Stat, Stat]:
    """Return the content (None when its length is not what was promised) and the stat before and after."""
    descriptor = os.open(path, _OPEN_FLAGS)
    try:
        info = os.fstat(descriptor)
        before = _as_list(info)
        size = info.st_size
        if not stat_module.S_ISREG(info.st_mode):
            raise FileProblem("not a regular file", before)
        if size == 0:
            raise FileProblem("empty file", before)
        if size > limits.max_file_bytes:
            raise FileProblem(f"too large (a file of {size / 1e9:,.1f} GB)", before)
        if size <= WHOLE_BYTES:  # one call, one copy
            data = os.read(descriptor, size + 1)
            _reject_early(data[:SNIFF_BYTES], path, before)
        else:
            data = os.read(descriptor, SNIFF_BYTES)
            _reject_early(data, path, before)
        if len(data) < size:
            parts, left = [data], size + 1 - len(data)
            while left > 0 and (part := os.read(descriptor, left)):
                parts.append(part)
                left -= len(part)
            data = b"".join(parts)
        return (data if len(data) == size else None), before, _as_list(os.fstat(descriptor))
    finally:
        os.close(descriptor)


def _reject_early(head: bytes, path: bytes, stat: Stat) -> None:
    """Raise FileProblem for what no decoder will take, before the rest is read."""
    if path.lower().endswith(_RAW_ENDINGS):
        return
    kind = formats.sniff(head)
    if not kind.name:
        raise FileProblem("not an image", stat)
    if not kind.allowed:
        raise FileProblem(f"format not supported ({kind.name})", stat)


_RAW_ENDINGS: Final = tuple(suffix.encode() for suffix in formats.RAW_SUFFIXES)

_REASONS: Final = {
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.ELOOP: "too many levels of symbolic links",
    errno.ENAMETOOLONG: "path too long",
    errno.ENXIO: "not a regular file",
    errno.ENODEV: "not a regular file",
    errno.EISDIR: "not a regular file",
    errno.EIO: "input/output error",
    errno.EMFILE: "too many open files",
    errno.ENFILE: "too many open files",
}


def _problem(error: OSError, stat: Stat | None) -> FileProblem:
    code = error.errno or 0
    if code in {errno.ENOENT, errno.ENOTDIR}:
        return FileProblem("no longer there", None, vanished=True)
    reason = _REASONS.get(code) or (os.strerror(code).lower() if code else str(error) or "cannot be read")
    return FileProblem(reason, stat, transient=code in TRANSIENT)


# --- one task -------------------------------------------------------------------------------------------


def process(
    path: bytes,
    known: frozenset[bytes],
    setup: Setup,
    decoder: Decoder,
    announce: Callable[[Stat], None],
) -> tuple[dict[str, Any], bytes | memoryview]:
    """Return the head and the body of the answer: pixels, or why there are none.

    Args:
        announce: told the stat once the file is read; from then on, time is spent on decoding.
    """
    stat: Stat | None = None
    try:
        data, stat = read_file(path, setup.limits)
        announce(stat)
        digest = hashlib.blake2b(data, digest_size=32).digest()
        if digest in known:
            return {"kind": "decoded", "stat": stat, "hash": digest.hex(), "known": True}, b""
        name = os.fsdecode(os.path.basename(path))
        picture = decoder(data, min_side=setup.preprocess.size, limits=setup.limits, name=name)
        del data
        squares = [setup.preprocess(image) for _, image in picture.frames]
        look = look_of(picture.frames[0][1])
        body = np.ascontiguousarray(squares[0]).data if len(squares) == 1 else np.stack(squares).data
        return {
            "kind": "decoded", "stat": stat, "hash": digest.hex(), "known": False,
            "shape": [len(picture.frames), setup.preprocess.size, setup.preprocess.size, 3],
            "regions": [dataclasses.astuple(region) if region else None for region, _ in picture.frames],
            "width": picture.width, "height": picture.height, "format": picture.format,
            "warning": picture.warning, "metadata": dataclasses.asdict(picture.metadata),
            "look": [look.phash, look.sharpness],
        }, body  # fmt: skip
    except FileProblem as problem:
        return {
            "kind": "failed", "stat": problem.stat, "reason": problem.reason,
            "vanished": problem.vanished, "transient": problem.transient,
        }, b""  # fmt: skip
    except ImageError as error:
        reason = error.reason
    except MemoryError:
        reason = "too large (not enough memory)"
    except Exception as error:  # a bug in a decoder is a failure of one file
        reason = f"decoder failed: {type(error).__name__}: {error}"[:200]
    return {"kind": "failed", "stat": stat, "reason": reason, "vanished": False, "transient": False}, b""


# --- the process ----------------------------------------------------------------------------------------


def read_frame(stream: BinaryIO) -> tuple[bytes, bytes] | None:
    """Return head and body, None when the other side has closed."""
    prefix = stream.read(FRAME.size)
    if len(prefix) < FRAME.size:
        return None
    head, body = FRAME.unpack(prefix)
    return stream.read(head), stream.read(body)


def _set_timers(limits: DecodeLimits) -> None:
    """Start the kernel's clocks for one file; each ends the process when it runs out."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, limits.cpu_s)
        signal.setitimer(signal.ITIMER_REAL, limits.wall_s * 1.5 + 5)  # the parent's clock comes first


def _stop_timers() -> None:
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


def _keep_freed_memory() -> None:
    """Have the C library keep what a picture needed for the next one.

    Giving it back and taking it again page by page is 8 % of a HEIC and 12 % of a PNG. glibc only.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, 32 * 2**20)
        library.mallopt(_M_TRIM_THRESHOLD, 128 * 2**20)


def main() -> None:
    """Answer tasks until the parent closes the pipe."""
    # Libraries print to descriptors 1 and 2; the answers go where no library writes.
    tasks, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", buffering=0)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    first = read_frame(tasks)
    if first is None:
        return
    setup: Setup = pickle.loads(first[0])
    module, _, name = setup.decoder.partition(":")
    decoder: Decoder = getattr(importlib.import_module(module), name)
    _keep_freed_memory()
    formats.openers()  # the plugins' imports belong to the start, not to a file's limits
    confine(setup.limits.memory_bytes, setup.parent)
    answer = _Answer(answers)
    answer({"kind": "ready"})
    os.dup2(null, 2)
    with contextlib.suppress(BrokenPipeError):
        while (frame := read_frame(tasks)) is not None:
            path, known = pickle.loads(frame[0])
            _set_timers(setup.limits)
            head, body = process(
                path, known, setup, decoder, lambda stat: answer({"kind": "reading done", "stat": stat})
            )
            _stop_timers()
            answer(head, body)
    os._exit(0)  # no destructors of C libraries: there is nothing to save


class _Answer:
    """Writes answers whole, whatever the pipe takes at a time."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def __call__(self, head: dict[str, Any], body: bytes | memoryview = b"") -> None:
        text, pixels = json.dumps(head).encode(), memoryview(body).cast("B")
        for view in (memoryview(FRAME.pack(len(text), len(pixels)) + text), pixels):
            while view:
                view = view[self.stream.write(view) :]
