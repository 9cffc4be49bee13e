"""Tokenizers without torch against open_clip's."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from encoders.tokens import TEXT_PROBES, Tokenizer, clip_tokenizer
from tests.encoders.conftest import small_tokenizer


def _noise(count: int) -> list[str]:
    """Return texts of letters, marks, emoji and contractions drawn at random, of Unicode up to 15."""
    rng = random.Random(11)
    alphabet = [*map(chr, range(32, 127)), *map(chr, range(0xA0, 0x250)), *map(chr, range(0x300, 0x370))]
    alphabet += [*map(chr, range(0x400, 0x460)), *map(chr, range(0x1F600, 0x1F640)), "\u0345", "\ufb01", "'s"]
    alphabet += [" ", "the ", "dog", "'LL", "&amp;", "&#33;", "\u4e2d", "\ud55c", "\u0928\u093f", "\n\t"] * 9
    return ["".join(rng.choices(alphabet, k=rng.randrange(60))) for _ in range(count)]


@pytest.mark.parametrize("clean", ["lower", "whitespace", "canonicalize"])
def test_clip_ids_equal_open_clips(open_clip: Any, clean: str) -> None:
    theirs = open_clip.tokenizer.SimpleTokenizer(clean=clean)
    mine = clip_tokenizer(Path(open_clip.tokenizer.default_bpe()), clean=clean)
    texts = [*TEXT_PROBES, *_noise(800)]
    wanted, got = theirs(texts).numpy(), mine(texts)
    assert [text for text, a, b in zip(texts, wanted, got, strict=True) if (a != b).any()] == []


def test_long_text_is_cut_and_keeps_its_end_token(open_clip: Any) -> None:
    mine = clip_tokenizer(Path(open_clip.tokenizer.default_bpe()), context_length=16)
    (row,) = mine(["word " * 500])
    assert row.shape == (16,)
    assert row[0] == 49406
    assert row[-1] == 49407


def test_a_saved_tokenizer_gives_the_same_ids(open_clip: Any, tmp_path: Path) -> None:
    mine = clip_tokenizer(Path(open_clip.tokenizer.default_bpe()))
    mine.save(tmp_path / "tokenizer.json")
    again = Tokenizer.load(tmp_path / "tokenizer.json", mine.description)
    np.testing.assert_array_equal(again(TEXT_PROBES), mine(TEXT_PROBES))


def test_a_lone_surrogate_is_a_question_mark(open_clip: Any) -> None:
    mine = clip_tokenizer(Path(open_clip.tokenizer.default_bpe()))
    np.testing.assert_array_equal(mine(["a\udcff dog"]), mine(["a? dog"]))


@pytest.mark.parametrize(
    ("settings", "side"),
    [
        ({}, "right"),
        ({}, "left"),
        ({"clean": "canonicalize", "strip_sep_token": True}, "right"),
        ({"clean": "whitespace", "tokenizer_mode": "clips"}, "right"),
    ],
)
def test_hugging_face_ids_equal_open_clips(
    open_clip: Any, tmp_path: Path, settings: dict[str, Any], side: str
) -> None:
    from encoders.export import _rebuild_hf

    small = small_tokenizer()
    small.add_special_tokens(
        {"bos_token": "<pad>", "cls_token": "</s>", "sep_token": "</s>"}  # tokens it has already
    )
    small.padding_side = small.truncation_side = side
    small.save_pretrained(tmp_path)
    theirs = open_clip.tokenizer.HFTokenizer(str(tmp_path), context_length=12, **settings)
    mine = _rebuild_hf(theirs, settings.get("clean", "whitespace"))
    texts = [*TEXT_PROBES, *_noise(200)]
    np.testing.assert_array_equal(mine(texts), theirs(texts).numpy())
    mine.save(tmp_path / "again.json")
    again = Tokenizer.load(tmp_path / "again.json", mine.description)
    np.testing.assert_array_equal(again(texts), mine(texts))


@pytest.mark.parametrize("text", ["", "not json", "{}", '{"model": 3}'])
def test_a_damaged_tokenizer_file_is_a_value_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="not a tokenizer"):
        Tokenizer.load(path, {"kind": "clip", "context_length": 77, "clean": "lower"})
