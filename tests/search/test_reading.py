"""What is read for a question, and when: ids before rows, the index while words are encoded."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from encoders import Embeddings, UsageError, normalize
from indexer import Index, Taken
from indexer.ledger import Ledger
from indexer.lock import WriterLock
from indexer.metadata import Metadata
from indexer.snapshots import publish
from search import Query, Searcher, Term, Text, compose_query, list_files
from search.reading import asked_words, read_ahead
from tests.color import COLORS, ColorEncoder
from tests.indexer import catalogs


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    """Five hundred pictures of two or three colours, some with tiles, some in two places."""
    folder, encoder = tmp_path_factory.mktemp("library"), ColorEncoder()
    rng = np.random.default_rng(5)
    contents, files = [], []
    for number in range(1, 501):
        tiles = 1 + 3 * (number % 5 == 0)
        made = catalogs.content(number, Metadata(taken_at=f"20{number % 24:02}-05-01T10:00:00"), frames=tiles)
        vectors = normalize(rng.random((tiles, len(COLORS)), np.float32) ** 3).astype(np.float16)
        contents.append(dataclasses.replace(made, vectors=vectors))
        files += [catalogs.shown_at(f"/p/{number % 7}/{number}.jpg", number)]
        files += [catalogs.shown_at(f"/copies/{number}.jpg", number)] * (number % 11 == 0)
    lock = WriterLock(folder)
    with Ledger.open_or_create(folder) as ledger:
        space = ledger.set_space(encoder.spec, encoder.fingerprint, encoder.dim, encoder.image_size)
        ledger.commit(space, contents, files)
        publish(ledger, space)
    lock.close()
    with Index.open(folder) as index:
        yield index


@pytest.mark.parametrize("k", [1, 10, 300])
@pytest.mark.parametrize("line", ["red -blue", "red -red", "green -red -yellow", "white -black in:/copies"])
def test_what_is_excluded_is_the_same_whether_ids_or_rows_are_read_first(
    library: Index, line: str, k: int
) -> None:
    searcher = Searcher(library, ColorEncoder())
    by_ids = dataclasses.replace(compose_query([line]), k=k)
    # With a path to leave out, every row is read.
    by_rows = dataclasses.replace(by_ids, exclude=frozenset({b"/nowhere"}))
    found, right = searcher.search(by_ids), searcher.search(by_rows)
    assert found.hits == right.hits
    assert (found.excluded, found.cut, found.best_probability) == (
        right.excluded, right.cut, right.best_probability,
    )  # fmt: skip
    assert found.excluded


def test_a_file_whose_best_part_does_not_show_it_is_told_by_its_whole(library: Index) -> None:
    """The same as one loop over all frames and files says."""
    encoder = ColorEncoder()
    red, blue = encoder.encode_texts(["red", "blue"])
    searcher = Searcher(library, encoder)
    answer = searcher.search(dataclasses.replace(compose_query(["red -blue"]), k=1000))
    vectors = {frame: row for ids, rows in library.embeddings() for frame, row in zip(ids, rows, strict=True)}
    likely = searcher._calibration.shows(
        blue, np.stack(list(vectors.values())), library.sample(), "text", words="blue"
    )
    shows = dict(zip(vectors, (likely > 0.5).tolist(), strict=True))
    best: dict[bytes, Any] = {}
    for records in library.frames(list(vectors)).values():
        for record in records:
            best.setdefault(record.path, []).append(record)
    # What is excluded also pushes, so the best frame is the one that the answer shows.
    shown = {hit.path: hit.frame_id for hit in answer}
    whole = library.whole_frames([records[0].file_id for records in best.values()])
    for path, records in best.items():
        assert not (path in shown and shows[whole[records[0].file_id]])
        if path in shown:
            assert not shows[shown[path]]
        else:
            assert any(shows[record.frame_id] for record in records)
    assert red @ vectors[answer[0].frame_id] > 0.5


def test_ids_of_files_are_those_of_the_rows(library: Index) -> None:
    frames = list(range(1, 400, 3))
    among = library.select(compose_query(["red in:/copies"]).where)
    for chosen in (None, among):
        rows = library.frames(frames, chosen)
        pairs = {(frame, record.file_id) for frame, records in rows.items() for record in records}
        assert set(map(tuple, library.files_of(frames, chosen).tolist())) == pairs


class Slow:
    """An index of which every answer comes late."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.go_on = threading.Event()

    def select(self, where: Any) -> Any:
        assert self.go_on.wait(10)
        self.asked.append("select")
        if where is not None:
            raise UsageError("too deep")

    def sample(self, size: int = 4096) -> Any:
        self.asked.append("sample")

    def matching_words(self, words: str, k: int, among: Any = None) -> Sequence[Any]:
        self.asked.append(words)
        return []


def test_the_index_is_read_while_words_are_encoded_and_waited_for() -> None:
    index = Slow()
    with read_ahead(index, None, "a dog"):
        assert not index.asked  # this side goes on
        index.go_on.set()
    assert index.asked[0] == "select"
    assert set(index.asked[1:]) == {"sample", "a dog"}
    assert "pixseek-read" not in str(threading.enumerate())


def test_what_fails_ahead_is_left_to_who_asks_for_it() -> None:
    index = Slow()
    index.go_on.set()
    with read_ahead(index, Taken("2023", "2023"), "a dog"):
        pass
    assert index.asked == ["select"]
    with pytest.raises(UsageError, match="of the encoder"), read_ahead(index, None, ""):
        raise UsageError("of the encoder")
    assert index.asked[-1] == "sample"


def test_words_read_ahead_are_those_that_are_asked_for(library: Index) -> None:
    asked: list[str] = []
    matching = library.matching_words
    library.matching_words = lambda words, *rest: asked.append(words) or matching(words, *rest)  # type: ignore
    try:
        Searcher(library, ColorEncoder()).search(compose_query(["red +blue -green"]))
    finally:
        del library.matching_words
    assert len(asked) >= 2
    assert len(set(asked)) == 1
    assert asked_words((Term(Text("red"), 1.0), Term(Text("green"), 1.0, excluded=True))) == "red"


def test_conditions_alone_need_no_encoder(library: Index) -> None:
    class Broken(ColorEncoder):
        def encode_texts(self, texts: Sequence[str]) -> Embeddings:
            raise AssertionError("nothing is encoded")

    query = dataclasses.replace(compose_query(["taken:2003 in:/p"]), k=1000)
    answer = list_files(library, query)
    assert answer == Searcher(library, Broken()).search(query)
    assert {hit.path for hit in answer} == {
        os.fsencode(f"/p/{number % 7}/{number}.jpg") for number in range(1, 501) if number % 24 == 3
    }
    assert (answer.searched, answer.left) == (545, len(answer))
    assert list_files(library, Query(where=Taken("2090", "2090"))).hits == ()


def test_no_files_are_ids_all_the_same(tmp_path: Path) -> None:
    """An empty selection has arrays of ids, too."""
    folder = catalogs.write(tmp_path / "index", [catalogs.content(1)], [catalogs.shown_at("/a", 1)])
    with Index.open(folder) as index:
        nothing = index.select(Taken("1999", "1999"))
        assert nothing.files == 0
        assert nothing.file_ids is not None
        assert nothing.file_ids.dtype == np.int64
        assert index.nearest(np.zeros(catalogs.DIM, np.float32), 3, nothing) == []
        assert index.files_of([], None).shape == (0, 2)
