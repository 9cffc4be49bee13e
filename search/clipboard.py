"""The picture in the clipboard, where there is a clipboard: what was copied, or the file that was.

On Linux `wl-paste` or `xclip` is asked; both wait for the program that owns the clipboard, which may hang,
and hand on whatever it sends. So there is a clock, and an end to what is read. macOS and Windows go through
Pillow.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from urllib.parse import unquote_to_bytes, urlsplit

from encoders import UsageError

TIMEOUT_S = 5.0
MAX_BYTES = 256 * 1024 * 1024
"""An uncompressed 64-megapixel screenshot has this size."""

_NO_PICTURE = "the clipboard holds no picture; copy one, or give a file"
# The first one that is offered is taken. PNG loses nothing and keeps alpha.
_TYPES = ("image/png", "image/webp", "image/avif", "image/jpeg", "image/tiff", "image/bmp", "image/gif")
_FILES = ("x-special/gnome-copied-files", "text/uri-list")
# (program, how to list types, how to read one)
_READERS: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("wl-paste", ("--list-types",), ("--no-newline", "--type")),
    ("xclip", ("-selection", "clipboard", "-o", "-t", "TARGETS"), ("-selection", "clipboard", "-o", "-t")),
)


def clipboard_picture() -> bytes | str:
    """Return the bytes of a copied picture, or the path of a copied file.

    Raises:
        UsageError: no clipboard can be reached, it holds no picture, or several files.
    """
    if sys.platform in ("darwin", "win32"):
        return _through_pillow()
    installed = [reader for reader in _READERS if shutil.which(reader[0])]
    if not installed:
        raise UsageError(
            "the clipboard cannot be read here: it needs wl-paste (package wl-clipboard) or xclip; "
            "or give a file"
        )
    reached = False
    for program, listing, reading in installed:
        offered = _run([program, *listing])
        if offered is None:
            continue
        reached = True
        types = offered.decode("utf-8", "replace").split()
        for kind in _TYPES:
            if kind in types and (data := _run([program, *reading, kind])):
                return data
        for kind in _FILES:
            if kind in types and (data := _run([program, *reading, kind])):
                return _only_file(data.splitlines())
    if not reached:
        raise UsageError("the clipboard cannot be read: no desktop answers; give a file")
    raise UsageError(_NO_PICTURE)


def _run(command: Sequence[str]) -> bytes | None:
    """Return what a program prints, None when it fails. Raises UsageError past either limit."""
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
    except OSError:
        return None
    late = threading.Event()

    def end() -> None:
        late.set()
        process.kill()

    clock = threading.Timer(TIMEOUT_S, end)
    clock.start()
    try:
        assert process.stdout is not None
        with process.stdout:
            data = process.stdout.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise UsageError(f"the clipboard holds more than {MAX_BYTES // 1024**2} MB; give a file")
        code = process.wait()
    finally:
        clock.cancel()
        process.kill()
        process.wait()
    if late.is_set():
        raise UsageError(f"the clipboard did not answer within {TIMEOUT_S:.0f} s; give a file")
    return data if code == 0 else None


def _only_file(lines: Sequence[bytes]) -> str:
    """Return the one local path of a list of file addresses."""
    addresses = [line.strip() for line in lines]
    # GNOME's list begins with what was done ("copy", "cut"); # begins a comment (RFC 2483).
    addresses = [line for line in addresses if line.lower().startswith(b"file:")]
    if not addresses:
        raise UsageError(_NO_PICTURE)
    if len(addresses) > 1:
        raise UsageError(f"the clipboard holds {len(addresses)} files; copy one, or name them")
    return os.fsdecode(unquote_to_bytes(urlsplit(addresses[0].decode("utf-8", "surrogateescape")).path))


def _through_pillow() -> bytes | str:
    from PIL import ImageGrab

    try:
        held = ImageGrab.grabclipboard()
    except Exception as error:  # osascript, or a format that Pillow does not know
        raise UsageError(f"the clipboard cannot be read: {error}; give a file") from None
    if held is None:
        raise UsageError(_NO_PICTURE)
    if isinstance(held, list):
        if len(held) != 1:
            raise UsageError(f"the clipboard holds {len(held)} files; copy one, or name them")
        return held[0]
    file = io.BytesIO()
    held.save(file, "PNG", compress_level=1)
    return file.getvalue()
