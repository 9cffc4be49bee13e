"""What passes between the rooms: frozen rows, never SQLAlchemy's own."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Space:
    """One encoder's embeddings in an index. `fingerprint` decides what may be compared."""

    id: int
    spec: str
    fingerprint: str
    dim: int
    image_size: int


@dataclass(frozen=True, slots=True)
class Neighbor:
    """A frame near a query. `score` is a cosine in [-1, 1]."""

    frame_id: int
    score: float


@dataclass(frozen=True, slots=True)
class FrameRecord:
    """A frame in one file; copies of a file give one record each.

    Attributes:
        path: `os.fsencode` of the absolute path.
        timestamp_ms: position in a video, None for a still.
        region: (x, y, width, height) as fractions of the upright picture, None for all of it.
        width, height: pixels of the upright original.
        iso: film speed.
        rating: 0 to 5 stars, -1 for rejected.
        status: `ok`, or `partial` when only a part of the picture could be decoded.
    """

    frame_id: int
    file_id: int
    path: bytes
    timestamp_ms: int | None
    region: tuple[float, float, float, float] | None
    width: int
    height: int
    format: str
    size_bytes: int
    taken_at: str | None
    camera: str | None
    lens: str | None
    latitude: float | None
    longitude: float | None
    caption: str | None
    keywords: tuple[str, ...]
    iso: int | None
    rating: int | None
    status: str


@dataclass(frozen=True, slots=True)
class Look:
    """What a picture looks like to the eye, not to the encoder; made by the decoder.

    Attributes:
        phash: 64 bits of a perceptual hash, 0 to 2**64 - 1: few differing bits are near duplicates.
        sharpness: higher is sharper, comparable between look-alikes only.
    """

    phash: int
    sharpness: float


@dataclass(frozen=True, slots=True)
class WordHit:
    """A file whose words were asked for, by its first frame.

    Attributes:
        score: BM25, higher is better.
        complete: all the words stand in its caption and keywords, or all of them in its names.
    """

    frame_id: int
    score: float
    complete: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Concept:
    """A name for what a few examples show.

    Attributes:
        vector: (dim,) float32, unit L2 norm, of the index's encoder.
        examples: how many pictures it was made from.
        threshold: cosine from which a picture shows it, None when nobody said.
    """

    name: str
    vector: npt.NDArray[np.float32]
    examples: int
    threshold: float | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """A person's decision about two pictures, by the hashes of their contents, the smaller first.

    Attributes:
        verdict: `different`, or what else `pixseek duplicates` writes.
        decided_at: ISO 8601, UTC.
    """

    first: bytes
    second: bytes
    verdict: str
    decided_at: str


@dataclass(frozen=True, slots=True)
class Failure:
    """A file that could not be indexed, or (`partial`) only in part, and why."""

    path: bytes
    reason: str
    partial: bool = False


@dataclass(frozen=True, slots=True)
class KnownFile:
    """What the catalog remembers of a path: the identity that says whether it must be read again."""

    id: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    dev: int
    status: str
    reason: str | None
    content_id: int | None


@dataclass(frozen=True, slots=True)
class SnapshotRecord:
    """The catalog's word about one snapshot file; the file is used only when it agrees."""

    generation: int
    space_id: int
    name: str
    hash: bytes
    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    through_id: int
    count: int


@dataclass(frozen=True, slots=True)
class TierRecord:
    """The catalog's word about one file of inverted lists; the file is used only when it agrees.

    Attributes:
        through_id, count: the last embedding inside, and how many.
        lists: into how many the embeddings are sorted; probes: how many a question of ten hits reads.
        recall_at_10, recall_at_100: share of the exact answer found, measured on `queries` when it was made,
            the lower of texts and pictures.
        own_queries: how many of those a person had asked before.
    """

    generation: int
    space_id: int
    name: str
    hash: bytes
    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    through_id: int
    count: int
    lists: int
    probes: int
    recall_at_10: float
    recall_at_100: float
    queries: int
    own_queries: int


@dataclass(frozen=True, slots=True)
class TierStatus:
    """How questions are answered without reading every embedding.

    Attributes:
        kind: `IVF,SQ8`: lists of 8-bit codes, what they bring is scored again exactly.
        embeddings: how many are in lists; newer ones are read exactly.
        lists, probes, recall_at_10, recall_at_100, queries, own_queries: see `TierRecord`.
    """

    kind: str
    name: str
    embeddings: int
    lists: int
    probes: int
    recall_at_10: float
    recall_at_100: float
    queries: int
    own_queries: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class IndexStatus:
    """The index in numbers. Bytes are on disk; `dead_embeddings` are kept for files that may come back.

    `tier` says how questions are answered when they do not read every embedding; None: they do.
    """

    folder: str
    space: Space | None
    roots: list[bytes]
    files: int
    failed: int
    partial: int
    frames: int
    embeddings: int
    dead_embeddings: int
    snapshot: str | None
    snapshot_embeddings: int
    catalog_bytes: int
    snapshot_bytes: int
    tier: TierStatus | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far `index_folders` is. `total` grows while `scanning`.

    Attributes:
        listing: of how many embeddings lists are being made (`indexer.tiers`), the last and a long step;
            0 before and where none are.
    """

    total: int
    done: int
    indexed: int
    unchanged: int
    failed: int
    scanning: bool
    listing: int = 0


@dataclass(slots=True)
class IndexReport:
    """What one run did. Every candidate is counted once: scanned = indexed + unchanged + renamed + failed.

    Attributes:
        indexed: new or changed pictures, copies included, `partial` ones too.
        renamed: known pictures met under a new name while the old name is gone.
        removed: known paths that are gone, renamed ones not counted.
        failed: candidates that have no embedding, today's and remembered ones.
        encoded: frames that went through the encoder.
        problems: folders that could not be read, roots that look unmounted.
    """

    scanned: int = 0
    indexed: int = 0
    unchanged: int = 0
    renamed: int = 0
    removed: int = 0
    failed: int = 0
    partial: int = 0
    encoded: int = 0
    seconds: float = 0.0
    stopped: bool = False
    failures: list[Failure] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass(slots=True)
class RepairReport:
    """What `repair` did.

    Attributes:
        kept: embeddings that are sound.
        to_encode: paths whose embedding was lost: the next `index` encodes them again.
        lost_rows: rows that could not be read or were not what was written.
        words_rebuilt: the text tables were not what the rows say, and were made again.
        lists_dropped: the inverted lists were not what was written; the next `index` makes new ones.
        set_aside: where the damaged catalog was kept, or None when it could be mended in place.
    """

    kept: int = 0
    lost_rows: int = 0
    to_encode: list[bytes] = field(default_factory=list)
    snapshot_rebuilt: bool = False
    lists_dropped: bool = False
    words_rebuilt: bool = False
    set_aside: str | None = None


def snapshot_path(folder: Path, record: SnapshotRecord) -> Path:
    """Return where the snapshot lies; a name that would leave the folder (a hostile catalog) is cut."""
    return folder / Path(record.name).name
