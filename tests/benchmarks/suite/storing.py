"""What a library is asked from, written anew: its snapshot, and its lists where it is large enough for them.

`python -m tests.benchmarks.suite.storing snapshot|lists FOLDER`, a process of its own so that its memory can
be told.
"""

from __future__ import annotations

import sys
from pathlib import Path

from encoders.builtin import BuiltinEncoder
from indexer import tables
from indexer.ledger import Ledger
from indexer.lock import WriterLock
from indexer.snapshots import publish
from indexer.tier_building import build_tier

FORMAT: int = tables.VERSION


def write_snapshot(folder: Path) -> None:
    """Write the snapshot of an index again and name it."""
    lock = WriterLock(folder)
    with Ledger.open_or_create(folder) as ledger:
        space = ledger.space()
        assert space is not None
        publish(ledger, space)
    lock.close()


def write_lists(folder: Path) -> bool:
    """Make the inverted lists of an index again; return whether it is large enough to have any."""
    lock = WriterLock(folder)
    with Ledger.open_or_create(folder) as ledger:
        space = ledger.space()
        assert space is not None
        for known in ledger.tiers():
            (folder / known.name).unlink(missing_ok=True)  # what is sound would be kept
        made = build_tier(ledger, space, BuiltinEncoder().encode_texts)
    lock.close()
    return made is not None


if __name__ == "__main__":
    if sys.argv[1] == "snapshot":
        write_snapshot(Path(sys.argv[2]))
    else:
        print("made" if write_lists(Path(sys.argv[2])) else "none")
