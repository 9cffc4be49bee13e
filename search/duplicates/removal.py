"""`remove_duplicates`: the one place that moves or replaces a person's files, one whole step at a time.

Before each step both files are looked at again: the kept one must be there and have the bytes it was indexed
with, and so must the other one. Whatever stops the run, every content is still there at least once.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Literal, TypeAlias

from search.duplicates import trash

if TYPE_CHECKING:
    from indexer import FileCopy
    from search.duplicates.finding import DuplicateGroup

How: TypeAlias = Literal["trash", "hardlink"]

JOURNAL_NAME: Final = "removed.jsonl"
_SIDECARS: Final = (b".xmp", b".txt", b".json", b".supplemental-metadata.json")
_PICTURE_LIKE: Final = frozenset({b".mov", b".mp4", b".avi", b".m4v", b".3gp"})


@dataclass(frozen=True, slots=True)
class RemovalStep:
    """What became of one file.

    Attributes:
        done: it was moved or replaced; `why` says why not.
        went_to: where it lies in the trash.
        sidecars: files beside it that went along.
    """

    path: bytes
    keeper: bytes
    how: How
    done: bool
    size_bytes: int
    why: str | None = None
    went_to: bytes | None = None
    sidecars: tuple[bytes, ...] = ()


class _Skip(Exception):
    """This file stays; the message says why."""


def remove_duplicates(
    index_dir: Path,
    groups: Iterable[DuplicateGroup],
    how: How,
    *,
    home_trash: bytes,
    on_step: Callable[[RemovalStep], None] | None = None,
    stop: threading.Event | None = None,
) -> list[RemovalStep]:
    """Move what is removable to the trash, or make exact copies hard links of the kept file.

    Holds the writer's lock meanwhile, forgets what is gone, and writes `removed.jsonl` in the index folder:
    a line before each step and one after it.

    Args:
        home_trash: see `trash.to_trash`.
        on_step: told each step.
        stop: when set, no further step is begun.
    Raises:
        IndexLockedError, IndexStorageError: nothing was done, or all steps told so far.
    """
    from indexer import FileChanges

    steps: list[RemovalStep] = []
    with FileChanges(index_dir) as changes, _journal(index_dir, how) as journal:
        for group in groups:
            kept: os.stat_result | None = None
            for member in group.removable:
                if stop is not None and stop.is_set():
                    return steps
                if how == "hardlink" and member.relation != "exact":
                    continue
                file = member.file
                try:
                    kept = _unchanged(group.keeper, kept, "the file to keep")
                    found = _unchanged(file, None, "it")
                    if (kept.st_dev, kept.st_ino) == (found.st_dev, found.st_ino):
                        raise _Skip("it is the kept file itself, under another name")
                    if how == "trash":
                        step = _trash(file, group.keeper, home_trash, journal)
                        changes.forget(file.file_id)
                    else:
                        step = _link(file, group.keeper, kept, found, journal)
                        changes.relinked(file.path, file.content_hash)
                except (_Skip, OSError) as error:
                    why = _reason(error)
                    step = RemovalStep(file.path, group.keeper.path, how, False, file.size_bytes, why)
                steps.append(step)
                if on_step is not None:
                    on_step(step)
    return steps


def _unchanged(file: FileCopy, known: os.stat_result | None, what: str) -> os.stat_result:
    """Return the stat of a file that still is what was indexed.

    Args:
        known: of the same file, hashed earlier in this run; hashed again only when it has changed since.
    Raises:
        _Skip: it is not.
    """
    try:
        info = os.lstat(file.path)
        if not stat.S_ISREG(info.st_mode):
            raise _Skip(f"{what} is a link or no regular file")
        if known is not None and _identity(known) == _identity(info):
            return info
        if info.st_size != file.size_bytes:
            raise _Skip(f"{what} has changed since it was indexed")
        digest = hashlib.blake2b(digest_size=32)
        descriptor = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, "rb") as stream:
            while part := stream.read(1 << 20):
                digest.update(part)
            after = os.fstat(stream.fileno())
        if digest.digest() != file.content_hash or _identity(after) != _identity(info):
            raise _Skip(f"{what} has changed since it was indexed")
        return info
    except FileNotFoundError:
        raise _Skip(f"{what} is gone") from None
    except OSError as error:
        raise _Skip(f"{what} cannot be read: {os.strerror(error.errno or 0).lower()}") from None


def _identity(info: os.stat_result) -> tuple[int, ...]:
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        if isinstance(error, trash.NoTrashError):
            return error.strerror or "its file system has no trash"
        return f"cannot be moved: {os.strerror(error.errno or 0).lower()}"
    return str(error)


# -- trash


def _trash(file: FileCopy, keeper: FileCopy, home_trash: bytes, journal: _Journal) -> RemovalStep:
    beside = sidecars_of(file.path)
    journal.write(doing="trash", path=file.path, keeper=keeper.path)
    went_to = trash.to_trash(file.path, home_trash=home_trash)
    journal.done("trash", file.path, went_to)
    along = []
    for path in beside:
        try:
            lies = trash.to_trash(path, home_trash=home_trash)
        except OSError:
            continue  # left where it is: nothing is lost
        journal.done("trash", path, lies)
        along.append(path)
    return RemovalStep(
        file.path, keeper.path, "trash", True, file.size_bytes, went_to=went_to, sidecars=tuple(along)
    )


def sidecars_of(path: bytes) -> list[bytes]:
    """Return the files of words beside a picture that are about it and no other, by name.

    `a.jpg.xmp` is; `a.xmp` is unless another picture there is called `a`, too.
    """
    from indexer import IMAGE_SUFFIXES

    folder, name = os.path.split(path)
    try:
        names = set(os.listdir(folder))
    except OSError:
        return []
    stem = os.path.splitext(name)[0]
    others = {
        other
        for other in names
        if other != name
        and os.path.splitext(other)[0].lower() == stem.lower()
        and (
            os.path.splitext(other)[1].lower() in _PICTURE_LIKE
            or os.path.splitext(other)[1].lower().decode("latin-1") in IMAGE_SUFFIXES
        )
    }
    bases = [name] if others else [name, stem]
    wanted = {base + suffix for base in bases for suffix in _SIDECARS}
    found = sorted(
        other for other in names if other in wanted or other.lower() in {w.lower() for w in wanted}
    )
    return [os.path.join(folder, other) for other in found if other != name]


# -- hard links


def _link(
    file: FileCopy, keeper: FileCopy, kept: os.stat_result, found: os.stat_result, journal: _Journal
) -> RemovalStep:
    """Put a hard link of the kept file in the place of its copy: a new name, then one rename over the old."""
    if kept.st_dev != found.st_dev:
        raise _Skip("it is on another file system than the kept file")
    if (kept.st_mode, kept.st_uid, kept.st_gid) != (found.st_mode, found.st_uid, found.st_gid):
        raise _Skip("it has another owner or other permissions than the kept file")
    folder, name = os.path.split(file.path)
    passing = os.path.join(folder, b".pixseek-" + hashlib.blake2b(name, digest_size=8).hexdigest().encode())
    if os.path.lexists(passing):  # of a run that was killed between the two
        if os.lstat(passing).st_nlink < 2:
            raise _Skip(f"{os.fsdecode(passing)} stands in the way")
        os.unlink(passing)
    journal.write(doing="hardlink", path=file.path, keeper=keeper.path)
    try:
        os.link(keeper.path, passing, follow_symlinks=False)
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK):
            raise _Skip("its file system takes no (more) hard links") from None
        raise
    try:
        os.rename(passing, file.path)
    except OSError:
        os.unlink(passing)
        raise
    journal.done("hardlink", file.path, keeper.path)
    freed = file.size_bytes if found.st_nlink == 1 else 0
    return RemovalStep(file.path, keeper.path, "hardlink", True, freed)


# -- the journal


class _Journal:
    def __init__(self, stream: IO[str], run: str) -> None:
        self._stream, self._run = stream, run

    def write(self, **fields: str | bytes) -> None:
        """Write one line; it is on disk when this returns."""
        text = {key: os.fsdecode(value) for key, value in fields.items()}
        self._stream.write(json.dumps({"run": self._run, **text}) + "\n")
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def done(self, what: How, path: bytes, to: bytes) -> None:
        """Write that a step is done. A disk that is full by now does not make it undone."""
        with suppress(OSError):
            self.write(did=what, path=path, to=to)


@contextmanager
def _journal(index_dir: Path, what: str) -> Iterator[_Journal]:
    run = f"{datetime.now(UTC).isoformat(timespec='milliseconds')} {what}"
    with (index_dir / JOURNAL_NAME).open("a", encoding="ascii") as stream:
        yield _Journal(stream, run)


def undo_removal(index_dir: Path) -> list[RemovalStep]:
    """Put back what the last run moved to the trash, and return a step for each file.

    A step that is not done says why: it is no longer in the trash, or something stands in its place.
    A hard link needs no undoing: both names have the bytes they had.

    Raises:
        UsageError: nothing is left to put back.
        IndexLockedError, IndexStorageError.
    """
    from encoders import UsageError
    from indexer import FileChanges

    with FileChanges(index_dir):
        lines = _read_journal(index_dir)
        undone = {line["run"] for line in lines if "undone" in line}
        moves = [line for line in lines if line.get("did") == "trash" and line["run"] not in undone]
        if not moves:
            raise UsageError("nothing to undo: no file of this index was moved to the trash")
        run = moves[-1]["run"]
        steps = []
        for line in reversed([line for line in moves if line["run"] == run]):
            path, lies = os.fsencode(line["path"]), os.fsencode(line["to"])
            try:
                size = os.lstat(lies).st_size
                trash.restore(lies, path)
                steps.append(RemovalStep(path, b"", "trash", True, size, went_to=path))
            except OSError as error:
                steps.append(
                    RemovalStep(path, b"", "trash", False, 0, os.strerror(error.errno or 0).lower(), lies)
                )
        with (index_dir / JOURNAL_NAME).open("a", encoding="ascii") as stream:
            _Journal(stream, run).write(undone="trash")
    return steps[::-1]


def _read_journal(index_dir: Path) -> list[dict[str, Any]]:
    """Return the lines of the journal; one that was cut short is left out."""
    found = []
    try:
        text = (index_dir / JOURNAL_NAME).read_text("ascii", "replace")
    except FileNotFoundError:
        return []
    for line in text.splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("run"), str):
            found.append(row)
    return found
