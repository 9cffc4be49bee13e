"""The catalog's tables (SQLAlchemy Core) and the checksums of their rows.

space 1--n embedding n--1 frame n--1 content 1--n file n--1 root; content 1--1 look; space 1--n concept.
Beside them the full-text tables of `indexer.words`, which are derived from content and file.
A content is the bytes of a picture, whatever it is called: a renamed or copied file is one more `file` row.
Ids are AUTOINCREMENT and never reused, so a stale snapshot can never point to another photo.
"""

from __future__ import annotations

import hashlib
import struct

from sqlalchemy import (
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)  # fmt: skip

from indexer.glance import APPLICATION_ID as APPLICATION_ID

VERSION = 3
"""user_version written by this code; see `indexer.migrations`."""


class Blob(LargeBinary):
    """Bytes as they are. SQLAlchemy's own would call `bytes()` on what a flipped bit has made an integer."""

    cache_ok = True

    def bind_processor(self, dialect: object) -> None:
        return None

    def result_processor(self, dialect: object, coltype: object) -> None:
        return None


metadata = MetaData()

space = Table(
    "space", metadata,
    Column("id", Integer, primary_key=True),
    Column("spec", Text, nullable=False),
    Column("fingerprint", Text, nullable=False, unique=True),
    Column("dim", Integer, nullable=False),
    Column("image_size", Integer, nullable=False),
    Column("active", Integer, nullable=False),
    Column("check", Blob, nullable=False),
    sqlite_autoincrement=True,
)  # fmt: skip

root = Table(
    "root", metadata,
    Column("id", Integer, primary_key=True),
    Column("path", Blob, nullable=False, unique=True),
    Column("dev", Integer, nullable=False),
    sqlite_autoincrement=True,
)  # fmt: skip

content = Table(
    "content", metadata,
    Column("id", Integer, primary_key=True),
    Column("hash", Blob, nullable=False, unique=True, doc="blake2b-256 of the whole file"),
    Column("size_bytes", Integer, nullable=False, index=True),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("format", Text, nullable=False),
    Column("warning", Text, doc="why the picture is only partly there"),
    Column("taken_at", Text, index=True, doc="ISO 8601, local time of the camera"),
    Column("camera", Text),
    Column("lens", Text),
    Column("iso", Integer),
    Column("latitude", Float),
    Column("longitude", Float),
    Column("caption", Text),
    Column("keywords", Text, doc="JSON list"),
    Column("rating", Integer),
    Column("check", Blob, nullable=False),
    sqlite_autoincrement=True,
)  # fmt: skip

frame = Table(
    "frame", metadata,
    Column("id", Integer, primary_key=True),
    Column("content_id", ForeignKey("content.id", ondelete="CASCADE"), nullable=False),
    Column("position", Integer, nullable=False),
    Column("timestamp_ms", Integer),
    Column("x", Float), Column("y", Float), Column("w", Float), Column("h", Float),
    Column("check", Blob, nullable=False),
    UniqueConstraint("content_id", "position"),
    sqlite_autoincrement=True,
)  # fmt: skip

embedding = Table(
    "embedding", metadata,
    Column("id", Integer, primary_key=True),
    Column("space_id", ForeignKey("space.id"), nullable=False),
    Column("frame_id", ForeignKey("frame.id", ondelete="CASCADE"), nullable=False),
    Column("vector", Blob, nullable=False, doc="dim x float16, little endian, unit L2 norm"),
    Column("check", Blob, nullable=False),
    UniqueConstraint("frame_id", "space_id"),
    sqlite_autoincrement=True,
)  # fmt: skip

file = Table(
    "file", metadata,
    Column("id", Integer, primary_key=True),
    Column("path", Blob, nullable=False, unique=True, doc="os.fsencode of the absolute path"),
    Column("size_bytes", Integer, nullable=False),
    Column("mtime_ns", Integer, nullable=False),
    Column("ctime_ns", Integer, nullable=False),
    Column("inode", Integer, nullable=False),
    Column("dev", Integer, nullable=False),
    Column("status", Text, nullable=False, doc="ok, partial or failed"),
    Column("reason", Text),
    Column("content_id", ForeignKey("content.id")),
    Column("check", Blob, nullable=False),
    Index("file_content", "content_id"),
    Index("file_status", "status"),
    sqlite_autoincrement=True,
)  # fmt: skip

