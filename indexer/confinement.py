"""What a decode worker gives up before it sees the first file.

Everything is best effort except ending with the parent: a kernel or container that refuses one of these
still indexes. Linux has all of it; elsewhere the limits of `resource` remain.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import signal
import struct
import sys
from typing import Final

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP = 1, 38, 22
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000

_REFUSED: Final = {
    # machine: (audit architecture, numbers of socket, connect, execve, execveat, ptrace, io_uring_setup)
    "x86_64": (0xC000003E, (41, 42, 59, 322, 101, 425)),
    "aarch64": (0xC00000B7, (198, 203, 221, 281, 117, 425)),
}
"""System calls a decoder has no use for: to reach the network, and to start or to take over a program."""


def confine(memory_bytes: int, parent: int) -> None:
    """Give up what a decoder does not need.

    Args:
        memory_bytes: address space that may be added to what is mapped now.
        parent: process id of the one to end with.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    if sys.platform == "linux":
        _leave_network()
        _end_with(parent)  # after the change of credentials, which would undo it
        _refuse_calls()
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        if sys.platform == "linux":
            # Relative to now: the libraries alone map about 1 GB.
            with open("/proc/self/statm", "rb") as file:
                mapped = int(file.read().split()[0]) * resource.getpagesize()
            ceiling = mapped + memory_bytes
            resource.setrlimit(resource.RLIMIT_AS, (ceiling, ceiling))


def _end_with(parent: int) -> None:
    """Ask the kernel to kill this process when the thread that started it ends."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:  # it ended before we asked
        os._exit(0)


def _leave_network() -> None:
    """Move to an empty network namespace.

    As root without a user namespace: inside one, root would lose the right to read other people's files.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).unshare(_CLONE_NEWNET if os.geteuid() == 0 else _CLONE_NEWUSER | _CLONE_NEWNET)


def seccomp_program(arch: int, numbers: tuple[int, ...]) -> bytes:
    """Return the BPF program (struct sock_filter[]) that answers EPERM to the given system calls.

    Source: Linux Documentation/userspace-api/seccomp_filter.rst; linux/filter.h.
    """
    load, equal, at_least, give = 0x20, 0x15, 0x35, 0x06  # BPF_LD|W|ABS, JMP|JEQ|K, JMP|JGE|K, RET|K
    allow, refuse = 0x7FFF0000, 0x00050000 | errno.EPERM

    def step(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
        return struct.pack("=HBBI", code, yes, no, value)

    steps = [step(load, 4), step(equal, arch, yes=1), step(give, refuse), step(load, 0)]
    steps.append(step(at_least, 0x40000000, yes=len(numbers) + 1))  # the x32 numbers would get round this
    steps += [step(equal, number, yes=len(numbers) - i) for i, number in enumerate(numbers)]
    return b"".join([*steps, step(give, allow), step(give, refuse)])


def _refuse_calls() -> None:
    """Have the kernel refuse the calls in `_REFUSED` to this thread and those it starts."""
    if platform.machine() not in _REFUSED or sys.maxsize < 2**32:
        return
    program = seccomp_program(*_REFUSED[platform.machine()])
    code = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    filter_ = ctypes.create_string_buffer(header, len(header))
    with contextlib.suppress(OSError, AttributeError):
        prctl = ctypes.CDLL(None).prctl
        prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
        if prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0:
            prctl(_PR_SET_SECCOMP, 2, ctypes.addressof(filter_), 0, 0)
