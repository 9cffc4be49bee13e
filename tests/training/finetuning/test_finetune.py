"""Adapting an encoder: the split, both ways of learning, what is compared, and what is written when."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from encoders import AdaptedEncoder, EncoderError, UsageError, normalize
from encoders.adapter import read_adapter
from tests.color import COLORS, ColorEncoder
from training import finetune
from training.finetuning import linear
from training.finetuning.adaptation import require_parts
from training.finetuning.drift import drift
from training.finetuning.examples import (
    HELD_OUT,
    LEARN,
    VALIDATE,
    Examples,
    asked_as,
    choose,
    clean_name,
    split,
)
from training.finetuning.judge import Embedded, compare
from training.finetuning.memory import Memory, Record
from training.finetuning.target import beside, holds_encoder, put


class Confused(ColorEncoder):
    """The ColorEncoder, whose pictures look more like the next colour than their own."""

    def encode_pixels(self, pixels: Any) -> Any:
        rows = super().encode_pixels(pixels)
        return normalize(0.6 * rows + 0.8 * np.roll(rows, 1, axis=1))


def noisy(path: Path, color: str) -> None:
    """Write a picture of nearly one colour, unlike any other also in the encoder's small square."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(list(str(path.relative_to(path.parents[1])).encode()))
    pixels = np.array(COLORS[color]) + rng.integers(-6, 7, (16, 16, 3))
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)


def foldered(folder: Path, count: int = 8) -> Path:
    """Write `count` pictures of each colour into a folder with the colour's name."""
    for color in COLORS:
        for mark in range(count):
            noisy(folder / f"2019-{color.title()}_Things" / f"{mark}.png", color)
    return folder


@pytest.fixture(scope="module")
def colors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return foldered(tmp_path_factory.mktemp("colors") / "pictures")


def adapt(source: Path, out: Path, encoder: Any = None, **options: Any) -> Any:
    encoder = encoder or Confused()

    def load(spec: str) -> Any:
        return read_adapter(Path(spec.removeprefix("local-dir:")), spec=spec, load_base=lambda base: encoder)

    return finetune(str(source), out, encoder=encoder, load=load, **options)


def a_set(encoder: Any, words: list[dict[str, Any]], seed: int = 0) -> Examples:
    """Return examples of random pictures with the given words."""
    rng, memory, records = np.random.default_rng(seed), Memory(None, encoder.dim), []
    for row, word in enumerate(words):
        key = rng.bytes(32)
        memory.put(key, normalize(rng.standard_normal((1, encoder.dim)))[0])
        word = {"captions": (), "keywords": (), "label": ""} | word
        records.append(Record(key, word.pop("pixels", key), row, **word))
    notes: list[str] = []
    examples = choose(records, encoder, memory, say=notes.append, step=lambda total, done: None)
    a_set.notes = notes  # type: ignore[attr-defined]
    return examples


# --- words and parts


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("2019-Beach_Trip", "beach trip"),
        ("BeachTrip", "beach trip"),
        ("2019", "2019"),
        ("Hochzeit_Anna+Ben 2021", "hochzeit anna ben"),
        ("猫", "猫"),
        ("1960s cars", "1960s cars"),
    ],
)
def test_a_folders_name_is_said_as_a_person_would(folder: str, said: str) -> None:
    assert clean_name(folder) == said


def test_names_are_asked_for_in_their_language_and_captions_as_they_are() -> None:
    assert asked_as("labels", "cat")[0] == "a photo of cat"
    assert asked_as("labels", "猫")[0] == "一张猫的照片"
    assert asked_as("captions", "A cat.") == ("A cat.",)
    assert asked_as("keywords", "{}")[0] == "a photo of {}"


