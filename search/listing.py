"""Found files as hits; and files of which only conditions are asked: a list, no ranking and no encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Literal, Protocol

from search.narrowing import Doorman, Found, Looks, grouped, labels_of
from search.query import Query
from search.results import Hit, Results

if TYPE_CHECKING:
    from indexer import Filter, Selection

_FIRST_FETCH, _MOST_FETCHED = 64, 1 << 16
"""Rows read at first: at least, and at most."""
_FROM_RECORD = tuple(
    field.name for field in fields(Hit) if field.name not in ("rank", "score", "probability", "group")
)


class Listable(Looks, Protocol):
    """The part of `indexer.Index` that lists."""

    def select(self, where: Filter | None) -> Selection: ...
    def listed(
        self, among: Selection, k: int, sort: Literal["taken", "name", "size"] = ...
    ) -> Sequence[Any]: ...


def list_files(index: Listable, query: Query, doorman: Doorman | None = None) -> Results:
    """Return the files that the conditions leave, unranked: newest first unless sorted otherwise.

    Args:
        query: whatever it asks of pictures is left to `doorman`.
        doorman: turns away files that show what is excluded.
    Raises:
        UsageError: the conditions are nested too deep.
    """
    among = index.select(query.where)
    order = "taken" if query.sort == "score" else query.sort
    fetch = max(_FIRST_FETCH, min(query.k, _MOST_FETCHED))
    while True:
        records = index.listed(among, fetch, order)
        found = [Found(0.0, 0.0, record) for record in records if record.path not in query.exclude]
        found = doorman.admit(found) if doorman else found
        groups = grouped(found, labels_of(found, query.group, index))
        if len(records) < fetch or len(groups) >= query.k:
            break
        fetch *= 4
    hits = hits_of(groups[: query.k], "score")
    excluded = len(doorman.turned_away) if doorman else 0
    return Results(query, hits, among.total, among.files, excluded=excluded)


def hits_of(groups: Sequence[Sequence[Found]], sort: str) -> tuple[Hit, ...]:
    """Return a hit per group, the rest of it behind; ranked as they come, then sorted."""
    hits = []
    for rank, (first, *behind) in enumerate(groups, start=1):
        rest = tuple(_hit(one, rank) for one in behind)
        hits.append(_hit(first, rank, rest))
    if sort == "taken":  # newest first, undated last
        hits.sort(key=lambda hit: hit.taken_at or "", reverse=True)
    elif sort == "name":
        hits.sort(key=lambda hit: hit.path)
    elif sort == "size":
        hits.sort(key=lambda hit: -hit.size_bytes)
    return tuple(hits)


def _hit(found: Found, rank: int, group: tuple[Hit, ...] = ()) -> Hit:
    values = {name: getattr(found.record, name) for name in _FROM_RECORD}
    return Hit(rank=rank, score=found.score, probability=found.probability, group=group, **values)
