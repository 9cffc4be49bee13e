"""A home with an index of the built-in encoder, asked with and without a resident helper."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import ROOT, draw

# The helper's answer or none: exit code 99 where the command would have to do it itself.
_BY_HELPER = (
    "import sys; from face.resident import client; "
    "code = client.ask(sys.argv[1:]); sys.stdout.flush(); client.leave(99 if code is None else code)"
)
NOT_ANSWERED = 99


@dataclass(frozen=True)
class Said:
    """What a command wrote, and how it ended."""

    code: int
    out: bytes
    err: bytes


class Home:
    """A person's folder; `ask` runs a command there."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.index, self.photos = folder, folder / "index", folder / "photos"
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "HF_HUB_OFFLINE": "1",
            "PYTHONPATH": str(ROOT),
            "PIXSEEK_INDEX": str(self.index),
            "XDG_RUNTIME_DIR": str(folder),
            "XDG_DATA_HOME": str(folder / "data"),
            "XDG_CACHE_HOME": str(folder / "cache"),
            "OMP_NUM_THREADS": "1",
        }
        self.socket = folder / "pixseek" / "helper.sock"
        self.server: subprocess.Popen[bytes] | None = None

    def command(self, *arguments: Any, by_helper: bool = False) -> list[Any]:
        how = ["-c", _BY_HELPER] if by_helper else [str(ROOT / "cli.py")]
        return [sys.executable, *how, *arguments]

    def ask(
        self,
        *arguments: Any,
        by_helper: bool = False,
        environ: dict[str, str] | None = None,
        given: bytes | None = b"",
        **options: Any,
    ) -> Said:
        """Return what a command says: by the helper alone, or without any."""
        wish = {} if by_helper else {"PIXSEEK_RESIDENT": "0"}
        done = subprocess.run(
            self.command(*arguments, by_helper=by_helper),
            env=self.environ | wish | (environ or {}),
            input=given,
            **{"cwd": self.folder, "timeout": 60, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            | options,
        )
        return Said(done.returncode, done.stdout or b"", done.stderr or b"")

    def ask_helper(self, *arguments: Any, **options: Any) -> Said:
        """Return what the helper says, asked again where it was busy."""
        said = self.ask(*arguments, by_helper=True, **options)
        for _ in range(20):
            if said.code != NOT_ANSWERED:
                break
            time.sleep(0.1)
            said = self.ask(*arguments, by_helper=True, **options)
        return said

    def ask_on_terminal(self, *arguments: Any, by_helper: bool, environ: dict[str, str]) -> Said:
        """Return what a person sees, on a terminal of 24 lines and 80 columns."""
        ours, theirs = pty.openpty()
        os.set_blocking(ours, True)
        wish = {} if by_helper else {"PIXSEEK_RESIDENT": "0"}
        process = subprocess.Popen(
            self.command(*arguments, by_helper=by_helper),
            env=self.environ | wish | environ, cwd=self.folder, stdin=theirs, stdout=theirs, stderr=theirs,
        )  # fmt: skip
        os.close(theirs)
        seen = b""
        while True:
            try:
                block = os.read(ours, 1 << 16)
            except OSError:  # Linux: nobody has the other end any more
                break
            if not block:
                break
            seen += block
        os.close(ours)
        return Said(process.wait(timeout=60), seen, b"")

    def start(self, *options: str, environ: dict[str, str] | None = None) -> None:
        """Start a helper, and return when a worker of it answers."""
        self.server = subprocess.Popen(
            self.command("serve", "--socket", *options),
            env=self.environ | (environ or {}), cwd=self.folder,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.await_answer()

    def await_answer(self) -> None:
        until(lambda: self.ask("search", "red", by_helper=True).code != NOT_ANSWERED, "no answer")

    def stop(self) -> None:
        if self.server is not None:
            self.server.terminate()
            self.server.wait(timeout=20)
            self.server = None

    def workers(self) -> list[int]:
        """Return the processes of the helper's workers."""
        assert self.server is not None
        listed = subprocess.run(
            ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
        ).stdout.split()
        pairs = zip(listed[::2], listed[1::2], strict=True)
        return [int(pid) for pid, parent in pairs if int(parent) == self.server.pid]


def make_home(folder: Path) -> Home:
    """Return a home with pictures of four colours in its index."""
    home = Home(folder)
    for color in ("red", "green", "blue", "yellow"):
        draw(home.photos / f"{color}.png", color)
    draw(os.fsencode(home.photos) + b"/odd \xff\x1b[2J.png", "red", mark=1)
    said = home.ask("index", home.photos, "--encoder", "builtin", "--quiet")
    assert said.code == 0, said.err
    return home


def until(holds: Any, what: str, seconds: float = 30.0) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, what
        time.sleep(0.05)
