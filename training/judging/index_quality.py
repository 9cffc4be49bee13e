"""An index judged: does its nearest search find what an exact one finds, and do its owner's words?"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from encoders import Embeddings, Encoder, EncoderMismatchError
from training.errors import DatasetError
from training.judging.bootstrap import DRAWS, means
from training.judging.evaluate import (
    Evaluation,
    Measure,
    Progress,
    Watch,
    encode_sentences,
    measure,
    retrieval,
)
from training.judging.metrics import Floats, Ints, distinct, found_share
from training.sets.folders import sidecars
from training.sets.samples import Sample, in_words

if TYPE_CHECKING:
    from indexer import Index

DEPTHS = (1, 10, 100)
QUERIES = 1000
"""Queries of each kind, unless a limit says otherwise."""
_RECORDS = 2000


def evaluate_index(
    index: Index,
    encoder: Encoder,
    *,
    limit: int | None = None,
    seed: int = 0,
    draws: int = DRAWS,
    on_progress: Watch | None = None,
) -> Evaluation:
    """Return the recall of the nearest search against an exact one, and of the owner's words.

    Queries are embeddings of the index itself, the captions or keywords in sidecars or in the pictures, and
    the names of folders below those that were indexed. Words are right with any picture that has them.
    All embeddings are held in memory.

    Args:
        encoder: the one that made the index.
        limit: at most so many queries of each kind, drawn at random (default `QUERIES`).
        seed: of the drawing and of the bootstrap.
    Raises:
        DatasetError: the index is empty.
        EncoderMismatchError: another encoder made it.
    """
    began = time.monotonic()
    watch = on_progress or (lambda progress: None)
    space = index.space
    parts = list(index.embeddings())
    if space is None or not sum(len(ids) for ids, _ in parts):
        raise DatasetError(f"index {index.folder} is empty; fill it with: pixseek index FOLDER")
    if encoder.fingerprint != space.fingerprint:
        raise EncoderMismatchError(space.spec, space.fingerprint, encoder.spec, encoder.fingerprint)
    frames = np.concatenate([ids for ids, _ in parts])
    rows = np.concatenate([vectors for _, vectors in parts])
    del parts
    rng, most = np.random.default_rng(seed), limit or QUERIES

    result = Evaluation(str(index.folder), encoder.spec, encoder.fingerprint, len(rows), 0, seed)
    own = rng.permutation(len(rows))[:most]
    result.measures.extend(
        _nearest("nearest, by picture", index, rows, frames, rows[own], seed, draws, watch)
    )
    whole, written, folders = _words(index, frames, watch)
    tasks = [("text-to-image", written)]
    if len({word for group in folders for word in group}) > 1:
        tasks.append(("folder-to-image", folders))
    asked: list[str] = []
    embedded: list[Embeddings] = []
    for task, words in tasks:
        sentences, sentence_of, picture_of = distinct(words)
        if not sentences:
            continue
        chosen = np.sort(rng.permutation(len(sentences))[:most])
        kept = np.isin(sentence_of, chosen)
        texts = [sentences[i] for i in chosen]
        vectors = encode_sentences(encoder, texts, watch)
        asked, embedded = asked + texts, [*embedded, vectors]
        pairs = np.searchsorted(chosen, sentence_of[kept]), picture_of[kept]
        result.measures.extend(
            retrieval(rows[whole], vectors, *pairs, seed=seed, draws=draws, both=False, task=task)
        )
    if embedded:
        queries = np.concatenate(embedded)
        result.measures.extend(_nearest("nearest, by text", index, rows, frames, queries, seed, draws, watch))
    seconds = round(time.monotonic() - began, 2)
    return replace(
        result, pictures=len(whole), sentences=len(asked), notes=list(index.warnings), seconds=seconds
    )


def _nearest(
    task: str,
    index: Index,
    rows: Embeddings,
    frames: Ints,
    queries: Embeddings,
    seed: int,
    draws: int,
    watch: Watch,
) -> list[Measure]:
    """Return recall@1/10/100 of `Index.nearest` against all embeddings, as far as there are so many."""
    depths = [k for k in DEPTHS if k <= len(rows)]
    place = {int(frame): i for i, frame in enumerate(frames)}
    exact: list[Floats] = []
    found: list[Floats] = []
    for number, query in enumerate(queries):
        if number % 50 == 0:
            watch(Progress(len(queries), number))
        scores = (rows @ query).astype(np.float64)
        exact.append(-np.sort(np.partition(-scores, depths[-1] - 1)[: depths[-1]]))
        near = index.nearest(query, depths[-1])
        found.append(scores[[place[neighbor.frame_id] for neighbor in near if neighbor.frame_id in place]])
    best = np.stack(exact)
    each = np.arange(len(queries), dtype=np.int64)
    columns = {f"recall@{k}": found_share(found, best, k) for k in depths}
    estimates = means(columns, each, each, len(queries), seed=seed, draws=draws)
    return [measure(task, name, one, len(queries)) for name, one in estimates.items()]


def _words(
    index: Index, frames: Ints, watch: Watch
) -> tuple[Ints, list[tuple[str, ...]], list[tuple[str, ...]]]:
    """Return (rows that are whole pictures, their captions or keywords, the names of their folders).

    Tiles of long pictures are left out: the words are about the whole.
    """
    roots = {root.rstrip(b"/") for root in index.status().roots}
    beside: dict[Path, frozenset[str]] = {}
    whole: list[int] = []
    written: list[tuple[str, ...]] = []
    folders: list[tuple[str, ...]] = []
    for start in range(0, len(frames), _RECORDS):
        watch(Progress(len(frames), start))
        part = frames[start : start + _RECORDS].tolist()
        records = index.frames(part)
        for number, frame in enumerate(part):
            files = [record for record in records.get(frame, []) if record.region is None]
            if not files:
                continue
            texts = [text for record in files for text in _written(record, beside)]
            names = [
                in_words(os.fsdecode(os.path.basename(os.path.dirname(record.path))))
                for record in files
                if os.path.dirname(record.path) not in roots
            ]
            whole.append(start + number)
            written.append(tuple(dict.fromkeys(texts)))
            folders.append(tuple(dict.fromkeys(names)))
    return np.array(whole, np.int64), written, folders


def _written(record: Any, beside: dict[Path, frozenset[str]]) -> Sequence[str]:
    """Return the captions, else the keywords, of a file: its sidecars first, then what it says itself."""
    path = Path(os.fsdecode(record.path))
    if path.parent not in beside:
        try:
            beside[path.parent] = frozenset(os.listdir(path.parent))
        except OSError:  # the drive is not mounted: the index still knows what the pictures said
            beside[path.parent] = frozenset()
    try:
        meta = sidecars(path, beside[path.parent])
        texts = Sample.of(path.name, b"", meta).texts
    except DatasetError:  # a json beside a picture that has nothing to do with it
        texts = ()
    said = {"caption": record.caption, "keywords": list(record.keywords)}
    return texts or Sample.of(path.name, b"", said).texts
