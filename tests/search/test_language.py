from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from encoders import UsageError
from indexer import (
    And,
    Filter,
    Kind,
    Like,
    Near,
    Not,
    Number,
    Or,
    Orientation,
    Taken,
    TakenOn,
    Under,
)
from search import (
    Concept,
    Indexed,
    Picture,
    Query,
    QuerySyntaxError,
    Term,
    Text,
    compose_query,
    parse,
    parse_filter,
    print_filter,
    print_query,
)

MONDAY = date(2024, 3, 4)


def terms(typed: str) -> list[tuple[Any, float, bool]]:
    """Return (words or part, weight, excluded) of each term."""
    return [
        (term.part.words if isinstance(term.part, Text) else term.part, term.weight, term.excluded)
        for term in parse(typed, home="/home/me").terms
    ]


# --- sentences ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sentence",
    [
        "a dog on a beach",
        "it's a t-shirt",
        "'golden hour'",
        "a 16:9 photo at 3:30 pm",
        "Star Wars: a poster",
        "ratio 2:1",
        "figure 2: a dog",
        "2023:summer",
        "dog - cat",
        "me + you",
        "-",
        "thermometer at -20",
        "+1 sign",
        "(red) hat",
        "a cat (asleep",
        "smile :) or :-( or -_-",
        "black or white cat",
        "salt and pepper",
        "and",
        "not a dog",
        "not",
        "DO NOT ENTER",
        "a sign that says NOT TODAY",
        "10^6 people",
        "^_^ face",
        "5'10\" tall",
        'a 24" monitor',
        'a sign that says "stop"',
        '"Stop", said the sign',
        "C:\\x",
        "foo:bar",
        "0 in: Nevada, 1 in: Utah",
        "a/b/c.jpg",
        "and/or",
        "AC/DC",
        "/",
        "50% off!",
        "what is this?",
        "C++",
        "🐕‍🦺 on a beach",
        "海滩上的狗",
        "犬、猫。",
        "плакат «Звёздные войны»",
        "ein Schild „Halt“ im Wald",
        "كلب على الشاطئ",
        "he said “halt",
        "« a » b « c",
        "Vor- und Nachteile",
        "--",
        "a -- b",
        "#tag @name",
        "dog.jpg",
        "e.g. a dog; or a cat...",
    ],
)
def test_a_plain_sentence_is_one_text(sentence: str) -> None:
    assert terms(sentence) == [(sentence, 1.0, False)]
    assert parse(sentence).where is None


def test_filters_may_stand_anywhere_in_a_sentence() -> None:
    query = parse("a dog taken:2023 on a beach -type:video")
    assert query.terms == (Term(Text("a dog on a beach")),)
    assert query.where == And((Taken("2023", "2023"), Not(Kind("video"))))


def test_terms_keep_their_order_and_the_sentence_stands_where_it_began() -> None:
    assert terms("+sunset a dog -people on a beach id:3") == [
        ("sunset", 1, False),
        ("a dog on a beach", 1, False),
        ("people", 1, True),
        (Indexed(3), 1, False),
    ]


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("beach +sunset", [("beach", 1, False), ("sunset", 1, False)]),
        ('beach +"golden hour"', [("beach", 1, False), ("golden hour", 1, False)]),
        ("+golden hour", [("golden", 1, False), ("hour", 1, False)]),
        ("beach -people", [("beach", 1, False), ("people", 1, True)]),
        ('-"two people"', [("two people", 1, True)]),
        ("beach NOT people", [("beach", 1, False), ("people", 1, True)]),
        ('NOT "two people"', [("two people", 1, True)]),
        ("-🐕 -狗", [("🐕", 1, True), ("狗", 1, True)]),
        ('-"20"', [("20", 1, True)]),
        ('"red car"', [("red car", 1, False)]),
        ("“red car”", [("red car", 1, False)]),
        ('„red car" «blue house»', [("red car", 1, False), ("blue house", 1, False)]),
        ('"red car" at night', [('"red car" at night', 1, False)]),
        ('taken:2023 "red car"', [("red car", 1, False)]),
        (r'"say \"a\\b\" now"', [(r'say "a\b" now', 1, False)]),
        (r'"C:\x"', [(r"C:\x", 1, False)]),
        ('"camera:canon -dog"', [("camera:canon -dog", 1, False)]),
        ("sandy beach^0.5 palm tree^2", [("sandy beach", 0.5, False), ("palm tree", 2, False)]),
        ('dog "golden hour"^2 cat', [("dog cat", 1, False), ("golden hour", 2, False)]),
        ("people^-0.5", [("people", -0.5, False)]),
        ("-people^0.5", [("people", -0.5, False)]),
        ("2:golden retriever", [("golden retriever", 2, False)]),
        ("dog 2:golden retriever .5:pool", [("dog", 1, 0), ("golden retriever", 2, 0), ("pool", 0.5, 0)]),
        ('+2:"golden retriever"', [("golden retriever", 2, False)]),
        ("-0.5:people", [("people", -0.5, False)]),
        ("-2:people", [("people", -2, False)]),
    ],
)
def test_signs_quotes_and_weights(typed: str, expected: list[tuple[str, float, bool]]) -> None:
    assert terms(typed) == expected


