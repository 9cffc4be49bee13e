"""How answers look: names that cannot steer a terminal, lines, JSON documents, the progress bar.

stdout carries data, stderr everything for people. A file name never reaches a terminal unescaped and never
passes through markup. Imports are light: `pixseek --help` goes through here.
"""

from __future__ import annotations

import base64
import dataclasses
import errno
import json
import os
import sys
import unicodedata
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rich.progress import Task
    from rich.text import Text

# Characters that move, hide or reorder what stands around them: controls, bidi, line and paragraph ends,
# zero-width and other format characters, private use, unassigned.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_SHORT = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}
# Joiners are part of words in Persian and of many emoji; they neither move nor reorder a line.
_JOINERS = frozenset("\u200c\u200d")

OUTPUT_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG})


class OutputClosed(Exception):
    """Whoever reads stdout went away (`| head -1`): nothing is left to say."""


class OutputFailed(Exception):
    """stdout could not be written (a full disk behind a redirection)."""


def standard_input() -> IO[bytes] | None:
    """Return what `-` reads from; None where whoever started the program closed it."""
    return sys.stdin.buffer if sys.stdin else None


# --- names


def visible(name: bytes | str) -> str:
    """Return a name as one line that shows every character and steers nothing.

    Controls, bidi marks and undecodable bytes become `\\n`, `\\x1b`, `\\u202e`, `\\xff`.
    """
    text = path_text(name) if isinstance(name, bytes) else name
    if text.isascii() and text.isprintable():
        return text
    return "".join(_visible_character(character) for character in text)


def _visible_character(character: str) -> str:
    if character in _SHORT:
        return _SHORT[character]
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # an undecodable byte
        return f"\\x{code - 0xDC00:02x}"
    if unicodedata.category(character) not in _HIDDEN or character in _JOINERS:
        return character
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def one_line(name: bytes) -> bytes:
    """Return the bytes of a name, controls written as `\\n`, `\\x1b`: one name stays one line in a pipe."""
    if not any(byte < 0x20 or byte == 0x7F for byte in name):
        return name
    return b"".join(
        _visible_character(chr(byte)).encode() if byte < 0x20 or byte == 0x7F else bytes([byte])
        for byte in name
    )


def path_text(path: bytes) -> str:
    """Return a path as text; undecodable bytes become lone surrogates, which JSON escapes."""
    return path.decode("utf-8", "surrogateescape")


# --- stdout


def write(data: bytes) -> None:
    """Write data to stdout.

    Raises:
        OutputClosed: the reader went away.
        OutputFailed: the disk behind it is full or failing.
    """
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError as error:
        drop_stdout()
        if error.errno in (errno.EPIPE, errno.ESHUTDOWN):
            raise OutputClosed from None
        raise OutputFailed(f"cannot write the answer: {os.strerror(error.errno or 0)}") from None


def drop_stdout() -> None:
    """Send what is still buffered nowhere: at exit it would fail again, with a traceback."""
    try:
        with Path(os.devnull).open("wb") as null:
            os.dup2(null.fileno(), sys.stdout.fileno())
    except (OSError, ValueError):
        pass


def line(text: str) -> None:
    """Write one line of text to stdout."""
    write(text.encode("utf-8", "surrogateescape") + b"\n")


