"""What a person taught the index: named concepts, and verdicts about look-alikes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Row, delete, select
from sqlalchemy.dialects.sqlite import insert as upsert

from encoders import UsageError
from indexer import tables as t
from indexer.catalog import Catalog
from indexer.errors import storage_errors
from indexer.records import Concept, Look, Space, Verdict

_LOOKS_AT_ONCE = 20_000


def read_concepts(catalog: Catalog, space: Space) -> list[Concept]:
    """Return the concepts of a space by name; damaged rows are left out."""
    query = select(t.concept).where(t.concept.c.space_id == space.id).order_by(t.concept.c.name)
    with storage_errors(catalog.folder), catalog.engine.connect() as connection:
        rows = connection.execute(query).all()
    return [
        _concept(row) for row in rows if catalog.intact("concept", row) and len(row.vector) == 2 * space.dim
    ]


def _concept(row: Row[Any]) -> Concept:
    vector = np.frombuffer(row.vector, np.float16).astype(np.float32)
    return Concept(row.name, vector, row.examples, row.threshold)


def read_verdicts(catalog: Catalog) -> dict[tuple[bytes, bytes], Verdict]:
    """Return {(smaller content hash, larger): verdict}; damaged rows are left out."""
    query = select(t.verdict).order_by(t.verdict.c.id)
    with storage_errors(catalog.folder), catalog.engine.connect() as connection:
        rows = connection.execute(query).all()
    return {
        (row.first, row.second): Verdict(row.first, row.second, row.verdict, row.decided_at)
        for row in rows
        if catalog.intact("verdict", row)
    }


def read_looks(catalog: Catalog) -> Iterator[tuple[int, Look]]:
    """Yield (content id, look) by content id; damaged rows are left out."""
    after = -(2**63)
    while True:
        query = select(t.look).where(t.look.c.content_id > after).order_by(t.look.c.content_id)
        with storage_errors(catalog.folder), catalog.engine.connect() as connection:
            rows = connection.execute(query.limit(_LOOKS_AT_ONCE)).all()
        for row in rows:
            if catalog.intact("look", row):
                yield row.content_id, Look(row.phash & 0xFFFFFFFFFFFFFFFF, row.sharpness)
        if len(rows) < _LOOKS_AT_ONCE:
            return
        after = rows[-1].content_id


# -- writing: the ledger brings all of decoding with it, which a question does without


def save_concept(
    folder: Path, name: str, vector: npt.NDArray[np.float32], examples: int, threshold: float | None = None
) -> None:
    """Keep a concept under a name, in place of an older one of this name.

    Args:
        vector: (dim,), any length but 0; kept with unit L2 norm.
    Raises:
        UsageError: the index is empty, the name is blank, or the vector is none of this index's encoder.
        IndexLockedError, IndexMissingError, IndexDamagedError, IndexNewerError, IndexStorageError.
    """
    from indexer.ledger import checked, next_id, writing

    if not name.strip():
        raise UsageError("a concept needs a name: pixseek concept add NAME PICTURE...")
    with writing(folder) as ledger:
        space = ledger.space()
        if space is None:
            raise UsageError("the index is empty; fill it with: pixseek index FOLDER")
        length = float(np.linalg.norm(vector))
        if vector.shape != (space.dim,) or not math.isfinite(length) or length == 0:
            raise UsageError(f"the concept {name!r} has no vector of this index's encoder")
        with storage_errors(folder), ledger.engine.begin() as connection:
            same = (t.concept.c.space_id == space.id) & (t.concept.c.name == name)
            known = connection.execute(select(t.concept.c.id).where(same)).scalar()
            fields = {
                "id": known or next_id(connection, t.concept), "space_id": space.id, "name": name,
                "vector": (vector / length).astype(np.float16).tobytes(), "examples": int(examples),
                "threshold": None if threshold is None else float(threshold),
            }  # fmt: skip
            statement = upsert(t.concept)
            changed = {column: statement.excluded[column] for column in (*fields, "check") if column != "id"}
            connection.execute(
                statement.on_conflict_do_update(index_elements=["id"], set_=changed),
                checked("concept", [fields]),
            )


def remove_concept(folder: Path, name: str) -> bool:
    """Forget a concept of the active space and return whether there was one."""
    from indexer.ledger import writing

    with writing(folder) as ledger:
        space = ledger.space()
        if space is None:
            return False
        same = (t.concept.c.space_id == space.id) & (t.concept.c.name == name)
        with storage_errors(folder), ledger.engine.begin() as connection:
            return bool(connection.execute(delete(t.concept).where(same)).rowcount)


def save_verdicts(folder: Path, decisions: Iterable[tuple[bytes, bytes, str]]) -> None:
    """Remember decisions about pairs of content hashes, in either order; the last one about a pair counts."""
    from indexer.ledger import checked, next_id, writing

    now = datetime.now(UTC).isoformat(timespec="seconds")
    pairs = {(min(one, two), max(one, two)): what for one, two, what in decisions}
    with writing(folder) as ledger, storage_errors(folder), ledger.engine.begin() as connection:
        new_id = next_id(connection, t.verdict)
        for (first, second), what in pairs.items():
            same = (t.verdict.c.first == first) & (t.verdict.c.second == second)
            connection.execute(delete(t.verdict).where(same))
            fields = dict(zip(t.CHECKED["verdict"], (new_id, first, second, what, now), strict=True))
            connection.execute(t.verdict.insert(), checked("verdict", [fields]))
            new_id += 1


def forget_verdicts(folder: Path, pairs: Iterable[tuple[bytes, bytes]]) -> int:
    """Remove decisions about pairs of content hashes, in either order, and return how many there were."""
    from indexer.ledger import writing

    removed = 0
    with writing(folder) as ledger, storage_errors(folder), ledger.engine.begin() as connection:
        for one, two in pairs:
            same = (t.verdict.c.first == min(one, two)) & (t.verdict.c.second == max(one, two))
            removed += connection.execute(delete(t.verdict).where(same)).rowcount
    return removed