@pytest.mark.parametrize(
    ("typed", "part", "weight", "excluded"),
    [
        ("image:pool.jpg", Picture("pool.jpg"), 1, False),
        ("image:./pool.jpg^0.5", Picture("./pool.jpg"), 0.5, False),
        ('image:"my pool.jpg"^2', Picture("my pool.jpg"), 2, False),
        ('-image:"a^2"', Picture("a^2"), 1, True),
        ("not image:x.jpg", Picture("x.jpg"), 1, True),
        ("2:image:x.jpg", Picture("x.jpg"), 2, False),
        ("image:IMG(1).jpg", Picture("IMG(1).jpg"), 1, False),
        ("image:IMG[1].jpg", Picture("IMG[1].jpg"), 1, False),
        ("image:a,b.jpg", Picture("a,b.jpg"), 1, False),
        ("image:x.jpg[10,20,300,200]", Picture("x.jpg", (10, 20, 300, 200)), 1, False),
        ('image:"x y.jpg"[0.1,0,0.5,1]^2', Picture("x y.jpg", (0.1, 0, 0.5, 1)), 2, False),
        ('image:"x[1,2,3,4]"', Picture("x[1,2,3,4]"), 1, False),
        ("image:https://a.example/b.jpg?c=1", Picture("https://a.example/b.jpg?c=1"), 1, False),
        ("https://a.example/b.jpg", Picture("https://a.example/b.jpg"), 1, False),
        ("./pool.jpg", Picture("./pool.jpg"), 1, False),
        ("2:./pool.jpg", Picture("./pool.jpg"), 2, False),
        ("-../pool.jpg", Picture("../pool.jpg"), 1, True),
        ("file:///a%20b.jpg", Picture("/a b.jpg"), 1, False),
        ("image:~/pool.jpg", Picture("/home/me/pool.jpg"), 1, False),
        ("image:caf\udce9.jpg", Picture("caf\udce9.jpg"), 1, False),
        ("image:-", Picture("-"), 1, False),
        ("image:clipboard:", Picture("clipboard:"), 1, False),
        ("IMAGE:x", Picture("x"), 1, False),
        ("image：x", Picture("x"), 1, False),
        ("id:123", Indexed(123), 1, False),
        ("-id:0^2", Indexed(0), -2, False),
        ("concept:our-dog^2", Concept("our-dog"), 2, False),
        ('-concept:"our dog"', Concept("our dog"), 1, True),
    ],
)
def test_pictures_and_concepts(typed: str, part: Any, weight: float, excluded: bool) -> None:
    assert terms(typed) == [(part, weight, excluded)]


# --- filters --------------------------------------------------------------------------------------------

A, B, C = Kind("raw"), Like("camera", "canon"), Number("iso", 800, None)


