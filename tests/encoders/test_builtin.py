"""The encoder that is shipped: what it returns, what it refuses, what it costs to import."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from encoders.builtin import WEIGHTS_DIR, BuiltinEncoder
from encoders.errors import EncoderDamagedError, EncoderUnavailableError

DEV = Path(__file__).parents[2] / ".." / "shared" / "data" / "flickr8k" / "dev.tar"


@pytest.fixture(scope="module")
def encoder() -> BuiltinEncoder:
    return BuiltinEncoder(threads=1)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 224, 224, 3), dtype=np.uint8)


def test_embeddings_have_the_promised_shape_dtype_and_norm(
    encoder: BuiltinEncoder, pixels: np.ndarray
) -> None:
    for rows in (encoder.encode_pixels(pixels), encoder.encode_texts(["a dog", "the sea", "", "x" * 5, "7"])):
        assert rows.shape == (5, encoder.dim)
        assert rows.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


def test_nothing_in_gives_nothing_out(encoder: BuiltinEncoder, pixels: np.ndarray) -> None:
    assert encoder.encode_pixels(pixels[:0]).shape == (0, encoder.dim)
    assert encoder.encode_images([]).shape == (0, encoder.dim)
    assert encoder.encode_texts([]).shape == (0, encoder.dim)


def test_the_same_input_gives_the_same_bytes(encoder: BuiltinEncoder, pixels: np.ndarray) -> None:
    other = BuiltinEncoder(threads=1)
    assert encoder.encode_pixels(pixels).tobytes() == other.encode_pixels(pixels).tobytes()
    assert encoder.encode_texts(["a red car"]).tobytes() == other.encode_texts(["a red car"]).tobytes()
    assert encoder.fingerprint == other.fingerprint


def test_an_embedding_does_not_depend_on_its_neighbours(encoder: BuiltinEncoder, pixels: np.ndarray) -> None:
    together = encoder.encode_pixels(pixels)
    np.testing.assert_allclose(encoder.encode_pixels(pixels[::-1])[::-1], together, atol=1e-5)
    np.testing.assert_allclose(encoder.encode_pixels(pixels[2:3])[0], together[2], atol=1e-5)
    texts = ["a dog", "two children playing with a ball on a sunny beach near the sea", "snow"]
    np.testing.assert_allclose(encoder.encode_texts(texts)[2], encoder.encode_texts(["snow"])[0], atol=1e-5)


def test_more_than_a_batch_keeps_its_order(encoder: BuiltinEncoder) -> None:
    texts = [f"{number} dogs" for number in range(150)]
    rows = encoder.encode_texts(texts)
    np.testing.assert_allclose(rows[149], encoder.encode_texts(["149 dogs"])[0], atol=1e-5)
    ramp = np.arange(70, dtype=np.uint8)[:, None, None, None]
    squares = np.broadcast_to(ramp * 3, (70, 224, 224, 3))
    np.testing.assert_allclose(
        encoder.encode_pixels(squares)[69], encoder.encode_pixels(squares[69:])[0], atol=1e-5
    )


def test_images_are_pixels_after_preprocessing(encoder: BuiltinEncoder) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (90, 160, 3), dtype=np.uint8)
    images = [Image.fromarray(noise), Image.new("RGB", (1, 1), (200, 30, 30)), Image.new("RGB", (3, 900))]
    stacked = np.stack([encoder.preprocess(image) for image in images])
    np.testing.assert_array_equal(encoder.encode_images(images), encoder.encode_pixels(stacked))


@pytest.mark.parametrize("text", ["", " ", "\x00", "dog " * 5000, "狗在跑", "🐕" * 300, "\ud800", "Ünïcödé"])
def test_any_text_has_an_embedding(encoder: BuiltinEncoder, text: str) -> None:
    assert np.isfinite(encoder.encode_texts([text])).all()


def test_case_does_not_matter(encoder: BuiltinEncoder) -> None:
    np.testing.assert_allclose(encoder.encode_texts(["A Dog"]), encoder.encode_texts(["a dog"]), atol=1e-6)


def test_chinese_lies_with_the_english_of_the_same_meaning(encoder: BuiltinEncoder) -> None:
    english = encoder.encode_texts(["a dog", "the sea", "a red car", "a birthday cake", "snow on a mountain"])
    chinese = encoder.encode_texts(["一只狗", "大海", "红色的汽车", "生日蛋糕", "雪山"])
    assert ((chinese @ english.T).argmax(1) == np.arange(5)).all()


def test_words_of_like_meaning_lie_close(encoder: BuiltinEncoder) -> None:
    rows = encoder.encode_texts(["a dog", "a puppy", "a skyscraper"])
    assert rows[0] @ rows[1] > rows[0] @ rows[2] + 0.2


def test_wrong_pixels_are_refused(encoder: BuiltinEncoder, pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8"):
        encoder.encode_pixels(pixels.astype(np.float32))
    with pytest.raises(ValueError, match="224"):
        encoder.encode_pixels(pixels[:, :100])


def test_preprocess_travels_to_decode_workers(encoder: BuiltinEncoder) -> None:
    assert pickle.loads(pickle.dumps(encoder.preprocess)) == encoder.preprocess


@pytest.mark.parametrize("name", ["image.onnx", "text.onnx", "tokenizer.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_damaged_weights_are_named(tmp_path: Path, pixels: np.ndarray, name: str, damage: str) -> None:
    folder = tmp_path / "weights"
    shutil.copytree(WEIGHTS_DIR, folder)
    data = bytearray((folder / name).read_bytes())
    if damage == "gone":
        (folder / name).unlink()
    elif damage == "cut":
        (folder / name).write_bytes(data[: len(data) // 2])
    else:
        data[len(data) // 2] ^= 1
        (folder / name).write_bytes(data)
    broken = BuiltinEncoder(folder, threads=1)
    encode = {"image.onnx": lambda: broken.encode_pixels(pixels[:1])}.get(
        name, lambda: broken.encode_texts(["a dog"])
    )
    with pytest.raises(EncoderDamagedError, match=name):
        encode()


def test_a_damaged_tower_does_not_stop_the_other(tmp_path: Path) -> None:
    shutil.copytree(WEIGHTS_DIR, tmp_path / "weights")
    (tmp_path / "weights" / "image.onnx").write_bytes(b"")
    assert BuiltinEncoder(tmp_path / "weights", threads=1).encode_texts(["a dog"]).shape[0] == 1


def test_a_damaged_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(EncoderUnavailableError, match=r"config\.json"):
        BuiltinEncoder(tmp_path)
    for text in ("{", "[]", "{}", '{"sha256": 3}'):
        (tmp_path / "config.json").write_text(text, encoding="utf-8")
        with pytest.raises(EncoderDamagedError, match=r"config\.json"):
            BuiltinEncoder(tmp_path)


def test_the_fingerprint_follows_everything_that_changes_an_embedding(
    tmp_path: Path, encoder: BuiltinEncoder
) -> None:
    config = json.loads((WEIGHTS_DIR / "config.json").read_text(encoding="utf-8"))
    seen = {encoder.fingerprint}
    for path, value in (
        (("dim",), 383),
        (("sha256", "image.onnx"), "0" * 64),
        (("sha256", "text.onnx"), "0" * 64),
        (("preprocess", "mode"), "squash"),
        (("preprocess", "size"), 192),
        (("context_length",), 47),
    ):
        changed = json.loads(json.dumps(config))
        place = changed
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        (tmp_path / "config.json").write_text(json.dumps(changed), encoding="utf-8")
        seen.add(BuiltinEncoder(tmp_path).fingerprint)
    assert len(seen) == 7


def test_encoding_needs_neither_torch_nor_a_session_it_does_not_use() -> None:
    code = """
