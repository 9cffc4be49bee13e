"""An adapter on another encoder: what it computes, how it is found again, what it refuses."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from encoders import (
    AdaptedEncoder,
    EncoderDamagedError,
    EncoderUnavailableError,
    load_encoder,
    normalize,
    write_adapter,
)
from encoders.adapter import MATRICES, RECORD, read_adapter
from encoders.builtin import WEIGHTS_DIR, BuiltinEncoder
from tests.color import ColorEncoder

ROOT = Path(__file__).resolve().parents[2]


def matrices(dim: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    eye = np.eye(dim, dtype=np.float32)
    return tuple(eye + 0.1 * rng.standard_normal((dim, dim), dtype=np.float32) for _ in range(2))  # type: ignore[return-value]


def saved(folder: Path, base: Any, seed: int = 0) -> AdaptedEncoder:
    folder.mkdir(parents=True)
    encoder = AdaptedEncoder(base, *matrices(base.dim, seed), spec=f"local-dir:{folder}")
    write_adapter(folder, encoder, {"seed": seed})
    return encoder


@pytest.fixture
def color() -> ColorEncoder:
    return ColorEncoder()


def read(folder: Path, base: Any) -> AdaptedEncoder:
    return read_adapter(folder, spec=f"local-dir:{folder}", load_base=lambda spec: base)


def test_embeddings_are_the_bases_times_the_matrix_and_of_unit_norm(color: ColorEncoder) -> None:
    image, text = matrices(color.dim)
    encoder = AdaptedEncoder(color, image, text, spec="local-dir:/x")
    pixels = np.random.default_rng(1).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    rows = encoder.encode_pixels(pixels)
    expected = np.stack([image @ row for row in color.encode_pixels(pixels)])
    np.testing.assert_allclose(
        rows, expected / np.linalg.norm(expected, axis=1, keepdims=True), rtol=1e-4, atol=1e-5
    )
    texts = ["red", "a blue and green thing"]
    words = np.stack([text @ row for row in color.encode_texts(texts)])
    np.testing.assert_allclose(encoder.encode_texts(texts), normalize(words), rtol=1e-4, atol=1e-5)
    assert rows.dtype == np.float32
    assert (encoder.dim, encoder.image_size, encoder.preprocess) == (
        color.dim,
        color.image_size,
        color.preprocess,
    )


def test_the_identity_changes_nothing_but_the_fingerprint(color: ColorEncoder) -> None:
    eye = np.eye(color.dim, dtype=np.float32)
    encoder = AdaptedEncoder(color, eye, eye, spec="local-dir:/x")
    np.testing.assert_allclose(encoder.encode_texts(["red"]), color.encode_texts(["red"]), atol=1e-6)
    assert encoder.fingerprint != color.fingerprint


def test_what_was_written_is_read_with_the_same_fingerprint(tmp_path: Path, color: ColorEncoder) -> None:
    written = saved(tmp_path / "a", color)
    found = read(tmp_path / "a", color)
    assert found.fingerprint == written.fingerprint
    np.testing.assert_array_equal(found.image, written.image)
    other = saved(tmp_path / "b", color, seed=1)
    assert other.fingerprint != written.fingerprint


def test_another_base_is_refused_in_one_line_that_says_what_to_do(
    tmp_path: Path, color: ColorEncoder
) -> None:
    saved(tmp_path / "a", color)
    with pytest.raises(EncoderUnavailableError, match="not the one it was made for") as caught:
        read(tmp_path / "a", ColorEncoder("color2"))
    assert "pixseek finetune SOURCE --out FOLDER" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_matrices_with_nan_or_of_another_size_are_refused(tmp_path: Path, color: ColorEncoder) -> None:
    image, text = matrices(color.dim)
    text[0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        AdaptedEncoder(color, image, text, spec="local-dir:/x")
    with pytest.raises(ValueError, match="not float32"):
        AdaptedEncoder(color, image[:-1], image, spec="local-dir:/x")
    # The same in a file whose checksum is right.
    saved(tmp_path / "a", color)
    with open(tmp_path / "a" / MATRICES, "wb") as file:
        np.savez(file, image=image, text=text)
    _sign(tmp_path / "a")
    with pytest.raises(EncoderDamagedError, match="NaN"):
        read(tmp_path / "a", color)


def _sign(folder: Path) -> None:
    from encoders.store import sha256_file

    record = json.loads((folder / RECORD).read_text())
    record["sha256"][MATRICES] = sha256_file(folder / MATRICES)
    (folder / RECORD).write_text(json.dumps(record))


def _cut(folder: Path) -> None:
    data = (folder / MATRICES).read_bytes()
    (folder / MATRICES).write_bytes(data[: len(data) // 2])


def _flip(folder: Path) -> None:
    data = bytearray((folder / MATRICES).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / MATRICES).write_bytes(bytes(data))


def _pickled(folder: Path) -> None:
    with open(folder / MATRICES, "wb") as file:
        np.savez(file, image=np.array([{"a": 1}], dtype=object), text=np.zeros(1))
    _sign(folder)


def _grown(folder: Path) -> None:
    with open(folder / MATRICES, "ab") as file:
        file.write(bytes(200_000))
    _sign(folder)


@pytest.mark.parametrize(
    "damage",
    [
        _cut,
        _flip,
        _pickled,
        _grown,
        lambda folder: (folder / MATRICES).unlink(),
        lambda folder: (folder / RECORD).write_text("{}"),
        lambda folder: (folder / RECORD).write_text("[1, 2"),
        lambda folder: (folder / RECORD).write_bytes(b"\xff\xfe"),
        lambda folder: (folder / RECORD).write_text('{"kind": "other"}'),
    ],
    ids=["cut", "flipped bit", "pickle", "grown", "gone", "empty", "no json", "no text", "foreign"],
)
def test_a_damaged_adapter_is_one_line(tmp_path: Path, color: ColorEncoder, damage: Any) -> None:
    saved(tmp_path / "a", color)
    damage(tmp_path / "a")
    with pytest.raises(EncoderDamagedError) as caught:
        read(tmp_path / "a", color)
    assert str(tmp_path / "a") in str(caught.value)
    assert "make it again" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_adapter_on_itself_ends(tmp_path: Path, color: ColorEncoder) -> None:
    saved(tmp_path / "a", color)
    record = json.loads((tmp_path / "a" / RECORD).read_text())
    record["base"]["spec"] = f"local-dir:{tmp_path / 'a'}"
    (tmp_path / "a" / RECORD).write_text(json.dumps(record))
    with pytest.raises(EncoderDamagedError, match="its base is an adapter"):
        load_encoder(f"local-dir:{tmp_path / 'a'}", cache_dir=tmp_path / "cache")


def test_the_built_in_encoder_is_loaded_from_a_folder(tmp_path: Path, monkeypatch: Any) -> None:
    shutil.copytree(WEIGHTS_DIR, tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    encoder = load_encoder("local-dir:mine", cache_dir=tmp_path / "cache", threads=1)
    assert isinstance(encoder, BuiltinEncoder)
    assert encoder.spec == f"local-dir:{tmp_path / 'mine'}"
    assert encoder.fingerprint == BuiltinEncoder().fingerprint


def test_an_adapter_on_the_built_in_encoder_answers_without_torch(tmp_path: Path) -> None:
    base = BuiltinEncoder(threads=1)
    written = saved(tmp_path / "a", base)
    code = (
        "import sys; from pathlib import Path; from encoders import load_encoder\n"
        "encoder = load_encoder(sys.argv[1], cache_dir=Path(sys.argv[2]), threads=1)\n"
        "print(encoder.fingerprint, encoder.spec, encoder.encode_texts(['a dog']).shape,"
        " any(n in sys.modules for n in ('torch', 'open_clip', 'safetensors')))"
    )
    command = [sys.executable, "-c", code, f"local-dir:{tmp_path / 'a'}", str(tmp_path / "cache")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split(" ", 2)[:2] == [written.fingerprint, f"local-dir:{tmp_path / 'a'}"]
    assert done.stdout.strip().endswith("(1, 384) False")


def test_a_base_in_a_folder_is_found_when_both_moved(tmp_path: Path) -> None:
    shutil.copytree(WEIGHTS_DIR, tmp_path / "one" / "base")
    base = load_encoder(f"local-dir:{tmp_path}/one/base", cache_dir=tmp_path / "cache", threads=1)
    written = saved(tmp_path / "one" / "adapter", base)
    (tmp_path / "one").rename(tmp_path / "two")
    found = load_encoder(f"local-dir:{tmp_path}/two/adapter", cache_dir=tmp_path / "cache", threads=1)
    assert found.fingerprint == written.fingerprint
    assert isinstance(found, AdaptedEncoder)
    assert found.base.spec == f"local-dir:{tmp_path}/two/base"


def test_an_adapter_on_an_open_clip_model_follows_its_weights(
    tiny: Any, tmp_path: Path, clip_cache: Path
) -> None:
    model = tiny("vit").copy(tmp_path / "model")
    base = load_encoder(f"local-dir:{model.folder}", cache_dir=clip_cache)
    saved(tmp_path / "a", base)
    found = load_encoder(f"local-dir:{tmp_path / 'a'}", cache_dir=clip_cache)
    assert found.encode_texts(["a dog"]).shape == (1, 32)
    from safetensors.torch import load_file, save_file

    state = load_file(model.weights)
    state["text_projection"] *= 2
    save_file(state, str(model.weights))
    with pytest.raises(EncoderUnavailableError, match="not the one it was made for"):
        load_encoder(f"local-dir:{tmp_path / 'a'}", cache_dir=clip_cache)