def test_pictures_that_share_a_caption_are_never_in_two_parts(color_encoder: ColorEncoder) -> None:
    words = [{"captions": (f"caption {i // 3}", f"own {i}")} for i in range(300)]
    examples = a_set(color_encoder, words)
    assert len(examples.texts) == 400
    for part in (LEARN, VALIDATE, HELD_OUT):
        mine = {t for i in examples.pictures(part) for t in examples.right[i]}
        others = {t for i in np.flatnonzero(examples.part != part) for t in examples.right[i]}
        assert mine
        assert not mine & others
    assert 0.15 < np.mean(examples.part == HELD_OUT) < 0.25


def test_every_class_has_its_share_held_out(color_encoder: ColorEncoder) -> None:
    examples = a_set(color_encoder, [{"label": "few" if i < 10 else "many"} for i in range(110)])
    for name, held_out, stopping in (("few", 2, 1), ("many", 20, 10)):
        mine = [i for i, right in enumerate(examples.right) if examples.texts[right[0]] == name]
        counts = np.bincount(examples.part[mine], minlength=3)
        assert (counts[HELD_OUT], counts[VALIDATE]) == (held_out, stopping)


def test_four_pictures_of_a_class_are_enough_and_three_are_not(color_encoder: ColorEncoder) -> None:
    examples = a_set(color_encoder, [{"label": f"class {'abcdefgh'[i % 8]}"} for i in range(32)])
    assert np.bincount(examples.part, minlength=3).tolist() == [16, 8, 8]
    with pytest.raises(UsageError, match="more pictures of each kind"):
        require_parts(a_set(color_encoder, [{"label": f"class {'abcdefgh'[i % 8]}"} for i in range(24)]))


def test_the_parts_do_not_depend_on_the_order_of_reading() -> None:
    rng = np.random.default_rng(0)
    pixels = [rng.bytes(32) for _ in range(100)]
    right = tuple((i % 4,) for i in range(100))
    order = rng.permutation(100)
    shuffled = split([pixels[i] for i in order], tuple(right[i] for i in order), "labels")
    np.testing.assert_array_equal(split(pixels, right, "labels")[order], shuffled)


def test_copies_count_once_and_with_the_words_of_both(color_encoder: ColorEncoder) -> None:
    words: list[dict[str, Any]] = [{"captions": (f"c{i}",)} for i in range(30)]
    words += [{"captions": ("another",), "pixels": bytes(32)}, {"captions": ("more",), "pixels": bytes(32)}]
    examples = a_set(color_encoder, words)
    assert len(examples.images) == 31
    assert sorted(examples.texts[t] for t in max(examples.right, key=len)) == ["another", "more"]
    assert "1 pictures are copies" in a_set.notes[0]  # type: ignore[attr-defined]


def test_a_caption_under_very_many_pictures_is_left_out(color_encoder: ColorEncoder) -> None:
    words = [{"captions": (f"c{i}", "OLYMPUS DIGITAL CAMERA")} for i in range(60)]
    examples = a_set(color_encoder, words)
    assert "OLYMPUS DIGITAL CAMERA" not in examples.texts
    assert "60 pictures are captioned 'OLYMPUS DIGITAL CAMERA'" in a_set.notes[0]  # type: ignore[attr-defined]


def test_a_few_titles_over_many_pictures_are_classes(color_encoder: ColorEncoder) -> None:
    assert a_set(color_encoder, [{"captions": (f"album {i % 3}",)} for i in range(60)]).kind == "labels"
    tags = [{"keywords": ("beach", "Anna" if i % 2 else "Ben")} for i in range(60)]
    examples = a_set(color_encoder, tags)
    assert (examples.kind, examples.texts) == ("keywords", ("anna", "beach", "ben"))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([{"label": "cat"}] * 40, "one class only"),
        ([{"captions": (f"c{i}",)} for i in range(19)], "20 are the least"),
        ([{"label": "cat"}, {"label": "dog"}], "20 are the least"),
    ],
)
def test_what_cannot_be_learned_from_is_wrong_usage(
    words: list[dict[str, Any]], says: str, color_encoder: ColorEncoder
) -> None:
    with pytest.raises(UsageError, match=says):
        a_set(color_encoder, [dict(word) for word in words])


