"""Whole questions to a real index: what is wanted, what must hold, and in which order it comes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from encoders import UsageError
from indexer import Index, index_folders
from search import Concept, Indexed, Picture, Query, Results, Searcher, Term, Text, parse
from tests.color import COLORS, ColorEncoder

# name: (colours from top to bottom, day, caption)
PICTURES = {
    "june/red.jpg": (("red",), "2023:06:01", None),
    "june/red-blue.jpg": (("red", "blue"), "2023:06:01", None),
    "june/blue.jpg": (("blue",), "2023:06:02", None),
    "june/green.jpg": (("green",), "2023:06:03", "a walk with Fido"),
    "july/red-green.jpg": (("red", "green"), "2023:07:09", None),
    "july/yellow.jpg": (("yellow",), None, None),
    "july/blue-yellow.jpg": (("blue", "yellow"), "2024:07:09", None),
    "july/copy-of-red.jpg": (("red",), "2023:06:01", None),
}


@pytest.fixture(scope="module")
def searcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Searcher]:
    folder = tmp_path_factory.mktemp("asking")
    for name, (colors, day, caption) in PICTURES.items():
        image = Image.new("RGB", (64, 48))
        height = 48 // len(colors)
        for place, color in enumerate(colors):
            image.paste(COLORS[color], (0, place * height, 64, (place + 1) * height))
        exif = Image.Exif()
        if day:
            exif.get_ifd(0x8769)[0x9003] = f"{day} 12:00:00"
        if caption:
            exif[0x010E] = caption
        path = folder / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, quality=95, exif=exif)
    encoder = ColorEncoder()
    index_folders(
        [os.fsencode(folder / "photos")], index_dir=folder / "index", encoder=lambda space: encoder, workers=1
    )
    with Index.open(str(folder / "index")) as index:  # by its name, as in a notebook
        yield Searcher(index, encoder)


def names(results: Results) -> list[str]:
    return [Path(os.fsdecode(hit.path)).stem for hit in results]


def test_a_picture_that_is_named_twice_is_named_once(searcher: Searcher) -> None:
    first = searcher.search(parse("blue"))[0].file_id
    for part in (Indexed(first), Picture(Image.new("RGB", (64, 48), COLORS["green"]))):
        once = searcher.search(Query((Term(part),)))
        twice = searcher.search(Query((Term(part), Term(part, 2.0))))
        assert names(once) == names(twice)
        assert [hit.score for hit in once] == pytest.approx([hit.score for hit in twice], abs=1e-5)
        assert [hit.probability for hit in once] == [hit.probability for hit in twice]


def ask(searcher: Searcher, text: str, **more: object) -> list[str]:
    return names(searcher.search(replace(parse(text), **more)))  # type: ignore[arg-type]


def test_conditions_leave_only_what_matches_and_count_it(searcher: Searcher) -> None:
    results = searcher.search(parse("red taken:2023-06"))
    assert names(results)[0] in ("red", "copy-of-red")
    assert set(names(results)) == {"red", "copy-of-red", "red-blue", "blue", "green"}
    assert (results.left, results.searched) == (5, 8)


def test_a_copy_outside_of_the_condition_is_not_shown(searcher: Searcher) -> None:
    assert "copy-of-red" not in ask(searcher, "red path:*/june/*")
    assert "red" not in ask(searcher, "red path:*/july/*")


def test_conditions_alone_read_no_embeddings(searcher: Searcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Index, "sample")
    assert len(ask(searcher, "taken:2023-06")) == 5


def test_conditions_alone_list_what_they_leave_newest_first(searcher: Searcher) -> None:
    assert ask(searcher, "taken:any", k=3) == ["blue-yellow", "red-green", "green"]
    assert names(searcher.search(parse("path:*/nowhere/*"))) == []


@pytest.mark.parametrize("fusion", ["early", "late", "hybrid"])
def test_two_parts_find_the_picture_that_has_both(searcher: Searcher, fusion: str) -> None:
    assert ask(searcher, "red +blue", fusion=fusion, k=1) == ["red-blue"]


def test_a_negative_weight_pushes_away(searcher: Searcher) -> None:
    assert ask(searcher, "red", k=8).index("red-blue") < 4
    assert ask(searcher, "red blue^-1", k=8).index("red-blue") > 3


def test_a_picture_and_a_word_meet(searcher: Searcher) -> None:
    red = Image.new("RGB", (64, 48), COLORS["red"])
    query = Query((Term(Picture(red)), Term(Text("green"))), k=1)
    assert names(searcher.search(query)) == ["red-green"]


def test_a_crop_is_what_is_looked_for(searcher: Searcher) -> None:
    image = Image.new("RGB", (100, 100), COLORS["yellow"])
    image.paste(COLORS["green"], (0, 0, 50, 100))
    assert names(searcher.search(Query((Term(Picture(image, (0.0, 0.0, 0.5, 1.0))),), k=1))) == ["green"]


def test_a_picture_of_the_index_is_asked_for_by_its_id(searcher: Searcher) -> None:
    blue = next(hit for hit in searcher.search_text("blue") if hit.path.endswith(b"/blue.jpg"))
    assert names(searcher.search(Query((Term(Indexed(blue.file_id)),), k=1))) == ["blue"]
    with pytest.raises(UsageError, match="no picture with id 4242"):
        searcher.search(Query((Term(Indexed(4242)),)))


def test_an_unknown_concept_says_how_to_make_it(searcher: Searcher) -> None:
    with pytest.raises(UsageError, match="pixseek concept add our-dog"):
        searcher.search(Query((Term(Concept("our-dog")),)))


def test_words_of_a_caption_find_what_the_encoder_cannot_see(searcher: Searcher) -> None:
    assert ask(searcher, "Fido", fusion="hybrid", k=1) == ["green"]


def test_good_examples_pull_and_bad_ones_are_not_shown(searcher: Searcher) -> None:
    all_of_them = searcher.search_text("red")
    found = {name: hit.file_id for name, hit in zip(names(all_of_them), all_of_them, strict=True)}
    liked = ask(searcher, "red", like=(found["blue"],), k=8)
    assert liked.index("blue") < names(all_of_them).index("blue")
    assert "red" not in ask(searcher, "red", unlike=(found["red"],))
    assert names(searcher.search(Query(like=(found["blue"],), k=1))) == ["blue"]
    with pytest.raises(UsageError, match="both a good and a bad example"):
        searcher.search(Query(like=(1,), unlike=(1,)))


def test_the_order_is_made_after_the_cut(searcher: Searcher) -> None:
    by_score = searcher.search(replace(parse("red"), k=4))
    for sort, key in (
        ("name", lambda hit: hit.path),
        ("size", lambda hit: -hit.size_bytes),
        ("taken", lambda hit: [-ord(c) for c in hit.taken_at or ""] or [1]),
    ):
        ordered = searcher.search(replace(parse("red"), k=4, sort=sort))
        assert sorted(names(ordered)) == sorted(names(by_score))
        assert list(ordered) == sorted(ordered, key=key)  # type: ignore[arg-type]
        assert sorted(hit.rank for hit in ordered) == [1, 2, 3, 4]


def test_a_day_or_a_folder_is_one_hit_with_the_others_behind_it(searcher: Searcher) -> None:
    days = searcher.search(replace(parse("red"), group="day"))
    assert names(days)[0] in ("red", "copy-of-red")
    assert len(days[0].group) == 2
    assert len(days) == 6
    folders = searcher.search(replace(parse("red"), group="folder"))
    assert sorted(1 + len(hit.group) for hit in folders) == [4, 4]


def test_a_diverse_answer_does_not_repeat_itself(searcher: Searcher) -> None:
    plain, diverse = ask(searcher, "red", k=3), ask(searcher, "red", k=3, diversity=0.6)
    assert {"red", "copy-of-red"} <= set(plain)
    assert len({"red", "copy-of-red"} & set(diverse)) == 1


def test_left_out_paths_are_left_out(searcher: Searcher) -> None:
    first = searcher.search_text("red")[0]
    query = Query((Term(Text("red")),), exclude=frozenset({first.path}))
    assert first.path not in [hit.path for hit in searcher.search(query)]


@pytest.mark.parametrize(
    "query",
    [
        Query(k=0),
        Query((Term(Text("red"), 0.0),)),
        Query((Term(Text("red"), float("nan")),)),
        Query(diversity=2),
    ],
    ids=["k", "zero weight", "nan weight", "diversity"],
)
def test_a_question_without_sense_is_wrong_usage(searcher: Searcher, query: Query) -> None:
    with pytest.raises(UsageError):
        searcher.search(query)


def test_what_is_excluded_is_not_shown_and_is_counted(searcher: Searcher) -> None:
    results = searcher.search(parse("red -blue"))
    assert "red" in names(results)
    assert not {"blue", "red-blue", "blue-yellow"} & set(names(results))
    assert results.excluded >= 1


def test_only_an_exclusion_leaves_all_the_others(searcher: Searcher) -> None:
    results = searcher.search(parse("-blue"))
    assert set(names(results)) == {"red", "copy-of-red", "green", "red-green", "yellow"}
    assert results.excluded == 3


def test_a_word_for_nothing_here_finds_nothing_and_the_nearest_can_be_seen_all_the_same(
    searcher: Searcher,
) -> None:
    nothing = searcher.search(parse("purple"))
    assert not nothing
    assert nothing.best_probability is not None
    assert nothing.best_probability < 0.1
    assert nothing.cut > 0
    assert len(searcher.search(replace(parse("purple"), min_probability=0.0))) == 8


def test_every_hit_has_a_probability_that_falls_with_the_score(searcher: Searcher) -> None:
    sure = [hit.probability for hit in searcher.search(parse("red"))]
    assert sure[0] is not None
    assert sure[0] > 0.9
    assert sure == sorted(sure, reverse=True)  # type: ignore[type-var]
    assert [hit.probability for hit in searcher.search(parse("taken:any"))] == [None] * 7


def test_a_picture_is_as_probable_as_all_of_its_parts_together(searcher: Searcher) -> None:
    green = Image.new("RGB", (64, 48), COLORS["green"])
    results = searcher.search(Query((Term(Text("red")), Term(Picture(green)))))
    both = dict(zip(names(results), (hit.probability or 0.0 for hit in results), strict=True))
    assert both["red-green"] > 0.5
    assert both["red-green"] > 5 * both["red"]
    assert both["red-green"] > 5 * both["green"]


def test_only_what_is_probable_enough_is_left(searcher: Searcher) -> None:
    some = searcher.search(replace(parse("red"), min_probability=0.5))
    assert {"red", "copy-of-red"} <= set(names(some))
    assert "blue" not in names(some)
    assert all((hit.probability or 0) >= 0.5 for hit in some)
    assert names(searcher.search(replace(parse("purple"), min_probability=0.5))) == []


def test_the_cut_by_itself_keeps_what_stands_out(searcher: Searcher) -> None:
    kept = set(ask(searcher, "yellow", auto_cut=True))
    assert "yellow" in kept
    assert not {"red", "green", "blue"} & kept


def test_a_name_in_a_caption_is_probable_although_the_encoder_has_no_idea(searcher: Searcher) -> None:
    (hit,) = [hit for hit in searcher.search(parse("Fido")) if hit.path.endswith(b"green.jpg")][:1]
    assert hit.probability is not None
    assert hit.probability >= 0.6
