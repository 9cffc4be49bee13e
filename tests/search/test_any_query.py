"""Any query at all: what is printed reads as the same, what is typed is a query or a clear error, in time."""

from __future__ import annotations

import gc
import os
import random
import time
from datetime import datetime

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from encoders import UsageError
from indexer import And, Filter, Kind, Like, Near, Not, Number, Or, Orientation, Taken, TakenOn, Under
from search import (
    Concept,
    Indexed,
    Picture,
    Query,
    QuerySyntaxError,
    Term,
    Text,
    clean_text,
    compose_query,
    parse,
    parse_filter,
    print_filter,
    print_query,
)

CHARACTERS = st.characters(codec="utf-8")
TRICKY = [
    *("dog", "and", "or", "not", "NOT", "USA", "(", ")", "-", "+a", "taken:2023", '"x"', "2:b", "c^2"),
    *("./d.jpg", "image:e", "\\", "狗", "'s", "“", "«"),
]
WORDS = st.text(CHARACTERS, min_size=1, max_size=20) | st.lists(
    st.sampled_from(TRICKY), min_size=1, max_size=4
).map(" ".join)


@st.composite
def texts(draw: st.DrawFn) -> str:
    try:
        return clean_text(draw(WORDS))
    except UsageError:
        return "a dog"


NAMES = st.text(st.characters(codec=None, exclude_characters="\0"), min_size=1, max_size=12)
SOURCES = (
    NAMES | st.sampled_from(["-", "clipboard:", "./a b.jpg", "x[1,2,3,4]", "y^2", "http://h/i.jpg"])
).filter(lambda name: not name.lower().startswith("file:///"))
SIDES = st.floats(0.001, 9999) | st.integers(1, 9999).map(float)
CROPS = st.none() | st.tuples(st.just(0.0) | SIDES, st.just(0.0) | SIDES, SIDES, SIDES)
PARTS = (
    texts().map(Text)
    | st.builds(Picture, SOURCES, CROPS)
    | st.integers(0, 10**17).map(Indexed)
    | texts().map(Concept)
)
WEIGHTS = st.floats(0.001, 1000) | st.floats(-1000, -0.001) | st.sampled_from([0.5, 2.0, -1.0])
TERMS = st.builds(Term, PARTS, WEIGHTS | st.just(1.0)) | st.builds(Term, PARTS, excluded=st.just(True))


@st.composite
def taken(draw: st.DrawFn) -> Taken:
    def text(when: datetime, form: str) -> str:
        return f"{when.year:04}{when.strftime(form)}"

    forms = st.sampled_from(["", "-%m", "-%m-%d", "-%m-%dT%H:%M"])
    early, late = sorted((draw(st.datetimes()), draw(st.datetimes())))
    first, last = text(early, draw(forms)), text(late, draw(forms))
    return draw(
        st.sampled_from(
            [Taken(first, last), Taken(first, None), Taken(None, last), Taken(last, last), Taken(None, None)]
        )
    )


@st.composite
def taken_on(draw: st.DrawFn) -> TakenOn:
    when = draw(st.dates())
    kept = draw(st.sampled_from([(0, 1, 1), (1, 0, 1), (1, 1, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)]))
    year, month, day = (
        part if keep else None for part, keep in zip((when.year, when.month, when.day), kept, strict=True)
    )
    return TakenOn(year, month, min(day, 28) if day else None)


@st.composite
def numbers(draw: st.DrawFn) -> Number:
    field = draw(st.sampled_from(["iso", "size_bytes", "width", "height", "rating"]))
    size = st.integers(0, 10**15) | st.integers(0, 99).map(lambda n: n * 10**6) | st.integers(0, 9)
    low, high = sorted((draw(size), draw(size)))
    return draw(
        st.sampled_from(
            [
                Number(field, low, high),
                Number(field, low, None),
                Number(field, None, high),
                Number(field, low, low),
                Number(field, None, None),
            ]
        )
    )


LEAVES = (
    taken()
    | taken_on()
    | numbers()
    | st.builds(
        Like,
        st.sampled_from(["camera", "lens", "keyword", "path"]),
        texts() | st.sampled_from(["any", "*", "None", "a,b"]),
    )
    | st.builds(
        Like, st.just("path"), st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)
    )
    | st.builds(Near, st.floats(-90, 90), st.floats(-180, 180), st.floats(0, 20_100_000, exclude_min=True))
    | st.sampled_from(["photo", "raw", "video", "animation", "JPEG", "HEIF", "JXL"]).map(Kind)
    | st.sampled_from(["landscape", "portrait", "square"]).map(Orientation)
    | NAMES.filter(
        lambda name: all("\udc80" <= c <= "\udcff" or not "\ud800" <= c <= "\udfff" for c in name)
    ).map(lambda name: Under(os.fsencode(os.path.abspath("/" + name.lstrip("/")))))
)


def joined(kind: type[And] | type[Or], parts: list[Filter]) -> Filter:
    flat = [inner for part in parts for inner in (part.parts if isinstance(part, kind) else (part,))]
    return kind(tuple(flat))