# --- the linear adapter


def test_the_gradient_is_that_of_finite_differences() -> None:
    rng = np.random.default_rng(0)
    dim, n, m = 5, 7, 4
    right = rng.random((n, m)) < 0.3
    drawn = rng.integers(0, m, n)
    right[np.arange(n), drawn] = True
    images, texts = (normalize(rng.standard_normal((k, dim))) for k in (n, m))
    batch = linear.Batch(images, texts, right, drawn)
    image, text = (np.eye(dim) + 0.1 * rng.standard_normal((dim, dim)) for _ in range(2))
    got = linear.contrast(batch, image, text, 7.0)  # type: ignore[arg-type]

    def loss(image: Any, text: Any, scale: float) -> float:
        """Slowly, picture by picture and text by text."""
        x, y = images.astype(float) @ image.T, texts.astype(float) @ text.T
        x, y = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, y))
        z, total = scale * x @ y.T, 0.0
        for i in range(n):
            wrong = [j for j in range(m) if not right[i, j] or j == drawn[i]]
            total -= (z[i, drawn[i]] - np.log(np.exp(z[i, wrong]).sum())) / n
        for j in range(m):
            mine = np.flatnonzero(right[:, j])
            if len(mine):
                total -= (z[mine, j] - np.log(np.exp(z[:, j]).sum())).mean() / m
        return total / 2

    if right.any(axis=0).all():
        assert got.loss == pytest.approx(loss(image, text, 7.0), rel=1e-4)
    step = 1e-4
    for matrix, gradient in ((image, got.image), (text, got.text)):
        for i, j in ((0, 0), (1, 3), (4, 2)):
            before = matrix[i, j]
            matrix[i, j] = before + step
            up = loss(image, text, 7.0)
            matrix[i, j] = before - step
            down = loss(image, text, 7.0)
            matrix[i, j] = before
            assert gradient[i, j] == pytest.approx((up - down) / 2 / step, abs=2e-3)
    slope = (loss(image, text, 7.001) - loss(image, text, 6.999)) / 0.002
    assert got.scale == pytest.approx(slope, abs=2e-3)


@pytest.mark.parametrize("rank", [None, 3])
def test_the_same_seed_gives_the_same_matrices_and_another_seed_others(
    color_encoder: ColorEncoder, rank: int | None
) -> None:
    examples = a_set(color_encoder, [{"captions": (f"red {i}", f"blue {i}")} for i in range(60)])

    def run(seed: int) -> Any:
        return linear.learn(examples, epochs=3, rank=rank, seed=seed, step=lambda total, done: None)

    first, again, other = run(0), run(0), run(1)
    assert first.image.tobytes() == again.image.tobytes()
    assert first.text.tobytes() == again.text.tobytes()
    assert first.epochs == 0 or first.image.tobytes() != other.image.tobytes()


def test_a_low_rank_changes_a_matrix_by_no_more_than_that() -> None:
    tower = linear.Tower(6, 2, np.random.default_rng(0))
    np.testing.assert_array_equal(tower.matrix(), np.eye(6))
    tower.parts[0] += 1.0
    assert np.linalg.matrix_rank(tower.matrix() - np.eye(6, dtype=np.float32), tol=1e-4) <= 2


# --- judging


def test_numbers_before_and_after_are_those_of_evaluate(color_encoder: ColorEncoder) -> None:
    examples = a_set(color_encoder, [{"captions": (f"c {i}", f"d {i}")} for i in range(100)])
    rng = np.random.default_rng(0)
    held_out = examples.pictures(HELD_OUT)
    base = Embedded(examples.images[held_out], rng.standard_normal((1, len(examples.texts), 8)))
    base = Embedded(base.images, normalize(base.prompts))
    good = base.prompts.copy()
    for row, picture in enumerate(held_out):
        good[0, list(examples.right[picture])] = base.images[row]
    changes = compare(examples, base, Embedded(base.images, good), seed=0)
    assert [change.after for change in changes] == [100.0] * 7
    from training.judging.metrics import recall

    used = np.array([t for p in held_out for t in examples.right[p]])
    owner = np.repeat(np.arange(len(held_out)), 2)
    expected = recall(base.images, base.prompts[0, used], owner)
    values = [*expected.text_to_image.values(), *expected.image_to_text.values()]
    assert [change.before for change in changes[:6]] == pytest.approx(values, abs=1e-3)
    assert changes[-1].before == pytest.approx(np.mean(values), abs=1e-3)
    for change in changes:
        assert change.low <= change.difference <= change.high
        assert change.difference == pytest.approx(change.after - change.before, abs=1e-3)


