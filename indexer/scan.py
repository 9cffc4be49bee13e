"""A streaming walk over the person's folders: candidates as they are met, problems instead of exceptions.

Nothing is opened here, only listed and stat-ed. Directories reached by symbolic link are not followed; a
symbolic link to a file is followed once, unless the walk meets its target anyway.
"""

from __future__ import annotations

import os
import stat as stat_module
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from indexer.images import IMAGE_SUFFIXES

SKIPPED_FOLDERS = frozenset(
    {b"@eaDir", b"#recycle", b"#snapshot", b"$RECYCLE.BIN", b"System Volume Information", b"lost+found"}
)
"""Folders that systems fill with thumbnails and rubbish; folders starting with a dot are skipped too."""
SKIPPED_PREFIXES = (b"._", b".trashed-", b".pending-")
"""macOS resource forks, Android's bin and unfinished downloads: not the person's pictures."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file whose name says that it is a picture. `stat` is None when even that failed (see `trouble`)."""

    path: bytes
    stat: os.stat_result | None
    trouble: str | None = None


@dataclass(frozen=True, slots=True)
class FolderProblem:
    """A folder that could not be read: what is known below it must not be taken for deleted."""

    path: bytes
    reason: str


def is_candidate_name(name: bytes) -> bool:
    """Return whether a file of this name is looked at. Cheap: a million calls a second."""
    if name.startswith(SKIPPED_PREFIXES):
        return False
    dot = name.rfind(b".")
    return dot >= 0 and name[dot:].lower().decode("latin-1") in IMAGE_SUFFIXES


def kind_of(mode: int) -> str:
    """Return what something that is no regular file is, in words."""
    names = (
        ("a FIFO", stat_module.S_ISFIFO),
        ("a socket", stat_module.S_ISSOCK),
        ("a device", stat_module.S_ISCHR),
    )
    return next((name for name, test in names if test(mode)), "something else")


def is_skipped_folder(name: bytes) -> bool:
    return name.startswith(b".") or name in SKIPPED_FOLDERS


def minimal_roots(folders: Sequence[bytes]) -> list[bytes]:
    """Return the canonical paths of the folders, without those inside another: a file is met once."""
    roots: list[bytes] = []
    for path in sorted({os.path.realpath(folder) for folder in folders}):
        if not any(is_within(path, known) for known in roots):
            roots.append(path)
    return roots


def is_within(path: bytes, folder: bytes) -> bool:
    """Return whether `path` is `folder` or below it."""
    return path == folder or path.startswith(folder.rstrip(b"/") + b"/")


def scan(
    roots: Sequence[bytes], *, skip_dirs: frozenset[tuple[int, int]] = frozenset()
) -> Iterator[Candidate | FolderProblem]:
    """Yield every candidate below the roots, each once, in an order that depends on names alone.

    Args:
        roots: canonical absolute paths (`minimal_roots`); a file is a candidate whatever its name.
        skip_dirs: (dev, inode) of folders never entered: the index's own.
    """
    visited = set(skip_dirs)
    linked: set[tuple[int, int]] = set()
    stack = list(reversed(roots))
    while stack:
        folder = stack.pop()
        try:
            info = os.stat(folder)
            if not stat_module.S_ISDIR(info.st_mode):
                yield Candidate(folder, info)
                continue
            if (info.st_dev, info.st_ino) in visited:
                continue
            visited.add((info.st_dev, info.st_ino))
            below, names = _list(folder)
        except OSError as error:
            if not isinstance(error, FileNotFoundError) or folder in roots:
                yield FolderProblem(folder, _words(error))
            continue
        prefix = folder.rstrip(b"/") + b"/"
        for name, is_link in names:
            path = prefix + name
            try:
                info = os.stat(path)
                if not is_link:
                    yield Candidate(path, info)
                    continue
                if stat_module.S_ISDIR(info.st_mode) or (info.st_dev, info.st_ino) in linked:
                    continue
                if not _met_anyway(os.path.realpath(path), roots):
                    linked.add((info.st_dev, info.st_ino))
                    yield Candidate(path, info)
            except FileNotFoundError:
                if is_link:
                    yield Candidate(path, None, "broken symbolic link")
            except OSError as error:
                yield Candidate(path, None, _words(error))
        stack.extend(reversed(below))


def _list(folder: bytes) -> tuple[list[bytes], list[tuple[bytes, bool]]]:
    """Return (paths of subfolders, (name, is a link) of candidates), sorted.

    Names only: 300,000 directory entries with all they hold would be 200 MB.
    """
    below: list[bytes] = []
    names: list[tuple[bytes, bool]] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                is_link = entry.is_symlink()
                is_folder = not is_link and entry.is_dir(follow_symlinks=False)
            except OSError:
                is_link = is_folder = False
            if is_folder:
                if not is_skipped_folder(entry.name):
                    below.append(entry.path)
            elif is_candidate_name(entry.name):
                names.append((entry.name, is_link))
    return sorted(below), sorted(names)


def _met_anyway(target: bytes, roots: Sequence[bytes]) -> bool:
    """Return whether the walk comes by the target of a link under its own name."""
    for root in roots:
        if is_within(target, root):
            parts = target[len(root) :].strip(b"/").split(b"/")
            if is_candidate_name(parts[-1]) and not any(is_skipped_folder(part) for part in parts[:-1]):
                return True
    return False


def _words(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()