def table(rows: Sequence[Sequence[str]], *, right: Collection[int] = ()) -> None:
    """Write rows in columns, the first one a heading; the columns in `right` are set flush right."""
    widths = [max(map(_cells, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        padded = (
            " " * (width - _cells(text)) + text if i in right else text + " " * (width - _cells(text))
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        line("  ".join(padded).rstrip())


def _cells(text: str) -> int:
    """Return how many columns a terminal gives a text: two for a Chinese character."""
    from rich.cells import cell_len

    return cell_len(text)


def document(value: object) -> None:
    """Write one JSON document to stdout: ASCII, so that every name and every locale survives."""
    write(json.dumps(jsonable(value), ensure_ascii=True, allow_nan=False, indent=2).encode() + b"\n")


def jsonable(value: Any) -> Any:
    """Return dataclasses as objects, paths as text; a path that is not valid UTF-8 also gets a `path_b64`."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return jsonable({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    if isinstance(value, dict):
        members = {str(key): jsonable(member) for key, member in value.items()}
        for key, member in value.items():
            if isinstance(member, bytes) and not is_utf8(member):
                members[f"{key}_b64"] = base64.b64encode(member).decode("ascii")
        return members
    if isinstance(value, (list, tuple, set, frozenset)):
        return [jsonable(member) for member in value]
    if isinstance(value, bytes):
        return path_text(value)
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return os.fsdecode(value) if isinstance(value, os.PathLike) else str(value)


def is_utf8(data: bytes) -> bool:
    """Return whether a name is text."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def name_for_stdout(path: bytes) -> bytes:
    """Return a path as one line: escaped for a terminal, else its bytes with controls escaped."""
    return visible(path).encode() if sys.stdout.isatty() else one_line(path)


def clock(timestamp_ms: int) -> str:
    """Return 1:02:03 or 2:03."""
    hours, rest = divmod(timestamp_ms // 1000, 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def size(size_bytes: int) -> str:
    """Return 512 B, 1.2 MB, 3.4 GB."""
    amount = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if amount < 1000 or unit == "TB":
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    raise AssertionError


def count(number: int, one: str, many: str | None = None) -> str:
    """Return `1 file`, `2 files`, `60,000 files`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


# --- stderr


def note(text: str) -> None:
    """Write one line for a person to stderr. A name in it is made visible; a closed stderr is no error."""
    _say("pixseek: " + visible(text))


def quoted(text: str) -> None:
    """Write one line to stderr that belongs to the note before it, indented."""
    _say("    " + visible(text))


def _say(text: str) -> None:
    try:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
    except (OSError, ValueError, UnicodeEncodeError):
        pass


class Count(Protocol):
    """The part of `indexer.Progress` that the bar needs."""

    @property
    def total(self) -> int: ...
    @property
    def done(self) -> int: ...
    @property
    def scanning(self) -> bool: ...


class Bar(Protocol):
    def __call__(self, progress: Any, /) -> None: ...


@contextmanager
def progress_bar(*, quiet: bool) -> Iterator[Bar]:
    """Return a callable that draws one bar on stderr: done of total, rate, time left.

    The total grows while folders are still being read. Nothing is drawn when `quiet`, nor when stderr is no
    terminal, but for a line when lists are begun. It is still seen inside `libraries_muted`.
    """
    if quiet:
        yield lambda progress: None
        return
    if not sys.stderr.isatty():
        yield _lists_noted(note)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            rate = task.finished_speed or task.speed
            return Text(f"{rate:.1f}/s" if rate else "")

    class Left(ProgressColumn):
        def render(self, task: Task) -> Text:
            if task.fields["scanning"]:
                return Text("still reading folders")
            left = task.time_remaining
            return Text(f"{clock(int(left * 1000))} left" if left is not None else "")

    stream = os.fdopen(os.dup(2), "w", encoding=sys.stderr.encoding, errors="replace")
    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    columns = (BarColumn(), TextColumn("{task.completed:.0f} of {task.total:.0f}"), Rate(), Left())
    with stream, Progress(*columns, console=console, transient=True, refresh_per_second=5) as bar:
        task = bar.add_task("", total=0, scanning=True)
        note_lists = _lists_noted(lambda text: console.print("pixseek: " + text))

        def show(progress: Count) -> None:
            note_lists(progress)
            bar.update(task, total=progress.total, completed=progress.done, scanning=progress.scanning)

        yield show


def _lists_noted(say: Callable[[str], object]) -> Callable[[Count], None]:
    """Return what says once that lists are being made: minutes in which no picture is counted."""
    said = False

    def look(progress: Count) -> None:
        nonlocal said
        listing = getattr(progress, "listing", 0)  # indexing makes lists, judging and learning do not
        if listing and not said:
            said = True
            say(
                f"making lists for fast questions over {count(listing, 'frame')}; "
                "Ctrl-C keeps all that was indexed"
            )

    return look


class Work(Protocol):
    """The part of `training.pretraining.progress.Stage` that the bar needs; total 0: not known."""

    @property
    def what(self) -> str: ...
    @property
    def done(self) -> int: ...
    @property
    def total(self) -> int: ...
    @property
    def loss(self) -> float | None: ...


@contextmanager
def work_bar(*, quiet: bool) -> Iterator[Bar]:
    """Return a callable that draws what a long piece of work is at: name, done of total, loss, time left.

    Nothing is drawn when `quiet`, nor when stderr is no terminal.
    """
    if quiet or not sys.stderr.isatty():
        yield lambda work: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn
    from rich.text import Text

    class State(ProgressColumn):
        def render(self, task: Task) -> Text:
            left = task.time_remaining if task.total else None
            parts = [f"{task.completed:,.0f}" + (f" of {task.total:,.0f}" if task.total else "")]
            if task.fields.get("loss") is not None:
                parts.append(f"loss {task.fields['loss']:.3f}")
            if left is not None:
                parts.append(f"{clock(int(left * 1000))} left")
            return Text(", ".join(parts))

    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=20), State())
    with Progress(*columns, console=console, transient=True, refresh_per_second=5) as bar:
        task, what = bar.add_task("", total=None), ""

        def show(work: Work) -> None:
            nonlocal what
            total = work.total or None
            if work.what != what:  # begun, or gone on with: what was done before says nothing of the speed
                what = work.what
                bar.reset(task, total=total, completed=max(0, work.done - 1), description=what)
            bar.update(task, total=total, completed=work.done, loss=work.loss)

        yield show


@contextmanager
def libraries_muted() -> Iterator[None]:
    """What C libraries print about a broken picture stays away: the person gets one line of ours."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def restore() -> None:
    """Give the terminal back as it was (the bar hides the cursor); for the way out that runs no `finally`."""
    try:
        if os.isatty(2):
            os.write(2, b"\r\x1b[K\x1b[?25h")
    except OSError:
        pass
