"""Questions put together by hand: what means nothing is refused in one line and never answered."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from encoders import UsageError
from indexer import Index
from search import Concept, Indexed, Picture, Query, Searcher, Term, Text
from search.soundness import refuse_nonsense
from tests.conftest import ColorEncoder, draw

DOG = (Term(Text("dog")),)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"k": 0}, "k is 0"), ({"k": 2.5}, "k is 2.5"), ({"k": math.nan}, "k is nan"),
        ({"k": "3"}, "whole number"),
        ({"terms": "dog"}, "tuple of Term"), ({"terms": DOG[0]}, "tuple of Term"),
        ({"terms": (Text("dog"),)}, "must be a Term"), ({"terms": (Term("dog"),)}, "Text, Picture, Indexed"),
        ({"terms": (Term(Text(5)),)}, "holds no text"), ({"terms": (Term(Indexed("5")),)}, "no number"),
        ({"terms": (Term(Concept(None)),)}, "holds no text"),
        ({"terms": (Term(Text("dog"), weight=0),)}, "a weight is 0"),
        ({"terms": (Term(Text("dog"), weight="1"),)}, "a weight is 1"),
        ({"terms": (Term(Text("dog"), weight=math.inf),)}, "a weight is inf"),
        ({"terms": (Term(Picture("a.jpg", (1, 2, 3))),)}, "four numbers"),
        ({"terms": (Term(Picture("a.jpg", "1234")),)}, "four numbers"),
        ({"like": 5}, "like is 5"), ({"unlike": ("5",)}, "unlike is"),
        ({"like": (1,), "unlike": (1,)}, "both"),
        ({"min_probability": 1.1}, "between 0 and 1"), ({"min_probability": "0.5"}, "between 0 and 1"),
        ({"diversity": math.nan}, "between 0 and 1"),
        ({"sort": "date"}, "score, taken, name, size"), ({"sort": None}, "score, taken, name, size"),
        ({"fusion": "rrf"}, "early, late, hybrid"), ({"group": "month"}, "near-duplicate"),
        ({"where": "taken:2023"}, "parse_filter"),
    ],
)  # fmt: skip
def test_a_value_that_is_not_documented_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        refuse_nonsense(Query(**{"terms": DOG, **values}))
    assert "\n" not in str(caught.value)


def test_a_sentence_is_no_query() -> None:
    with pytest.raises(UsageError, match="parse"):
        refuse_nonsense("a dog")  # type: ignore[arg-type]


def test_what_is_documented_is_taken() -> None:
    refuse_nonsense(Query())
    refuse_nonsense(
        Query([*DOG], k=np.int64(3), like=(np.int64(1),), fusion="late", group="day", sort="taken")
    )  # type: ignore[arg-type]
    refuse_nonsense(
        Query((Term(Picture(Path("a.jpg"), (0, 0, 1, 0.5)), np.float32(0.5)),), min_probability=0)
    )  # type: ignore[arg-type]


def test_an_id_of_any_length_is_one_that_no_picture_has(
    tmp_path: Path, make_index: Callable[..., Path], color_encoder: ColorEncoder
) -> None:
    draw(tmp_path / "photos" / "red.png", "red")
    with Index.open(make_index(tmp_path / "photos")) as index:
        searcher = Searcher(index, color_encoder)
        for query in (Query((Term(Indexed(10**30)),)), Query(DOG, like=(-(10**30),))):
            with pytest.raises(UsageError, match="no picture with id"):
                searcher.search(query)


def test_a_picture_is_named_by_text_by_a_path_and_by_bytes(
    tmp_path: Path, make_index: Callable[..., Path], color_encoder: ColorEncoder
) -> None:
    path = draw(tmp_path / "photos" / "red.png", "red")
    draw(tmp_path / "photos" / "blue.png", "blue")
    with Index.open(make_index(tmp_path / "photos")) as index:
        searcher = Searcher(index, color_encoder)
        for source in (str(path), Path(path), os.fsencode(path)):
            assert searcher.search(Query((Term(Picture(source)),)))[0].path == os.fsencode(path)