@pytest.mark.parametrize(
    ("typed", "where"),
    [
        ("type:raw camera:canon", And((A, B))),
        ("type:raw and camera:canon", And((A, B))),
        ("type:raw or camera:canon", Or((A, B))),
        ("type:raw OR camera:canon", Or((A, B))),
        ("type:raw camera:canon or iso:>=800", Or((And((A, B)), C))),
        ("type:raw (camera:canon or iso:>=800)", And((A, Or((B, C))))),
        ("type:raw or camera:canon and iso:>=800", Or((A, And((B, C))))),
        ("not type:raw camera:canon", And((Not(A), B))),
        ("-type:raw", Not(A)),
        ("+type:raw", A),
        ("NOT (type:raw or camera:canon)", Not(Or((A, B)))),
        ("-(type:raw camera:canon)", Not(And((A, B)))),
        ("not not type:raw", Not(Not(A))),
        ("not -type:raw", Not(Not(A))),
        ("((type:raw))", A),
        ("( type:raw )", A),
        ("(type:raw or (camera:canon or iso:>=800))", Or((A, B, C))),
        ("(type:raw camera:canon) iso:>=800", And((A, B, C))),
        ("a dog and type:raw", A),
        ("type:raw and a dog", A),
    ],
)
def test_filters_combine_by_not_then_and_then_or(typed: str, where: Filter) -> None:
    assert parse(typed).where == where


@pytest.mark.parametrize(
    ("typed", "where"),
    [
        ("taken:2023", Taken("2023", "2023")),
        ("date:2023-6", Taken("2023-06", "2023-06")),
        ("created:2023-06..2023-08", Taken("2023-06", "2023-08")),
        ("taken:..2019", Taken(None, "2019")),
        ("taken:2023-06-09T18:30..", Taken("2023-06-09T18:30", None)),
        ('taken:"2023-06-09 18:30"', Taken("2023-06-09T18:30", "2023-06-09T18:30")),
        ("taken:2023..2023-02", Taken("2023", "2023-02")),
        ("taken:>2023", Taken("2024", None)),
        ("taken:<2023-01", Taken(None, "2022-12")),
        ("taken:>=2023-12-31", Taken("2023-12-31", None)),
        ("taken:>2023-12-31", Taken("2024-01-01", None)),
        ("taken:<2024-01-01T00:00", Taken(None, "2023-12-31T23:59")),
        ("after:2023-12", Taken("2024-01", None)),
        ("before:2023", Taken(None, "2022")),
        ("taken:2021,2023", Or((Taken("2021", "2021"), Taken("2023", "2023")))),
        ("taken:*-12-25", TakenOn(None, 12, 25)),
        ("taken:2023-*-25", TakenOn(2023, None, 25)),
        ("taken:*-7", TakenOn(None, 7, None)),
        ("taken:*-02-29", TakenOn(None, 2, 29)),
        ("taken:any", Taken(None, None)),
        ("taken:*", Taken(None, None)),
        ("taken:none", Not(Taken(None, None))),
        ("taken:today", Taken("2024-03-04", "2024-03-04")),
        ("taken:yesterday", Taken("2024-03-03", "2024-03-03")),
        ("taken:this-week", Taken("2024-03-04", "2024-03-10")),
        ("taken:last-week", Taken("2024-02-26", "2024-03-03")),
        ("taken:last-month", Taken("2024-02", "2024-02")),
        ("taken:last-year..today", Taken("2023", "2024-03-04")),
        ("taken:>last-month", Taken("2024-03", None)),
        ("camera:Canon", Like("camera", "Canon")),
        ('camera:"Canon EOS*"', Like("camera", "Canon EOS*")),
        ("camera:canon,nikon", Or((Like("camera", "canon"), Like("camera", "nikon")))),
        ('lens:"EF 50mm, f/1.8"', Like("lens", "EF 50mm, f/1.8")),
        ("lens:any", Like("lens", "*")),
        ("camera:none", Not(Like("camera", "*"))),
        ('keyword:"none"', Like("keyword", "none")),
        ('tag:"new york"', Like("keyword", "new york")),
        ("path:*/Italy/*(1).jpg", Like("path", "*/Italy/*(1).jpg")),
        ("near:48.86,2.35", Near(48.86, 2.35, 1000)),
        ("near:-33.86,+151.2,500m", Near(-33.86, 151.2, 500)),
        ("near:48.86,2.35,5km", Near(48.86, 2.35, 5000)),
        ("near:48.86,2.35,2mi", Near(48.86, 2.35, 2 * 1609.344)),
        ('near:"48.86, 2.35, 5 km"', Near(48.86, 2.35, 5000)),
        ("type:raw,video", Or((Kind("raw"), Kind("video")))),
        ("type:JPG", Kind("JPEG")),
        ("ext:.heic", Kind("HEIF")),
        ("type:cr2", Like("path", "*.cr2")),
        ("ext:mp4", Like("path", "*.mp4")),
        ("size:>10MB", Number("size_bytes", 10_000_001, None)),
        ("size:<500kB", Number("size_bytes", None, 499_999)),
        ("size:1MB..5MB", Number("size_bytes", 1_000_000, 5_000_000)),
        ("size:1..5MiB", Number("size_bytes", 1 << 20, 5 << 20)),
        ("size:1.5MB", Number("size_bytes", 1_450_000, 1_549_999)),
        ("size:=10MB", Number("size_bytes", 10_000_000, 10_000_000)),
        ('size:>"10 MB"', Number("size_bytes", 10_000_001, None)),
        ("width:>=4000", Number("width", 4000, None)),
        ("height:1000..2000px", Number("height", 1000, 2000)),
        ("iso:100..400", Number("iso", 100, 400)),
        ("iso:≤400", Number("iso", None, 400)),
        ("rating:5", Number("rating", 5, 5)),
        ("rating:4,5", Or((Number("rating", 4, 4), Number("rating", 5, 5)))),
        ("rating:any", Number("rating", None, None)),
        ("rating:none", Not(Number("rating", None, None))),
        ("orientation:Portrait", Orientation("portrait")),
        ("in:/photos/../pictures/", Under(b"/pictures")),
        ("in:Italy", Under(b"/base/Italy")),
        ("in:~/Pictures", Under(b"/home/me/Pictures")),
        ("in:~", Under(b"/home/me")),
        ("in:/", Under(b"/")),
        ('folder:"My Pictures"', Under(b"/base/My Pictures")),
        ("in:/caf\udce9", Under(b"/caf\xe9")),
    ],
)
def test_every_field_reads_its_values(typed: str, where: Filter) -> None:
    assert parse(typed, cwd="/base", home="/home/me", today=MONDAY) == Query(where=where)
    name, colon, value = typed.partition(":")
    assert parse_filter(name.upper() + colon + value, cwd="/base", home="/home/me", today=MONDAY) == where
    assert parse_filter(print_filter(where)) == where


