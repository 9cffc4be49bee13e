"""Every format gives the same samples, and what is wrong with a set is said in one line."""

from __future__ import annotations

import io
import json
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.color import COLORS, draw
from tests.training.writing import picture_bytes, write_tar
from training.errors import DatasetError
from training.sets.datasets import Sample, decoded, read_dataset, read_tar

RED, BLUE = picture_bytes("red"), picture_bytes("blue", "webp")
TWO = {"red.png": ["a red wall", "red paint"], "blue.webp": ["a blue sea"]}


def words(source: object, **options: Any) -> dict[str, tuple[str, ...]]:
    return {sample.key: sample.captions for sample in read_dataset(str(source), **options)}


def two_pictures(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "red.png").write_bytes(RED)
    (folder / "blue.webp").write_bytes(BLUE)
    return folder


# --- tars


def test_a_tar_gives_pictures_with_their_words(tmp_path: Path) -> None:
    path = write_tar(
        tmp_path / "a.tar",
        {
            "red.png": RED,
            "red.json": {"captions": ["a  red wall", "a red wall"], "keywords": ["wall", "paint"], "n": 1},
            "blue.webp": BLUE,
            "blue.txt": "a blue sea\n",
            "sub/green.jpg": picture_bytes("green", "jpg"),
            "sub/green.json": {"caption": "grass"},
            "sub/green.cls": "7\n",
            "notes.npy": b"not read",
        },
    )
    red, blue, green = read_dataset(path)
    assert red == Sample("red", RED, ("a red wall",), "", red.meta, ("wall", "paint"))
    assert red.meta["n"] == 1
    assert (blue.key, blue.image, blue.captions) == ("blue", BLUE, ("a blue sea",))
    assert (green.key, green.captions, green.label) == ("sub/green", ("grass",), "7")


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_words_may_lie_apart_from_their_picture(tmp_path: Path, mode: str) -> None:
    members = {"a.png": RED, "b.webp": BLUE, "a.json": {"caption": "one"}, "b.json": {"caption": "two"}}
    path = write_tar(tmp_path / ("x.tar" if mode == "w" else "x.tar.gz"), members, mode)
    assert words(path) == {"a": ("one",), "b": ("two",)}


def test_words_alone_are_read_without_the_pictures(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {"a.png": RED, "a.json": {"captions": ["x"], "label": "y"}})
    (sample,) = read_dataset(path, pictures=False)
    assert (sample.image, sample.captions, sample.label) == (b"", ("x",), "y")


def test_several_tars_are_one_set(tmp_path: Path) -> None:
    for number in range(3):
        write_tar(tmp_path / f"t-{number:03d}.tar", {"0.png": RED, "0.json": {"caption": f"c{number}"}})
    expected = {f"t-00{number}/0": (f"c{number}",) for number in range(3)}
    assert words(tmp_path / "t-{000..002}.tar") == expected
    assert words(tmp_path / "t-*.tar") == expected
    assert words(tmp_path) == expected
    assert list(words(tmp_path / "t-{000,002}.tar")) == ["t-000/0", "t-002/0"]
    with pytest.raises(DatasetError, match=r"no such file or folder: .*t-003\.tar"):
        words(tmp_path / "t-{000..003}.tar")


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_cut_anywhere_names_its_last_whole_sample(tmp_path: Path, mode: str) -> None:
    members: dict[str, Any] = {}
    for number in range(4):
        members |= {f"k{number}.png": RED, f"k{number}.json": {"caption": "x"}}
    whole = write_tar(tmp_path / "whole.tar", members, mode).read_bytes()
    cut = tmp_path / "cut.tar"
    for length in range(30, len(whole), 97 if mode == "w" else 31):
        cut.write_bytes(whole[:length])
        there = length if mode == "w" else len(zlib.decompressobj(31).decompress(whole[:length]))
        if there >= 8 * 1024 + 512:  # nothing but padding is missing
            break
        with pytest.raises(DatasetError, match=r"cut short|not a tar") as error:
            list(read_dataset(cut))
        if there >= 512:
            count = (there + 512 - len('{"caption": "x"}')) // 2048
            named = (
                f"after {count} whole samples, the last 'k{count - 1}'"
                if count
                else "before the first whole sample"
            )
            assert named in str(error.value), length


def test_a_tar_cut_between_two_samples_is_cut_too(tmp_path: Path) -> None:
    members = {"a.png": RED, "a.json": {"caption": "x"}, "b.png": RED, "b.json": {"caption": "x"}}
    path = write_tar(tmp_path / "a.tar", members)
    path.write_bytes(path.read_bytes()[:2048])
    for pictures in (True, False):
        with pytest.raises(DatasetError, match="after 1 whole samples, the last 'a'"):
            list(read_dataset(path, pictures=pictures))


