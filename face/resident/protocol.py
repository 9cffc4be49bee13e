"""What client and worker say to each other on a Unix socket, and what must be the same on both sides.

    client connects; the server hands the connection to a worker that is free, or closes it
    client -> worker   frame: its circumstances
    worker -> client   READY, or the connection ends: the client does it itself
    client -> worker   frame: the request; with it (SCM_RIGHTS) stdin, stdout, stderr, working directory
    worker -> client   TOUCHED before it prints or reads stdin for the first time
    client -> worker   INTERRUPT on Ctrl-C
    worker -> client   DONE and the exit code, one byte

A frame is its length, 4 bytes big-endian, and as many bytes. Nothing of a request is sent before READY, so
that whoever gives up before it can answer by itself without anything being printed twice.
"""

from __future__ import annotations

import os
import sys

READY, TOUCHED, DONE, INTERRUPT = b"R", b"T", b"D", b"I"
MAX_BYTES = 8 << 20
"""Of a frame: Linux hands a program 6 MB of arguments and environment at most, unless told otherwise."""
SOCKET_NAME = "helper.sock"
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
"""Where this pixseek lies."""
# Variables that libraries read once, when they are loaded: threads (and so the last bits of a score), memory,
# warnings.
_LOADING = (
    "BLIS_", "CUDA_", "DYLD_", "FAISS_", "GLIBC_", "GOMP_", "HF_", "KMP_", "LD_", "MALLOC_", "MKL_", "OMP_",
    "ONNX", "OPENBLAS_", "ORT_", "PYTHON", "SQLITE_", "TOKENIZERS_", "VECLIB_",
)  # fmt: skip


def socket_path() -> str:
    """Return where the helper listens: $PIXSEEK_SOCKET, else in the person's folder for such things."""
    if asked := os.environ.get("PIXSEEK_SOCKET"):
        return asked
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        return f"{runtime}/pixseek/{SOCKET_NAME}"
    return f"{os.environ.get('TMPDIR') or '/tmp'}/pixseek-{os.getuid()}/{SOCKET_NAME}"


def circumstances() -> bytes:
    """Return what decides an answer beside the request: equal bytes, equal answers.

    The program and its Python; who asks; what they may use; which files and network they see; how libraries
    were told to behave when they are loaded.
    """
    import resource

    limits = ("RLIMIT_AS", "RLIMIT_DATA", "RLIMIT_FSIZE", "RLIMIT_CPU", "RLIMIT_STACK")
    seen = [os.stat("/")[:3]]
    for space in ("mnt", "net", "user", "pid"):
        try:
            seen.append(os.stat(f"/proc/self/ns/{space}")[:3])
        except OSError:  # macOS, or no /proc
            seen.append((0, 0, 0))
    same = (
        ROOT, sys.version, sys.prefix, tuple(sys.flags), sys.getfilesystemencoding(),
        os.getuid(), os.geteuid(), os.getgid(), os.getegid(), sorted(os.getgroups()),
        os.getpriority(os.PRIO_PROCESS, 0),
        sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        [resource.getrlimit(getattr(resource, name)) for name in limits if hasattr(resource, name)],
        seen,
        sorted(
            (name, value)
            for name, value in os.environb.items()
            if name.startswith(_LOADING_BYTES) and name != _OURS
        ),
    )  # fmt: skip
    return repr(same).encode("utf-8", "surrogateescape")


_OURS = b"ORT_DISABLE_TELEMETRY"  # set in every process by the door of `encoders`
_LOADING_BYTES = tuple(name.encode() for name in _LOADING)


def frame(payload: bytes) -> bytes:
    """Return a payload behind its length."""
    return len(payload).to_bytes(4, "big") + payload


def pack(fields: list[bytes]) -> bytes:
    """Return fields as one payload; no argument and no variable holds a NUL."""
    return b"\0".join(fields)


def peer_uid(connection: object) -> int | None:
    """Return whose process is at the other end of a Unix socket; None where the system does not say."""
    import _socket as socket

    assert isinstance(connection, socket.socket)
    if hasattr(socket, "SO_PEERCRED"):  # struct ucred: pid, uid, gid
        data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return int.from_bytes(data[4:8], sys.byteorder)
    if hasattr(socket, "LOCAL_PEERCRED"):  # struct xucred: version, uid, groups
        data = connection.getsockopt(0, socket.LOCAL_PEERCRED, 76)
        return int.from_bytes(data[4:8], sys.byteorder)
    return None
