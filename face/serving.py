"""The command that stays: `serve`, a resident helper that makes `search` and `similar` answer at once."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from face import terminal
from face.choices import AsJson
from face.resident import protocol

IDLE_S = 900


def serve(
    path: Annotated[
        str | None,
        typer.Argument(metavar="[PATH]", help="Where to listen, for --socket.", show_default=False),
    ] = None,
    on_socket: Annotated[
        bool, typer.Option("--socket", help="Help this person's pixseek search and similar.")
    ] = False,
    idle: Annotated[
        float, typer.Option("--idle", metavar="SECONDS", min=0, help="End after so long unasked; 0: never.")
    ] = IDLE_S,
    state: Annotated[bool, typer.Option("--status", help="Say whether a helper is there.")] = False,
    end: Annotated[bool, typer.Option("--stop", help="End the helper that is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Stay, keep the index and the encoder open, and answer pixseek search and similar at once."""
    from encoders import UsageError
    from face.resident.server import HelperBusyError, Server, running, stop

    place = os.path.abspath(path or protocol.socket_path())
    if state:
        pid = running(place)
        if as_json:
            terminal.document({"running": pid is not None, "pid": pid, "socket": place})
        else:
            terminal.line(f"process {pid} at {terminal.visible(place)}" if pid else "no helper is there")
        return
    if end:
        terminal.note("stopped" if stop(place) else "no helper is there")
        return
    if not on_socket:
        raise UsageError("say what to serve: pixseek serve --socket")
    if len(os.fsencode(place)) > 100:  # sun_path of a Unix address, less what macOS has
        raise UsageError(f"{place} is too long for a socket; give another: pixseek serve --socket PATH")
    try:
        server = Server(place, idle_s=idle)
    except HelperBusyError as error:
        raise UsageError(f"{error}; end it with: pixseek serve --stop") from None
    except OSError as error:
        why = os.strerror(error.errno or 0) if error.errno else str(error)
        raise UsageError(
            f"cannot listen at {place}: {why}; give another place: pixseek serve --socket PATH"
        ) from None
    terminal.note(
        f"answering at {place}" + (f" until nothing was asked for {idle:g} s" if idle else "")
        + "; Ctrl-C or pixseek serve --stop ends it"
    )  # fmt: skip
    server.run()
