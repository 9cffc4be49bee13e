"""Filters in SQL against a slow reference in Python; the nearest among what they leave, against all rows."""

from __future__ import annotations

import itertools
import math
import os
import random
import re
import sqlite3
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.dialects import sqlite

from encoders import UsageError
from indexer import (
    And,
    Filter,
    Index,
    Kind,
    Like,
    Metadata,
    Near,
    Not,
    Number,
    Or,
    Orientation,
    Taken,
    TakenOn,
    Under,
)  # fmt: skip
from indexer.functions import register_functions
from tests.indexer.catalogs import DIM, content, shown_at, write
from tests.indexer.conftest import Library

PLACES = [
    (48.86, 2.35),
    (48.87, 2.36),
    (89.95, 10.0),
    (89.95, -170.0),
    (-16.9, 179.99),
    (-16.9, -179.99),
    (0.0, 0.1),
]
TIMES = [
    "2023-06-09T18:30:00", "2023-06-30T23:59:59+02:00", "2023-07-01T00:00:00", "2022-12-25T09:00:00-11:00",
    "2024-12-25T00:00:00", "1999-01-01T12:00:00+00:00",
]  # fmt: skip
CAMERAS = ["Canon EOS R6", "FUJIFILM X-T5", "LEICA Großformat", "%_*"]
KEYWORDS = ["Été", "dog", "hot dog", "海边", "İstanbul"]
FOLDERS = ["/p/2023", "/p/2023/rome", "/p/2023x", "/p/2023-06", "/p/E\u0301te\u0301", "/p"]
SUFFIXES = [".jpg", ".JPG", ".gif", ".aPNG", ".heics", ".png", ""]


@dataclass(frozen=True)
class Known:
    """What the reference looks at: one file and what its picture says."""

    path: bytes
    format: str
    size_bytes: int
    width: int
    height: int
    about: Metadata


def draw_library(seed: int, count: int) -> list[Known]:
    rng = random.Random(seed)

    def maybe(choices: list) -> object:
        return rng.choice(choices) if rng.random() < 0.6 else None

    found = []
    for number in range(count):
        latitude, longitude = maybe(PLACES) or (None, None)
        about = Metadata(
            taken_at=maybe(TIMES), camera=maybe(CAMERAS), lens=maybe(CAMERAS), latitude=latitude,
            longitude=longitude, iso=maybe([50, 400, 6400]), rating=maybe([-1, 0, 3, 5]),
            keywords=tuple(rng.sample(KEYWORDS, rng.choice([0, 0, 1, 3]))),
        )  # fmt: skip
        name = rng.choice([b"IMG_%d", b"caf\xe9 %d", b"a*b?%d", "写真%d".encode()]) % number
        path = os.fsencode(rng.choice(FOLDERS)) + b"/" + name + rng.choice(SUFFIXES).encode()
        sides = rng.choice([(40, 30), (30, 40), (40, 40)])
        found.append(
            Known(
                path,
                rng.choice(["JPEG", "PNG", "GIF", "RAW", "HEIF", "MPO", "MOV"]),
                1000 + number,
                *sides,
                about,
            )
        )
    return found


FILES = draw_library(7, 90)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    folder = tmp_path_factory.mktemp("selection") / "index"
    contents = [
        content(
            number, file.about, width=file.width, height=file.height, size=file.size_bytes, format=file.format
        )
        for number, file in enumerate(FILES)
    ]
    files = [shown_at(file.path, number) for number, file in enumerate(FILES)]
    write(folder, contents, [*files, shown_at("/p/broken.jpg", None)])
    with Index.open(folder) as opened:
        yield opened


# -- the reference


def holds(text: str, pattern: str, whole: bool) -> bool:
    def fold(word: str) -> str:
        return unicodedata.normalize("NFC", unicodedata.normalize("NFC", word).casefold())

    if not set(pattern) & set("*?"):
        return fold(text) == fold(pattern) if whole else fold(pattern) in fold(text)
    pieces = {"*": ".*", "?": "."}
    expression = "".join(pieces.get(one, re.escape(one)) for one in fold(pattern))
    return re.fullmatch(expression, fold(text), re.DOTALL) is not None


