"""How answers look: one form at a time, exact where machines read, harmless where people do."""

from __future__ import annotations

import base64
import csv
import dataclasses
import io
import json
import os
import sys
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoders import UsageError
from face.answers import CSV_COLUMNS, Form, chosen_form, csv_rows, give, hit_lines, percent, reasons
from indexer import Filter
from search import Hit, Query, parse, print_filter
from tests.hits import hit, results


def test_one_form_at_a_time() -> None:
    none = dict.fromkeys(("paths_only", "print0", "as_json", "as_jsonl", "as_csv"), False)
    assert chosen_form(**none) == "lines"
    assert chosen_form(**none | {"paths_only": True}) == "paths"
    assert chosen_form(**none | {"paths_only": True, "print0": True}) == "print0"
    with pytest.raises(UsageError, match="--json and --csv are different forms"):
        chosen_form(**none | {"as_json": True, "as_csv": True})
    with pytest.raises(UsageError, match="--jsonl and --paths-only"):
        chosen_form(**none | {"as_jsonl": True, "paths_only": True})


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (None, ""),
        (0, "0 %"),
        (0.001, "<1 %"),
        (0.87, "87 %"),
        (0.994, "99 %"),
        (0.9999, ">99 %"),
        (1, "100 %"),
    ],
)
def test_a_probability_never_claims_more_than_is_known(share: float | None, text: str) -> None:
    assert percent(share) == text


class _Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_columns_and_what_stands_behind_a_hit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", _Screen())
    hits = [
        hit("/a/beach.jpg", score=0.31, probability=0.873, group=(hit("/a/b.jpg"), hit("/a/c.jpg"))),
        hit("/a/\x1b[31m.mp4", rank=12, score=0.2, probability=0.001, timestamp_ms=61_000),
    ]
    assert list(hit_lines(hits, paths_only=False)) == [
        b"   1   0.310   87 %  /a/beach.jpg  +2 more\n",
        b"  12   0.200   <1 %  /a/\\x1b[31m.mp4  at 1:01\n",
    ]
    assert list(hit_lines([hit("/a", taken_at="2023-06-09T10:00:00")], paths_only=False, ranked=False)) == [
        b"   1  2023-06-09  /a\n"
    ]


def test_a_pipe_gets_score_tab_path_as_ever() -> None:
    hits = [hit("/a/new\nline.jpg", score=0.31, probability=0.9, group=(hit("/b"),))]
    assert list(hit_lines(hits, paths_only=False)) == [b"0.3100\t/a/new\\nline.jpg\n"]
    assert list(hit_lines(hits, paths_only=True)) == [b"/a/new\\nline.jpg\n"]


def _printed(form: Form, capfdbinary: pytest.CaptureFixture[bytes], *hits: object) -> bytes:
    give(results(*hits), form, question="a dog", encoder="color", draw=None)  # type: ignore[arg-type]
    return capfdbinary.readouterr().out


