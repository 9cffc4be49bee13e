"""`to_trash`: a file into the person's trash, where the desktop finds it, and where it lies then.

Not Send2Trash: it does not say where a file went, which `undo_removal` needs, and copies across file systems.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from datetime import datetime
from urllib.parse import quote


class NoTrashError(OSError):
    """There is no trash on the file system of a file, and none can be made."""


def to_trash(path: bytes, *, home_trash: bytes) -> bytes:
    """Move a file into the trash of its file system and return its new path. One rename: all or nothing.

    Args:
        path: absolute.
        home_trash: the trash of the home folder (`~/.local/share/Trash`, on macOS `~/.Trash`).
    Raises:
        NoTrashError: the file system has no trash.
        OSError: the file could not be moved; it is where it was.
    Source: freedesktop.org Trash Specification 1.0.
    """
    device = os.lstat(path).st_dev
    if sys.platform == "darwin":
        return _move_plainly(path, home_trash)
    if _device_of(home_trash) == device:
        return _move(path, home_trash, None)
    top = _mount_point(path)
    if os.lstat(top).st_dev != device:
        raise NoTrashError(errno.EXDEV, "its file system has no trash")
    return _move(path, _volume_trash(top), top)


def _move(path: bytes, trash: bytes, top: bytes | None) -> bytes:
    """Write the note first, then move: a stop between leaves a note without a file, which desktops ignore."""
    files, notes = os.path.join(trash, b"files"), os.path.join(trash, b"info")
    try:
        for folder in (files, notes):
            os.makedirs(folder, 0o700, exist_ok=True)
    except OSError as error:
        raise NoTrashError(error.errno, f"no trash can be made ({os.strerror(error.errno or 0)})") from error
    where = path if top is None else os.path.relpath(path, top)
    moment = datetime.now().strftime("%Y-%m-%dT%H:%M:%S")
    text = f"[Trash Info]\nPath={quote(where)}\nDeletionDate={moment}\n".encode()
    for name in _names(os.path.basename(path)):
        note, target = os.path.join(notes, name + b".trashinfo"), os.path.join(files, name)
        try:
            descriptor = os.open(note, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            continue
        try:
            with open(descriptor, "wb") as stream:
                stream.write(text)
            if os.path.lexists(target):  # without a note: not ours to replace
                os.unlink(note)
                continue
            os.rename(path, target)
        except OSError:
            os.unlink(note)
            raise
        return target
    raise OSError(errno.EEXIST, "no free name in the trash")


def _move_plainly(path: bytes, trash: bytes) -> bytes:
    if _device_of(trash) != os.lstat(path).st_dev:
        raise NoTrashError(errno.EXDEV, "its file system has no trash")
    os.makedirs(trash, 0o700, exist_ok=True)
    for name in _names(os.path.basename(path)):
        target = os.path.join(trash, name)
        if not os.path.lexists(target):
            os.rename(path, target)
            return target
    raise OSError(errno.EEXIST, "no free name in the trash")


def restore(trashed: bytes, path: bytes) -> None:
    """Move a file back from the trash; raises OSError when it is gone or something stands in its place."""
    if os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, "something stands in its place")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    os.rename(trashed, path)
    files, name = os.path.split(trashed)
    note = os.path.join(os.path.dirname(files), b"info", name + b".trashinfo")
    if os.path.basename(files) == b"files" and os.path.exists(note):
        os.unlink(note)


def _names(name: bytes) -> list[bytes]:
    """Return the name, then the name with a number before its suffix; cut to what a file system takes."""
    stem, suffix = os.path.splitext(name)
    stem, suffix = stem[: 255 - len(b".trashinfo") - len(suffix) - 6], suffix[:32]
    return [stem + suffix, *(b"%s %d%s" % (stem, number, suffix) for number in range(2, 10_000))]


def _device_of(folder: bytes) -> int | None:
    """Return the device a folder is on, or would be on once it is made."""
    while True:
        try:
            return os.stat(folder).st_dev
        except OSError:
            parent = os.path.dirname(folder)
            if parent == folder:
                return None
            folder = parent


def _mount_point(path: bytes) -> bytes:
    folder = os.path.realpath(os.path.dirname(path))
    while not os.path.ismount(folder):
        folder = os.path.dirname(folder)
    return folder


def _volume_trash(top: bytes) -> bytes:
    """Return the person's trash on a volume: in an administrator's `.Trash` when that is safe, else own."""
    shared, own = os.path.join(top, b".Trash"), b"%d" % os.getuid()
    try:
        info = os.lstat(shared)
        if stat.S_ISDIR(info.st_mode) and info.st_mode & stat.S_ISVTX:
            os.makedirs(os.path.join(shared, own), 0o700, exist_ok=True)
            return os.path.join(shared, own)
    except OSError:
        pass
    return os.path.join(top, b".Trash-" + own)
