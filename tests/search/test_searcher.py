"""The searcher against an index that is a list: every claim has a five-line slow reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from PIL import Image

from encoders import EncoderError, EncoderMismatchError, UsageError
from indexer import FrameRecord, Neighbor, Selection, Space
from search import Searcher
from tests.conftest import COLORS, ColorEncoder


def record(frame_id: int, file_id: int, path: bytes, **more: Any) -> FrameRecord:
    values: dict[str, Any] = {
        "timestamp_ms": None, "region": None, "width": 64, "height": 48, "format": "PNG", "size_bytes": 100,
        "taken_at": None, "camera": None, "lens": None, "latitude": None, "longitude": None, "caption": None,
        "keywords": (), "iso": None, "rating": None, "status": "ok",
    }  # fmt: skip
    return FrameRecord(frame_id=frame_id, file_id=file_id, path=path, **(values | more))


@dataclass
class ListIndex:
    """Frames in memory: (embedding, records of the files that show it)."""

    encoder: ColorEncoder
    stored: dict[int, tuple[Any, list[FrameRecord]]]
    fetched: int = 0

    @property
    def space(self) -> Space | None:
        if not self.stored:
            return None
        return Space(1, self.encoder.spec, self.encoder.fingerprint, self.encoder.dim, 16)

    def select(self, where: Any) -> Selection:
        files = len({record.file_id for _, records in self.stored.values() for record in records})
        return Selection(files, files)

    def sample(self, size: int = 4096) -> Any:
        return np.stack([vector for vector, _ in self.stored.values()])

    def vectors_of(self, frame_ids: Sequence[int]) -> dict[int, Any]:
        return {number: self.stored[number][0] for number in frame_ids}

    def matching_words(self, words: str, k: int, among: Any = None) -> list[Any]:
        return []

    def nearest(self, query: Any, k: int, among: Any = None) -> list[Neighbor]:
        self.fetched = k
        scored = [Neighbor(number, float(vector @ query)) for number, (vector, _) in self.stored.items()]
        return sorted(scored, key=lambda neighbor: -neighbor.score)[:k]

    def frames(self, frame_ids: Sequence[int], among: Any = None) -> dict[int, list[FrameRecord]]:
        return {number: self.stored[number][1] for number in frame_ids}


def index_of(encoder: ColorEncoder, *colors_and_records: tuple[str, list[FrameRecord]]) -> ListIndex:
    vectors = encoder.encode_texts([text for text, _ in colors_and_records])
    return ListIndex(
        encoder,
        {
            records[0].frame_id: (vector, records)
            for vector, (_, records) in zip(vectors, colors_and_records, strict=True)
        },
    )


def test_sentence_finds_the_picture_of_its_colour(color_encoder: ColorEncoder) -> None:
    index = index_of(
        color_encoder, *((color, [record(n, n, color.encode())]) for n, color in enumerate(COLORS))
    )
    for color in COLORS:
        hits = Searcher(index, color_encoder).search_text(f"something {color}", 3)
        assert hits[0].path == color.encode()
        assert hits[0].score == pytest.approx(1, abs=1e-4)
        assert [hit.rank for hit in hits] == [1, 2, 3]


def test_picture_finds_pictures_of_its_colour_and_leaves_out_what_is_excluded(
    color_encoder: ColorEncoder,
) -> None:
    index = index_of(color_encoder, ("red", [record(1, 1, b"/a")]), ("red blue", [record(2, 2, b"/b")]))
    image = Image.new("RGB", (300, 200), COLORS["red"])
    searcher = Searcher(index, color_encoder)
    assert [hit.path for hit in searcher.search_image(image, 5)] == [b"/a", b"/b"]
    assert [hit.path for hit in searcher.search_image(image, 5, exclude={b"/a"})] == [b"/b"]


def test_a_file_is_one_hit_by_its_best_frame(color_encoder: ColorEncoder) -> None:
    index = index_of(
        color_encoder,
        ("blue", [record(1, 7, b"/v.mp4", timestamp_ms=0)]),
        ("red", [record(2, 7, b"/v.mp4", timestamp_ms=2000)]),
        ("red green", [record(3, 8, b"/p.jpg")]),
    )
    hits = Searcher(index, color_encoder).search_text("red", 10)
    assert [(hit.path, hit.timestamp_ms, hit.frame_id) for hit in hits] == [
        (b"/v.mp4", 2000, 2),
        (b"/p.jpg", None, 3),
    ]


def test_copies_of_a_picture_are_all_listed(color_encoder: ColorEncoder) -> None:
    index = index_of(color_encoder, ("red", [record(1, 2, b"/copy"), record(1, 1, b"/a")]))
    assert [hit.path for hit in Searcher(index, color_encoder).search_text("red")] == [b"/a", b"/copy"]


def test_many_frames_of_one_file_do_not_hide_the_others(color_encoder: ColorEncoder) -> None:
    frames = [("red", [record(n, 1, b"/long.mp4", timestamp_ms=n)]) for n in range(1000)]
    index = index_of(
        color_encoder, *frames, ("red blue", [record(1000, 2, b"/b")]), ("blue", [record(1001, 3, b"/c")])
    )
    assert [hit.path for hit in Searcher(index, color_encoder).search_text("red", 2)] == [b"/long.mp4", b"/b"]


def test_equal_scores_come_in_the_order_of_paths_whatever_the_order_of_storage(
    color_encoder: ColorEncoder,
) -> None:
    paths = [f"/{n:04d}".encode() for n in range(500)]
    for order in (paths, paths[::-1]):
        index = index_of(color_encoder, *(("red", [record(n, n, path)]) for n, path in enumerate(order)))
        assert [hit.path for hit in Searcher(index, color_encoder).search_text("red", 5)] == paths[:5]


def test_huge_k_returns_all_there_is(color_encoder: ColorEncoder) -> None:
    index = index_of(color_encoder, ("red", [record(1, 1, b"/a")]), ("blue", [record(2, 2, b"/b")]))
    assert len(Searcher(index, color_encoder).search_text("red", 10**9)) == 2
    assert index.fetched < 10**6


@pytest.mark.parametrize("k", [0, -1])
def test_k_below_one_is_wrong_usage(color_encoder: ColorEncoder, k: int) -> None:
    index = index_of(color_encoder, ("red", [record(1, 1, b"/a")]))
    with pytest.raises(UsageError):
        Searcher(index, color_encoder).search_text("red", k)


def test_another_encoder_is_refused(color_encoder: ColorEncoder) -> None:
    index = index_of(color_encoder, ("red", [record(1, 1, b"/a")]))
    with pytest.raises(EncoderMismatchError, match=r"index made with color .*asked for color-2"):
        Searcher(index, ColorEncoder("color-2"))


@pytest.mark.parametrize(
    "answer",
    [np.full((1, 8), np.nan), np.ones((1, 7)), np.zeros((1, 8)), np.ones((2, 8)), np.full((1, 8), np.inf)],
    ids=["nan", "narrow", "zero", "two rows", "inf"],
)
def test_what_is_no_embedding_is_never_searched_with(color_encoder: ColorEncoder, answer: Any) -> None:
    index = index_of(color_encoder, ("red", [record(1, 1, b"/a")]))
    searcher = Searcher(index, color_encoder)
    color_encoder.encode_texts = lambda texts: answer.astype(np.float32)  # type: ignore[method-assign]
    with pytest.raises(EncoderError, match="color"):
        searcher.search_text("red")


def test_empty_index_says_so(color_encoder: ColorEncoder) -> None:
    with pytest.raises(UsageError, match="empty"):
        Searcher(ListIndex(color_encoder, {}), color_encoder)