def test_json_says_how_the_answer_came_about(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    answer = results(
        hit("/a", probability=0.9, group=(hit("/b", rank=2),)),
        left=40, excluded=3, cut=7, best_probability=0.9, notes=("careful",),
    )  # fmt: skip
    give(answer, "json", question="a dog", encoder="color", draw=None)
    document = json.loads(capfdbinary.readouterr().out)
    hits = document.pop("hits")
    assert document == {
        "query": "a dog", "encoder": "color", "count": 1, "searched": 100, "left": 40, "excluded": 3,
        "cut": 7, "best_probability": 0.9, "notes": ["careful"],
    }  # fmt: skip
    assert (hits[0]["probability"], hits[0]["group"][0]["path"]) == (0.9, "/b")


def test_jsonl_is_one_hit_a_line(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    lines = _printed("jsonl", capfdbinary, hit("/a\n\xe9"), hit(b"/b\xff", rank=2)).splitlines()
    first, second = map(json.loads, lines)
    assert first["path"] == "/a\n\xe9"
    assert base64.b64decode(second["path_b64"]) == b"/b\xff"


def test_print0_gives_exact_bytes(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert _printed("print0", capfdbinary, hit(b"/b\xff\n"), hit("/c")) == b"/b\xff\n\0/c\0"


# --- csv


def test_csv_has_a_header_and_a_row_per_hit() -> None:
    data = b"".join(
        csv_rows([hit('/a,"b"/\xe9.png', caption="two\nlines", keywords=("x", "y"), probability=0.25)])
    )
    assert data.endswith(b"\r\n")
    header, row = csv.reader(io.StringIO(data.decode(), newline=""))
    assert tuple(header) == CSV_COLUMNS
    cells = dict(zip(header, row, strict=True))
    assert cells["path"] == '/a,"b"/\xe9.png'
    assert (cells["caption"], cells["keywords"], cells["more"]) == ("two\nlines", "x; y", "0")
    assert (cells["probability"], cells["iso"], cells["path_b64"]) == ("0.25", "", "")


def test_a_name_that_is_no_text_is_exact_in_its_own_column() -> None:
    (cells,) = csv.DictReader(io.StringIO(b"".join(csv_rows([hit(b"/a\xff.png")])).decode()))
    assert cells["path"] == "/a\\xff.png"
    assert base64.b64decode(cells["path_b64"]) == b"/a\xff.png"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_words_from_inside_a_picture_are_no_formula(start: str) -> None:
    text = start + 'cmd|" /C calc"!A0'
    data = b"".join(csv_rows([hit("/a", caption=text, camera=text, lens=text, keywords=(text, "x"))]))
    (cells,) = csv.DictReader(io.StringIO(data.decode(), newline=""))
    for column in ("caption", "camera", "lens"):
        assert cells[column] == "'" + text
    assert cells["keywords"].startswith("'" + text)
    assert float(cells["score"]) == 0.5


@given(st.binary(min_size=1, max_size=30).filter(lambda name: b"\0" not in name), st.text(max_size=20))
def test_every_path_and_caption_comes_back_from_csv(name: bytes, caption: str) -> None:
    caption = caption.encode("utf-8", "ignore").decode()
    data = b"".join(csv_rows([hit(b"/" + name, caption=caption)]))
    (cells,) = csv.DictReader(io.StringIO(data.decode(), newline=""))
    exact = base64.b64decode(cells["path_b64"]) if cells["path_b64"] else cells["path"].encode()
    assert exact == b"/" + name
    assert cells["caption"] in (caption, "'" + caption)


def test_csv_on_a_terminal_steers_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", _Screen())
    data = b"".join(csv_rows([hit("/a\x1b[31m", caption="\x1b]0;owned\x07")]))
    assert b"\x1b" not in data
    assert b"\x07" not in data


def test_a_preview_is_drawn_below_its_line(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    answer = results(hit("/a"), hit("/b"), query=Query())
    give(
        answer,
        "paths",
        question="",
        encoder=None,
        draw=lambda one: b"[" + os.path.basename(one.path) + b"]\n",
    )
    assert capfdbinary.readouterr().out == b"/a\n[a]\n/b\n[b]\n"


def test_every_field_of_a_hit_is_in_the_csv() -> None:
    fields = {field.name for field in dataclasses.fields(Hit)} - {"group"}
    assert fields | {"path_b64", "more"} == set(CSV_COLUMNS)


# --- why there is nothing


class Shelf:
    """Stands in for an index: how many pictures each filter leaves."""

    def __init__(self, left: dict[str, int] | None = None) -> None:
        self.left = left or {}

    def select(self, where: Filter) -> SimpleNamespace:
        return SimpleNamespace(files=self.left[print_filter(where)])


def why(query: str, shelf: dict[str, int] | None = None, **changes: object) -> list[str]:
    asked = dataclasses.replace(parse(query), min_probability=changes.pop("least", None))  # type: ignore[arg-type]
    answer = results(query=asked, searched=changes.pop("searched", 12_345), **changes)
    return reasons(answer, Shelf(shelf))  # type: ignore[arg-type]


def test_the_condition_that_leaves_nothing_is_named() -> None:
    assert why("camera:canon", left=0) == ["camera:canon left 0 of 12,345 pictures"]
    (line,) = why("camera:canon taken:2023", {"camera:canon": 0, "taken:2023": 9}, left=0)
    assert line == "camera:canon taken:2023 left 0 of 12,345 pictures: there is none with camera:canon"
    (line,) = why("camera:canon taken:2023", {"camera:canon": 57, "taken:2023": 9}, left=0)
    assert line == (
        "camera:canon taken:2023 left 0 of 12,345 pictures; without camera:canon there would be 9, "
        "without taken:2023 there would be 57"
    )


def test_what_was_excluded_or_is_improbable_is_said() -> None:
    assert why("beach -people", excluded=40) == ["-people removed all 40 pictures"]
    assert why("asdf", cut=9, best_probability=0.03) == [
        "nothing in this library probably matches 'asdf' (best: 3 %); to see the nearest anyway: "
        "--min-probability 0"
    ]
    assert why("asdf type:png", cut=9, left=20, best_probability=0.03)[0].startswith(
        "none of the 20 left probably matches 'asdf'"
    )
    assert why("a dog", cut=9, best_probability=0.8, least=0.9) == [
        "nothing in this library matches 'a dog' with 90 % or more"
    ]
    assert why("beach -people", excluded=4, cut=2, best_probability=0.01)[0] == "-people removed 4 pictures"


def test_a_question_of_a_hundred_parts_gets_a_short_reason() -> None:
    (line,) = why(" ".join(f"+w{number}" for number in range(100)), cut=9)
    assert "'w0' and 'w1' and 'w2' and 'w3' and 'w4' and 95 more" in line


def test_where_there_are_hits_or_no_pictures_the_reason_is_another() -> None:
    assert reasons(results(hit("/a"), cut=5), Shelf()) == []  # type: ignore[arg-type]
    assert why("a dog", searched=0) == ["the index is empty; fill it with: pixseek index FOLDER"]
    assert why("a dog") == ["nothing else there"]