def test_a_filter_prints_as_it_was_typed() -> None:
    for typed in (
        "size:>10MB",
        "size:10MB",
        "taken:2023-06..2023-08",
        "camera:canon,nikon",
        "near:any",
        "taken:*-12-25 rating:>=3",
        "dog -people taken:2023 (camera:canon or -type:raw)",
    ):
        assert print_query(parse(typed)) == typed


# --- errors ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "right"),
    [
        ("size:5MB..1MB", "size:1MB..5MB"),
        ("size:5..1MB", "size:1MB..5MB"),
        ("width:10..5", "width:5..10"),
        ("rating:5..3", "rating:3..5"),
    ],
)
def test_a_range_that_is_the_wrong_way_round_is_shown_the_right_way(typed: str, right: str) -> None:
    with pytest.raises(QuerySyntaxError, match=f"starts before it ends: {re.escape(right)}$"):
        parse(typed)
    parse(right)


@pytest.mark.parametrize(
    ("typed", "column", "says"),
    [
        ("", 1, "blank"),
        (" \0\n", 1, "blank"),
        ("a dog camra:canon", 7, "camera:"),
        ("imge:x.jpg", 1, "image:"),
        ("a dog camera: canon", 14, "right behind the colon"),
        ("dog taken:", 11, "needs its value"),
        ("taken:2023-13", 7, "date that exists"),
        ("taken:2023-02-30", 7, "date that exists"),
        ("taken:2023,x", 12, "taken:2023-06..2023-08"),
        ("taken:2023..2021", 7, "taken:2021..2023"),
        ("taken:*-12-24..*-12-26", 7, "*-12-24,*-12-25"),
        ("taken:..", 7, "taken:2023"),
        ("taken:>9999", 7, "9999"),
        ("taken:soon", 7, "taken:2023"),
        ("after:soon", 7, "after:2023"),
        ("rating:good", 8, "rating:5"),
        ("iso:400..100", 5, "iso:"),
        ("iso:1.5", 5, "iso:"),
        ("iso:<0", 5, "iso:"),
        ("size:>10", 6, "unit"),
        ("size:1XB", 6, "unit"),
        ("width:99999999999999999999", 7, "width:"),
        ("size:99999999TB", 6, "size:"),
        ("near:48.86", 6, "near:48.86,2.35"),
        ("near:91,0", 6, "latitude within 90"),
        ("near:0,181", 8, "longitude within 180"),
        ("near:0,0,0km", 10, "distance"),
        ("near:0,0,1parsec", 6, "near:48.86,2.35"),
        ("near:48.86, 2.35", 12, "near:48.86,2.35"),
        ("type:raw,,video", 10, "right behind this comma"),
        ("type:xyz", 6, "raw, video, photo"),
        ("orientation:up", 13, "landscape"),
        ('camera:""', 8, "camera:canon"),
        ("id:x", 4, "number"),
        ("id:99999999999999999999", 4, "number"),
        ('image:""', 7, "no file"),
        ('in:"\0"', 4, "a folder"),
        ("in:\ud800", 4, "a folder"),
        ("camera:canon^2", 13, "no weight"),
        ("beach^0", 6, "weight"),
        ("beach^1e999", 6, "weight"),
        ("beach^inf", 6, "weight"),
        ("beach^nan", 6, "weight"),
        ("0:beach", 1, "weight"),
        ("2:beach^2", 8, "two weights"),
        ("2:golden retriever^2", 10, "two weights"),
        ('"beach"^x', 8, "weight is a number"),
        ("-people^-1", 1, "twice"),
        ("NOT -people", 5, "twice"),
        ('a dog "on a beach', 7, "never closed"),
        ("+„halt", 2, "never closed"),
        ('+"x"y', 5, "blank"),
        ('""', 1, "nothing stands"),
        ('" \0"', 1, "no readable word"),
        ("(taken:2023", 1, "never closed"),
        ("(taken:2023 dog)", 13, "only filters"),
        ("(taken:2023 image:x)", 13, "only filters"),
        ("(dog taken:2023)", 16, "words stand outside"),
        ("(taken:2023 or)", 13, "between two filters"),
        ("taken:2023 or", 12, "between two filters"),
        ("or taken:2023", 1, "between two filters"),
        ("dog or taken:2023", 5, "or joins filters only"),
        ("(" * 60 + "taken:2023" + ")" * 60, 46, "deep"),
        ("not " * 60 + "taken:2023", 241, "more than 45"),
        ("image:x[1,2,0,4]", 8, "above 0"),
        ('image:"x"y', 10, "behind the quote"),
        ("+a " * 101, 301, "at most 100"),
        ("id:1 " * 101, 501, "at most 100"),
        ("iso:1 " * 201, 1201, "at most 200"),
    ],
)
def test_an_error_names_the_column_and_what_is_expected(typed: str, column: int, says: str) -> None:
    with pytest.raises(QuerySyntaxError) as caught:
        parse(typed, today=MONDAY)
    assert says in str(caught.value)
    assert caught.value.column == column
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250
    assert isinstance(caught.value, UsageError)