@pytest.mark.parametrize(
    ("json_text", "why"),
    [("{", "a.json is not json"), ("[1]", "must hold a json object"), ('{"captions": 3}', "list of strings")],
)
def test_json_that_is_none_is_named(tmp_path: Path, json_text: str, why: str) -> None:
    path = write_tar(tmp_path / "a.tar", {"a.png": RED, "a.json": json_text})
    with pytest.raises(DatasetError, match=why):
        list(read_dataset(path))


def test_reading_a_tar_keeps_no_picture(tmp_path: Path) -> None:
    big = bytes(200_000)
    members: dict[str, Any] = {}
    for number in range(100):
        members |= {f"{number}.png": big, f"{number}.json": {"caption": "x"}}
    path = write_tar(tmp_path / "a.tar", members)
    tracemalloc.start()
    assert sum(1 for _ in read_tar(path)) == 100
    assert tracemalloc.get_traced_memory()[1] < 3_000_000
    tracemalloc.stop()


# --- tables


def test_coco_captions_find_their_pictures(tmp_path: Path) -> None:
    two_pictures(tmp_path / "val2017")
    document = {
        "images": [{"id": 7, "file_name": "red.png"}, {"id": 9, "file_name": "blue.webp"}],
        "annotations": [
            {"image_id": 7, "id": 1, "caption": "a red wall"},
            {"image_id": 9, "id": 2, "caption": "a blue sea"},
            {"image_id": 7, "id": 3, "caption": "red paint"},
        ],
    }
    table = tmp_path / "annotations" / "captions_val2017.json"
    table.parent.mkdir()
    table.write_text(json.dumps(document))
    assert words(table) == {name: tuple(captions) for name, captions in TWO.items()}
    assert words(table.parent) == words(table)
    table.write_text(json.dumps({"images": []}))
    with pytest.raises(DatasetError, match=r"not a COCO captions file.*annotations"):
        words(table)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("results.token", "red.png#0\ta red wall\nred.png#1\tred paint\nblue.webp#0\ta blue sea\n"),
        (
            "Flickr8k.token.txt",
            "red.png#0\ta red wall\r\nblue.webp#0\ta blue sea\r\nred.png#1\tred paint\r\n",
        ),
        ("captions.txt", "image,caption\nred.png,a red wall\nred.png,red paint\nblue.webp,a blue sea\n"),
        (
            "results.csv",
            "image_name| comment_number| comment\nred.png| 0| a red wall\nred.png| 1| red paint\n"
            "blue.webp| 0| a blue sea\n",
        ),
        ("any.tsv", 'filepath\ttitle\nred.png\t"a red wall"\nblue.webp\ta blue sea\nred.png\tred paint\n'),
        ("bom.csv", '\ufeffpath;text\nred.png;"a red wall"\nred.png;red paint\nblue.webp;a blue sea\n'),
    ],
)
def test_tables_of_captions_in_their_dialects(tmp_path: Path, name: str, text: str) -> None:
    two_pictures(tmp_path)
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    assert words(tmp_path / name) == {name: tuple(captions) for name, captions in TWO.items()}


def test_a_csv_may_hold_labels_keywords_or_captions_in_a_named_column(tmp_path: Path) -> None:
    two_pictures(tmp_path)
    table = tmp_path / "a.csv"
    table.write_text('image,label,tags,captions_zh\nred.png,wall,"brick, paint",红墙\nblue.webp,sea,,海\n')
    red, blue = read_dataset(table)
    assert (red.label, red.keywords, red.texts) == ("wall", ("brick", "paint"), ("brick, paint",))
    assert (blue.label, blue.keywords, blue.texts) == ("sea", (), ())
    assert words(table, field="captions_zh") == {"red.png": ("红墙",), "blue.webp": ("海",)}
    with pytest.raises(DatasetError, match=r"captions_fr.*has: image, label, tags, captions_zh"):
        words(table, field="captions_fr")


def test_absent_pictures_are_counted_and_said(tmp_path: Path) -> None:
    two_pictures(tmp_path)
    table = tmp_path / "a.csv"
    table.write_text("image,caption\ngone.png,x\nred.png,y\nalso.png,z\n")
    said: list[str] = []
    assert words(table, say=said.append) == {"red.png": ("y",)}
    assert said == ["2 of 3 pictures named in a.csv are not there, 'gone.png' for one"]