FILTERS: st.SearchStrategy[Filter] = st.recursive(
    LEAVES,
    lambda inner: (
        inner.map(Not)
        | st.lists(inner, min_size=2, max_size=4).map(lambda parts: joined(And, parts))
        | st.lists(inner, min_size=2, max_size=4).map(lambda parts: joined(Or, parts))
    ),
    max_leaves=8,
)
QUERIES = st.builds(Query, terms=st.lists(TERMS, max_size=5).map(tuple), where=st.none() | FILTERS).filter(
    lambda query: query.terms or query.where
)


@settings(max_examples=400, deadline=None)
@given(QUERIES)
def test_a_printed_query_reads_as_the_same_query(query: Query) -> None:
    assert parse(print_query(query)) == query


@settings(max_examples=200, deadline=None)
@given(FILTERS)
def test_a_printed_filter_reads_as_the_same_filter(where: Filter) -> None:
    assert parse_filter(print_filter(where)) == where


FRAGMENTS = [
    *(
        "dog",
        "a",
        "and",
        "or",
        "not",
        "NOT",
        "OR",
        "USA",
        "123",
        "狗",
        "🐕",
        "none",
        "any",
        "'",
        ":",
        ">",
        "=",
    ),
    *('"golden hour"', '"', "“x y”", "„", "\\", '\\"', ",", "..", "(", ")", "((", "-", "+", "*", "<=", "~/"),
    *("^2", "^-0.5", "^0", "^x", "2:", ".5:", "0:", "id:5", "id:x", "concept:x", "image:", "image:a.jpg"),
    *("./a.jpg", "[1,2,3,4]", "http://x/y", "file:///z", "taken:2023", "taken:", "taken:*-12", "camera:a,b"),
    *('camera:"x y"', "camra:x", "-type:raw", "size:>1MB", "size:5MB", "near:1,2", "in:a", "path:*(1)*"),
    *("\0", "\udcff", "\ud800", "\n", "\u3000"),
]
PIECES = st.tuples(st.sampled_from(FRAGMENTS), st.sampled_from(["", " "])).map("".join)
CUT = st.builds(lambda query, cut: print_query(query)[:cut], QUERIES, st.integers(0, 80))
ANYTHING = (
    st.text(st.characters(codec=None))
    | st.lists(PIECES, max_size=10).map("".join)
    | st.tuples(CUT, PIECES | st.text(max_size=3)).map("".join)
)


def check(error: QuerySyntaxError, typed: str) -> None:
    assert error.query == typed
    assert 1 <= error.column <= len(typed) + 1
    assert "\n" not in str(error)
    line, caret = error.pointer()
    assert line.replace("\u200c", "").replace("\u200d", "").isprintable()
    assert caret.lstrip(" ") == "^"


@settings(max_examples=600, deadline=None)
@given(ANYTHING)
@example("(" * 100)
@example("\ufefftaken:2023")
def test_anything_at_all_is_a_query_or_an_error_with_a_column(typed: str) -> None:
    try:
        query = parse(typed)
    except QuerySyntaxError as caught:
        check(caught, typed)
    else:
        assert query.terms or query.where
        assert parse(print_query(query)) == query


@settings(max_examples=150, deadline=None)
@given(st.lists(st.text(st.characters(codec=None), max_size=8) | PIECES, max_size=3), st.data())
def test_any_command_line_is_a_query_or_an_error_with_a_column(words: list[str], data: st.DataObject) -> None:
    options = {
        name: data.draw(st.lists(PIECES | st.text(max_size=4), max_size=2))
        for name in ("images", "plus", "minus", "concepts", "where")
    }
    try:
        query = compose_query(words, **options)  # type: ignore[arg-type]
    except QuerySyntaxError as caught:
        check(caught, caught.query)
    else:
        assert parse(print_query(query)) == query


LONG = {
    "words": "dog ",
    "brackets": "(",
    "open": "( ",
    "names": "ab:c ",
    "groups": "(taken:2023)",
    "not": "not ",
    "NOT": "NOT ",
    "carets": "a^",
    "signs": "--",
    "dots": "./.a ",
    "prefixes": "2:",
    "or": "or ",
    "slashes": "\\",
    "quotes": '"',
    "curly": "“ ”x",
    "angles": "« ",
    "open not": "(not ",
    "commas": "type:a,",
    "crops": "image:a[1,2,3,4]",
    "raised": "“\\",
    "words in groups": "(iso:1 a)a",
}


@pytest.mark.parametrize("name", LONG)
def test_the_time_grows_with_the_length_and_no_faster(name: str) -> None:
    def seconds(length: int) -> float:
        typed = (LONG[name] * (length // len(LONG[name]) + 1))[:length]
        start = time.process_time()
        for end in ("", 'taken:2023"'):
            try:
                parse(typed + end)
            except QuerySyntaxError:
                pass
        return time.process_time() - start

    gc.disable()  # a collection walks everything that the tests before have left
    try:
        # Eight times as long is eight times the work, and would be 64 times if it grew with the square.
        assert min(seconds(80_000) for _ in range(3)) < 24 * seconds(10_000) + 0.1
    finally:
        gc.enable()


def test_a_megabyte_of_words_is_read_as_far_as_an_encoder_reads() -> None:
    words = " ".join(random.Random(0).choices(["dog", "beach", "red", "狗"], k=250_000))
    (term,) = parse(words).terms
    assert isinstance(term.part, Text)
    assert words.startswith(term.part.words)
    assert len(term.part.words) == 50_000
