"""The asking side: hand a question to the helper and wait for its exit code, or say that there is none.

Whatever is unexpected before the helper prints ends in None: the caller then does it in the ordinary way.
Imported by every `pixseek search` before anything else, so it makes do with what Python has loaded anyway.
"""

from __future__ import annotations

import os
import sys

from face.resident import protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

COMMANDS = ("search", "similar")
# A helper that is alive says READY within milliseconds, on a busy machine a bit later; a stopped one never.
_READY_S = 0.5
# Tracebacks and help are those of this process; a viewer is started by this one.
_OWN = frozenset({"--help", "-h", "--debug", "--open"})
_GONE = "pixseek: the resident helper ended while it answered; ask again, or without it: PIXSEEK_RESIDENT=0\n"


def ask(arguments: Sequence[str]) -> int | None:
    """Return the exit code of a command that the helper answered on our streams; None where it did not."""
    if not _for_helper(arguments):
        return None
    connection = _connected()
    if connection is None:
        return None
    try:
        connection.sendall(protocol.frame(protocol.circumstances()))
        if connection.recv(1) != protocol.READY:
            return None
        _hand_over(connection, arguments)
        return _wait(connection)
    except (OSError, ValueError):
        return None
    finally:
        connection.close()


def leave(code: int) -> NoReturn:
    """End this process: nothing is buffered here, and there is nothing to tidy up."""
    os._exit(code)


def start_if_wished(arguments: Sequence[str]) -> None:
    """Start a helper for the next question where the person wants one and none is there."""
    if os.environ.get("PIXSEEK_RESIDENT", "0") in ("", "0") or not _for_helper(arguments):
        return
    try:
        connection = _connected()
        if connection is not None:
            connection.close()
            return
        import subprocess

        code = f"import sys; sys.path.insert(0, {protocol.ROOT!r}); import cli; cli.main()"
        subprocess.Popen(
            [sys.executable, "-c", code, "serve", "--socket"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            cwd="/", start_new_session=True,
        )  # fmt: skip
    except OSError:  # the question is answered; the next one will be, too
        pass


def _for_helper(arguments: Sequence[str]) -> bool:
    """Return whether a command is one that the helper answers as we would."""
    if not arguments or arguments[0] not in COMMANDS or not _OWN.isdisjoint(arguments):
        return False
    if os.environ.get("PIXSEEK_RESIDENT") == "0" or "_PIXSEEK_COMPLETE" in os.environ:
        return False
    if None in (sys.stdin, sys.stdout, sys.stderr) or os.getuid() != os.geteuid():
        return False
    try:
        # What reads from a terminal must stop with Ctrl-Z, and only our own process group does.
        return not (any(word[-1:] == "-" for word in arguments) and os.isatty(0))
    except OSError:
        return False


def _connected() -> Any:
    """Return a connection to a helper of ours, or None. `socket` takes 5 ms to import."""
    import _socket as socket

    if not hasattr(socket, "AF_UNIX"):
        return None
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(_READY_S)
        connection.connect(protocol.socket_path())
        if protocol.peer_uid(connection) != os.getuid():
            raise ConnectionRefusedError
    except (OSError, ValueError):
        connection.close()
        return None
    return connection


def _hand_over(connection: Any, arguments: Sequence[str]) -> None:
    """Send the request and our streams."""
    import _socket as socket

    umask = os.umask(0o077)
    os.umask(umask)
    streams = [
        f"{stream.encoding}:{stream.errors}".encode() for stream in (sys.stdin, sys.stdout, sys.stderr)
    ]
    fields = [
        b"%o" % umask, *streams,
        b"%d" % len(arguments), *map(os.fsencode, arguments),
        *(name + b"=" + value for name, value in os.environb.items()),
    ]  # fmt: skip
    # A folder that may be entered but not read can be handed over on Linux only.
    here = os.open(".", getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        message = memoryview(protocol.frame(protocol.pack(fields)))
        rights = b"".join(fd.to_bytes(4, sys.byteorder) for fd in (0, 1, 2, here))
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]
        connection.settimeout(None)
        sent = connection.sendmsg([message], ancillary)
        if sent < len(message):  # to send nothing to a helper that has answered already is an error
            connection.sendall(message[sent:])
    finally:
        os.close(here)


def _wait(connection: Any) -> int | None:
    """Return the exit code; None when the helper ended before it printed anything."""
    touched = interrupted = False
    while True:
        try:
            said = connection.recv(1)
            if said == protocol.DONE:
                return int(connection.recv(1)[0])
            if said == protocol.TOUCHED:
                touched = True
                continue
        except KeyboardInterrupt:
            if interrupted:
                os._exit(130)
            interrupted = True
            try:
                connection.send(protocol.INTERRUPT)
            except OSError:
                os._exit(130)
            continue
        except (OSError, IndexError):
            pass
        if interrupted:
            return 130
        if not touched:
            return None
        os.write(2, _GONE.encode())
        return 1
