"""What goes to a decode worker and what comes back, and the check of what comes back."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from indexer.images import Region
from indexer.metadata import Metadata
from indexer.records import Look

if TYPE_CHECKING:
    from encoders import Pixels


@dataclass(frozen=True, slots=True)
class FileStat:
    """What identifies a state of a file; compared for equality only."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    dev: int

    @classmethod
    def of(cls, info: os.stat_result) -> FileStat:
        return cls(info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino, info.st_dev)


@dataclass(frozen=True, slots=True)
class DecodeTask:
    """One file to decode.

    Attributes:
        token: the caller's number, given back with the result.
        known_hashes: contents whose embeddings exist already: read and hashed, not decoded.
    """

    token: int
    path: bytes
    known_hashes: frozenset[bytes] = frozenset()


@dataclass(slots=True)
class Decoded:
    """A file that was read, and decoded unless its content was known.

    Attributes:
        stat: of the moment it was read.
        content_hash: BLAKE2b, 32 bytes, of the whole file.
        pixels: (n, size, size, 3) uint8, the whole picture first; n is 0 when the content was known.
        regions: one per row of pixels; None stands for the whole picture.
        width, height: pixels of the upright original.
        look: of the whole picture; None when the content was known.
    """

    token: int
    path: bytes
    stat: FileStat
    content_hash: bytes
    known: bool
    pixels: Pixels
    regions: list[Region | None]
    width: int
    height: int
    format: str
    warning: str | None
    metadata: Metadata | None
    look: Look | None = None


@dataclass(frozen=True, slots=True)
class DecodeFailure:
    """A file that gives no picture.

    Attributes:
        stat: None when the file could not be asked.
        vanished: it went away between scan and read: not a failure to report.
        transient: not the file's fault; the next run tries again although the file is unchanged.
    """

    token: int
    path: bytes
    stat: FileStat | None
    reason: str
    vanished: bool = False
    transient: bool = False


Outcome: TypeAlias = Decoded | DecodeFailure


def read_stat(values: Any) -> FileStat:
    if not isinstance(values, list) or [type(value) for value in values] != [int] * 5:
        raise ValueError("not a stat")
    return FileStat(*values)


def read_look(values: Any) -> Look:
    phash, sharpness = values
    if type(phash) is not int or type(sharpness) is not float:
        raise ValueError("not a look")
    if not 0 <= phash < 1 << 64 or not math.isfinite(sharpness):
        raise ValueError("not a look")
    return Look(phash, sharpness)


def read_answer(task: DecodeTask, head: dict[str, Any], body: bytearray) -> Outcome:
    """Return what the worker's answer says; raises ValueError, KeyError or TypeError when it is malformed."""
    stat = None if head["stat"] is None else read_stat(head["stat"])
    if head["kind"] == "failed":
        vanished, transient = head["vanished"] is True, head["transient"] is True
        return DecodeFailure(task.token, task.path, stat, str(head["reason"])[:300], vanished, transient)
    if head["kind"] != "decoded" or stat is None:
        raise ValueError("not an answer")
    digest = bytes.fromhex(head["hash"])
    if head["known"]:
        none: npt.NDArray[np.uint8] = np.empty((0, 0, 0, 3), np.uint8)
        return Decoded(task.token, task.path, stat, digest, True, none, [], 0, 0, "", None, None)
    pixels = np.frombuffer(body, np.uint8).reshape(head["shape"])
    regions = [None if region is None else Region(*region) for region in head["regions"]]
    if pixels.ndim != 4 or len(regions) != len(pixels) or not len(pixels):
        raise ValueError("not an answer")
    about = {field.name: head["metadata"][field.name] for field in fields(Metadata)}
    about["keywords"] = tuple(about["keywords"])
    return Decoded(
        task.token, task.path, stat, digest, False, pixels, regions, int(head["width"]), int(head["height"]),
        str(head["format"]), head["warning"], Metadata(**about), read_look(head["look"]),
    )  # fmt: skip
