"""Making the lists of `indexer.tiers` from a snapshot, in bounded memory, and measuring what they miss.

Rows are read from the snapshot's file a slab at a time; codes are written to their lists' places in the new
file. Memory holds a slab, a sample for training and four bytes a row. A kill leaves a temp file that the next
run deletes; until the catalog names the new file, questions are answered as before.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from indexer import tiers
from indexer.asked import asked_vectors
from indexer.clusters import Clusters
from indexer.errors import storage_errors
from indexer.records import SnapshotRecord, Space, TierRecord
from indexer.scanning import Rows
from indexer.snapshots import open_snapshot, seal_file, sweep_strays

if TYPE_CHECKING:
    from indexer.ledger import Ledger

RECALL = 0.985
"""Of recall@10 on the queries measured here, so that others, too, find 0.98 of the exact answer."""
_SLAB_ROWS = 131_072
_TRAINING_ROWS = 262_144
"""0.4 GB at 384 dimensions."""
_PICTURES = 64
"""Of the library, asked as queries; as many sentences."""
_OWN = 128
"""Of a person's last questions."""
_HITS = 100
_NICE = 10

_SUBJECTS = (
    "a dog", "a cat", "two children playing", "a woman smiling", "a man with a beard", "a birthday cake",
    "a wedding", "people at a table", "a red car", "a bicycle", "an old house", "a church", "a bridge",
    "boats", "mountains", "a sunset", "flowers", "a tree in autumn", "snow", "fireworks", "a screenshot",
    "a receipt", "a document", "food on a plate", "a bird", "a horse", "a concert", "a football match",
    "a baby asleep", "a view from above", "black and white portrait", "a whiteboard",
)  # fmt: skip
_PLACES = (" on a beach", " at night", " in a city", " in the garden", " indoors", " in the rain")

Matrix = npt.NDArray[np.float32]


class Stopped(Exception):
    """`stop` was set: nothing was made."""


@dataclass(slots=True)
class Queries:
    """What recall is measured on: (n, dim) unit embeddings, and the kind of each.

    Attributes:
        own: how many of them a person had asked.
    """

    vectors: Matrix
    kinds: npt.NDArray[np.int64]
    own: int


def wants_tier(ledger: Ledger, space: Space) -> SnapshotRecord | None:
    """Return the snapshot that new lists would be made of, None where they would not pay."""
    newest = next((record for record in ledger.snapshots() if record.space_id == space.id), None)
    if newest is None or newest.count < tiers.FROM_ROWS:
        return None
    known = next((record for record in ledger.tiers() if record.space_id == space.id), None)
    if known is not None:
        rows, _ = open_snapshot(ledger.folder, newest, space)
        tier, trouble = tiers.open_tier(ledger.folder, known, space)
        grown = newest.count - known.count > tiers.GROWN_SHARE * known.count
        if rows is None or (tier is not None and not trouble and tier.covers(rows) and not grown):
            return None
    return newest


def build_tier(
    ledger: Ledger,
    space: Space,
    encode_texts: Callable[[Sequence[str]], Matrix],
    *,
    stop: threading.Event | None = None,
    on_start: Callable[[int], None] | None = None,
) -> TierRecord | None:
    """Make lists where they pay and name them in the catalog; the caller holds the writer's lock.

    Works in a thread of low priority.
    Args:
        encode_texts: the encoder's. Sentences lie far from pictures and need more lists.
        stop: when set, the work ends and nothing was made; the next run begins again.
        on_start: told of how many embeddings lists are made, before that begins; not where none are.
    Raises:
        IndexStorageError.
    """
    record = wants_tier(ledger, space)
    if record is None:
        return None
    rows, _ = open_snapshot(ledger.folder, record, space)
    if rows is None:
        return None
    if on_start is not None:
        on_start(len(rows))
    queries = _queries(ledger, space, rows, encode_texts(everyday_sentences()))
    found: list[TierRecord | BaseException] = []
    cut = stop or threading.Event()

    def work() -> None:
        try:
            _lower_priority()
            found.append(_build(ledger, space, rows, record, queries, cut))
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=work, name="lists")
    thread.start()
    try:
        thread.join()
    except BaseException:  # an interrupt
        cut.set()
        thread.join()
        raise
    (result,) = found
    if isinstance(result, Stopped):
        return None
    if isinstance(result, BaseException):
        raise result
    ledger.name_tier(result)
    sweep_strays(ledger)
    return result