def metres(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Vincenty's formula on the sphere: another way than the code's."""
    (p, q), d = (math.radians(a[0]), math.radians(b[0])), math.radians(b[1] - a[1])
    across = math.hypot(
        math.cos(q) * math.sin(d), math.cos(p) * math.sin(q) - math.sin(p) * math.cos(q) * math.cos(d)
    )
    return 6_371_008.8 * math.atan2(
        across, math.sin(p) * math.sin(q) + math.cos(p) * math.cos(q) * math.cos(d)
    )


def accepts(node: Filter, file: Known) -> bool:
    about = file.about
    suffix = os.path.splitext(os.fsdecode(file.path))[1].lower()
    match node:
        case Not(part):
            return not accepts(part, file)
        case And(parts):
            return all(accepts(part, file) for part in parts)
        case Or(parts):
            return any(accepts(part, file) for part in parts)
        case Taken(first, last):
            time = about.taken_at and about.taken_at[:19]
            return (
                time is not None
                and (not first or time[: len(first)] >= first)
                and (not last or time[: len(last)] <= last)
            )
        case TakenOn(year, month, day):
            if about.taken_at is None:
                return False
            numbers = (int(about.taken_at[:4]), int(about.taken_at[5:7]), int(about.taken_at[8:10]))
            return all(want in (None, have) for want, have in zip((year, month, day), numbers, strict=True))
        case Number(field, low, high):
            value = getattr(file, field) if hasattr(file, field) else getattr(about, field)
            return value is not None and (low is None or value >= low) and (high is None or value <= high)
        case Like("keyword", pattern):
            return any(holds(word, pattern, True) for word in about.keywords)
        case Like("path", pattern):
            text = os.fsdecode(file.path)
            return holds(text, pattern, False) or holds(text.rpartition("/")[2], pattern, False)
        case Like(field, pattern):
            return getattr(about, field) is not None and holds(getattr(about, field), pattern, False)
        case Near(latitude, longitude, radius_m):
            if about.latitude is None or about.longitude is None:
                return False
            return metres((about.latitude, about.longitude), (latitude, longitude)) <= radius_m
        case Kind(name):
            raw, video = file.format == "RAW", file.format == "MOV"
            moving = file.format == "GIF" or (file.format, suffix) in itertools.product(
                ("PNG", "HEIF"), (".apng", ".heics")
            )
            kinds = {"raw": raw, "video": video, "animation": moving, "photo": not (raw or video or moving)}
            same = {"JPEG": ("JPEG", "MPO"), "jpg": ("JPEG", "MPO"), "heic": ("HEIF",)}
            return kinds[name] if name in kinds else file.format in same.get(name, (name.upper(),))
        case Orientation(name):
            sign = (file.width > file.height) - (file.width < file.height)
            return name == ("square", "landscape", "portrait")[sign]
        case Under(folder):
            return file.path == folder or file.path.startswith(folder.rstrip(b"/") + b"/")
    raise AssertionError(node)


# -- trees

BOUNDS = st.sampled_from(
    [None, "1999", "2022", "2023", "2023-06", "2023-07", "2023-06-30", "2023-06-09T18:30", "2024-12"]
)
PATTERNS = st.sampled_from(
    ["*", "?", "canon*", "*r6", "eos", "x-t?", "été", "ÉTÉ", "e\u0301te\u0301", "dog", "*dog", "GROSSFORMAT",
     "großformat", "海*", "img_*", "*.jpg", "a[*", "a*b?*", "%", "_", "caf*", "/p/2023/*", "写真",
     "i\u0307stanbul", "nothing", "[*]"]
)  # fmt: skip
LEAVES = st.one_of(
    st.builds(Taken, BOUNDS, BOUNDS),
    st.builds(
        TakenOn, st.sampled_from([None, 2022, 2023]), st.sampled_from([None, 6, 12]),
        st.sampled_from([None, 9, 25]),
    ),
    st.builds(
        Number, st.sampled_from(["iso", "size_bytes", "width", "height", "rating"]),
        st.sampled_from([None, -(10**30), 0, 40, 400, 1050]), st.sampled_from([None, 3, 40, 1050, 10**30]),
    ),
    st.builds(Like, st.sampled_from(["camera", "lens", "keyword", "path"]), PATTERNS),
    st.builds(
        lambda place, radius: Near(*place, radius),
        st.sampled_from([*PLACES, (90.0, 0.0), (-90.0, 55.0), (47.0, 180.0)]),
        st.sampled_from([0.0, 900.0, 5_000.0, 12_000.0, 500_000.0, 9e6, 3e7]),
    ),
    st.builds(
        Kind, st.sampled_from(["photo", "raw", "video", "animation", "JPEG", "jpg", "heic", "png", "BMP"])
    ),
    st.builds(Orientation, st.sampled_from(["landscape", "portrait", "square"])),
    st.builds(Under, st.sampled_from([b"/", b"/p", b"/p/2023", b"/p/2023/rome", b"/q", FILES[0].path])),
)  # fmt: skip


def both(part: st.SearchStrategy) -> st.SearchStrategy:
    many = st.lists(part, min_size=2, max_size=4).map(tuple)
    return st.one_of(st.builds(Not, part), st.builds(And, many), st.builds(Or, many))


def selected(index: Index, where: Filter) -> set[bytes]:
    chosen = index.select(where)
    records = index.listed(chosen, 1000, "name")
    assert len(records) == chosen.files
    assert chosen.total == len(FILES)
    return {record.path for record in records}


@settings(max_examples=120, deadline=None)
@given(where=st.recursive(LEAVES, both, max_leaves=8))
def test_sql_selects_what_the_reference_accepts(index: Index, where: Filter):
    assert selected(index, where) == {file.path for file in FILES if accepts(where, file)}


@settings(max_examples=40, deadline=None)
@given(where=st.recursive(LEAVES, both, max_leaves=8))
def test_taking_a_filter_apart_changes_nothing(index: Index, where: Filter):
    """What is too long for one statement goes through sets of several."""
    from indexer import selection

    whole = index.select(where)
    limit, selection._PARTS_AT_ONCE = selection._PARTS_AT_ONCE, 1
    try:
        index.refresh()
        apart = index.select(where)
    finally:
        selection._PARTS_AT_ONCE = limit
        index.refresh()
    assert whole.file_ids is not None
    assert apart.file_ids is not None
    assert whole.file_ids.tolist() == apart.file_ids.tolist()
    assert whole.content_ids.tolist() == apart.content_ids.tolist()


@pytest.mark.parametrize("kind", [And, Or])
def test_a_thousand_parts_are_answered(index: Index, kind: type):
    many = tuple(Like("path", f"IMG_{number}.") for number in range(1000))
    found = selected(index, kind(many))
    expected = {file.path for file in FILES if b"IMG_" in file.path and b"." in file.path}
    assert found == (expected if kind is Or else set())
    parts = tuple(Not(part) for part in many)
    assert selected(index, kind(parts)) == {file.path for file in FILES} - (
        expected if kind is And else set()
    )


def test_brackets_too_deep_are_a_usage_error(index: Index):
    where: Filter = Kind("photo")
    for _ in range(5_000):
        where = Not(where)
    with pytest.raises(UsageError, match="deep"):
        index.select(where)


def test_many_stars_do_not_slow_a_pattern_down(index: Index):
    assert selected(index, Like("path", "*a" * 40 + "!")) == set()


def test_one_of_no_conditions_leaves_nothing(index: Index):
    everything = index.select(None).files
    assert index.select(Or(())).files == index.select(Not(And(()))).files == 0
    assert index.select(And(())).files == index.select(Not(Or(()))).files == everything


def test_no_filter_leaves_all(index: Index):
    chosen = index.select(None)
    assert (chosen.files, chosen.total) == (len(FILES), len(FILES))
    assert index.select(None) is chosen


def test_files_that_have_no_picture_are_not_counted(library: Library):
    library.fill(5)
    (library.photos / "broken.jpg").write_bytes(b"no picture")
    library.index()
    with Index.open(library.index_dir) as opened:
        assert (opened.status().failed, opened.select(None).total) == (1, 5)


def test_only_the_last_filters_are_remembered(index: Index):
    first = Number("iso", 1, 1)
    chosen = index.select(first)
    assert index.select(first) is chosen
    for low in range(100):
        index.select(Number("iso", low, None))
        assert index.nearest(
            content(1).vectors[0].astype(np.float32), 1, index.select(Number("iso", low, None))
        )
    assert index.select(first) is not chosen
    assert len(index._selections) <= 16 >= len(index._embeddings_left)


@pytest.mark.parametrize(
    ("where", "used"),
    [
        (Near(48.86, 2.35, 5000), "content_place (latitude>? AND latitude<?)"),
        (Near(-16.9, 179.99, 5000), "content_place (latitude>? AND latitude<?)"),
        (Number("rating", 4, None), "content_rating (rating>?)"),
        (Number("rating", None, None), "content_rating"),
        (Taken("2023", "2023"), "ix_content_taken_at (taken_at>? AND taken_at<?)"),
        (Number("size_bytes", 10, None), "ix_content_size_bytes (size_bytes>?)"),
        (Under(b"/p/2023"), "sqlite_autoindex_file_1 (path>? AND path<?)"),
    ],
)
def test_conditions_that_leave_few_read_few(index: Index, where: Filter, used: str):
    from indexer import tables
    from indexer.selection import compile_filter

    query = sqlalchemy.select(tables.file.c.id).join(
        tables.content, tables.content.c.id == tables.file.c.content_id
    )
    compiled = query.where(compile_filter(where)).compile(
        dialect=sqlite.dialect(), compile_kwargs={"literal_binds": False, "render_postcompile": True}
    )
    database = sqlite3.connect(index.folder / "catalog.sqlite")
    register_functions(database)
    values = [compiled.params[name] for name in compiled.positiontup or ()]
    plan = " ".join(row[3] for row in database.execute(f"explain query plan {compiled}", values))
    database.close()
    assert used in plan


# -- nearest


def reference_nearest(query: np.ndarray, where: Filter, k: int) -> list[tuple[int, float]]:
    scores = [
        (float(content(number).vectors[0].astype(np.float32) @ query), number)
        for number, file in enumerate(FILES)
        if accepts(where, file)
    ]
    return [(number, score) for score, number in sorted(scores, reverse=True)[:k]]


@pytest.mark.parametrize(
    "where",
    [
        Like("path", "写真"),
        Number("size_bytes", 1000, 1001),
        Number("size_bytes", 5000, None),
        Not(Kind("video")),
    ],
)
def test_nearest_among_a_selection_is_exact(index: Index, where: Filter):
    query = content(12345).vectors[0].astype(np.float32)
    near = index.nearest(query, 7, index.select(where))
    expected = reference_nearest(query, where, 7)
    records = index.frames([neighbor.frame_id for neighbor in near], index.select(where))
    assert [records[neighbor.frame_id][0].size_bytes - 1000 for neighbor in near] == [
        number for number, _ in expected
    ]
    assert [neighbor.score for neighbor in near] == pytest.approx([score for _, score in expected], abs=2e-3)


@pytest.mark.parametrize("snapshot", [True, False])
def test_filtered_search_finds_all_of_the_true_ten(tmp_path: Path, snapshot: bool):
    """Recall@10 against all rows, at selectivities where graph indexes lose most."""
    count = 2000
    contents = [content(number, size=number % 100) for number in range(count)]
    files = [shown_at(f"/p/{number}.jpg", number) for number in range(count)]
    vectors = np.concatenate([one.vectors for one in contents]).astype(np.float32)
    with Index.open(write(tmp_path / "index", contents, files, snapshot=snapshot)) as index:
        for percent in (1, 10, 50):
            chosen = index.select(Number("size_bytes", None, percent - 1))
            numbers = np.flatnonzero(np.arange(count) % 100 < percent)
            assert chosen.files == len(numbers)
            for seed in range(10):
                query = content(90_000 + seed).vectors[0].astype(np.float32)
                right = numbers[np.argsort(-(vectors[numbers] @ query), kind="stable")[:10]]
                near = index.nearest(query, 10, chosen)
                records = index.frames([neighbor.frame_id for neighbor in near])
                found = {int(records[neighbor.frame_id][0].path[3:-4]) for neighbor in near}
                assert found == set(right.tolist())


def test_copies_count_where_they_match(tmp_path: Path):
    folder = write(
        tmp_path / "index",
        [content(1), content(2), content(3)],
        [
            shown_at("/a/1.jpg", 1),
            shown_at("/b/1 copy.jpg", 1),
            shown_at("/b/2.jpg", 2),
            shown_at("/a/3.jpg", 3),
        ],
    )
    query = content(1).vectors[0].astype(np.float32)
    with Index.open(folder) as index:
        in_b = index.select(Under(b"/b"))
        near = index.nearest(query, 10, in_b)
        assert (in_b.files, in_b.total, len(near)) == (2, 4, 2)
        records = index.frames([neighbor.frame_id for neighbor in near], in_b)
        assert sorted(row.path for rows in records.values() for row in rows) == [
            b"/b/1 copy.jpg",
            b"/b/2.jpg",
        ]
        assert len(index.frames([near[0].frame_id])[near[0].frame_id]) == 2
        nothing = index.select(Under(b"/c"))
        assert index.nearest(query, 10, nothing) == []
        assert index.frames([near[0].frame_id], nothing) == {}


def test_selection_sees_what_was_added_after_refresh(tmp_path: Path):
    folder = write(tmp_path / "index", [content(1)], [shown_at("/a/1.jpg", 1)])
    query = content(2).vectors[0].astype(np.float32)
    with Index.open(folder) as index:
        assert index.select(Under(b"/a")).files == 1
        write(folder, [content(2)], [shown_at("/a/2.jpg", 2)], snapshot=False)
        assert index.select(Under(b"/a")).files == 1
        index.refresh()
        chosen = index.select(Under(b"/a"))
        assert (chosen.files, chosen.total) == (2, 2)
        assert index.nearest(query, 1, chosen)[0].score == pytest.approx(1, abs=1e-3)


def test_changed_bits_in_a_text_end_no_question(index: Index, tmp_path: Path):
    folder = write(
        tmp_path / "index",
        [content(n, Metadata(camera="Canon", keywords=("dog",))) for n in range(4)],
        [shown_at(f"/a/{n}.jpg", n) for n in range(4)],
    )
    database = sqlite3.connect(folder / "catalog.sqlite")
    database.execute(
        "update content set camera=cast(x'43ff6e' as text), keywords=cast(x'5b22ff' as text) where id=2"
    )
    database.execute("update content set camera=7, keywords='{\"dog\": 1}' where id=3")
    database.execute("update file set path='text' where id=4")
    database.commit()
    database.close()
    with Index.open(folder) as index:
        assert index.select(Like("camera", "canon")).files == 2
        assert index.select(Like("keyword", "dog")).files == 2
        assert [row.path for row in index.listed(index.select(Like("camera", "c*")), 9, "name")] == [
            b"/a/0.jpg"
        ]


# -- rows without a ranking


def test_whole_frames_are_the_whole_picture(tmp_path: Path):
    folder = write(
        tmp_path / "index",
        [content(1, frames=4), content(2)],
        [shown_at("/a/1.jpg", 1), shown_at("/a/2.jpg", 2)],
    )
    with Index.open(folder) as index:
        whole = index.whole_frames([1, 2, 99])
        assert set(whole) == {1, 2}
        assert all(index.frames([frame])[frame][0].region is None for frame in whole.values())


def test_listed_orders_by_date_name_and_size(tmp_path: Path):
    times = ["2023-01-01T10:00:00+05:00", None, "2023-01-01T11:00:00-05:00", "2022-01-01T00:00:00"]
    folder = write(
        tmp_path / "index",
        [
            content(n, Metadata(taken_at=time, iso=100 * n, rating=n), size=10 - n)
            for n, time in enumerate(times)
        ],
        [shown_at(f"/a/{'dbca'[n]}.jpg", n) for n in range(4)],
    )
    with Index.open(folder) as index:
        everything = index.select(None)

        def names(sort: str, k: int = 9) -> str:
            return "".join(chr(row.path[3]) for row in index.listed(everything, k, sort))

        assert (names("taken"), names("name"), names("size")) == ("cdab", "abcd", "dbca")
        assert names("name", 2) == "ab"
        assert [(row.iso, row.rating) for row in index.listed(everything, 1, "name")] == [(300, 3)]
        assert [row.path for row in index.listed(index.select(Taken(None, None)), 2, "name")] == [
            b"/a/a.jpg",
            b"/a/c.jpg",
        ]


@pytest.mark.parametrize("snapshot", [True, False])
def test_sample_is_spread_alive_and_the_same_every_time(tmp_path: Path, snapshot: bool):
    folder = write(
        tmp_path / "index",
        [content(n) for n in range(200)],
        [shown_at(f"/a/{n}.jpg", n) for n in range(0, 200, 2)],
        snapshot=snapshot,
    )
    alive = {content(n).vectors[0].tobytes(): n for n in range(0, 200, 2)}
    with Index.open(folder) as index, Index.open(folder) as other:
        for size in (7, 50, 100, 4096):
            sample = index.sample(size)
            assert sample.shape == (min(size, 100), DIM)
            assert sample.dtype == np.float32
            numbers = [alive[row.astype(np.float16).tobytes()] for row in sample]
            assert len(set(numbers)) == len(numbers)
            assert max(np.diff([0, *sorted(numbers), 199])) <= 3 * 200 / min(size, 100)
            assert np.array_equal(sample, other.sample(size))
