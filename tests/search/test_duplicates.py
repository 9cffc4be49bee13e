"""Groups of files that are one picture, and what must never be taken for one."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from indexer import Copies, FileCopy, FrameRecord, Index, Look, save_verdicts
from search import Duplicates, KeepRule, find_duplicates, group_hits, remove_duplicates
from search.duplicates import likeness
from search.duplicates.closer import SIDE, same_picture
from tests.scenes import page, save, scene

Make = Callable[..., Path]


def found(index_dir: Path, kinds: Sequence[Any] = ("exact", "near"), **options: Any) -> Duplicates:
    with Index.open(index_dir) as index:
        return find_duplicates(index, kinds, **options)


def names(plan: Duplicates) -> list[list[str]]:
    """Return, for each group, the name of the kept file and then those of the others."""
    return [
        [
            os.path.basename(os.fsdecode(file.path))
            for file in (group.keeper, *(m.file for m in group.members))
        ]
        for group in plan.groups
    ]


# -- exact


def test_copies_are_a_group_and_a_hard_link_of_one_is_not(tmp_path: Path, make_index: Make) -> None:
    folder = tmp_path / "photos"
    save(scene(1), folder / "a.jpg")
    (folder / "longer-name.jpg").write_bytes((folder / "a.jpg").read_bytes())
    save(scene(2), folder / "b.jpg")
    os.link(folder / "b.jpg", folder / "b2.jpg")
    plan = found(make_index(folder), ("exact",))
    assert names(plan) == [["a.jpg", "longer-name.jpg"]]
    assert plan.groups[0].members[0].relation == "exact"


def test_a_symbolic_link_is_neither_kept_nor_removed(tmp_path: Path, make_index: Make) -> None:
    save(scene(1), tmp_path / "elsewhere" / "a.jpg")
    folder = tmp_path / "photos"
    save(scene(1), folder / "long-name.jpg")
    (folder / "link.jpg").symlink_to(tmp_path / "elsewhere" / "a.jpg")
    index_dir = make_index(folder)
    assert names(found(index_dir)) == []
    (folder / "copy.jpg").write_bytes((folder / "long-name.jpg").read_bytes())
    assert names(found(make_index(folder))) == [["copy.jpg", "long-name.jpg"]]


@pytest.mark.parametrize("how", ["trash", "hardlink"])
def test_a_link_that_came_after_the_plan_is_no_file_to_keep(
    tmp_path: Path, make_index: Make, how: Any
) -> None:
    folder = tmp_path / "photos"
    save(scene(1), folder / "a.jpg")
    (folder / "copy-of-a.jpg").write_bytes((folder / "a.jpg").read_bytes())
    index_dir = make_index(folder)
    plan = found(index_dir)
    (folder / "a.jpg").unlink()
    (folder / "a.jpg").symlink_to(folder / "copy-of-a.jpg")
    (step,) = remove_duplicates(index_dir, plan.groups, how, home_trash=os.fsencode(tmp_path / "Trash"))
    assert not step.done
    assert step.why == "the file to keep is a link or no regular file"
    assert (folder / "copy-of-a.jpg").is_file()
    assert not (folder / "copy-of-a.jpg").is_symlink()


def test_groups_come_in_the_same_order_whatever_the_order_of_indexing(
    tmp_path: Path, make_index: Make
) -> None:
    for seed in range(4):
        for folder in ("one", "two"):
            save(scene(seed), tmp_path / folder / f"{seed}.png")
    plan = found(make_index(tmp_path / "two", tmp_path / "one"))
    assert [group.keeper.path for group in plan.groups] == sorted(group.keeper.path for group in plan.groups)
    assert all(b"/one/" in group.keeper.path for group in plan.groups)


# -- near


@pytest.fixture
def variants(tmp_path: Path) -> Path:
    """A picture of 640 x 480 and the same in nine other ways; and another picture."""
    folder = tmp_path / "photos"
    image = scene(7, (640, 480))
    save(image, folder / "0-original.png")
    save(image, folder / "q30.jpg", quality=30)
    save(image.resize((160, 120), Image.Resampling.LANCZOS), folder / "small.jpg")
    save(image, folder / "web.webp", quality=70)
    save(image.crop((12, 9, 628, 471)), folder / "cropped.jpg")
    save(ImageEnhance.Brightness(image).enhance(0.85), folder / "dark.jpg")
    save(image.transpose(Image.Transpose.ROTATE_90), folder / "turned.jpg", orientation=6)
    marked = image.copy()
    ImageDraw.Draw(marked).text((420, 440), "(c) somebody", fill="white", font_size=24)
    save(marked, folder / "marked.jpg")
    save(image.convert("L").convert("RGB"), folder / "grey.jpg")
    save(scene(8, (640, 480)), folder / "other.jpg")
    return folder


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the ColorEncoder see one colour everywhere: what is found is the doing of hashes and pixels."""
    from tests.color import ColorEncoder

    monkeypatch.setattr(
        ColorEncoder, "encode_pixels", lambda self, pixels: np.eye(8, dtype=np.float32)[[0] * len(pixels)]
    )


