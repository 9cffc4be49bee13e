"""Captions, keywords and names as text: what finds what, and that the tables stay in step and can be lost."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer import Index, IndexDamagedError, Metadata, Under, check, prune, repair
from indexer.catalog import Catalog
from indexer.words import STOP_WORDS, phrases_of, text_of
from indexer.words import search as search_words
from tests.indexer.catalogs import content, shown_at, write
from tests.indexer.conftest import Library

PICTURES = {
    "/p/rome/IMG_0001.jpg": Metadata(caption="A dog runs on the beach", keywords=("pets", "Été 2023")),
    "/p/rome/IMG_0002.jpg": Metadata(caption="海边的狗", keywords=("海滩", "家庭")),
    "/p/rome/DSC_beach2019.jpg": Metadata(),
    "/p/wholeFamily/3.jpg": Metadata(keywords=("beach",)),
    "/p/wholeFamily/4.jpg": Metadata(caption="Zwei Hunde", keywords=("iPhone", "a")),
    "/p/5.jpg": Metadata(caption="東京タワーの夜景"),
    "/p/kites/6.jpg": Metadata(caption="kites over a meadow"),
    "/p/kites/7.jpg": Metadata(caption="city lights, at night"),
    "/p/kites/8.jpg": Metadata(caption="city streets"),
    "/p/hindi/9.jpg": Metadata(caption="हिन्दी में"),
    **{f"/p/other/{number}.jpg": Metadata(caption="something else") for number in range(20, 40)},
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    contents = [content(number, about) for number, about in enumerate(PICTURES.values())]
    files = [shown_at(path, number) for number, path in enumerate(PICTURES)]
    return write(
        tmp_path_factory.mktemp("words") / "index", contents, [*files, shown_at("/p/gone.jpg", None)]
    )


def found(folder: Path, words: str, k: int = 20, under: bytes | None = None) -> list[str]:
    with Index.open(folder) as index:
        hits = index.matching_words(words, k, index.select(Under(under)) if under else None)
        assert index.warnings == []
        assert hits == sorted(hits, key=lambda hit: (not hit.complete, -hit.score))
        return [
            index.frames([hit.frame_id])[hit.frame_id][0].path.decode().removeprefix("/p/") for hit in hits
        ]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("beach", {"wholeFamily/3.jpg", "rome/IMG_0001.jpg", "rome/DSC_beach2019.jpg"}),
        ("BEACHES", {"wholeFamily/3.jpg", "rome/IMG_0001.jpg", "rome/DSC_beach2019.jpg"}),
        ("beach2019", {"rome/DSC_beach2019.jpg"}),
        ("2019", {"rome/DSC_beach2019.jpg"}),
        ("ete", {"rome/IMG_0001.jpg"}),
        ("E\u0301TE\u0301", {"rome/IMG_0001.jpg"}),
        ("family", {"wholeFamily/3.jpg", "wholeFamily/4.jpg"}),
        ("wholefamily", {"wholeFamily/3.jpg", "wholeFamily/4.jpg"}),
        ("iphone", {"wholeFamily/4.jpg"}),
        ("hund", {"wholeFamily/4.jpg"}),
        ("海边", {"rome/IMG_0002.jpg"}),
        ("海边的狗", {"rome/IMG_0002.jpg"}),
        ("边海", set()),
        ("家庭海滩", {"rome/IMG_0002.jpg"}),
        ("東京の夜景", {"5.jpg"}),
        ("滩家", set()),
        ("हिन्दी", {"hindi/9.jpg"}),
        ("हिन", set()),
        ("东京", set()),
        ("a dog on a beach", {"wholeFamily/3.jpg", "rome/IMG_0001.jpg", "rome/DSC_beach2019.jpg"}),
        ("a the with", set()),
        ("jpg", set()),
        ("gone", set()),
        ("", set()),
        ("caption:dog", {"rome/IMG_0001.jpg"}),
        ('dog" OR "kites', {"rome/IMG_0001.jpg", "kites/6.jpg", "kites/7.jpg", "kites/8.jpg"}),
        ("NEAR(city night) AND *", {"kites/7.jpg", "kites/8.jpg"}),
    ],
)
def test_words_find(folder: Path, words: str, expected: set[str]):
    assert set(found(folder, words)) == expected


def test_keyword_counts_more_than_caption_and_caption_more_than_name(folder: Path):
    assert found(folder, "beach") == ["wholeFamily/3.jpg", "rome/IMG_0001.jpg", "rome/DSC_beach2019.jpg"]


def test_words_among_a_selection_are_of_its_files_only(folder: Path):
    assert set(found(folder, "beach", under=b"/p/rome")) == {"rome/IMG_0001.jpg", "rome/DSC_beach2019.jpg"}
    assert found(folder, "beach", under=b"/q") == []
    assert len(found(folder, "beach", 1)) == 1


@settings(max_examples=60, deadline=None)
@given(words=st.text(max_size=40) | st.text(alphabet='"*():^-+{}ANDORNEAR\0\ud800 海のa1_', max_size=30))
def test_nothing_a_person_types_is_syntax(folder: Path, words: str):
    with Index.open(folder) as index:
        index.matching_words(words, 3)
        assert index.warnings == []


@given(st.text())
def test_text_is_written_the_same_way_twice(text: str):
    assert text_of(text) == text_of(text)
    text_of(text).encode()


def test_a_pasted_page_is_cut():
    assert len(phrases_of(" ".join(f"word{number}" for number in range(100_000)))) < 100
    assert phrases_of(" ".join(STOP_WORDS)) == []


def test_word_in_very_many_rows_is_passed_over(folder: Path, monkeypatch: pytest.MonkeyPatch):
    assert len(found(folder, "else kites", 50)) == 23
    monkeypatch.setattr("indexer.words._TOO_COMMON", 10)
    assert set(found(folder, "else kites")) == {"kites/6.jpg", "kites/7.jpg", "kites/8.jpg"}


def test_copies_are_one_hit_and_dead_files_none(tmp_path: Path):
    folder = write(
        tmp_path / "index",
        [content(n, Metadata(caption="dog" if n < 2 else "x")) for n in range(9)],
        [shown_at("/a/1.jpg", 0), shown_at("/a/2.jpg", 0), *(shown_at(f"/n{n}.jpg", n) for n in range(2, 9))],
    )
    with Index.open(folder) as index:
        (hit,) = index.matching_words("dog", 10)
        assert len(index.frames([hit.frame_id])[hit.frame_id]) == 2


# -- in step


def table_rows(folder: Path) -> tuple[list[int], list[int]]:
    database = sqlite3.connect(folder / "catalog.sqlite")
    rows = tuple(
        [row[0] for row in database.execute(f"select rowid from {name}")] for name in ("words", "names")
    )
    assert rows[1] == [row[0] for row in database.execute("select id from file order by id")]
    database.close()
    return rows


def test_text_follows_renames_removals_and_prune(library: Library):
    paths = library.fill(6)
    library.index()
    paths[0].rename(library.photos / "sunflower.png")
    paths[1].unlink()
    library.index()
    assert check(library.index_dir).ok
    assert len(table_rows(library.index_dir)[1]) == 5
    with Index.open(library.index_dir) as index:
        (hit,) = index.matching_words("sunflower", 9)
        assert index.frames([hit.frame_id])[hit.frame_id][0].path.endswith(b"sunflower.png")
        assert index.matching_words("00000", 9) == []
    prune(library.index_dir, apply=True)
    assert check(library.index_dir).ok


def test_changed_picture_changes_its_words(tmp_path: Path):
    folder = write(
        tmp_path / "index",
        [content(1, Metadata(caption="dog")), content(3)],
        [shown_at("/1.jpg", 1), shown_at("/3.jpg", 3)],
    )
    write(folder, [content(2, Metadata(caption="cat"))], [shown_at("/1.jpg", 2)])
    with Index.open(folder) as index:
        assert index.matching_words("dog", 9) == []
        assert len(index.matching_words("cat", 9)) == 1
    prune(folder, apply=True)
    assert table_rows(folder)[0] == [3]
    assert check(folder).ok


def test_check_beside_a_writer_finds_nothing_wrong(own: Path, monkeypatch: pytest.MonkeyPatch):
    """What is added while the text is compared belongs to another moment."""
    from indexer import words

    compare = words._has_same_index

    def after_more(connection: sqlite3.Connection, name: str) -> bool:
        number = 100 if name == "words" else 200
        write(own, [content(number, Metadata(caption="late"))], [shown_at(f"/late/{number}.jpg", number)])
        return compare(connection, name)

    monkeypatch.setattr(words, "_has_same_index", after_more)
    assert check(own).ok
    monkeypatch.undo()
    assert check(own).ok
    assert len(found(own, "late", 9)) == 2


# -- damage


def spoil(folder: Path, *statements: str) -> None:
    database = sqlite3.connect(folder / "catalog.sqlite", isolation_level=None)
    for statement in statements:
        database.execute(statement)
    database.close()


@pytest.fixture
def own(tmp_path: Path) -> Path:
    contents = [content(number, about) for number, about in enumerate(PICTURES.values())]
    return write(
        tmp_path / "index", contents, [shown_at(path, number) for number, path in enumerate(PICTURES)]
    )


@pytest.mark.parametrize(
    "statement",
    [
        "update words_data set block = zeroblob(length(block)) where id > 10",
        "update words_data set block = x'' where id = 10",
        "delete from words_data where id > 10",
        "delete from words_content where id = 1",
        "update words_content set c0 = 'cat' where id = 1",
        "update names_docsize set sz = x'ff' where id = 2",
        "update names_content set id = 99 where id = 2",
        "delete from names where rowid = 3",
        "insert into words(rowid, caption) values (500, 'dog')",
        "insert into names(rowid, name) values (300, 'dog')",
        "update words_config set v = 99 where k = 'version'",
        "update words_data set block = x'01' where id = 1",
        "drop table names",
    ],
)  # fmt: skip
def test_damaged_text_never_breaks_a_search_and_repair_makes_it_again(own: Path, statement: str):
    spoil(own, statement)
    query = content(3).vectors[0].astype("float32")
    with Index.open(own) as index:
        for words in ("dog", "beach", "city night", "rome"):
            for hit in index.matching_words(words, 9):
                assert index.frames([hit.frame_id])
        assert index.nearest(query, 1)[0].score > 0.99
    assert [problem.kind for problem in check(own).problems] == ["words"]
    repair(own)
    assert check(own).ok
    assert set(found(own, "beach")) == {"wholeFamily/3.jpg", "rome/IMG_0001.jpg", "rome/DSC_beach2019.jpg"}


@pytest.mark.parametrize(
    "statements",
    [
        (
            "drop table words",
            "create table words(caption, keywords)",
            "insert into words values ('dog', 'dog')",
        ),
        ("drop table words", "create view words as select path as caption, 1 as keywords from file"),
        (
            "drop table names",
            "create virtual table names using fts5(name, content='file', content_rowid='id')",
        ),
        ("drop table names", "create virtual table names using fts4(name)"),
    ],
)
def test_text_tables_of_a_stranger_are_not_asked(own: Path, statements: tuple[str, ...]):
    spoil(own, *statements)
    with Index.open(own) as index:
        assert index.matching_words("dog", 9) == []
        assert "repair" in index.warnings[0]
    repair(own)
    assert found(own, "dog") == ["rome/IMG_0001.jpg"]
    assert check(own).ok


ASKED = (
    "beach",
    "dog",
    "city night",
    "something",
    "rome",
    "海边",
    "东",
    "kites",
    "img",
    "other 21",
    "hund",
    "p",
)


def answers(folder: Path) -> dict[str, list[int]]:
    with Index.open(folder) as index:
        return {words: [hit.frame_id for hit in index.matching_words(words, 50)] for words in ASKED}


@pytest.mark.parametrize("seed", range(12))
def test_flips_in_text_pages_change_no_answer_or_are_found_and_mended(own: Path, seed: int):
    """Flip one bit inside the blocks of the full-text index; some of them nothing reads."""
    right = answers(own)
    rng = random.Random(seed)
    database = sqlite3.connect(own / "catalog.sqlite")
    name = rng.choice(["words", "names"])
    row, block = rng.choice(database.execute(f"select id, block from {name}_data where id > 10").fetchall())
    spoiled = bytearray(block)
    spoiled[rng.randrange(len(spoiled))] ^= 1 << rng.randrange(8)
    database.execute(f"update {name}_data set block = ? where id = ?", (bytes(spoiled), row))
    database.commit()
    database.close()
    problems = [problem.kind for problem in check(own).problems]
    if problems:
        answers(own)
        assert problems == ["words"]
        assert repair(own).words_rebuilt
        assert check(own).ok
    assert answers(own) == right


def test_writer_on_damaged_text_says_repair(library: Library):
    library.fill(3)
    library.index()
    spoil(library.index_dir, "drop table names")
    library.fill(2, start=50)
    with pytest.raises(IndexDamagedError, match="repair"):
        library.index()
    repair(library.index_dir)
    assert library.index().indexed == 2
    assert check(library.index_dir).ok


@pytest.mark.parametrize(
    ("words", "complete"),
    [
        ("dog beach", {"rome/IMG_0001.jpg"}),
        ("a dog on the beach", {"rome/IMG_0001.jpg"}),
        ("pets dog", {"rome/IMG_0001.jpg"}),
        ("beach", {"wholeFamily/3.jpg", "rome/IMG_0001.jpg", "rome/DSC_beach2019.jpg"}),
        ("rome beach 2019", {"rome/DSC_beach2019.jpg"}),
        ("dog rome", set()),
        ("海边的狗", {"rome/IMG_0002.jpg"}),
        ("海边的猫", set()),
    ],
)
def test_a_picture_that_has_all_the_words_is_told_from_one_that_has_some(
    folder: Path, words: str, complete: set[str]
) -> None:
    with Index.open(folder) as index:
        frames = [hit.frame_id for hit in index.matching_words(words, 20) if hit.complete]
        paths = {record.path.decode() for records in index.frames(frames).values() for record in records}
    assert {path.removeprefix("/p/") for path in paths} == complete


def test_an_open_index_knows_the_words_of_new_pictures_after_refresh(tmp_path: Path):
    folder = write(tmp_path / "index", [content(1, Metadata(caption="a dog"))], [shown_at("/p/1.jpg", 1)])
    with Index.open(folder) as index:
        first = index.matching_words("dog", 9)
        write(folder, [content(2, Metadata(caption="a dog"))], [shown_at("/p/2.jpg", 2)])
        assert index.matching_words("dog", 9) == first
        index.refresh()
        assert len(index.matching_words("dog", 9)) == 2
        only = index.select(Under(b"/p/2.jpg"))
        assert [hit.frame_id for hit in index.matching_words("dog", 9, only)] == [2]
        assert len(index.matching_words("dog", 1)) == 1


@pytest.mark.parametrize("where", ["caption", "name"])
def test_rows_that_no_picture_stands_for_take_no_places(tmp_path: Path, where: str) -> None:
    """The best few are the first of the whole list, also where rows without a picture come before them."""
    numbers = range(1, 41)
    captions = [
        Metadata(caption="lake" + " far" * number if where == "caption" else None) for number in numbers
    ]
    folder = "/lake" if where == "name" else "/sea"
    pictures = [
        shown_at(folder + "/deep" * number + f"/{number}.jpg", number if number % 3 else None)
        for number in numbers
    ]
    made = write(
        tmp_path / "index",
        [content(number, about) for number, about in zip(numbers, captions, strict=True)],
        pictures,
    )
    with Catalog.open(made) as catalog, catalog.engine.connect() as connection:
        everything = search_words(connection, "lake", 1000, None, None)
        assert set(everything) == {number for number in numbers if number % 3}
        best = sorted(everything, key=lambda number: (-everything[number], number))
        for most in (1, 3, 5, 20):
            assert set(search_words(connection, "lake", most, None, None)) == set(best[:most])