@pytest.mark.parametrize(
    ("query", "column", "under"),
    [
        ("dog beach^0", 10, "^"),
        ("狗狗 camra:x", 4, "c"),
        ("x" * 5000 + " camra:x " + "y" * 5000, 5002, "c"),
        ("dog\n\ttaken:", 12, ""),
    ],
)
def test_the_pointer_stands_under_the_column(query: str, column: int, under: str) -> None:
    from rich.cells import cell_len

    line, caret = QuerySyntaxError(query, column, "wrong").pointer(60)
    assert cell_len(line) <= 60
    assert line.isprintable()
    assert caret.strip() == "^"
    cells = 0
    for at, character in enumerate(line):
        if cells == len(caret) - 1:
            assert line[at : at + 1] == under
            break
        cells += cell_len(character)
    else:
        assert under == ""
        assert cells == len(caret) - 1


def test_a_filter_alone_takes_no_words() -> None:
    with pytest.raises(QuerySyntaxError, match="only filters") as caught:
        parse_filter("taken:2023 dog")
    assert caught.value.column == 12
    with pytest.raises(QuerySyntaxError, match="no filter"):
        parse_filter(" ")


# --- from the command line ------------------------------------------------------------------------------


def compose(words: str | list[str] | None, **options: list[str]) -> str:
    files = {"odd:2", "/there/odd^2", "./new york.jpg", "/home/me/p.jpg"}
    return print_query(compose_query(words, exists=files.__contains__, home="/home/me", **options))  # type: ignore[arg-type]


