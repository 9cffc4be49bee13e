"""The index: how it is made, kept and opened.

Reading order. Errors: errors. A file becomes pixels, in a process of its own: formats, metadata, pixels,
partial, raw, images, look, confinement, sandbox, outcomes, process, workers. What is there: scan, scanner.
The truth: glance, tables, words, migrations, records, functions, database, catalog, lock, ledger, memory. The
cache: scanning, snapshots, tiers, vectors. Open for questions: filters, selection, rows, asked, index. The
whole run: resources, encoding, sweep, clusters, tier_building, pipeline (`index_folders`). Looking after it:
salvage, upkeep (check, repair, prune, backup).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from indexer.copies import Copies, FileChanges, FileCopy
    from indexer.errors import (
        IndexDamagedError,
        IndexingError,
        IndexLockedError,
        IndexMissingError,
        IndexNewerError,
        IndexStorageError,
    )
    from indexer.filters import (
        And,
        Filter,
        Kind,
        Like,
        Near,
        Not,
        Number,
        Or,
        Orientation,
        Taken,
        TakenOn,
        Under,
    )
    from indexer.formats import IMAGE_SUFFIXES
    from indexer.glance import spec_of
    from indexer.images import DecodeLimits, ImageError, Picture, Region, decode, describe
    from indexer.index import Index
    from indexer.memory import forget_verdicts, remove_concept, save_concept, save_verdicts
    from indexer.metadata import Metadata, read_blocks
    from indexer.pipeline import index_folders
    from indexer.pixels import to_rgb
    from indexer.records import (
        Concept,
        Failure,
        FrameRecord,
        IndexReport,
        IndexStatus,
        Look,
        Neighbor,
        Progress,
        RepairReport,
        Space,
        TierStatus,
        Verdict,
        WordHit,
    )
    from indexer.selection import Selection
    from indexer.squares import Square, read_squares
    from indexer.upkeep import CheckReport, Problem, PruneReport, backup, check, prune, repair

_HOMES = {
    "copies": ("Copies", "FileChanges", "FileCopy"),
    "errors": (
        "IndexDamagedError", "IndexLockedError", "IndexMissingError", "IndexNewerError", "IndexStorageError",
        "IndexingError",
    ),
    "filters": (
        "And", "Filter", "Kind", "Like", "Near", "Not", "Number", "Or", "Orientation", "Taken", "TakenOn",
        "Under",
    ),
    "formats": ("IMAGE_SUFFIXES",),
    "glance": ("spec_of",),
    "images": ("DecodeLimits", "ImageError", "Picture", "Region", "decode", "describe"),
    "index": ("Index",),
    "memory": ("forget_verdicts", "remove_concept", "save_concept", "save_verdicts"),
    "metadata": ("Metadata", "read_blocks"),
    "pipeline": ("index_folders",),
    "pixels": ("to_rgb",),
    "records": (
        "Concept", "Failure", "FrameRecord", "IndexReport", "IndexStatus", "Look", "Neighbor", "Progress",
        "RepairReport", "Space", "TierStatus", "Verdict", "WordHit",
    ),
    "selection": ("Selection",),
    "squares": ("Square", "read_squares"),
    "upkeep": ("CheckReport", "Problem", "PruneReport", "backup", "check", "prune", "repair"),
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}
__all__ = [
    "IMAGE_SUFFIXES",
    "And",
    "CheckReport",
    "Concept",
    "Copies",
    "DecodeLimits",
    "Failure",
    "FileChanges",
    "FileCopy",
    "Filter",
    "FrameRecord",
    "ImageError",
    "Index",
    "IndexDamagedError",
    "IndexLockedError",
    "IndexMissingError",
    "IndexNewerError",
    "IndexReport",
    "IndexStatus",
    "IndexStorageError",
    "IndexingError",
    "Kind",
    "Like",
    "Look",
    "Metadata",
    "Near",
    "Neighbor",
    "Not",
    "Number",
    "Or",
    "Orientation",
    "Picture",
    "Problem",
    "Progress",
    "PruneReport",
    "Region",
    "RepairReport",
    "Selection",
    "Space",
    "Square",
    "Taken",
    "TakenOn",
    "TierStatus",
    "Under",
    "Verdict",
    "WordHit",
    "backup",
    "check",
    "decode",
    "describe",
    "forget_verdicts",
    "index_folders",
    "prune",
    "read_blocks",
    "read_squares",
    "remove_concept",
    "repair",
    "save_concept",
    "save_verdicts",
    "spec_of",
    "to_rgb",
]


def __getattr__(name: str) -> Any:
    """Import what is asked for and no more: a query needs no decoder of RAW files."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'indexer' has no attribute {name!r}")
    return getattr(import_module(f"indexer.{_MODULE_OF[name]}"), name)