def test_the_same_encoder_twice_differs_by_exactly_nothing(color_encoder: ColorEncoder) -> None:
    examples = a_set(color_encoder, [{"label": "red" if i % 2 else "blue"} for i in range(50)])
    same = Embedded(examples.images[examples.pictures(HELD_OUT)], examples.prompts)
    for change in compare(examples, same, same, seed=0):
        assert (change.difference, change.low, change.high) == (0, 0, 0)


def test_drift_is_none_for_the_same_and_large_for_strangers() -> None:
    rng = np.random.default_rng(0)
    rows, others = (normalize(rng.standard_normal((100, 32))) for _ in range(2))
    assert (drift(rows, rows).cosine, drift(rows, rows).kept) == (1.0, 100.0)
    assert not drift(rows, rows).large
    assert drift(rows, others).large
    turned = np.linalg.qr(rng.standard_normal((32, 32)))[0].astype(np.float32)
    assert drift(rows, rows @ turned).kept == 100.0  # neighbours stay when everything turns together


# --- the whole


def test_a_confused_encoder_is_mended_and_the_folder_loads(colors: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = adapt(colors, out)
    assert found.written
    assert (found.data.words, found.data.pictures, found.data.texts) == ("labels", 64, 8)
    assert found.changes[0].metric == "zero-shot accuracy"
    assert found.changes[0].before < 30
    assert found.changes[0].after > 90
    loaded = read_adapter(out, spec=f"local-dir:{out}", load_base=lambda spec: Confused())
    assert loaded.fingerprint == found.fingerprint
    record = json.loads((out / "adapter.json").read_text())
    assert record["held_out"][0]["after"] == found.changes[0].after
    assert record["data"]["held_out"] == found.data.held_out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_what_is_worse_is_not_written_unless_forced(colors: Path, tmp_path: Path, monkeypatch: Any) -> None:
    def spoil(examples: Examples, **options: Any) -> linear.Learned:
        dim = examples.images.shape[1]
        turned = np.roll(np.eye(dim, dtype=np.float32), 1, axis=0)
        return linear.Learned(turned, np.eye(dim, dtype=np.float32), 1, 1.0, 0.5)

    monkeypatch.setattr("training.finetuning.methods.learn", spoil)
    found = adapt(colors, tmp_path / "out", ColorEncoder())
    assert not found.written
    assert "worse than color on held-out pictures" in found.why_not
    assert "--force" in found.why_not
    assert not (tmp_path / "out").exists()
    assert adapt(colors, tmp_path / "out", ColorEncoder(), force=True).written
    assert (tmp_path / "out" / "adapter.json").exists()


def test_a_better_encoder_in_the_folder_is_kept(colors: Path, tmp_path: Path, monkeypatch: Any) -> None:
    out = tmp_path / "out"
    first = adapt(colors, out)
    kept = {path.name: path.read_bytes() for path in out.iterdir()}

    def little(examples: Examples, **options: Any) -> linear.Learned:
        eye = np.eye(examples.images.shape[1], dtype=np.float32)
        return linear.Learned(eye, eye, 1, 1.0, 0.9)

    monkeypatch.setattr("training.finetuning.methods.learn", little)
    again = adapt(colors, out)
    assert not again.written
    assert "already in" in again.why_not
    assert again.changes_previous[0].before == first.changes[0].after
    assert {path.name: path.read_bytes() for path in out.iterdir()} == kept


def test_nothing_learned_is_nothing_written(colors: Path, tmp_path: Path, monkeypatch: Any) -> None:
    def nothing(examples: Examples, **options: Any) -> linear.Learned:
        eye = np.eye(examples.images.shape[1], dtype=np.float32)
        return linear.Learned(eye, eye, 0, 1.0, 1.0)

    monkeypatch.setattr("training.finetuning.methods.learn", nothing)
    assert "nothing was learned" in adapt(colors, tmp_path / "out").why_not


def test_an_adapter_adapted_again_is_one_adapter_on_the_same_base(colors: Path, tmp_path: Path) -> None:
    base = Confused()
    image, text = (np.eye(8, dtype=np.float32) for _ in range(2))
    image = image + 0.05 * np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)
    adapted = AdaptedEncoder(base, image, text, spec=f"local-dir:{tmp_path / 'first'}")
    found = adapt(colors, tmp_path / "second", adapted)
    assert (found.base, found.written) == ("color", True)
    loaded = read_adapter(tmp_path / "second", spec="local-dir:x", load_base=lambda spec: base)
    assert loaded.base is base
    assert loaded.fingerprint == found.fingerprint


