"""`find_duplicates`: which files of an index are one picture, in other words: what could go.

A group is the file to keep and those near it. Nothing is near by way of a third: where A is like B and B like
C but A is not like C, C is no part of A's group.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import numpy as np

from search.duplicates import likeness
from search.duplicates.candidates import Edge, near_edges
from search.duplicates.closer import Comparison
from search.duplicates.keeping import KeepRule, keep_order

if TYPE_CHECKING:
    from indexer import FileCopy, Index

Relation: TypeAlias = Literal["exact", "near", "burst"]
Action: TypeAlias = Literal["remove", "keep"]

_COMPARED_AT_ONCE: Final = 2_000
"""Pictures in memory to be compared: 100 MB."""


@dataclass(frozen=True, slots=True)
class Member:
    """A file beside the one that is kept.

    Attributes:
        relation: `exact`: the same bytes; `near`: the same picture; `burst`: a moment before or after.
        action: `keep` when it must not go; `why` says why.
        distance: bits in which the perceptual hashes differ; None where a hash is missing.
        cosine: of the embeddings; None for an exact copy.
        loses: what it says about itself and the kept file does not.
    """

    file: FileCopy
    relation: Relation
    action: Action
    why: str | None
    distance: int | None
    cosine: float | None
    loses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """One file to keep and the others, by path."""

    kind: Relation
    keeper: FileCopy
    members: tuple[Member, ...]

    @property
    def removable(self) -> tuple[Member, ...]:
        return tuple(member for member in self.members if member.action == "remove")


@dataclass(frozen=True, slots=True)
class Duplicates:
    """All groups, by the path of the kept file.

    Attributes:
        without_look: pictures that have no perceptual hash; near ones are not found among them for certain.
        raw_pairs: pictures that a camera wrote as RAW and as another format: never duplicates.
        decided: pairs that a person has decided to keep.
    """

    groups: tuple[DuplicateGroup, ...]
    without_look: int
    raw_pairs: int
    decided: int


def find_duplicates(
    index: Index,
    kinds: Collection[Relation] = ("exact", "near"),
    *,
    folders: Sequence[bytes] = (),
    rule: KeepRule | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Duplicates:
    """Return the groups of files that are one picture or one moment.

    Args:
        kinds: exact copies, near duplicates, bursts.
        folders: look only at files at or below these, `os.fsencode` of absolute paths; none: everywhere.
        rule: which file of a group is kept.
        on_progress: told how many more pictures were read to be compared.
    """
    rule = rule or KeepRule()
    copies = index.copies
    alive = copies.living_contents(folders)
    inside = set(alive.tolist())
    edges: dict[tuple[int, int], Edge] = {}
    without_look = 0
    if "near" in kinds:
        edges, without_look = near_edges(index, alive)
    wanted = {number for pair in edges for number in pair}
    shared = [number for number in copies.shared_contents() if number in inside]
    wanted.update(shared if "exact" in kinds or "near" in kinds else ())
    files = _files_of(copies.of(sorted(wanted)), folders)
    verdicts = index.verdicts()
    decided = 0
    raw_pairs = 0
    for pair in list(edges):
        one, two = (files.get(number) for number in pair)
        if not one or not two or not likeness.may_be_one(one[0], two[0]):
            del edges[pair]
        elif _key(one[0], two[0]) in verdicts:
            decided += 1
            del edges[pair]
        elif (one[0].format == "RAW") != (two[0].format == "RAW"):
            # The RAW and what was made of it are two things; which one is wanted is not ours to say.
            raw_pairs += any(_stem(a.path) == _stem(b.path) for a in one for b in two)
            del edges[pair]
    kept_copies = {number for number, found in files.items() if _key(found[0], found[0]) in verdicts}
    decided += sum(len(files[number]) > 1 for number in kept_copies)
    groups: list[DuplicateGroup] = []
    gone: set[int] = set()
    neighbors: dict[int, dict[int, Edge]] = {}
    for (one_id, two_id), edge in edges.items():
        neighbors.setdefault(one_id, {})[two_id] = neighbors.setdefault(two_id, {})[one_id] = edge
    comparison = Comparison(on_progress)
    for batch in _batches(_components(files, edges, exact="exact" in kinds)):
        comparison.load([files[number] for found in batch for number in found if len(found) > 1])
        for component in batch:
            for group in _split(
                component, files, neighbors, rule, kept_copies, comparison, exact="exact" in kinds
            ):
                groups.append(group)
                gone.update(member.file.content_id for member in group.members)
    if "burst" in kinds:
        groups.extend(_bursts(index, inside - gone, folders, rule, verdicts))
    groups.sort(key=lambda group: (group.keeper.path, group.kind))
    return Duplicates(tuple(groups), without_look, raw_pairs, decided)


# -- groups


def _components(
    files: Mapping[int, list[FileCopy]], edges: Mapping[tuple[int, int], Edge], *, exact: bool
) -> list[list[int]]:
    """Return the contents that hang together, sorted; one alone only when it has copies."""
    parent = {number: number for number in files}

    def root(number: int) -> int:
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number

    for one, two in edges:
        parent[root(one)] = root(two)
    together: dict[int, list[int]] = {}
    for number in sorted(files):
        together.setdefault(root(number), []).append(number)
    return [found for found in together.values() if len(found) > 1 or (exact and len(files[found[0]]) > 1)]


def _batches(components: Sequence[list[int]]) -> Iterator[list[list[int]]]:
    """Yield components in runs of up to `_COMPARED_AT_ONCE` pictures; of a larger one the first so many."""
    batch: list[list[int]] = []
    size = 0
    for component in components:
        component = component[: 4 * _COMPARED_AT_ONCE]
        if batch and size + len(component) > _COMPARED_AT_ONCE:
            yield batch
            batch, size = [], 0
        batch.append(component)
        size += len(component) if len(component) > 1 else 0
    if batch:
        yield batch


def _split(
    component: Sequence[int],
    files: Mapping[int, list[FileCopy]],
    neighbors: Mapping[int, Mapping[int, Edge]],
    rule: KeepRule,
    kept_copies: Collection[int],
    comparison: Comparison,
    *,
    exact: bool,
) -> Iterator[DuplicateGroup]:
    """Yield groups: the best file with all that are near it, then the best of the rest, and so on."""
    left = set(component)
    every = [file for number in component for file in files[number]]
    for keeper in sorted(every, key=lambda file: keep_order(file, rule)):
        number = keeper.content_id
        if number not in left:
            continue
        left.discard(number)
        members = []
        if exact and number not in kept_copies:
            members += [
                _member(keeper, file, "exact", 0, None, rule) for file in _others(files[number], keeper)
            ]
        for other, edge in sorted(neighbors.get(number, {}).items()):
            same = comparison.same(keeper, files[other][0]) if other in left else False
            if same is not False:
                left.discard(other)
                members += [
                    _member(keeper, file, "near", edge.distance, edge.cosine, rule, compared=same is True)
                    for file in files[other]
                ]
        if members:
            kind: Relation = "near" if any(member.relation == "near" for member in members) else "exact"
            yield DuplicateGroup(kind, keeper, tuple(sorted(members, key=lambda member: member.file.path)))


def _others(files: Sequence[FileCopy], keeper: FileCopy) -> list[FileCopy]:
    """Return the other files of a content, without further names of the kept one on disk."""
    return [file for file in files if (file.inode, file.dev) != (keeper.inode, keeper.dev)]


def _member(
    keeper: FileCopy,
    file: FileCopy,
    relation: Relation,
    distance: int | None,
    cosine: float | None,
    rule: KeepRule,
    *,
    compared: bool = True,
) -> Member:
    why = None
    if rule.is_reference(file.path):
        why = "in a reference folder"
    elif relation != "exact" and keeper.status != "ok":
        why = "the other one is readable only in part"
    elif not compared:
        why = "cannot be read as it was indexed; run: pixseek index FOLDER"
    return Member(file, relation, "keep" if why else "remove", why, distance, cosine, _losses(keeper, file))


def _losses(keeper: FileCopy, file: FileCopy) -> tuple[str, ...]:
    """Return the names of what a file says about itself and the kept one does not."""
    lost = [
        name
        for name in ("caption", "rating", "taken_at", "camera")
        if getattr(file, name) not in (None, "") and getattr(keeper, name) in (None, "")
    ]
    if file.latitude is not None and keeper.latitude is None:
        lost.append("place")
    if set(file.keywords) - set(keeper.keywords):
        lost.append("keywords")
    return tuple(lost)


# -- bursts


def _bursts(
    index: Index,
    inside: Collection[int],
    folders: Sequence[bytes],
    rule: KeepRule,
    verdicts: Collection[tuple[bytes, bytes]],
) -> Iterator[DuplicateGroup]:
    """Yield groups of look-alikes of one camera, at most 3 s from one to the next and 60 s in all."""
    for run in _runs([shot for shot in index.copies.shots() if shot[2] in inside]):
        ids, rows = index.copies.vectors(run)
        files = _files_of(index.copies.of(run), folders)
        vectors = {number: row.astype(np.float32) for number, row in zip(ids.tolist(), rows, strict=True)}
        left = {number for number in run if number in files and number in vectors}
        firsts = [min(files[number], key=lambda file: keep_order(file, rule, burst=True)) for number in left]
        for keeper in sorted(firsts, key=lambda file: keep_order(file, rule, burst=True)):
            if keeper.content_id not in left:
                continue
            left.discard(keeper.content_id)
            members = []
            for number in sorted(left):
                cosine = float(vectors[keeper.content_id] @ vectors[number])
                first = files[number][0]
                if cosine < likeness.BURST_COSINE or _key(keeper, first) in verdicts:
                    continue
                if (first.format == "RAW") != (keeper.format == "RAW"):
                    continue
                distance = _bits(keeper, first)
                members += [
                    _member(keeper, file, "burst", distance, round(cosine, 4), rule) for file in files[number]
                ]
            left.difference_update(member.file.content_id for member in members)
            if members:
                members.sort(key=lambda member: member.file.path)
                yield DuplicateGroup("burst", keeper, tuple(members))


def _runs(shots: Sequence[tuple[str, str, int]]) -> Iterator[list[int]]:
    """Yield content ids of shots of one camera that follow one another; runs of one are left out."""
    timed = sorted(
        (camera, when, number)
        for camera, taken_at, number in shots
        if (when := likeness.seconds(taken_at)) is not None
    )
    run: list[int] = []
    begun = 0.0
    for before, now in pairwise([("", 0.0, 0), *timed]):
        if not (run and likeness.follows(before[:2], now[:2], begun)):
            if len(run) > 1:
                yield run
            run, begun = [], now[1]
        run.append(now[2])
    if len(run) > 1:
        yield run


# -- small things


def _files_of(files: dict[int, list[FileCopy]], folders: Sequence[bytes]) -> dict[int, list[FileCopy]]:
    """Return the files at or below the folders. Links are left out: to remove one frees nothing."""
    kept = {
        number: [
            file
            for file in found
            if (not folders or any(is_below(file.path, folder) for folder in folders))
            and not os.path.islink(file.path)
        ]
        for number, found in files.items()
    }
    return {number: found for number, found in kept.items() if found}


def is_below(path: bytes, folder: bytes) -> bool:
    return path == folder or path.startswith(folder.rstrip(b"/") + b"/")


def _key(one: FileCopy, two: FileCopy) -> tuple[bytes, bytes]:
    return min(one.content_hash, two.content_hash), max(one.content_hash, two.content_hash)


def _stem(path: bytes) -> bytes:
    return os.path.splitext(path)[0].lower()


def _bits(one: FileCopy, two: FileCopy) -> int | None:
    if one.look is None or two.look is None or likeness.PLAIN in (one.look.phash, two.look.phash):
        return None
    return (one.look.phash ^ two.look.phash).bit_count()
