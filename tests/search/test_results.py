"""Results: a sequence of hits, and a page for a notebook that says no more than it should."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from encoders import UsageError
from search import Hit, Query, Results, thumbnail
from tests.color import COLORS, draw


def hit(path: Path | bytes, rank: int = 1, **more: Any) -> Hit:
    values: dict[str, Any] = {
        "score": 0.5, "probability": 0.87, "timestamp_ms": None, "region": None, "width": 64, "height": 48,
        "format": "PNG", "size_bytes": 100, "taken_at": None, "camera": None, "lens": None, "iso": None,
        "latitude": None, "longitude": None, "caption": None, "keywords": (), "rating": None, "status": "ok",
        "file_id": rank, "frame_id": rank,
    }  # fmt: skip
    return Hit(rank=rank, path=path if isinstance(path, bytes) else str(path).encode(), **(values | more))


def results(*hits: Hit, **more: Any) -> Results:
    return Results(Query(), hits, searched=10, left=10, **more)


def test_results_are_a_sequence_of_hits() -> None:
    first, second = hit(b"/a"), hit(b"/b", 2)
    found = results(first, second)
    assert list(found) == [first, second]
    assert (found[0], found[-1], found[:1], len(found)) == (first, second, (first,), 2)
    assert second in found


def test_no_hits_is_false_and_says_among_how_many() -> None:
    assert not results()
    assert "nothing among 10 pictures" in results()._repr_html_()


def test_a_page_shows_a_picture_with_its_rank_probability_and_name(tmp_path: Path) -> None:
    page = results(hit(draw(tmp_path / "red.png")))._repr_html_()
    source = re.search(r"data:image/jpeg;base64,([^\"]+)", page)
    assert source is not None
    shown = Image.open(io.BytesIO(base64.b64decode(source[1])))
    assert max(abs(a - b) for a, b in zip(shown.getpixel((5, 5)), COLORS["red"], strict=True)) < 8  # type: ignore[arg-type]
    assert "1. red.png" in page
    assert "87%" in page


def test_a_name_is_text_and_never_markup(tmp_path: Path) -> None:
    page = results(hit(draw(tmp_path / "<img src=x onerror=alert(1)>.png")))._repr_html_()
    assert "<img src=x" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;.png" in page


def test_a_page_carries_no_metadata_of_the_original(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "SECRET PLACE"
    path = tmp_path / "a.jpg"
    Image.new("RGB", (40, 30), "blue").save(path, exif=exif)
    assert b"SECRET PLACE" in path.read_bytes()
    page = results(hit(path))._repr_html_()
    for source in re.findall(r"base64,([^\"]+)", page):
        assert b"SECRET PLACE" not in base64.b64decode(source)


def test_a_picture_that_is_gone_leaves_a_page_that_says_so(tmp_path: Path) -> None:
    assert "(cannot be read)" in results(hit(tmp_path / "gone.png"))._repr_html_()
    with pytest.raises(UsageError):
        hit(tmp_path / "gone.png").thumbnail()


def test_a_name_that_is_no_utf8_is_shown_all_the_same() -> None:
    assert r"\xff" in results(hit(b"/tmp/\xff.png"))._repr_html_()


def test_a_long_answer_shows_fifty_pictures_and_counts_the_rest() -> None:
    page = results(*(hit(b"/gone", rank) for rank in range(1, 62)))._repr_html_()
    assert page.count("<figure") == 50
    assert "and 11 more" in page


def test_what_stands_behind_a_hit_is_counted() -> None:
    leader = replace(hit(b"/gone"), group=(hit(b"/x", 1), hit(b"/y", 1)))
    assert "+2" in results(leader)._repr_html_()


@pytest.mark.parametrize("side", [0, -1])
def test_a_thumbnail_without_a_size_is_wrong_usage(side: int, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="give 1 or more"):
        hit(draw(tmp_path / "red.png", "red")).thumbnail(side)


def test_a_thumbnail_of_a_region_shows_that_part(tmp_path: Path) -> None:
    image = Image.new("RGB", (100, 40), COLORS["red"])
    image.paste(COLORS["blue"], (50, 0, 100, 40))
    image.save(tmp_path / "two.png")
    right = thumbnail(str(tmp_path / "two.png").encode(), 20, (0.5, 0.0, 0.5, 1.0))
    assert right.size == (20, 16)
    assert right.getpixel((10, 8)) == COLORS["blue"]