@pytest.mark.usefixtures("blind")
def test_one_picture_in_other_sizes_formats_and_lights_is_one_group(variants: Path, make_index: Make) -> None:
    plan = found(make_index(variants))
    assert names(plan) == [
        ["0-original.png", "cropped.jpg", "dark.jpg", "grey.jpg", "marked.jpg", "q30.jpg", "small.jpg",
         "turned.jpg", "web.webp"]
    ]  # fmt: skip
    assert all(member.action == "remove" for member in plan.groups[0].members)


@pytest.mark.usefixtures("blind")
def test_embedding_alone_makes_no_near_duplicate(tmp_path: Path, make_index: Make) -> None:
    for seed in range(8):
        save(scene(seed), tmp_path / "photos" / f"{seed}.jpg")
    assert found(make_index(tmp_path / "photos")).groups == ()


def test_hash_alone_makes_no_near_duplicate(tmp_path: Path, make_index: Make) -> None:
    image = scene(3)
    other = Image.merge("RGB", image.split()[::-1])  # red and blue change places
    save(image, tmp_path / "photos" / "a.jpg")
    save(other, tmp_path / "photos" / "b.jpg")
    assert found(make_index(tmp_path / "photos")).groups == ()


@pytest.mark.usefixtures("blind")
def test_pages_of_one_layout_and_plain_pictures_are_not_near(tmp_path: Path, make_index: Make) -> None:
    folder = tmp_path / "photos"
    for seed in range(10):
        save(page(seed), folder / f"page-{seed}.jpg")
        save(Image.new("RGB", (300, 200), (20 * seed, 80, 200)), folder / f"plain-{seed}.png")
    save(page(4), folder / "page-4-again.jpg", quality=60)
    assert names(found(make_index(folder))) == [["page-4.jpg", "page-4-again.jpg"]]


@pytest.mark.usefixtures("blind")
def test_nothing_is_near_by_way_of_a_third(tmp_path: Path, make_index: Make) -> None:
    image = scene(11, (800, 600))
    for step in range(6):  # each is cropped a little more than the one before
        cut = 16 * step
        save(image.crop((cut, cut, 800 - cut, 600 - cut)), tmp_path / "photos" / f"{step}.png")
    plan = found(make_index(tmp_path / "photos"))
    for group in plan.groups:
        for member in group.members:
            assert member.distance is not None
            assert member.distance <= likeness.MAX_DISTANCE
    assert len(names(plan)[0]) < 6
    grouped = [name for group in names(plan) for name in group]
    assert len(grouped) == len(set(grouped)), "a file stands in one group only"


