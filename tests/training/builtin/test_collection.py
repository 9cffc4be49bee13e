"""The sets of the built-in encoder, and keeping development captions out of its training."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path

from PIL import Image

from training.builtin.collection import (
    Overlap,
    captioned,
    chinese_names,
    dev_sentences,
    first_sentence,
    label_captions,
    normalised,
    read_set,
    without,
)
from training.sets.datasets import Sample


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


def sample(**meta: object) -> Sample:
    return Sample.of("key", b"", meta)


def test_a_label_becomes_sentences_with_its_style() -> None:
    assert "a photo of a stop sign" in label_captions("stop_sign")
    styled = captioned(sample(label="guitar", style="sketch"), {}).english
    assert "a sketch of a guitar" in styled
    assert not any("photo" in caption for caption in styled)


def test_a_label_has_its_chinese_names() -> None:
    names = chinese_names()
    assert len(names) > 2000
    assert "飞机" in "".join(names["airplanes"])
    both = captioned(sample(label="Airplanes"), names)
    assert "一张飞机的照片" in both.chinese
    assert captioned(sample(label="no such thing"), names).chinese == ()


def test_every_line_of_the_word_list_is_a_pair() -> None:
    for english, chinese in chinese_names().items():
        assert english == english.strip().lower()
        assert chinese
        assert all(any("一" <= mark <= "鿿" for mark in name) for name in chinese), english


def test_alt_text_is_cut_to_its_first_sentence() -> None:
    assert first_sentence("A map of Ohio is shown. It has roads.") == "A map of Ohio is shown."
    assert first_sentence("word " * 100, limit=23) == "word word word word"
    text = "A map of Ohio is shown. It has roads."
    assert captioned(sample(captions=[text], book="us"), {}).english == ("A map of Ohio is shown.", text)


def test_a_tenth_of_each_class_is_kept_for_judging(tmp_path: Path) -> None:
    metas = {f"{label}{n}": {"label": label} for n in range(20) for label in ("cat", "dog")}
    write_tar(tmp_path / "caltech101" / "train.tar", metas)
    trained, judged = read_set(tmp_path, "caltech101"), read_set(tmp_path, "caltech101/dev")
    assert trained is not None
    assert judged is not None
    assert (len(trained), len(judged)) == (36, 4)
    assert sorted(s.label for s in judged) == ["cat", "cat", "dog", "dog"]
    assert not {s.key for s in trained} & {s.key for s in judged}
    assert read_set(tmp_path, "coco") is None


def test_development_captions_never_reach_training(tmp_path: Path) -> None:
    from training.builtin.teacher import english_texts

    write_tar(tmp_path / "flickr8k" / "train.tar", {"a": {"captions": ["A dog runs .", "A cat sits."]}})
    dev = {"captions": ["a DOG runs", "two men in blue t-shirts throw a red ball"], "captions_zh": ["狗。"]}
    write_tar(tmp_path / "flickr8k" / "dev.tar", {"d": dev})
    write_tar(tmp_path / "coco" / "dev.tar", {"d": {"captions": ["A red bus!"]}})
    text = tmp_path / "text"
    text.mkdir()
    near = "Two men in blue t-shirts, throw the red ball."
    for name, lines in (
        ("multi30k_en", ["a red bus", "A blue bus.", near]),
        ("phrases_flavors", ["sharp focus"]),
        ("phrases_mediums", ["a cartoon"]),
    ):
        with gzip.open(text / f"{name}.txt.gz", "wt", encoding="utf-8") as handle:
            handle.write("\n".join(lines))
    banned = dev_sentences(tmp_path)
    texts, removed = english_texts(tmp_path)
    assert {"a dog runs", "a red bus", "狗"} < banned
    assert removed == 3
    assert texts[:4] == ["A blue bus.", "sharp focus", "a cartoon", "A cat sits."]
    assert not banned & {normalised(text) for text in texts}


def test_near_copies_are_found_as_a_slow_search_finds_them() -> None:
    words = ["a", "dog", "cat", "man", "runs", "sits", "on", "the", "green", "grass", "with", "red", "ball"]
    import random

    rng = random.Random(0)
    sentences = [" ".join(rng.sample(words, rng.randint(3, 8))) for _ in range(400)]
    banned, texts = sentences[:150], sentences[150:]
    overlap = Overlap(banned, near=0.8)

    def slow(text: str) -> bool:
        mine = set(text.split())
        return text in banned or (
            len(mine) >= 4
            and any(
                len(mine & set(other.split())) >= 0.8 * len(mine | set(other.split())) for other in banned
            )
        )

    assert [text in overlap for text in texts] == [slow(text) for text in texts]
    assert 0 < sum(text in overlap for text in texts) < len(texts)


def test_without_counts_what_it_takes_away() -> None:
    assert without(["One two!", "three"], Overlap({"one two"})) == (["three"], 1)
