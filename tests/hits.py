"""Hits and results made by hand, for tests of how answers look."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

from search import Hit, Query, Results, Term, Text


def hit(path: Path | bytes | str, **changes: Any) -> Hit:
    """Return a plain hit on a path."""
    plain: dict[str, Any] = dict.fromkeys(field.name for field in dataclasses.fields(Hit))
    plain |= {
        "rank": 1, "score": 0.5, "path": os.fsencode(path), "width": 64, "height": 48, "format": "PNG",
        "size_bytes": 123, "keywords": (), "status": "ok", "file_id": 1, "frame_id": 1, "group": (),
    }  # fmt: skip
    return Hit(**(plain | changes))


def results(*hits: Hit, query: Query | None = None, **changes: Any) -> Results:
    """Return an answer to the question `a dog`."""
    plain: dict[str, Any] = {"searched": 100, "left": 100}
    return Results(query or Query((Term(Text("a dog")),)), hits, **(plain | changes))