snapshot = Table(
    "snapshot", metadata,
    Column("generation", Integer, primary_key=True),
    Column("space_id", ForeignKey("space.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("hash", Blob, nullable=False, doc="blake2b-256 of the file"),
    Column("size_bytes", Integer, nullable=False),
    Column("mtime_ns", Integer, nullable=False),
    Column("ctime_ns", Integer, nullable=False),
    Column("inode", Integer, nullable=False),
    Column("through_id", Integer, nullable=False, doc="last embedding.id inside"),
    Column("count", Integer, nullable=False),
    Column("check", Blob, nullable=False),
    sqlite_autoincrement=True,
)  # fmt: skip

tier = Table(
    "tier", metadata,
    Column("generation", Integer, primary_key=True),
    Column("space_id", ForeignKey("space.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("hash", Blob, nullable=False, doc="blake2b-256 of the file"),
    Column("size_bytes", Integer, nullable=False),
    Column("mtime_ns", Integer, nullable=False),
    Column("ctime_ns", Integer, nullable=False),
    Column("inode", Integer, nullable=False),
    Column("through_id", Integer, nullable=False, doc="last embedding.id inside"),
    Column("count", Integer, nullable=False),
    Column("lists", Integer, nullable=False),
    Column("probes", Integer, nullable=False, doc="lists a question of ten hits reads"),
    Column("recall_at_10", Float, nullable=False, doc="of the exact answer, measured when it was made"),
    Column("recall_at_100", Float, nullable=False),
    Column("queries", Integer, nullable=False, doc="how many it was measured on"),
    Column("own_queries", Integer, nullable=False, doc="how many of those a person had asked"),
    Column("check", Blob, nullable=False),
    sqlite_autoincrement=True,
)  # fmt: skip

look = Table(
    "look", metadata,
    Column("content_id", ForeignKey("content.id", ondelete="CASCADE"), primary_key=True),
    Column("phash", Integer, nullable=False, doc="64 bits of a perceptual hash, as a signed number"),
    Column("sharpness", Float, nullable=False),
    Column("check", Blob, nullable=False),
)  # fmt: skip

concept = Table(
    "concept", metadata,
    Column("id", Integer, primary_key=True),
    Column("space_id", ForeignKey("space.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("vector", Blob, nullable=False, doc="dim x float16, little endian, unit L2 norm"),
    Column("examples", Integer, nullable=False, doc="how many pictures it was made from"),
    Column("threshold", Float, doc="cosine from which a picture shows it; NULL: not known"),
    Column("check", Blob, nullable=False),
    UniqueConstraint("space_id", "name"),
    sqlite_autoincrement=True,
)  # fmt: skip

verdict = Table(
    "verdict", metadata,
    Column("id", Integer, primary_key=True),
    Column("first", Blob, nullable=False, doc="content.hash, the smaller of the two"),
    Column("second", Blob, nullable=False),
    Column("verdict", Text, nullable=False),
    Column("decided_at", Text, nullable=False, doc="ISO 8601, UTC"),
    Column("check", Blob, nullable=False),
    UniqueConstraint("first", "second"),
    sqlite_autoincrement=True,
)  # fmt: skip


def key_of(table: Table) -> Column[int]:
    """Return the column that numbers the rows of a table."""
    (key,) = table.primary_key.columns
    return key


def signed(number: int) -> int:
    """Return an unsigned 64-bit number (inode, dev) as the signed one SQLite can hold."""
    number &= 0xFFFFFFFFFFFFFFFF
    return number - (1 << 64) if number >= 1 << 63 else number


def row_check(*fields: bytes | str | int | float | None) -> bytes:
    """Return 8 bytes that change when any field does: SQLite itself does not see a flipped bit in a value.

    Source: blake2b (RFC 7693) over type-tagged, length-prefixed fields.
    """
    parts: list[bytes] = []
    for field in fields:
        if field is None:
            parts.append(b"n")
        elif isinstance(field, int):
            parts.append(_INTEGER(b"i", 8, field))
        elif isinstance(field, bytes):
            parts += _LENGTH(b"b", len(field)), field
        elif isinstance(field, str):
            raw = field.encode("utf-8", "surrogatepass")
            parts += _LENGTH(b"s", len(raw)), raw
        else:
            parts.append(_REAL(b"f", 8, field))
    return hashlib.blake2b(b"".join(parts), digest_size=8).digest()


# Each field behind its tag and its length.
_INTEGER, _REAL, _LENGTH = struct.Struct("<cqq").pack, struct.Struct("<cqd").pack, struct.Struct("<cq").pack

CHECKED: dict[str, tuple[str, ...]] = {
    table.name: tuple(column.name for column in table.columns if column.name != "check")
    for table in (space, content, frame, embedding, file, snapshot, look, concept, verdict, tier)
}
"""Which columns the checksum of a row covers, in order."""

FORMAT_1 = (space, root, content, frame, embedding, file, snapshot)
FORMAT_2 = (look, concept, verdict)
FORMAT_3 = (tier,)
