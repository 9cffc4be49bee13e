"""Looks: a hash that stays when a picture is written again, and how it gets into the index."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from indexer import Index, Look, index_folders
from indexer.look import PLAIN, look_of
from indexer.outcomes import read_look
from tests.color import ColorEncoder
from tests.scenes import page, save, scene


def bits(one: Image.Image, two: Image.Image) -> int:
    return (look_of(one).phash ^ look_of(two).phash).bit_count()


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    data = io.BytesIO()
    image.save(data, "JPEG", quality=quality)
    return Image.open(data).convert("RGB")


@pytest.mark.parametrize("seed", range(5))
def test_hash_stays_when_the_picture_is_written_again(seed: int) -> None:
    image = scene(seed)
    variants = [
        jpeg(image, 30),
        image.resize((80, 60), Image.Resampling.LANCZOS),
        image.convert("L").convert("RGB"),
        ImageEnhance.Brightness(image).enhance(0.8),
        ImageEnhance.Contrast(image).enhance(1.2),
    ]
    assert max(bits(image, variant) for variant in variants) <= 8


def test_hashes_of_different_pictures_are_far_apart() -> None:
    looks = [look_of(scene(seed)).phash for seed in range(30)]
    assert min((a ^ b).bit_count() for i, a in enumerate(looks) for b in looks[:i]) > 12


def test_hash_agrees_with_a_slow_transform() -> None:
    image = scene(3)
    square = image.convert("L").resize((256, 256), Image.Resampling.BOX).reduce(8)
    grey = np.asarray(square, np.float64)
    place = np.arange(32)
    frequencies = [
        [
            sum(
                (grey[y] * np.cos(np.pi * u * (2 * place + 1) / 64)).sum()
                * np.cos(np.pi * v * (2 * y + 1) / 64)
                for y in range(32)
            )
            for u in range(1, 9)
        ]
        for v in range(1, 9)
    ]
    flat = np.array(frequencies).ravel()
    expected = int("".join("1" if value > np.median(flat) else "0" for value in flat), 2)
    assert (look_of(image).phash ^ expected).bit_count() <= 1  # float32 at the median


@pytest.mark.parametrize("level", [0, 128, 255])
def test_plain_pictures_have_no_hash(level: int) -> None:
    assert look_of(Image.new("RGB", (200, 100), (level,) * 3)).phash == PLAIN
    assert look_of(page(1)).phash != PLAIN


def test_blurred_picture_is_less_sharp() -> None:
    image = scene(4)
    soft = image.resize((40, 30)).resize(image.size)
    assert look_of(soft).sharpness < look_of(image).sharpness / 2


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (500, 3)])
def test_tiny_and_thin_pictures_have_a_look(size: tuple[int, int]) -> None:
    look = look_of(Image.new("RGB", size, (200, 0, 0)))
    assert 0 <= look.phash < 1 << 64
    assert look.sharpness >= 0


@pytest.mark.parametrize(
    "values", [None, [], [1], [1, 2], [-1, 0.0], [1 << 64, 0.0], ["1", 0.0], [1, float("nan")], [True, 1.0]]
)
def test_answer_of_a_worker_that_is_no_look_is_refused(values: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        read_look(values)


def test_indexing_keeps_the_look_of_each_content(tmp_path: Path, make_index: Callable[..., Path]) -> None:
    image = scene(1)
    save(image, tmp_path / "photos" / "a.png")
    turned = image.transpose(Image.Transpose.ROTATE_90)
    save(turned, tmp_path / "photos" / "turned.png", orientation=6)
    with Index.open(make_index(tmp_path / "photos")) as index:
        looks = list(index.looks())
    assert len(looks) == 2
    assert {look.phash for _, look in looks} == {look_of(image).phash}


def test_verify_adds_looks_to_pictures_that_have_none(
    tmp_path: Path, make_index: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "photos"
    for seed in range(3):
        save(scene(seed), folder / f"{seed}.png")
    with monkeypatch.context() as older:
        older.setattr("indexer.ledger.Ledger._insert_contents", _without_looks())
        index_dir = make_index(folder)
    with Index.open(index_dir) as index:
        assert list(index.looks()) == []
    encoder = ColorEncoder()

    def run(*, verify: bool) -> None:
        index_folders(
            [os.fsencode(folder)],
            index_dir=index_dir,
            encoder=lambda space: encoder,
            workers=1,
            verify=verify,
        )

    run(verify=False)
    with Index.open(index_dir) as index:
        assert list(index.looks()) == [], "an ordinary run reads nothing that did not change"
    run(verify=True)
    with Index.open(index_dir) as index:
        assert {look.phash for _, look in index.looks()} == {look_of(scene(seed)).phash for seed in range(3)}
    assert encoder.encoded == 0, "nothing is encoded again for a look"


def _without_looks() -> Callable[..., object]:
    from indexer.ledger import Ledger

    original = Ledger._insert_contents

    def insert(self: Ledger, connection: object, space: object, contents: list[object]) -> object:
        for content in contents:
            content.look = None  # type: ignore[attr-defined]
        return original(self, connection, space, contents)  # type: ignore[arg-type]

    return insert


def test_look_survives_the_catalog_with_its_highest_bit() -> None:
    from indexer.ledger import _look_row

    row = _look_row(1, Look((1 << 64) - 1, 1.5))
    assert -(1 << 63) <= row["phash"] < 1 << 63
    assert row["phash"] & ((1 << 64) - 1) == (1 << 64) - 1