@pytest.mark.usefixtures("blind")
def test_shots_of_another_moment_are_not_near_however_alike(tmp_path: Path, make_index: Make) -> None:
    folder = tmp_path / "photos"
    image = scene(5)
    save(image, folder / "a.jpg", taken_at="2024:05:01 10:00:00", camera="K1")
    save(image, folder / "b.jpg", quality=80, taken_at="2024:05:01 10:00:01", camera="K1")
    save(image, folder / "a-copy.jpg", quality=50, taken_at="2024:05:01 10:00:00", camera="K1")
    index_dir = make_index(folder)
    assert names(found(index_dir)) == [["a.jpg", "a-copy.jpg"]]
    assert [sorted(group) for group in names(found(index_dir, ("burst",)))] == [
        ["a-copy.jpg", "a.jpg", "b.jpg"]
    ]


@pytest.mark.usefixtures("blind")
def test_file_that_changed_after_indexing_is_not_removable(variants: Path, make_index: Make) -> None:
    index_dir = make_index(variants)
    save(scene(99), variants / "q30.jpg")
    members = {os.path.basename(m.file.path): m for m in found(index_dir).groups[0].members}
    assert members[b"q30.jpg"].action == "keep"
    assert "pixseek index" in str(members[b"q30.jpg"].why)
    assert members[b"web.webp"].action == "remove"