def test_a_table_whose_pictures_are_all_absent_says_where_to_point(tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    table.write_text("image,caption\nred.png,x\nblue.webp,y\n")
    with pytest.raises(DatasetError, match=r"none of the 2 pictures .* --images DIR"):
        words(table)
    assert len(words(table, images=two_pictures(tmp_path / "elsewhere" / "deep"))) == 2
    with pytest.raises(DatasetError, match="no such folder"):
        words(table, images=tmp_path / "nowhere")


# --- folders


def test_a_folder_gives_sidecar_words_and_folder_names(tmp_path: Path) -> None:
    two_pictures(tmp_path)
    draw(tmp_path / "dog" / "1.jpg", "green")
    draw(tmp_path / "dog" / "2.jpg", "green")
    draw(tmp_path / ".hidden" / "3.jpg", "green")
    (tmp_path / "red.txt").write_text("a red wall\nred paint\n")
    (tmp_path / "blue.webp.json").write_text('{"caption": "a blue sea", "keywords": "sea, water"}')
    (tmp_path / "dog" / "2.xmp").write_text(
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" '
        'xmlns:dc="http://purl.org/dc/elements/1.1/"><rdf:Description><dc:subject><rdf:Bag><rdf:li>puppy'
        "</rdf:li></rdf:Bag></dc:subject></rdf:Description></rdf:RDF></x:xmpmeta>"
    )
    samples = {sample.key: sample for sample in read_dataset(tmp_path)}
    assert {key: sample.captions for key, sample in samples.items()} == {
        "red.png": ("a red wall", "red paint"),
        "blue.webp": ("a blue sea",),
        "dog/1.jpg": (),
        "dog/2.jpg": (),
    }
    assert samples["blue.webp"].keywords == ("sea", "water")
    assert samples["dog/2.jpg"].keywords == ("puppy",)
    assert {sample.label for sample in samples.values()} == {"", "dog"}
    assert samples["red.png"].image == RED


def test_what_a_picture_says_itself_is_read_where_no_sidecar_does(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[270] = "a boat at dusk"
    image = Image.new("RGB", (8, 8), COLORS["blue"])
    image.save(tmp_path / "a.jpg", exif=exif)
    image.save(tmp_path / "b.png", exif=exif)
    assert words(tmp_path) == {"a.jpg": ("a boat at dusk",), "b.png": ("a boat at dusk",)}
    assert words(tmp_path, pictures=False) == words(tmp_path)


# --- what is wrong


def test_a_set_without_any_words_is_refused(tmp_path: Path) -> None:
    two_pictures(tmp_path)
    with pytest.raises(DatasetError, match="no captions, keywords or labels"):
        words(tmp_path)
    path = write_tar(tmp_path / "a.tar", {"a.png": RED, "a.json": {"captions_zh": ["红墙"]}})
    with pytest.raises(DatasetError, match=r"nothing in 'captions'.*captions_zh"):
        words(path)


def test_sources_that_are_no_set_are_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.pdf").write_bytes(b"%PDF")
    (tmp_path / "x.tar").write_bytes(b"")
    (tmp_path / "y.json").write_text("no")
    (tmp_path / "z.csv").write_bytes("image,caption\n1.png,\xe4\n".encode("latin-1"))
    for source, why in [
        ("gone", "no such file"), ("empty", "no pictures"), ("x.pdf", "no data set known"),
        ("x.tar", "not a tar"), ("y.json", "not json"), ("z.csv", "not UTF-8"),
    ]:  # fmt: skip
        with pytest.raises(DatasetError, match=why):
            list(read_dataset(tmp_path / source))
    with pytest.raises(DatasetError, match="empty name"):
        read_dataset("")


def test_pictures_are_decoded_upright_and_broken_ones_counted(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.new("RGB", (40, 20)).save(buffer, "JPEG", exif=exif)
    path = write_tar(
        tmp_path / "a.tar",
        {"a.jpg": buffer.getvalue(), "a.txt": "x", "b.jpg": b"broken", "b.txt": "y"},
    )
    said: list[str] = []
    pictures = list(decoded(read_dataset(path), min_side=8, say=said.append))
    assert [(sample.key, image.size, image.mode) for sample, image in pictures] == [("a", (20, 40), "RGB")]
    assert said == ["1 of 2 pictures cannot be decoded and were left out; b: not an image"]
    broken = write_tar(tmp_path / "b.tar", {"b.jpg": b"broken", "b.txt": "y"})
    with pytest.raises(DatasetError, match="none of the 1 pictures can be decoded; b: not an image"):
        list(decoded(read_dataset(broken), min_side=8))
