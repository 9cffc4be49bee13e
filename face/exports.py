"""Hits taken elsewhere: copied or linked into a folder, or opened with the desktop's own programs."""

from __future__ import annotations

import contextlib
import errno
import filecmp
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from face import terminal

# A copy in progress; one that a killed run left is swept once it is this old, seconds.
_PREFIX, _SUFFIX, _STALE_S = b".pixseek-", b".part", 3600
# How long an opener may take to say that it cannot; a program that stays is the viewer itself.
_OPENER_S = 2.0
_NUMBERED_AT_MOST = 100_000
# What an error says about the target and not about one picture.
_TARGET_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG})


class Hit(Protocol):
    """The part of `search.Hit` that is needed here."""

    @property
    def path(self) -> bytes: ...


@dataclass(slots=True)
class Exported:
    """What one export did: files made, files that were there before, and the failures."""

    made: int = 0
    there: int = 0
    failed: list[tuple[bytes, str]] = field(default_factory=list)


def require_folder(folder: Path) -> None:
    """Make the folder where it is missing; before the search, so that a wrong name ends at once.

    Raises:
        UsageError: it cannot be made, or is a file.
    """
    from encoders import UsageError

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--export-to {folder}: {os.strerror(error.errno or 0)}") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"--export-to {folder}: no permission to write there")


def export_files(hits: Sequence[Hit], folder: Path, *, link: bool) -> Exported:
    """Copy (or link to) each file under its own name; nothing there is ever overwritten.

    A name that is taken by other content gets a number: `beach-2.jpg`. What lies there already with the same
    content is left alone, so a stopped export goes on where it was, and a second one makes nothing.

    Raises:
        OutputFailed: the disk is full, read-only or failing.
    """
    done = Exported()
    place = os.fsencode(folder)
    _sweep(place)
    for hit in hits:
        try:
            if not os.path.isfile(hit.path):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            made = _link(hit.path, place) if link else _copy(hit.path, place)
        except OSError as error:
            why = os.strerror(error.errno or 0)
            if error.errno in _TARGET_ERRNOS:
                raise terminal.OutputFailed(f"cannot write to {folder}: {why}") from None
            done.failed.append((hit.path, why))
        else:
            done.made += made
            done.there += not made
    return done


def _free_name(
    source: bytes, place: bytes, take: Callable[[bytes], bool], same: Callable[[bytes], bool]
) -> bool:
    """Try the file's own name, then numbered ones, until `take` succeeds (True) or `same` says that it lies
    there already (False)."""
    stem, suffix = os.path.splitext(os.path.basename(source))
    for number in range(1, _NUMBERED_AT_MOST):
        name = stem + (b"-%d" % number if number > 1 else b"") + suffix
        target = os.path.join(place, name)
        if os.path.lexists(target):
            if same(target):
                return False
        elif take(target):
            return True
    raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))


def _link(source: bytes, place: bytes) -> bool:
    def take(target: bytes) -> bool:
        try:
            os.symlink(source, target)
        except FileExistsError:  # by another process, a moment ago
            return False
        return True

    def same(target: bytes) -> bool:
        return os.path.exists(target) and os.path.samefile(source, target)

    return _free_name(source, place, take, same)


def _copy(source: bytes, place: bytes) -> bool:
    def take(target: bytes) -> bool:
        descriptor, part = tempfile.mkstemp(prefix=_PREFIX, suffix=_SUFFIX, dir=place)
        try:
            with open(descriptor, "wb") as file, open(source, "rb") as original:
                shutil.copyfileobj(original, file, 1 << 20)
                file.flush()
                times = os.fstat(original.fileno())
                os.fchmod(file.fileno(), times.st_mode & 0o777 | 0o200)
            os.utime(part, ns=(times.st_atime_ns, times.st_mtime_ns))
            return _rename_new(part, target)
        finally:
            if os.path.lexists(part):
                os.unlink(part)

    def same(target: bytes) -> bool:
        return os.path.isfile(target) and filecmp.cmp(source, target, shallow=False)

    return _free_name(source, place, take, same)


def _rename_new(part: bytes, target: bytes) -> bool:
    """Give a file its name unless that is taken, also by another process a moment ago."""
    try:
        os.link(part, target)
    except FileExistsError:
        return False
    except OSError:  # FAT and some network disks have no hard links
        if os.path.lexists(target):
            return False
        os.rename(part, target)
    return True


def _sweep(place: bytes) -> None:
    """Remove what killed runs left; as far as that is possible."""
    with contextlib.suppress(OSError), os.scandir(place) as entries:
        for entry in entries:
            if entry.name.startswith(_PREFIX) and entry.name.endswith(_SUFFIX):
                with contextlib.suppress(OSError):
                    if time.time() - entry.stat(follow_symlinks=False).st_mtime > _STALE_S:
                        os.unlink(entry.path)


def open_with_desktop(target: str) -> None:
    """Open a file or an address with the program that the desktop has for it.

    Raises:
        UsageError: there is no such program, or it failed.
    """
    from encoders import UsageError

    if sys.platform == "win32":
        os.startfile(target)
        return
    opener = "open" if sys.platform == "darwin" else "xdg-open"
    if shutil.which(opener) is None:
        raise UsageError(
            f"--open found no {opener} on this machine (package xdg-utils); use --preview or --contact-sheet"
        )
    process = subprocess.Popen(
        [opener, target],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C in this terminal does not close the viewer
    )
    try:
        code = process.wait(_OPENER_S)
    except subprocess.TimeoutExpired:
        process.returncode = 0  # it stays when we are gone, and nobody waits for it
        return
    if code:
        raise UsageError(f"--open: {opener} could not open {terminal.visible(target)} (code {code})")