def test_options_are_parts_as_a_whole() -> None:
    assert compose("beach", images=["pool.jpg:0.5"], minus=["people"]) == "beach image:pool.jpg^0.5 -people"
    assert compose(None, minus=["two people", "2:cars", "concept:our dog"]) == (
        '-"two people" "cars"^-2 -concept:"our dog"'
    )
    where = ["taken:2023 or taken:2021", "type:raw"]
    assert compose("", plus=["a - b (c"], where=where) == "a - b (c taken:2023,2021 type:raw"
    assert compose("x", concepts=["our-dog:2", "cat"]) == "x concept:our-dog^2 concept:cat"


def test_a_file_with_a_colon_wins_over_a_weight() -> None:
    assert compose(None, images=["odd:2"]) == "image:odd:2"
    assert compose(None, images=["even:2"]) == "image:even^2"
    assert compose(None, images=["http://a:80", "http://a/b.jpg:2", "~/p.jpg"]) == (
        "image:http://a:80 image:http://a/b.jpg^2 image:/home/me/p.jpg"
    )
    assert compose(None, images=["-:2", "clipboard:", "clipboard:2", "clipboard"]) == (
        "image:-^2 image:clipboard: image:clipboard:^2 image:clipboard"
    )
    assert compose(["/there/odd^2"]) == 'image:"/there/odd^2"'


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (["horse", "+", "stripes"], 'horse +"stripes"'),
        (["apple", "-", "fruit"], "apple -fruit"),
        (["./new york.jpg", "+", "night"], 'image:"./new york.jpg" night'),
        (["./new york.jpg"], 'image:"./new york.jpg"'),
        (
            ["2:golden retriever", "+", "./swimming pool.jpg"],
            '"golden retriever"^2 image:"./swimming pool.jpg"',
        ),
        (["./a b.jpg", "-", "2:sports car", "+", "2:snow"], 'image:"./a b.jpg" "sports car"^-2 "snow"^2'),
        (["https://a.example/cat.jpg"], "image:https://a.example/cat.jpg"),
        (["a", "dog", "taken:2023"], "a dog taken:2023"),
    ],
)
def test_what_is_typed_for_rclip_keeps_working(arguments: list[str], printed: str) -> None:
    assert compose(arguments) == printed


def test_bad_options_name_the_argument_and_the_column() -> None:
    for words, options, query, column in [
        (None, {}, "", 1),
        ("", {"images": ["x:0"]}, "x:0", 2),
        ("x", {"minus": [" "]}, " ", 1),
        ("x", {"minus": ["2:a^2"]}, "2:a^2", 4),
        ("x", {"where": ["dog"]}, "dog", 1),
        (["dog", "-"], {}, "dog -", 6),
    ]:
        with pytest.raises(QuerySyntaxError) as caught:
            compose_query(words, **options)  # type: ignore[arg-type]
        assert (caught.value.query, caught.value.column) == (query, column)


# --- the page -------------------------------------------------------------------------------------------

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "queries.md").read_text()


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the table under a heading, without its head."""
    section = PAGE.partition(f"\n{heading}\n")[2].partition("\n#")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in lines[2:]]


def code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_every_example_of_the_page_is_read() -> None:
    headings = ("## What the picture shows", "## Pictures and concepts", "### not, and, or, brackets")
    queries = [row[0].strip("`") for heading in headings for row in rows(heading)]
    filters = [example for row in rows("## Filters") for example in code(row[3])]
    assert len(queries) > 20
    assert len(filters) > 50
    for example in queries:
        query = parse(example)
        assert parse(print_query(query)) == query
    for example in filters:
        where = parse_filter(example)
        assert parse_filter(print_filter(where)) == where


def test_the_page_says_what_is_a_sentence_and_what_an_error() -> None:
    table = rows("## What could be read in two ways")
    assert len(table) > 12
    for typed, what, _ in table:
        for example in code(typed):
            if what == "an error":
                with pytest.raises(QuerySyntaxError):
                    parse(example)
            elif what == "a sentence":
                assert parse(example) == Query((Term(Text(example)),))
            else:
                assert parse(example) != Query((Term(Text(example)),))


def test_the_page_names_every_field() -> None:
    from search.language.syntax import NAMES

    assert {name for name in NAMES if f"`{name}:" not in PAGE and f"`{name}`" not in PAGE} == set()
