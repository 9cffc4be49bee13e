"""The indexer's branch of the error tree (root: `encoders.errors`).

IndexingError (PixseekError)
  IndexMissingError      10  no index in that folder
  IndexLockedError       11  another process is writing it
  IndexDamagedError      13  its content is not what was written
  IndexNewerError        13  written by a newer version of pixseek
  IndexStorageError      14  the disk under it is full, read-only, failing or gone

A file of the person's that cannot be read is never an exception here: it is a `Failure` in the report.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from encoders import PixseekError


class IndexingError(PixseekError):
    """The index cannot be used."""


class IndexMissingError(IndexingError):
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        super().__init__(f"no index at {folder}; make one with: pixseek index FOLDER")


class IndexLockedError(IndexingError):
    def __init__(self, folder: Path, holder: str) -> None:
        self.folder, self.holder = folder, holder
        super().__init__(f"index {folder} is being updated by {holder}; wait for it, or use --wait")


class IndexDamagedError(IndexingError):
    def __init__(self, folder: Path, what: str) -> None:
        self.folder, self.what = folder, what
        super().__init__(f"index {folder} is damaged: {what}; run: pixseek repair --index {folder}")


class IndexNewerError(IndexingError):
    def __init__(self, folder: Path, version: int, known: int) -> None:
        self.folder, self.version, self.known = folder, version, known
        super().__init__(
            f"index {folder} was made by a newer version of pixseek (format {version}, this one reads up to "
            f"{known}); update pixseek"
        )


class IndexStorageError(IndexingError):
    def __init__(self, folder: Path, why: str) -> None:
        self.folder, self.why = folder, why
        super().__init__(
            f"index storage failed at {folder}: {why}; everything committed is safe: "
            "mend that and run the same command again"
        )


_STORAGE_ERRNOS = {
    errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO, errno.EACCES, errno.EPERM, errno.EFBIG,
    errno.EMFILE, errno.ENFILE, errno.ENOTDIR, errno.EEXIST, errno.ENOENT, errno.ESTALE,
}  # fmt: skip
_SQLITE_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT}
_SQLITE_WORDS = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_READONLY: "it is read-only",
    sqlite3.SQLITE_IOERR: "the disk reports an I/O error",
    sqlite3.SQLITE_CANTOPEN: "the catalog cannot be opened",
    sqlite3.SQLITE_PERM: "permission denied",
}


@contextmanager
def storage_errors(folder: Path) -> Iterator[None]:
    """Translate what the disk and SQLite raise about *our* files into the tree above."""
    try:
        yield
    except DBAPIError as error:
        original = error.orig
        if not isinstance(original, sqlite3.Error):
            raise
        raise _from_sqlite(folder, original) from error
    except sqlite3.Error as error:
        raise _from_sqlite(folder, error) from error
    except UnicodeDecodeError as error:  # SQLite quotes a schema with changed bits in its message
        raise IndexDamagedError(folder, "catalog.sqlite: its schema has changed bits") from error
    except OSError as error:
        if error.errno in _STORAGE_ERRNOS:
            raise IndexStorageError(folder, os.strerror(error.errno or 0).lower()) from error
        raise


def _from_sqlite(folder: Path, error: sqlite3.Error) -> Exception:
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:  # raised by the driver about a value it cannot make sense of
        return IndexDamagedError(folder, f"catalog.sqlite: {error}")
    primary = code & 0xFF
    if primary in _SQLITE_DAMAGE:
        return IndexDamagedError(folder, f"catalog.sqlite: {error}")
    if primary in _SQLITE_WORDS:
        return IndexStorageError(folder, f"{_SQLITE_WORDS[primary]} ({error})")
    if primary == sqlite3.SQLITE_BUSY:
        return IndexLockedError(folder, "another process")
    if primary in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH):
        # The schema is ours and the statements are tested: a missing table or an unmet constraint is damage.
        return IndexDamagedError(folder, f"catalog.sqlite: {error}")
    return error