import sys
import numpy as np
from encoders.builtin import BuiltinEncoder
encoder = BuiltinEncoder(threads=1)
assert "onnxruntime" not in sys.modules and "tokenizers" not in sys.modules
encoder.encode_texts(["a dog"])
assert encoder._image is None
encoder.encode_pixels(np.zeros((1, 224, 224, 3), np.uint8))
loaded = {"torch", "transformers", "open_clip", "onnx"} & set(sys.modules)
assert not loaded, loaded
"""
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, cwd=root)


def test_the_shipped_files_are_small_and_explained() -> None:
    sizes = {path.name: path.stat().st_size for path in WEIGHTS_DIR.iterdir()}
    assert sum(sizes.values()) <= 30_000_000
    assert {"MODEL_CARD.md", "LICENSE-Apache-2.0.txt"} <= set(sizes)


@pytest.mark.slow
@pytest.mark.skipif(not DEV.exists(), reason="the development pictures are not on this machine")
def test_recall_on_unseen_pictures() -> None:
    from training import evaluate_dataset

    result = evaluate_dataset(DEV, BuiltinEncoder(), draws=1)
    assert (result.pictures, result.sentences) == (1000, 4995)  # five sentences were written twice
    assert result.value("text-to-image", "recall@10") >= 62


@pytest.mark.skipif(
    sys.platform != "linux", reason="where onnxruntime reports is told by a variable on Linux"
)
def test_onnxruntime_writes_no_reports_of_its_use(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    code = "from encoders.builtin import BuiltinEncoder; BuiltinEncoder().encode_texts(['a dog'])"
    environ = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environ |= {"XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root, env=environ)
    assert list(tmp_path.iterdir()) == []
