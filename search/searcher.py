"""`Searcher`: a question in, the nearest files out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from encoders import EncoderMismatchError, UsageError
from search.aims import Aim, Embedding, Examples, Load, aims_of, each_once, embeddings_of
from search.calibration import NOTHING, Calibration
from search.feedback import feedback_parts
from search.fusion import Ints, join_texts, mmr
from search.judging import DOUBTFUL, Judge, probable
from search.listing import Listable, hits_of, list_files
from search.narrowing import Doorman, Found, grouped, labels_of
from search.query import Fusion, Picture, Query, Term, Text, load_part
from search.ranking import Library, Question, Ranked
from search.reading import Readable, asked_words, read_ahead
from search.results import Results
from search.soundness import refuse_nonsense

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image

    from encoders import Encoder
    from indexer import Selection, Space

DEFAULT_FUSION: Fusion = "hybrid"
"""What a question without a wish gets; docs/fusion.md has the numbers."""

PUSH = 0.3
"""Weight with which what is excluded is also subtracted; docs/scores.md has the numbers."""

# Frames asked for at first: room for videos and tiles, of which only the best frame counts, and for copies.
_FIRST_FETCH = 64
# Equal scores at the border are followed this far, so that the path decides and not the order of storage.
_TIES = 4096
# Hits that a knee, a group or a diverse choice is looked for among.
_POOL = 200
_HIGHEST_K = 1 << 16


class OpenIndex(Examples, Library, Readable, Listable, Protocol):
    """The part of `indexer.Index` that a search needs."""

    @property
    def space(self) -> Space | None: ...
    def frames(
        self, frame_ids: Sequence[int], among: Selection | None = None
    ) -> Mapping[int, Sequence[Any]]: ...
    def files_of(self, frame_ids: Sequence[int], among: Selection | None = None) -> Ints: ...


class Searcher:
    """Answers questions about one open index with the encoder that made it.

    Args:
        index: open for reading, not empty.
        encoder: must have the fingerprint of the index's space.
        load: opens the pictures of a question; the default reads files and public addresses.
        cache_dir: where it is kept what the scores of an encoder are worth that came without a calibration;
            without a folder they are only compared with the library's own.
    Raises:
        EncoderMismatchError: the index was made with another encoder.
        UsageError: the index is empty.
    """

    def __init__(
        self,
        index: OpenIndex,
        encoder: Encoder,
        *,
        load: Load = load_part,
        cache_dir: Path | None = None,
    ) -> None:
        space = index.space
        if space is None:
            raise UsageError("the index is empty; fill it with: pixseek index FOLDER")
        if encoder.fingerprint != space.fingerprint or encoder.dim != space.dim:
            raise EncoderMismatchError(space.spec, space.fingerprint, encoder.spec, encoder.fingerprint)
        self._index, self._encoder, self._load = index, encoder, load
        self._calibration = Calibration.for_encoder(encoder, cache_dir)

    @property
    def image_size(self) -> int:
        """The side in pixels that a query picture needs at least."""
        return self._encoder.image_size

    def search_text(self, text: str, k: int = 10) -> Results:
        """Return up to k files that show what the sentence says, taken as it stands, best first.

        Raises:
            UsageError: the text is blank, or k is below 1.
            EncoderError: the encoder returned something that is no embedding.
        """
        return self.search(Query((Term(Text(text)),), k=k))

    def search_image(self, image: Image.Image, k: int = 10, *, exclude: Collection[bytes] = ()) -> Results:
        """Return up to k files that look like the image, best first.

        Args:
            image: RGB, upright, any size.
            exclude: paths to leave out, as in `Hit.path`.
        Raises:
            UsageError: k is below 1.
            EncoderError: the encoder returned something that is no embedding.
        """
        return self.search(Query((Term(Picture(image)),), k=k, exclude=frozenset(exclude)))

    def search(self, query: Query) -> Results:
        """Return up to `query.k` files that answer the question; why not more is in the result.

        Raises:
            UsageError: the question contradicts itself, or a picture, id or concept of it is not there.
            EncoderError: the encoder returned something that is no embedding.
        """
        refuse_nonsense(query)
        # Conditions alone need nothing of what pictures show.
        if not (query.terms or query.like or query.unlike):
            return list_files(self._index, query)
        fusion = query.fusion or DEFAULT_FUSION
        terms = query.terms if fusion == "late" else _joined(query.terms)
        with read_ahead(self._index, query.where, asked_words(terms) if fusion == "hybrid" else ""):
            aims = aims_of(terms, self._index, self._encoder, self._load, self._calibration.prompts)
        among = self._index.select(query.where)
        sample = self._index.sample()
        unwanted = [aim for aim in aims if aim.excluded]
        doorman = Doorman(self._index, self._calibration, unwanted, sample)
        wanted = each_once([aim for aim in aims if not aim.excluded])
        total = sum(max(aim.weight, 0.0) for aim in wanted) or 1.0
        parts = [*wanted, *self._examples(query, sample, total)]
        if not parts:
            return list_files(self._index, query, doorman)
        # What is excluded also pushes: of what stays, the more it looks like that, the later it comes.
        parts += [replace(aim, weight=-PUSH * total, excluded=False, words=None) for aim in unwanted]
        question = Question.of(parts, sample, fusion)
        judge = Judge(question, wanted, self._index, self._calibration, sample, among.files)
        return self._ranked(query, among, question, judge, doorman)

    def _examples(self, query: Query, sample: Embedding, beside: float) -> list[Aim]:
        liked, disliked = (
            embeddings_of(file_ids, self._index, self._encoder.dim) for file_ids in (query.like, query.unlike)
        )
        vectors, weights, kinds = feedback_parts(liked, disliked, sample, beside=beside)
        return [Aim(*part) for part in zip(vectors, kinds, weights, strict=True)]

    def _ranked(
        self, query: Query, among: Selection, question: Question, judge: Judge, doorman: Doorman
    ) -> Results:
        # What is grouped, spread or cut at a knee is chosen from more than what is shown.
        wide = query.group or query.diversity or query.auto_cut
        wish = max(query.k, _POOL) if wide else query.k
        fetch = max(_FIRST_FETCH, 2 * min(wish, _HIGHEST_K))
        seen = _Seen(unlike=frozenset(query.unlike), counted=not (doorman.is_idle or query.exclude))
        # An encoder of which only its own library is known cannot tell a library of one theme from junk.
        may_be_nothing = self._calibration.absolute and judge.of_text
        while True:
            frames, exhausted = question.best_frames(self._index, fetch, among)
            found = [
                one
                for one in self._best_per_file(frames, among, seen, doorman)
                if one.record.path not in query.exclude and one.record.file_id not in query.unlike
            ]
            admitted = judge.probabilities(doorman.admit(found))
            best = judge.anything(admitted)
            kept = probable(admitted, query, nothing=may_be_nothing and best < NOTHING)
            groups = grouped(kept, labels_of(kept, query.group, self._index))
            if exhausted or _runs_dry(admitted, kept):
                break
            # A frame that was not fetched could still tie with the last hit and come before it by its path.
            settled = len(groups) >= wish and frames[-1].key < groups[wish - 1][0].key
            if settled or (len(groups) >= wish and fetch >= 4 * wish + _TIES):
                break
            fetch *= 4
        if query.diversity:
            groups = self._spread(groups, query)
        return Results(
            query,
            hits_of(groups[: query.k], query.sort),
            searched=among.total,
            left=among.files,
            excluded=len(doorman.turned_away),
            cut=len(admitted) - len(kept),
            best_probability=best,
            notes=_doubts(best) if may_be_nothing and kept and query.min_probability is None else (),
        )

    def _best_per_file(
        self, frames: Sequence[Ranked], among: Selection, seen: _Seen, doorman: Doorman
    ) -> list[Found]:
        """Return each file by its best frame, best first; ties in the order of paths, then of frames.

        Files that the doorman surely turns away are left out: only their ids are read, not their rows.
        """
        new = [frame.frame_id for frame in frames if frame.frame_id not in seen.frames]
        seen.frames.update(new)
        shows = doorman.showing(new) if seen.counted else set()
        seen.records.update(self._index.frames([frame for frame in new if frame not in shows], among))
        if shows:
            for frame_id, file_id in self._index.files_of(sorted(shows), among).tolist():
                seen.shown.setdefault(frame_id, []).append(file_id)
        best: dict[int, Found] = {}
        turned_away: dict[int, tuple[float, int]] = {}
        for frame in frames:
            score = max(-1.0, min(1.0, frame.score))
            for record in seen.records.get(frame.frame_id, ()):
                known = best.get(record.file_id)
                if known is None or (frame.key, -record.frame_id) > (known.key, -known.record.frame_id):
                    best[record.file_id] = Found(frame.key, score, record, frame.written)
            for file_id in seen.shown.get(frame.frame_id, ()):
                place = (frame.key, -frame.frame_id)
                turned_away[file_id] = max(place, turned_away.get(file_id, place))
        for file_id, place in turned_away.items():
            other = best.get(file_id)
            if other is not None and (other.key, -other.record.frame_id) > place:
                continue  # what shows the unwanted is not what matched best
            best.pop(file_id, None)
            if file_id not in seen.unlike:
                doorman.turned_away.add(file_id)
        return sorted(best.values(), key=lambda one: (-one.key, one.record.path, one.record.frame_id))

    def _spread(self, groups: list[list[Found]], query: Query) -> list[list[Found]]:
        """Return the groups in an order that is relevant and varied, by their best pictures."""
        pool = groups[: max(_POOL, 5 * min(query.k, _HIGHEST_K))]
        vectors = self._index.vectors_of([group[0].record.frame_id for group in pool])
        pool = [group for group in pool if group[0].record.frame_id in vectors]
        if not pool:
            return groups
        embeddings = np.stack([vectors[group[0].record.frame_id] for group in pool])
        keys = np.array([group[0].key for group in pool])
        order = mmr(embeddings, keys, min(query.k, len(pool)), query.diversity)
        return [pool[place] for place in order]


@dataclass(slots=True)
class _Seen:
    """What was read for one question: it asks again for more, and most of that is the same.

    Attributes:
        unlike: files that are no answers.
        counted: files that are turned away are known by their frames, without their rows.
        frames: those that were read.
        records: {frame: rows of its files}.
        shown: {frame that shows what is excluded: its files}.
    """

    unlike: frozenset[int]
    counted: bool
    frames: set[int] = field(default_factory=set)
    records: dict[int, Sequence[Any]] = field(default_factory=dict)
    shown: dict[int, list[int]] = field(default_factory=dict)


def _doubts(best: float) -> tuple[str, ...]:
    if best >= DOUBTFUL:
        return ()
    line = f"nothing in this library probably matches well (best: {100 * best:.0f} %); these are the nearest"
    return (line,)


def _runs_dry(admitted: Sequence[Found], kept: Sequence[Found]) -> bool:
    """Return whether the whole second half of a list was cut, so that more of it would be, too."""
    half = {one.record.file_id for one in admitted[len(admitted) // 2 :]}
    return len(half) >= _FIRST_FETCH // 4 and half.isdisjoint(one.record.file_id for one in kept)


def _joined(terms: Sequence[Term]) -> tuple[Term, ...]:
    """Return the terms, texts that can be said in one sentence as one."""
    texts = [term for term in terms if isinstance(term.part, Text) and not term.excluded]
    others = [term for term in terms if not isinstance(term.part, Text) or term.excluded]
    pairs = join_texts(
        [term.part.words for term in texts if isinstance(term.part, Text)], [term.weight for term in texts]
    )
    return (*(Term(Text(words), weight) for words, weight in pairs), *others)