def test_embeddings_are_kept_for_the_next_run(colors: Path, tmp_path: Path) -> None:
    first, second = Confused(), Confused()
    one = adapt(colors, tmp_path / "a", first, cache_dir=tmp_path / "cache")
    two = adapt(colors, tmp_path / "b", second, cache_dir=tmp_path / "cache")
    assert (first.encoded, second.encoded) == (64, 0)
    assert one.fingerprint == two.fingerprint
    for path in (tmp_path / "cache").rglob("*.npz"):
        path.write_bytes(path.read_bytes()[:100])
    assert adapt(colors, tmp_path / "c", second, cache_dir=tmp_path / "cache").fingerprint == one.fingerprint


def test_pictures_that_cannot_be_decoded_are_counted(tmp_path: Path) -> None:
    folder = foldered(tmp_path / "p", 5)
    (folder / "2019-Red_Things" / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a picture")
    assert "1 of 41 pictures cannot be decoded" in adapt(folder, tmp_path / "out").notes[0]


@pytest.mark.parametrize("what", ["file", "photos", "other encoder", "base"])
def test_a_folder_with_anything_else_in_it_is_never_replaced(
    colors: Path, tmp_path: Path, what: str, color_encoder: ColorEncoder
) -> None:
    out, encoder = tmp_path / "out", Confused()
    if what == "file":
        out.write_text("x")
    elif what == "base":
        encoder.name = f"local-dir:{out}"
    else:
        out.mkdir()
        (out / ("holiday.jpg" if what == "photos" else "open_clip_model.safetensors")).write_bytes(b"1")
    with pytest.raises(UsageError, match="folder"):
        adapt(colors, out, encoder, force=True)
    assert out.exists() == (what != "base")


# --- the folder


def fill(out: Path, text: str) -> None:
    with beside(out) as folder:
        (folder / "adapter.json").write_text(text)
        put(folder, out)


def test_a_folder_is_replaced_whole_and_nothing_is_left_beside(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for text in ("one", "two"):
        fill(out, text)
        assert (out / "adapter.json").read_text() == text
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert holds_encoder(out)


def test_a_failure_while_writing_keeps_what_was_there(tmp_path: Path, monkeypatch: Any) -> None:
    out = tmp_path / "out"
    fill(out, "one")
    real = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if Path(target).name == "out" and ".new-" in self.name:
            raise OSError(28, "No space left on device")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(EncoderError, match="what was there is kept"):
        fill(out, "two")
    assert (out / "adapter.json").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_run_killed_between_the_two_renames_is_undone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    fill(out, "one")
    out.rename(tmp_path / ".out.old")
    (tmp_path / ".out.new-xyz").mkdir()
    with beside(out):
        assert (out / "adapter.json").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
