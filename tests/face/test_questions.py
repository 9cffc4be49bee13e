"""From a command line to words and options, and to the parts of a question."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoders import UsageError
from face.questions import asked, crop_box, file_ids, one_of, picture_part, share, sort_arguments
from indexer import And, Not, Number, Or, Taken, Under
from search import Concept, Indexed, Picture, Query, Term, Text, parse

TAKES_VALUE = {
    "-k": True, "--json": False, "-0": False, "--print0": False, "--paths-only": False, "--preview": False,
    "--plus": True, "--not": True, "--diverse": True, "--index": True, "-h": False, "--help": False,
}  # fmt: skip


class Refused(Exception):
    pass


def refuse(message: str) -> NoReturn:
    raise Refused(message)


def sort(*arguments: str) -> tuple[list[str], list[str]]:
    return sort_arguments(arguments, TAKES_VALUE, refuse)


@pytest.mark.parametrize("option", ["-k", "--plus", "-t", "-s"])
def test_an_option_without_its_value_says_so(option: str) -> None:
    with pytest.raises(Refused, match=f"{option} needs a value"):
        sort("dog", option)


@pytest.mark.parametrize(
    ("line", "options", "words"),
    [
        ("beach -people", [], ["beach", "-people"]),
        ("-people beach --json", ["--json"], ["-people", "beach"]),
        ("-k 5 beach -k7 -k=9", ["-k", "5", "-k", "7", "-k", "9"], ["beach"]),
        ("cat -t 3 --top 4 --top=5", ["-k", "3", "-k", "4", "-k", "5"], ["cat"]),
        (
            "cat -a sky --add=sea -s snow --sub ice",
            ["--plus", "sky", "--plus", "sea", "--not", "snow", "--not", "ice"],
            ["cat"],
        ),
        ("cat + sky - snow", [], ["cat", "+", "sky", "-", "snow"]),
        ("cat -fp", ["--paths-only", "--preview"], ["cat"]),
        ("-n cat --no-indexing", [], ["cat"]),
        ("cat --not -people", ["--not", "-people"], ["cat"]),
        ("cat --diverse", ["--diverse=0.3"], ["cat"]),
        ("--diverse 0.7 cat", ["--diverse=0.7"], ["cat"]),
        ("--diverse=.2 cat", ["--diverse", ".2"], ["cat"]),
        ("--diverse cat", ["--diverse=0.3"], ["cat"]),
        ("cat -- --json -k", [], ["cat", "--json", "-k"]),
        ("cat --nonsense", ["--nonsense"], ["cat"]),
        ("cat -z", ["-z"], ["cat"]),
        ("-\u72d7 cat", [], ["-\u72d7", "cat"]),
        ("-", [], ["-"]),
        ("-2:people 2:dog", [], ["-2:people", "2:dog"]),
    ],
)
def test_a_minus_is_part_of_a_word_where_it_is_no_option(
    line: str, options: list[str], words: list[str]
) -> None:
    assert sort(*line.split()) == (options, words)


def test_a_question_in_one_word_may_begin_with_a_minus() -> None:
    assert sort("-people beach", "--json") == (["--json"], ["-people beach"])


@pytest.mark.parametrize("typed", ["-json", "-index=x", "-help", "-preview"])
def test_an_option_with_one_dash_too_few_is_asked_back(typed: str) -> None:
    with pytest.raises(Refused, match=f"-{typed.partition('=')[0]} .*--not"):
        sort("cat", typed)


@given(st.lists(st.text(min_size=1, max_size=6), max_size=6))
def test_nothing_that_is_typed_gets_lost(arguments: list[str]) -> None:
    try:
        options, words = sort(*arguments)
    except Refused:
        return
    kept = "".join(options) + "".join(words)
    for argument in arguments:
        if argument[0] != "-":
            assert argument in kept


# --- texts and pictures


def ask(*words: str, literal: bool = False, **parts: list[str]) -> Query:
    plain: dict[str, list[str]] = {"images": [], "plus": [], "minus": [], "where": [], "folders": []}
    return asked(words, literal=literal, **(plain | parts))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["a dog", "on", "a beach"], "a dog on a beach"),
        (["beach", "+golden hour", "-people walking"], 'beach +"golden hour" -"people walking"'),
        (["beach", "+", "golden hour"], 'beach +"golden hour"'),
        (["dog", "camera:EOS R5", "-camera:EOS M"], 'dog camera:"EOS R5" -camera:"EOS M"'),
        (["-people beach"], "-people beach"),
        (['beach +"golden hour"'], 'beach +"golden hour"'),
        (["beach", '+"golden hour"'], 'beach +"golden hour"'),
        (["dog", "./my pool.jpg", "-/a b/c.png"], 'dog image:"./my pool.jpg" -image:"/a b/c.png"'),
        (["dog", "./pool.jpg"], "dog ./pool.jpg"),
    ],
)
def test_quotes_that_the_shell_took_come_back(words: list[str], text: str) -> None:
    assert ask(*words) == parse(text)


def test_options_are_parts_of_the_question() -> None:
    assert ask("beach", plus=["golden hour", "2:dusk"], minus=["two people"]).terms == (
        Term(Text("beach")),
        Term(Text("golden hour")),
        Term(Text("dusk"), 2),
        Term(Text("two people"), excluded=True),
    )
    assert ask(plus=["concept:our-dog^0.5"]).terms == (Term(Concept("our-dog"), 0.5),)
    assert ask(where=["taken:2023"]) == Query(where=Taken("2023", "2023"))
    assert ask() == Query()


def test_literal_texts_are_taken_as_they_stand() -> None:
    query = ask("camera:canon", "-x", plus=["2:y"], minus=["+z"], images=["a.jpg"], literal=True)
    assert query == Query(
        (
            Term(Text("camera:canon -x")),
            Term(Text("2:y")),
            Term(Text("+z"), excluded=True),
            Term(Picture("a.jpg")),
        )
    )


@pytest.mark.parametrize("words", [[""], [" "], ["", "\t"]])
def test_a_blank_text_is_a_mistake_also_beside_other_parts(words: list[str]) -> None:
    for literal in (False, True):
        with pytest.raises(UsageError, match="blank"):
            ask(*words, where=["taken:2023"], literal=literal)


@pytest.mark.parametrize(
    ("text", "part", "weight"),
    [
        ("a.jpg", Picture("a.jpg"), 1), ("a.jpg:0.5", Picture("a.jpg"), 0.5),
        ("a.jpg:-2", Picture("a.jpg"), -2), ("id:12", Indexed(12), 1), ("id:12:0.5", Indexed(12), 0.5),
        ("clipboard:", Picture("clipboard:"), 1), ("clipboard:0.5", Picture("clipboard:"), 0.5),
        ("clipboard::0.5", Picture("clipboard:"), 0.5), ("-", Picture("-"), 1), ("-:2", Picture("-"), 2),
        ("http://a.example:8080", Picture("http://a.example:8080"), 1),
        ("http://a.example:8080/b.jpg", Picture("http://a.example:8080/b.jpg"), 1),
        ("http://a.example/b.jpg:.5", Picture("http://a.example/b.jpg"), 0.5),
        ("file:///a%20b.jpg", Picture("/a b.jpg"), 1), ("C:a.jpg", Picture("C:a.jpg"), 1),
    ],
)  # fmt: skip
def test_image_takes_a_picture_and_a_weight(text: str, part: object, weight: float) -> None:
    assert ask(images=[text]).terms == (Term(part, weight),)  # type: ignore[arg-type]


def test_a_file_of_just_that_name_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scan:2").touch()
    assert ask(images=["scan:2"]).terms == (Term(Picture("scan:2")),)
    assert ask(images=["scan:2:3"]).terms == (Term(Picture("scan:2"), 3),)


@pytest.mark.parametrize(
    "text", ["a.jpg:0", "a.jpg:1001", "id:x", "id:", "id:-1", "id:" + "9" * 30, "", "id:1:0"]
)
def test_a_picture_that_is_none_is_wrong_usage(text: str) -> None:
    with pytest.raises(UsageError):
        ask(images=[text])


@pytest.mark.parametrize("text", ["id:x", "id:", "", "id:1:2"])
def test_a_picture_on_the_command_line_is_a_name_or_an_id(text: str) -> None:
    assert picture_part("id:7") == Indexed(7)
    assert picture_part("a:2.jpg", (0, 0, 1, 1)) == Picture("a:2.jpg", (0, 0, 1, 1))
    with pytest.raises(UsageError):
        picture_part(text)


def test_ids_are_numbers_each_once() -> None:
    assert file_ids(["3", "id:4", "3"], "--like") == (3, 4)
    with pytest.raises(UsageError, match=r"--like x: .*file_id"):
        file_ids(["x"], "--like")


# --- numbers and conditions


def test_shares_and_crops() -> None:
    assert [share(text, "-p") for text in ("0.5", "50%", "50 %", "0", "1", "100%")] == [
        0.5,
        0.5,
        0.5,
        0,
        1,
        1,
    ]
    for text in ("1.5", "-0.1", "101%", "many", "nan", "", "inf"):
        with pytest.raises(UsageError, match="from 0 to 1"):
            share(text, "--min-probability")
    assert crop_box("1,2, 3.5,4") == (1, 2, 3.5, 4)
    for text in ("1,2,3", "a,b,c,d", "", "1,2,3,4,5"):
        with pytest.raises(UsageError, match="x,y,width,height"):
            crop_box(text)


def test_a_choice_that_does_not_exist_names_those_that_do() -> None:
    assert one_of("late", "Fusion", "--fusion") == "late"
    with pytest.raises(UsageError, match="--sort up: it is one of score, taken, name, size"):
        one_of("up", "Sort", "--sort")


def test_conditions_of_all_places_hold_together(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    real, here = os.fsencode(tmp_path / "real"), os.fsencode(tmp_path)
    assert ask(folders=[str(tmp_path / "link")]).where == Under(real)
    assert ask(f"in:{tmp_path}/link").where == Under(real)
    assert ask(
        f"-in:{here.decode()}", where=["rating:4..5"], folders=[str(tmp_path), str(tmp_path / "link")]
    ) == Query(where=And((Not(Under(here)), Number("rating", 4, 5), Or((Under(here), Under(real))))))