def _lower_priority() -> None:
    if hasattr(os, "setpriority") and os.path.isdir("/proc/self/task"):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


def list_count(rows: int) -> int:
    """Return into how many lists so many embeddings are sorted: 4,096 for a million, 16,384 for ten."""
    return int(2 ** max(0, round(float(np.log2(4 * max(1, rows) ** 0.5)))))


def _build(
    ledger: Ledger,
    space: Space,
    rows: Rows,
    record: SnapshotRecord,
    queries: Queries,
    stop: threading.Event,
) -> TierRecord:
    def check() -> None:
        if stop.is_set():
            raise Stopped

    sample = _training_rows(rows, check)
    clusters = Clusters.of(sample, min(list_count(len(rows)), len(sample)), check=check)
    check()
    index = _empty(space.dim, clusters, sample)
    del sample
    exact = _Exact(queries.vectors)
    assigned = np.empty(len(rows), np.int32)
    for start, slab in _slabs(rows, check):
        assigned[start : start + len(slab)] = clusters.assign(slab)
        exact.add(start, slab)
    name = f"lists-{record.through_id}-{secrets.token_hex(4)}.faiss"
    path = ledger.folder / name
    partial = path.with_name(name + ".tmp")
    with storage_errors(ledger.folder):
        try:
            with partial.open("wb") as stream:
                _write_lists(stream, index, rows, assigned, check)
            check()
            seal = seal_file(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    made = TierRecord(
        0, space.id, name, seal.hash, seal.size_bytes, seal.mtime_ns, seal.ctime_ns, seal.inode,
        record.through_id, record.count, len(clusters.centroids), 1, 0.0, 0.0,
        len(queries.vectors), queries.own,
    )  # fmt: skip
    return _measured(ledger, space, rows, made, queries, exact, check)


def _training_rows(rows: Rows, check: Callable[[], None]) -> Matrix:
    count = min(len(rows), _TRAINING_ROWS)
    places = np.arange(count, dtype=np.int64) * len(rows) // count
    sample = np.empty((count, rows.codes.shape[1] // 2), np.float32)
    for start in range(0, count, 8_192):  # on a slow disk a second
        check()
        sample[start : start + 8_192] = rows.at(places[start : start + 8_192])
    return sample


def _slabs(rows: Rows, check: Callable[[], None]) -> Iterator[tuple[int, Matrix]]:
    for start in range(0, len(rows), _SLAB_ROWS):
        check()
        yield start, rows.read(start, min(start + _SLAB_ROWS, len(rows)))


# -- the file


def _empty(dim: int, clusters: Clusters, sample: Matrix) -> Any:
    """Return a trained FAISS index without rows. Codes are of what is left of a row beside its centroid."""
    import faiss

    quantizer = faiss.IndexFlatIP(dim)
    quantizer.add(clusters.centroids)
    lists, codes = len(clusters.centroids), faiss.ScalarQuantizer.QT_8bit
    index = faiss.IndexIVFScalarQuantizer(quantizer, dim, lists, codes, faiss.METRIC_INNER_PRODUCT, True)
    index.train(np.ascontiguousarray(sample[:: max(1, len(sample) // 65_536)]))
    return index


def _write_lists(
    stream: IO[bytes], index: Any, rows: Rows, assigned: npt.NDArray[np.int32], check: Callable[[], None]
) -> None:
    """Write what `faiss.write_index` would write of the index with all rows in it.

    The lists stand one behind the other, each its codes and then its ids, which are places in the snapshot.
    """
    import faiss

    sizes = np.bincount(assigned, minlength=index.nlist).astype(np.int64)
    index.ntotal = len(rows)
    # Without rows it ends with a kind of list and the length of a table of sizes, 4 and 8 bytes.
    head = bytes(faiss.serialize_index(index))[:-12]
    head += b"full" + index.nlist.to_bytes(8, "little") + sizes.tobytes()
    width = int(index.code_size)
    ends = len(head) + np.cumsum(sizes * (width + 8))
    codes_at = ends - sizes * (width + 8)
    ids_at = codes_at + sizes * width
    stream.write(head)
    stream.flush()
    fd = stream.fileno()
    for start, slab in _slabs(rows, check):
        lists = assigned[start : start + len(slab)].astype(np.int64)
        codes = np.empty((len(slab), width), np.uint8)
        index.encode_vectors(len(slab), faiss.swig_ptr(slab), faiss.swig_ptr(lists), faiss.swig_ptr(codes))
        order = np.argsort(lists, kind="stable")
        codes, places = codes[order], (order + start).astype(np.int64)
        edges = np.flatnonzero(np.diff(lists[order], prepend=-1))
        for first, last in zip(edges.tolist(), [*edges[1:].tolist(), len(order)], strict=True):
            number = int(lists[order[first]])
            _put(fd, codes[first:last], int(codes_at[number]))
            _put(fd, places[first:last], int(ids_at[number]))
            codes_at[number] += (last - first) * width
            ids_at[number] += (last - first) * 8


def _put(fd: int, array: npt.NDArray[Any], offset: int) -> None:
    view = np.ascontiguousarray(array).data.cast("B")
    while view:
        done = os.pwrite(fd, view, offset)
        view, offset = view[done:], offset + done


# -- what they miss


class _Exact:
    """The best `_HITS` places of each query, over slabs of rows."""

    def __init__(self, queries: Matrix) -> None:
        import faiss

        self._queries = np.ascontiguousarray(queries)
        self._best = faiss.ResultHeap(len(queries), _HITS, keep_max=True)

    def add(self, start: int, slab: Matrix) -> None:
        import faiss

        scores, places = faiss.knn(
            self._queries, slab, min(_HITS, len(slab)), metric=faiss.METRIC_INNER_PRODUCT
        )
        self._best.add_result(scores, places + start)

    def places(self) -> npt.NDArray[np.int64]:
        self._best.finalize()
        return np.asarray(self._best.I)


def everyday_sentences() -> list[str]:
    """Return what people ask of their pictures: a thing, alone and somewhere."""
    return [
        f"{subject}{place}"
        for number, subject in enumerate(_SUBJECTS)
        for place in ("", _PLACES[number % len(_PLACES)])
    ]


def _queries(ledger: Ledger, space: Space, rows: Rows, texts: Matrix) -> Queries:
    """Return what a person asked before, sentences, and pictures of the library."""
    own = asked_vectors(ledger.folder, space)[-_OWN:]
    count = min(_PICTURES, len(rows))
    places = (np.arange(count, dtype=np.int64) * 2 + 1) * len(rows) // (2 * count)
    parts = [own, texts, rows.at(places)]
    kinds = np.repeat(np.arange(3), [len(part) for part in parts])
    return Queries(np.concatenate(parts), kinds, len(own))


def _measured(
    ledger: Ledger,
    space: Space,
    rows: Rows,
    made: TierRecord,
    queries: Queries,
    exact: _Exact,
    check: Callable[[], None],
) -> TierRecord:
    """Return the record with the fewest probes that find enough of every kind of query."""
    right = exact.places()
    tier, trouble = tiers.open_tier(ledger.folder, made, space)
    if tier is None:
        raise OSError(5, f"what was just written cannot be read: {trouble}")
    probes, found = 1, (0.0, 0.0)
    for probes in _steps(made.lists):
        found = _recall(tier, rows, queries, right, probes, check)
        if found[0] >= RECALL:
            break
    return replace(made, probes=probes, recall_at_10=found[0], recall_at_100=found[1])


def _steps(lists: int) -> list[int]:
    steps, probes = [], 4.0
    while probes < lists:
        steps.append(round(probes))
        probes *= 2**0.5
    return [*steps, lists]


def _recall(
    tier: tiers.Tier,
    rows: Rows,
    queries: Queries,
    right: npt.NDArray[np.int64],
    probes: int,
    check: Callable[[], None],
) -> tuple[float, float]:
    """Return (recall@10, recall@100), each of the kind of query that has the lowest."""
    near, far = np.empty(len(queries.vectors)), np.empty(len(queries.vectors))
    for number, query in enumerate(queries.vectors):
        check()
        _, scores = tier.nearest(query, _HITS, rows, probes=probes)
        # Twins share a score: what counts is how good the answer is, not which twin.
        best = right[number][right[number] >= 0]
        limits = rows.at(best[[min(10, len(best)) - 1, len(best) - 1]]) @ query
        ranked = np.sort(scores)[::-1]
        near[number] = min(1.0, np.count_nonzero(ranked[:10] >= limits[0] - 1e-6) / min(10, len(best)))
        far[number] = min(1.0, np.count_nonzero(ranked[:_HITS] >= limits[1] - 1e-6) / len(best))
    kinds = [queries.kinds == kind for kind in np.unique(queries.kinds)]
    return min(float(near[kind].mean()) for kind in kinds), min(float(far[kind].mean()) for kind in kinds)
