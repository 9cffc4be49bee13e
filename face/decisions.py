"""What `pixseek duplicates` was told to leave alone: kept, listed, forgotten."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from face import terminal

if TYPE_CHECKING:
    from indexer import Index


def decide(folder: Path, names: Sequence[str], *, forget: bool) -> None:
    """Remember that files are to be kept, all of them, or forget that."""
    from encoders import UsageError
    from indexer import Index, forget_verdicts, save_verdicts

    option = "--forget" if forget else "--keep-both"
    if len(names) < 2:
        raise UsageError(f"{option} needs two files or more: pixseek duplicates {option} a.jpg b.jpg")
    with Index.open(folder) as opened:
        hashes = [_hash_of(opened, name) for name in names]
    pairs = sorted({(min(a, b), max(a, b)) for i, a in enumerate(hashes) for b in hashes[i + 1 :]})
    if forget:
        removed = forget_verdicts(folder, pairs)
        terminal.note(f"{terminal.count(removed, 'decision')} forgotten")
    else:
        save_verdicts(folder, [(one, two, "different") for one, two in pairs])
        terminal.note(f"{terminal.count(len(pairs), 'pair')} will not be shown again; to see them: --decided")


def _hash_of(opened: Index, name: str) -> bytes:
    from encoders import UsageError

    path = os.fsencode(name)
    for candidate in dict.fromkeys((os.path.abspath(path), os.path.realpath(path))):
        found = opened.copies.at([candidate])
        if candidate in found:
            return found[candidate].content_hash
    raise UsageError(f"{name} is not in the index; add it: pixseek index {name}")


def list_decided(folder: Path, *, as_json: bool) -> None:
    """Print the decisions there are."""
    from indexer import Index

    with Index.open(folder) as opened:
        verdicts = list(opened.verdicts().values())
        hashes = sorted({digest for verdict in verdicts for digest in (verdict.first, verdict.second)})
        numbers = opened.copies.contents_by_hash(hashes)
        files = opened.copies.of(sorted(numbers.values()))
    paths = {
        digest: [file.path for file in files.get(numbers[digest], [])] if digest in numbers else []
        for digest in hashes
    }
    if as_json:
        terminal.document(
            {
                "count": len(verdicts),
                "decided": [
                    {
                        "decided_at": verdict.decided_at,
                        "one": {"content_hash": verdict.first.hex(), "paths": paths[verdict.first]},
                        "two": {"content_hash": verdict.second.hex(), "paths": paths[verdict.second]},
                    }
                    for verdict in verdicts
                ],
            }
        )
        return
    for verdict in verdicts:
        shown = [
            terminal.name_for_stdout(paths[digest][0]) if paths[digest] else b"(no longer in the index)"
            for digest in (verdict.first, verdict.second)
        ]
        if verdict.first == verdict.second and len(paths[verdict.first]) > 1:
            shown[1] = terminal.name_for_stdout(paths[verdict.first][1])
        terminal.write(verdict.decided_at.encode() + b"\t" + b"\t".join(shown) + b"\n")
    if not verdicts:
        terminal.note("nothing was decided")
