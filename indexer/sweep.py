"""What is gone: known paths that a whole walk did not meet, and when not to believe it."""

from __future__ import annotations

import os
import stat as stat_module
from collections import Counter
from dataclasses import dataclass, field

from indexer.ledger import Ledger
from indexer.records import IndexReport
from indexer.scan import is_within
from indexer.tables import signed

VANISHED_SHARE, VANISHED_FILES = 0.2, 100
"""More than both at once looks like a drive that is not mounted."""


@dataclass(slots=True)
class Sightings:
    """What one run met.

    Attributes:
        roots: canonical paths of this run.
        first_new_id: file rows from here on were written by this run.
        unreadable: folders that could not be listed; what is known below them is kept.
        arrivals: content ids met under new paths without encoding: renames, if an old path is gone.
    """

    roots: list[bytes]
    first_new_id: int
    unreadable: list[bytes] = field(default_factory=list)
    arrivals: Counter[int] = field(default_factory=Counter)
    _candidates: Counter[bytes] = field(default_factory=Counter)
    _seen: bytearray = field(default_factory=bytearray)

    def count(self, path: bytes) -> None:
        """Take note that the walk met a candidate, known or not."""
        if len(self.roots) == 1:
            root = self.roots[0]  # where else
        else:
            root = next((root for root in self.roots if is_within(path, root)), b"")
        self._candidates[root] += 1

    def mark(self, file_id: int) -> None:
        """Take note that a known path is there. One byte per file id: a million cost a megabyte."""
        if file_id >= len(self._seen):
            self._seen.extend(bytes(max(file_id + 1 - len(self._seen), len(self._seen), 4096)))
        self._seen[file_id] = 1

    def unmark(self, file_id: int) -> None:
        """It was there and is gone again."""
        if file_id < len(self._seen):
            self._seen[file_id] = 0

    def is_gone(self, file_id: int, path: bytes) -> bool:
        if file_id < len(self._seen) and self._seen[file_id]:
            return False
        return not any(is_within(path, folder) for folder in self.unreadable)

    def is_empty(self, root: bytes) -> bool:
        return self._candidates[root] == 0


def sweep(
    ledger: Ledger, sightings: Sightings, known_roots: dict[bytes, int], report: IndexReport, *, prune: bool
) -> None:
    """Forget paths that are gone, root by root, unless it looks as if a drive was not mounted.

    Kept, and told as a problem of the report, when the root is missing, has another device number, shows no
    picture any more, or lost more than 100 files and 20 %; `prune` forgets all the same.
    """
    for root in sightings.roots:
        gone: list[tuple[int, int | None]] = []
        known = 0
        for file_id, path, content_id in ledger.files_under(root):
            if file_id < sightings.first_new_id:
                known += 1
                if sightings.is_gone(file_id, path):
                    gone.append((file_id, content_id))
        info = os.stat(root) if os.path.exists(root) else None
        moved = info is not None and known_roots.get(root, signed(info.st_dev)) != signed(info.st_dev)
        many = len(gone) > VANISHED_FILES and len(gone) > VANISHED_SHARE * known
        doubtful = info is None or (gone and (moved or many or sightings.is_empty(root)))
        if doubtful and not prune:
            report.problems.append(
                f"{os.fsdecode(root)}: {len(gone)} of {known} known files are not there; kept in case a "
                "drive is not mounted. If they are really gone: run the same command with --prune"
            )
            continue
        ledger.remove_files(file_id for file_id, _ in gone)
        for _, content_id in gone:
            if content_id is not None and sightings.arrivals[content_id] > 0:
                sightings.arrivals[content_id] -= 1
                report.renamed += 1
                report.indexed -= 1
            else:
                report.removed += 1
        is_folder = info is not None and stat_module.S_ISDIR(info.st_mode)
        if info is not None and is_folder and known_roots.get(root) != signed(info.st_dev):
            ledger.set_root(root, info.st_dev)