@pytest.mark.usefixtures("blind")
def test_without_looks_the_most_alike_are_found_all_the_same(
    variants: Path, make_index: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    index_dir = make_index(variants)
    monkeypatch.setattr(Index, "looks", lambda self: iter(()))
    plan = found(index_dir)
    assert plan.without_look == 10
    assert len(names(plan)) == 1
    assert {"0-original.png", "q30.jpg", "web.webp"} <= set(names(plan)[0])
    assert "other.jpg" not in names(plan)[0]


# -- bursts


def test_bursts_are_chains_of_one_camera_within_a_minute(tmp_path: Path, make_index: Make) -> None:
    folder = tmp_path / "photos"
    for second in (0, 2, 4, 9):
        image = scene(1).crop((second, 0, 300 + second, 230))
        save(image, folder / f"t{second}.jpg", taken_at=f"2024:05:01 10:00:{second:02}", camera="K1")
    save(scene(1), folder / "other-camera.jpg", taken_at="2024:05:01 10:00:01", camera="K2")
    save(scene(1), folder / "undated.jpg", camera="K1")
    save(
        Image.new("RGB", (320, 240), "white"),
        folder / "else.jpg",
        taken_at="2024:05:01 10:00:01",
        camera="K1",
    )
    plan = found(make_index(folder), ("burst",))
    assert [sorted(group) for group in names(plan)] == [["t0.jpg", "t2.jpg", "t4.jpg"]]


def test_a_burst_ends_after_a_minute() -> None:
    from search.duplicates.finding import _runs

    shots = [
        ("K1", f"2024-05-01T10:{second // 60:02}:{second % 60:02}", second) for second in range(0, 120, 2)
    ]
    assert [len(run) for run in _runs(shots)] == [31, 29]


# -- rules


def test_rules_choose_who_stays(tmp_path: Path, make_index: Make) -> None:
    folder = tmp_path / "photos"
    image = scene(6, (640, 480))
    save(image, folder / "a" / "large-file.jpg", quality=99)
    save(image.resize((800, 600)), folder / "b" / "most-pixels.jpg", quality=30)
    save(image, folder / "c" / "x.jpg", quality=80)
    for age, name in enumerate(("b/most-pixels.jpg", "c/x.jpg", "a/large-file.jpg")):
        os.utime(folder / name, (1_700_000_000 + age, 1_700_000_000 + age))
    index_dir = make_index(folder)

    def kept(rule: KeepRule) -> str:
        (group,) = found(index_dir, rule=rule).groups
        return os.path.basename(os.fsdecode(group.keeper.path))

    assert kept(KeepRule()) == "most-pixels.jpg"
    assert kept(KeepRule("largest")) == "large-file.jpg"
    assert kept(KeepRule("oldest")) == "most-pixels.jpg"
    assert kept(KeepRule("newest")) == "large-file.jpg"
    assert kept(KeepRule("shortest-path")) == "x.jpg"
    assert kept(KeepRule("first-folder")) == "large-file.jpg"
    assert kept(KeepRule(prefer=(os.fsencode(folder / "c"),))) == "x.jpg"


def test_reference_folder_loses_nothing(tmp_path: Path, make_index: Make) -> None:
    folder = tmp_path / "photos"
    save(scene(6, (640, 480)), folder / "new.jpg", quality=95)
    for name in ("one.jpg", "two.jpg"):
        save(scene(6), folder / "archive" / name, quality=60)
    (group,) = found(make_index(folder), rule=KeepRule(reference=(os.fsencode(folder / "archive"),))).groups
    assert os.path.basename(group.keeper.path) == b"one.jpg"
    assert [(os.path.basename(m.file.path), m.action) for m in group.members] == [
        (b"two.jpg", "keep"),
        (b"new.jpg", "remove"),
    ]


def test_raw_and_the_picture_beside_it_are_two_things(
    tmp_path: Path, make_index: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "photos"
    save(scene(1), folder / "IMG_1.png")
    save(scene(1), folder / "IMG_1.jpg")
    index_dir = make_index(folder)
    assert names(found(index_dir)) == [["IMG_1.png", "IMG_1.jpg"]]
    original = Copies.of

    def with_raw(self: Copies, content_ids: Sequence[int]) -> dict[int, list[FileCopy]]:
        return {
            number: [replace(file, format="RAW") if file.format == "PNG" else file for file in files]
            for number, files in original(self, content_ids).items()
        }

    monkeypatch.setattr(Copies, "of", with_raw)
    plan = found(index_dir)
    assert plan.groups == ()
    assert plan.raw_pairs == 1


def test_decisions_outlive_new_names(tmp_path: Path, make_index: Make) -> None:
    folder = tmp_path / "photos"
    save(scene(1), folder / "a.jpg", quality=95)
    save(scene(1), folder / "b.jpg", quality=60)
    index_dir = make_index(folder)
    (group,) = found(index_dir).groups
    save_verdicts(index_dir, [(group.keeper.content_hash, group.members[0].file.content_hash, "different")])
    assert found(index_dir).groups == ()
    os.rename(folder / "b.jpg", folder / "renamed.jpg")
    make_index(folder)
    plan = found(index_dir)
    assert plan.groups == ()
    assert plan.decided == 1


# -- pairs and rules in numbers


def test_close_pairs_agree_with_a_slow_loop() -> None:
    rng = np.random.default_rng(1)
    hashes = rng.integers(0, 1 << 63, 300, dtype=np.uint64)
    hashes[::7] = hashes[1] ^ (np.uint64(1) << np.arange(43, dtype=np.uint64))
    hashes[5] = likeness.PLAIN
    left, right = likeness.close_pairs(hashes)
    expected = {
        (i, j)
        for i, j in itertools.combinations(range(300), 2)
        if (int(hashes[i]) ^ int(hashes[j])).bit_count() <= likeness.MAX_DISTANCE and 5 not in (i, j)
    }
    assert set(zip(left.tolist(), right.tolist(), strict=True)) == expected
    assert len(left) == len(expected), "each pair comes once"


@pytest.mark.parametrize(("two_flips", "sure"), [(10**9, 11), (0, 7)])
def test_many_hashes_find_the_pairs_they_promise(
    monkeypatch: pytest.MonkeyPatch, two_flips: int, sure: int
) -> None:
    monkeypatch.setattr(likeness, "_EXACT_UP_TO", 10)
    monkeypatch.setattr(likeness, "_TWO_FLIPS_UP_TO", two_flips)
    monkeypatch.setattr(likeness, "_BLOCK", 500)
    rng = np.random.default_rng(2)
    hashes = rng.integers(1, 1 << 63, 400, dtype=np.uint64)
    for place in range(200):
        flips = rng.choice(64, place % (sure + 1), replace=False)
        hashes[place + 200] = hashes[place] ^ np.bitwise_or.reduce(
            np.uint64(1) << flips.astype(np.uint64), initial=np.uint64(0)
        )
    left, right = likeness.close_pairs(hashes)
    pairs = set(zip(left.tolist(), right.tolist(), strict=True))
    assert {(place, place + 200) for place in range(200)} <= pairs


def test_ten_thousand_equal_hashes_stay_bounded() -> None:
    left, _ = likeness.close_pairs(np.full(10_000, 12345, np.uint64))
    assert len(left) <= 256 * 10_000


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2024-05-01T10:00:07", 7.0), ("2024-05-01T10:00:07+02:00", 7.0), ("2024-05-01 10:00", 0.0)],
)
def test_clock_is_read_to_the_second(text: str, seconds: float) -> None:
    assert likeness.seconds(text) == pytest.approx(likeness.seconds("2024-05-01T10:00:00") + seconds)  # type: ignore[operator]


@pytest.mark.parametrize("text", ["", "2024", "2024-05-01", "2024-13-45T10:00:00", "soon"])
def test_date_without_a_time_of_day_tells_no_seconds(text: str) -> None:
    assert likeness.seconds(text) is None


# -- hits


def record(place: int, **values: Any) -> FrameRecord:
    about: dict[str, Any] = {
        "frame_id": place, "file_id": place, "path": b"/%d.jpg" % place, "timestamp_ms": None,
        "region": None, "width": 400, "height": 300, "format": "JPEG", "size_bytes": 1, "taken_at": None,
        "camera": None, "lens": None, "latitude": None, "longitude": None, "caption": None, "keywords": (),
        "iso": None, "rating": None, "status": "ok",
    }  # fmt: skip
    return FrameRecord(**(about | values))


def test_hits_that_are_one_picture_share_the_label_of_the_best() -> None:
    records = [record(place) for place in range(4)]
    looks = {0: Look(0b1111, 1.0), 1: Look(0xFFFF0000, 1.0), 2: Look(0b0111, 1.0), 3: Look(0xFFFF0001, 1.0)}
    vectors = np.eye(4, dtype=np.float32)[[0, 1, 0, 1]]
    assert group_hits(records, vectors, looks, "near-duplicate").tolist() == [0, 1, 0, 1]
    assert group_hits(records, vectors, {}, "near-duplicate").tolist() == [0, 1, 0, 1]


def test_hits_of_one_burst_share_a_label_also_when_ranked_out_of_order() -> None:
    times = ["10:00:04", "11:00:00", "10:00:00", "10:00:02"]
    records = [record(place, taken_at=f"2024-05-01T{time}", camera="K1") for place, time in enumerate(times)]
    vectors = np.ones((4, 1), np.float32)
    assert group_hits(records, vectors, {}, "burst").tolist() == [0, 1, 0, 0]
    assert group_hits([record(0), record(1)], vectors[:2], {}, "burst").tolist() == [0, 1]


def test_no_hits_have_no_labels() -> None:
    assert group_hits([], np.empty((0, 8), np.float32), {}, "burst").tolist() == []


# -- laid over each other


@pytest.mark.parametrize("seed", range(4))
def test_a_crop_is_found_wherever_it_was_cut(seed: int) -> None:
    image = scene(20 + seed, (512, 384)).filter(ImageFilter.GaussianBlur(3))
    whole = _square(image)
    for box in ((0, 0, 480, 360), (32, 24, 512, 384), (16, 12, 496, 372)):
        assert same_picture(whole, _square(image.crop(box)), short_side=300)
        assert same_picture(_square(image.crop(box)), whole, short_side=300)
    assert not same_picture(whole, _square(image.crop((16, 12, 496, 372))), short_side=300, slide=False)


def test_other_colours_of_the_same_drawing_are_another_picture() -> None:
    image = scene(5, (512, 384))
    assert not same_picture(_square(image), _square(Image.merge("RGB", image.split()[::-1])), short_side=300)
    assert same_picture(_square(image), _square(image.convert("L").convert("RGB")), short_side=300)


def test_blank_pictures_fit_nothing() -> None:
    blank = _square(Image.new("RGB", (200, 200), "white"))
    assert not same_picture(blank, blank, short_side=200)


def _square(image: Image.Image) -> Any:
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR))
