"""What a question needs open: the index, its encoder, the searcher; here they may stay open.

A command opens them for one question and closes them. In a worker of the resident helper (`keep`) they
stay, and a question gets them again only when a process that begins now would see the very same: the same
folder by name, place and inode; every file in it with the same inode, size and times, and the same head of
SQLite's log and of its index, which every commit changes; and an encoder that loads with the same fingerprint
from the same files. Anything else is opened anew, with the errors and warnings that belong to it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from encoders import Encoder
    from indexer import Index
    from search import Searcher

Sight: TypeAlias = tuple[object, ...]
# Of catalog.sqlite-wal: the header with its salts. Of -shm: one copy of the index's header, which counts
# commits. Source: https://www.sqlite.org/walformat.html, sections 2.1 and 2.2.
_HEADS = {"catalog.sqlite-wal": 32, "catalog.sqlite-shm": 48}


class Kept:
    """What one worker holds: one index at a time, one encoder, one searcher of the two."""

    def __init__(self) -> None:
        self._index: tuple[Sight, Index] | None = None
        self._encoder: tuple[Sight, Encoder] | None = None
        self._searcher: tuple[Index, Encoder, Path, Searcher] | None = None

    def index(self, folder: Path, *, remember: bool, exact: bool) -> Index:
        """Return the index in a folder as it is now. Raises what `Index.open` raises."""
        from indexer import Index

        before = sight_of(folder)
        if self._index is not None and before is not None and self._index[0] == (remember, exact, *before):
            return self._index[1]
        self.forget_index()
        opened = Index.open(folder, remember=remember, exact=exact)
        # Opening may make the files of the log. What was written meanwhile is read by `refresh`.
        after = sight_of(folder)
        if after is not None:
            opened.refresh()
            self._index = (remember, exact, *after), opened
        return opened

    def forget_index(self) -> None:
        """Close what is open; the next question opens it anew."""
        if self._index is not None:
            self._index[1].close()
        self._index = self._searcher = None

    def encoder(self, loaded: Encoder) -> Encoder:
        """Return an encoder in the place of one just loaded: the one from before, where it is the same."""
        sight = _sight_of_encoder(loaded)
        if self._encoder is None or self._encoder[0] != sight:
            self._encoder, self._searcher = (sight, loaded), None
        return self._encoder[1]

    def searcher(self, opened: Index, encoder: Encoder, cache_dir: Path) -> Searcher:
        """Return the searcher of the two. Raises what `Searcher` raises."""
        from search import Searcher

        known = self._searcher
        if known is not None and known[0] is opened and known[1] is encoder and known[2] == cache_dir:
            return known[3]
        made = Searcher(opened, encoder, cache_dir=cache_dir)
        self._searcher = opened, encoder, cache_dir, made
        return made


_kept: Kept | None = None


def keep() -> Kept:
    """Let what is opened from now on stay open, in this process; return what holds it."""
    global _kept
    _kept = _kept or Kept()
    return _kept


def keeps() -> bool:
    """Return whether what is opened in this process stays open."""
    return _kept is not None


@contextmanager
def opened_index(folder: Path, *, remember: bool, exact: bool) -> Iterator[Index]:
    """Give an index for one question. Takes and raises what `Index.open` does."""
    from indexer import Index

    if _kept is None:
        with Index.open(folder, remember=remember, exact=exact) as opened:
            yield opened
        return
    opened = _kept.index(folder, remember=remember, exact=exact)
    try:
        yield opened
    except BaseException:
        _kept.forget_index()
        raise
    opened.keep_asked()
    if opened.warnings:  # they belong to this question; another one has its own
        _kept.forget_index()


def searcher_of(opened: Index, loaded: Encoder, cache_dir: Path) -> tuple[Searcher, Encoder]:
    """Return what answers questions about an index, and the encoder it does it with.

    Raises:
        EncoderMismatchError: the index was made with another encoder.
    """
    from search import Searcher

    if _kept is None:
        return Searcher(opened, loaded, cache_dir=cache_dir), loaded
    encoder = _kept.encoder(loaded)
    return _kept.searcher(opened, encoder, cache_dir), encoder


def sight_of(folder: Path) -> Sight | None:
    """Return what is equal for as long as nobody writes to an index; None: that cannot be known.

    Readers, too, change the times of SQLite's -shm, and (as root) the ctime of its -wal, and keep what was
    asked (`indexer.asked`): those have no say.
    """
    seen: list[object] = []
    try:
        place = os.stat(folder)
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.name == "lock" or entry.name.startswith("asked-"):
                    continue
                info = entry.stat(follow_symlinks=True)
                written = (info.st_size, info.st_mtime_ns, info.st_ctime_ns)
                known = {"catalog.sqlite-shm": 0, "catalog.sqlite-wal": 2}.get(entry.name, 3)
                seen.append((entry.name, info.st_dev, info.st_ino, *written[:known]))
        for name, length in _HEADS.items():
            try:
                with open(folder / name, "rb", buffering=0) as file:
                    seen.append(file.read(length))
            except FileNotFoundError:
                seen.append(None)
    except OSError:
        return None
    return (str(folder), os.path.abspath(folder), place.st_dev, place.st_ino, *seen)


def _sight_of_encoder(loaded: Encoder) -> Sight:
    """Return what is the same for two encoders that answer alike, and fail alike."""
    from encoders import builtin_folder

    folder = builtin_folder(loaded.spec)
    files: tuple[object, ...] = ()
    if folder is not None:  # its files are read, and compared with their sha256, when they are first needed
        files = tuple(
            (entry.name, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)
            for entry in sorted(os.scandir(folder), key=lambda entry: entry.name)
            for info in (entry.stat(),)
        )
    return type(loaded), loaded.spec, loaded.fingerprint, getattr(loaded, "notice", None), files
