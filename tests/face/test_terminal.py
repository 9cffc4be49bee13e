"""What people are told on stderr while something long is done."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from face import terminal
from indexer import Progress

_SCRIPT = """
from face import terminal
from indexer import Progress
with terminal.progress_bar(quiet=False) as show:
    show(Progress(9, 9, 9, 0, 0, False))
    show(Progress(9, 9, 9, 0, 0, False, 1_234_567))
    show(Progress(9, 9, 9, 0, 0, False, 1_234_567))
"""
_LINE = "pixseek: making lists for fast questions over 1,234,567 frames; Ctrl-C keeps all that was indexed"


@pytest.mark.parametrize("quiet", [False, True])
def test_long_work_after_the_last_picture_is_told_once(quiet: bool, capsys: pytest.CaptureFixture[str]):
    with terminal.progress_bar(quiet=quiet) as show:
        show(Progress(9, 9, 9, 0, 0, False))
        assert capsys.readouterr().err == ""
        show(Progress(9, 9, 9, 0, 0, False, 1_234_567))
        show(Progress(9, 9, 9, 0, 0, False, 1_234_567))
    assert capsys.readouterr().err == ("" if quiet else _LINE + "\n")


def test_on_a_terminal_the_line_stands_above_the_bar():
    ours, theirs = pty.openpty()
    environ = {**os.environ, "TERM": "xterm", "COLUMNS": "200", "PYTHONPATH": str(Path.cwd())}
    process = subprocess.Popen([sys.executable, "-c", _SCRIPT], stderr=theirs, stdin=theirs, env=environ)
    os.close(theirs)
    seen = bytearray()

    def read() -> None:
        try:
            while data := os.read(ours, 4096):
                seen.extend(data)
        except OSError:  # the other end is closed
            pass

    reader = threading.Thread(target=read)
    reader.start()
    assert process.wait(60) == 0
    reader.join(60)
    os.close(ours)
    text = seen.decode()
    assert text.count(_LINE) == 1, text
    assert _LINE in [line.split("\x1b[2K")[-1].strip("\r") for line in text.split("\n")], text
