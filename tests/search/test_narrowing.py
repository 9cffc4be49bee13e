"""What stands behind what."""

from __future__ import annotations

from typing import Any

from search.narrowing import Found, grouped, labels_of
from tests.search.test_searcher import record

NO_LOOKS: Any = None


def found(*records: object) -> list[Found]:
    return [Found(1.0 - place / 10, 0.5, one) for place, one in enumerate(records)]


def test_groups_stand_in_the_order_of_their_best_and_keep_order_inside() -> None:
    a, b, c, d = found(*(record(n, n, b"/x") for n in range(4)))
    assert grouped([a, b, c, d], ["one", "two", "one", "two"]) == [[a, c], [b, d]]


def test_days_are_the_cameras_own_and_an_undated_picture_stands_alone() -> None:
    pictures = found(
        record(1, 1, b"/a", taken_at="2023-06-01T23:59:00+02:00"),
        record(2, 2, b"/b", taken_at="2023-06-01T00:01:00"),
        record(3, 3, b"/c"),
        record(4, 4, b"/d"),
    )
    assert [len(group) for group in grouped(pictures, labels_of(pictures, "day", NO_LOOKS))] == [2, 1, 1]


def test_a_folder_is_the_one_that_holds_the_file_and_not_a_deeper_one() -> None:
    pictures = found(record(1, 1, b"/a/1.png"), record(2, 2, b"/a/b/2.png"), record(3, 3, b"/a/3.png"))
    assert labels_of(pictures, "folder", NO_LOOKS) == [b"/a", b"/a/b", b"/a"]


def test_without_grouping_everything_stands_alone() -> None:
    pictures = found(record(1, 1, b"/a"), record(1, 2, b"/copy"))
    assert len(grouped(pictures, labels_of(pictures, None, NO_LOOKS))) == 2
