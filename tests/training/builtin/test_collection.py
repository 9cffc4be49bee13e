"""Reading the sets, and keeping development captions out of training."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path

from PIL import Image

from training.builtin.collection import (
    captions_of,
    dev_sentences,
    first_sentence,
    label_captions,
    normalised,
    read_tar,
    without,
)
from training.builtin.teacher import training_texts


def write_tar(path: Path, metas: dict[str, dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (10, 200, 30)).save(buffer, "WEBP")
    with tarfile.open(path, "w") as tar:
        for key, meta in metas.items():
            for name, data in (
                (f"{key}.json", json.dumps(meta).encode()),
                (f"{key}.webp", buffer.getvalue()),
            ):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def test_pairs_come_back_in_the_order_of_the_tar(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {"b": {"captions": ["two"]}, "a.1": {"captions": ["one", "one", "uno"]}})
    samples = list(read_tar(tmp_path / "a.tar"))
    assert [sample.key for sample in samples] == ["b", "a.1"]
    assert samples[1].captions == ("one", "uno")
    assert Image.open(io.BytesIO(samples[0].image)).size == (8, 8)


def test_a_label_becomes_sentences_with_its_style() -> None:
    assert "a photo of a stop sign" in label_captions("stop_sign")
    styled, label = captions_of({"label": "guitar", "style": "sketch"})
    assert label == "guitar"
    assert "a sketch of a guitar" in styled
    assert not any("photo" in caption for caption in styled)


def test_alt_text_is_cut_to_its_first_sentence() -> None:
    assert first_sentence("A map of Ohio is shown. It has roads.") == "A map of Ohio is shown."
    assert first_sentence("word " * 100, limit=23) == "word word word word"


def test_development_captions_never_reach_training(tmp_path: Path) -> None:
    write_tar(tmp_path / "flickr8k" / "train.tar", {"a": {"captions": ["A dog runs .", "A cat sits."]}})
    write_tar(tmp_path / "flickr8k" / "dev.tar", {"d": {"captions": ["a DOG runs"]}})
    write_tar(tmp_path / "coco" / "dev.tar", {"d": {"captions": ["A red bus!"]}})
    text = tmp_path / "text"
    text.mkdir()
    for name, lines in (
        ("multi30k_en", ["a red bus", "A blue bus."]),
        ("phrases_flavors", ["sharp focus"]),
        ("phrases_mediums", ["a cartoon"]),
    ):
        with gzip.open(text / f"{name}.txt.gz", "wt", encoding="utf-8") as handle:
            handle.write("\n".join(lines))
    banned = dev_sentences(tmp_path)
    texts, removed = training_texts(tmp_path, ["a drawing of a bus", "A red bus"])
    assert banned == {"a dog runs", "a red bus"}
    assert removed == 3
    assert texts == ["A cat sits.", "A blue bus.", "sharp focus", "a cartoon", "a drawing of a bus"]
    assert not banned & {normalised(text) for text in texts}


def test_without_counts_what_it_takes_away() -> None:
    assert without(["One two!", "three"], frozenset({"one two"})) == (["three"], 1)
