"""Encoders of open_clip models: agreement with open_clip, fingerprints, damaged weights, pickles."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from encoders import EncoderDamagedError, EncoderError, EncoderUnavailableError, load_encoder
from encoders.tokens import TEXT_PROBES
from tests.encoders.conftest import Tiny, cosines, stills

ROOT = Path(__file__).resolve().parents[2]
MakeTiny = Callable[..., Tiny]
SIGLIP: dict[str, Any] = {"resize_mode": "squash", "mean": [0.5] * 3, "std": [0.5] * 3}


def plain_open_clip(open_clip: Any, model: str, weights: str | None, texts: list[str]) -> tuple[Any, Any]:
    """The slow reference: open_clip's own transform, tokenizer and towers, one picture at a time."""
    import torch

    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        net, preprocess = open_clip.create_model_from_pretrained(model, pretrained=weights)
        net.eval()
        ids = open_clip.get_tokenizer(model)(texts)
        images = [net.encode_image(preprocess(image)[None])[0].numpy() for image in stills()]
        return np.stack(images), net.encode_text(ids).numpy()


@pytest.mark.parametrize(
    ("name", "preprocess"),
    [
        ("vit", {}),
        ("siglip", SIGLIP),
        ("coca", {"resize_mode": "longest", "interpolation": "bilinear", "fill_color": 0}),
        pytest.param(
            "resnet",
            {"interpolation": "bilinear", "mean": [0.0] * 3, "std": [1.0] * 3},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_onnx_and_torch_agree_with_plain_open_clip(
    tiny: MakeTiny, open_clip: Any, clip_cache: Path, name: str, preprocess: dict[str, Any]
) -> None:
    model = tiny(name, **preprocess)
    spec = f"local-dir:{model.folder}"
    texts = list(TEXT_PROBES)
    shapes_open_clip_takes = slice(None) if preprocess.get("resize_mode") != "longest" else [0, 5, 6, 7, 8, 9]
    pictures = [stills()[i] for i in np.arange(len(stills()))[shapes_open_clip_takes]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[__name__], "stills", lambda: pictures)
        images_wanted, texts_wanted = plain_open_clip(open_clip, spec, None, texts)
    onnx = load_encoder(spec, cache_dir=clip_cache, runtime="onnx", threads=2)
    torch = load_encoder(spec, cache_dir=clip_cache, runtime="torch")
    assert onnx.fingerprint == torch.fingerprint
    for encoder in (onnx, torch):
        images, words = encoder.encode_images(pictures), encoder.encode_texts(texts)
        assert images.shape == (len(pictures), encoder.dim)
        assert images.dtype == words.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(images, axis=1), 1, atol=1e-5)
        assert cosines(images, images_wanted).min() >= 0.9999
        assert cosines(words, texts_wanted).min() >= 0.9999


def test_a_config_file_with_weights_agrees_with_plain_open_clip(
    tiny: MakeTiny, open_clip: Any, clip_cache: Path
) -> None:
    model = tiny("vit")
    open_clip.add_model_config(model.config)
    images_wanted, texts_wanted = plain_open_clip(open_clip, "vit", str(model.weights), ["a dog", ""])
    encoder = load_encoder(model.spec, cache_dir=clip_cache, threads=2)
    assert encoder.spec == model.spec
    assert cosines(encoder.encode_images(stills()), images_wanted).min() >= 0.9999
    assert cosines(encoder.encode_texts(["a dog", ""]), texts_wanted).min() >= 0.9999


def test_pixels_of_preprocess_give_the_embeddings_of_images(tiny: MakeTiny, clip_cache: Path) -> None:
    encoder = load_encoder(tiny("vit").spec, cache_dir=clip_cache, threads=2)
    pixels = np.stack([encoder.preprocess(image) for image in stills()] * 5)
    np.testing.assert_allclose(
        encoder.encode_pixels(pixels)[-len(stills()) :], encoder.encode_images(stills()), atol=1e-5
    )
    assert encoder.encode_images([]).shape == encoder.encode_texts([]).shape == (0, encoder.dim)


_NO_TORCH = """
import sys
from pathlib import Path
import numpy as np
from encoders import load_encoder
encoder = load_encoder(sys.argv[1], cache_dir=Path(sys.argv[2]), threads=1, offline=True)
text = encoder.encode_texts(["a photo of a dog"])
opened_for_text = sorted(encoder._sessions)
image = encoder.encode_pixels(np.full((1, encoder.image_size, encoder.image_size, 3), 99, np.uint8))
heavy = [name for name in ("torch", "open_clip", "transformers", "onnx", "timm") if name in sys.modules]
print(encoder.fingerprint, opened_for_text, heavy)
"""


@pytest.mark.parametrize(("name", "preprocess"), [("vit", {}), ("siglip", SIGLIP)])
def test_a_query_after_the_export_imports_no_torch_and_opens_one_tower(
    tiny: MakeTiny, clip_cache: Path, name: str, preprocess: dict[str, Any]
) -> None:
    spec = f"local-dir:{tiny(name, **preprocess).folder}"
    fingerprint = load_encoder(spec, cache_dir=clip_cache).fingerprint
    command = [sys.executable, "-W", "error", "-c", _NO_TORCH, spec, str(clip_cache)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == f"{fingerprint} ['text.onnx'] []"
    assert done.stderr == ""


def test_the_export_answers_when_the_weights_and_torch_are_gone(
    tiny: MakeTiny, tmp_path: Path, clip_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny("vit").copy(tmp_path / "model")
    before = load_encoder(model.spec, cache_dir=clip_cache).encode_texts(["a dog"])
    model.weights.unlink()
    monkeypatch.setattr("encoders.sources.installed", lambda: False)
    after = load_encoder(model.spec, cache_dir=clip_cache, offline=True).encode_texts(["a dog"])
    np.testing.assert_array_equal(after, before)


# Fingerprints


def test_fingerprint_is_of_the_weights_and_not_of_their_path(
    tiny: MakeTiny, tmp_path: Path, clip_cache: Path
) -> None:
    model = tiny("vit")
    here = load_encoder(model.spec, cache_dir=clip_cache)
    there = load_encoder(model.copy(tmp_path / "elsewhere").spec, cache_dir=clip_cache)
    assert here.fingerprint == there.fingerprint
    assert here.spec != there.spec


def test_one_flipped_byte_in_the_weights_is_another_fingerprint(
    tiny: MakeTiny, tmp_path: Path, clip_cache: Path
) -> None:
    model = tiny("vit").copy(tmp_path / "model")
    before = load_encoder(model.spec, cache_dir=clip_cache).fingerprint
    with open(model.weights, "r+b") as file:
        file.seek(-1000, os.SEEK_END)
        (byte,) = file.read(1)
        file.seek(-1000, os.SEEK_END)
        file.write(bytes([byte ^ 1]))
    assert load_encoder(model.spec, cache_dir=clip_cache, runtime="torch").fingerprint != before


@pytest.mark.parametrize(
    "change", [{"interpolation": "bilinear"}, {"resize_mode": "squash"}, {"mean": [0.5] * 3}]
)
def test_other_preprocessing_is_another_fingerprint(
    tiny: MakeTiny, tmp_path: Path, clip_cache: Path, change: dict[str, Any]
) -> None:
    model = tiny("vit").copy(tmp_path / "model")
    spec = f"local-dir:{model.folder}"
    before = load_encoder(spec, cache_dir=clip_cache, runtime="torch").fingerprint
    settings = json.loads((model.folder / "open_clip_config.json").read_text())
    settings["preprocess_cfg"] |= change
    (model.folder / "open_clip_config.json").write_text(json.dumps(settings))
    assert load_encoder(spec, cache_dir=clip_cache, runtime="torch").fingerprint != before


# Models that cannot be run


@pytest.mark.parametrize(
    ("part", "change", "error", "says"),
    [
        ("vision_cfg", {"image_size": [32, 64]}, EncoderError, "pixseek's are squares"),
        ("vision_cfg", {"timm_model_name": "no_such_tower"}, EncoderError, "open_clip cannot build it"),
        (
            "text_cfg",
            {"hf_model_name": "nobody/none", "hf_tokenizer_name": "nobody/none"},
            EncoderUnavailableError,
            "it needs transformers' nobody/none",
        ),
    ],
)
def test_a_model_that_cannot_be_run_says_why(
    tiny: MakeTiny, tmp_path: Path, part: str, change: dict[str, Any], error: type[Exception], says: str
) -> None:
    from safetensors.torch import save_file

    model = tiny("vit").copy(tmp_path / "model")
    settings = json.loads(model.config.read_text())
    settings[part] |= change
    model.config.write_text(json.dumps(settings))
    if "image_size" in change:
        import open_clip

        open_clip.add_model_config(Path(shutil.copy(model.config, tmp_path / "oblong.json")))
        save_file(open_clip.create_model("oblong").state_dict(), str(model.weights))
    with pytest.raises(error, match=says) as caught:
        load_encoder(model.spec, cache_dir=tmp_path / "cache", offline=True)
    assert "\n" not in str(caught.value)


# Damaged weights


def _cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda data: b"", "empty"),
        (lambda data: data[:4], "4 bytes"),
        (lambda data: data[:200], "cut in its header"),
        (_cut, "its header says"),
        (lambda data: data[:-1], "its header says"),
        (lambda data: data + b"\0", "its header says"),
        (lambda data: b"<!DOCTYPE html><title>404</title>" + b" " * 5000, "a web page"),
        (lambda data: b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a Git LFS pointer"),
        (lambda data: data[:8] + b"[" + data[9:], "header cannot be read"),
    ],
)
def test_damaged_weights_are_named_in_one_line(
    tiny: MakeTiny, tmp_path: Path, damage: Callable[[bytes], bytes], why: str
) -> None:
    model = tiny("vit")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(damage(model.weights.read_bytes()))
    with pytest.raises(EncoderDamagedError, match=why) as caught:
        load_encoder(f"{model.config}@{broken}", cache_dir=tmp_path / "cache")
    assert str(broken) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wrong", ["missing", "shape", "other model"])
def test_weights_of_another_model_are_damaged(tiny: MakeTiny, tmp_path: Path, wrong: str) -> None:
    from safetensors.numpy import load_file, save_file

    model = tiny("vit")
    state = load_file(tiny("resnet").weights if wrong == "other model" else model.weights)
    if wrong == "missing":
        del state["text_projection"]
    elif wrong == "shape":
        state["text_projection"] = state["text_projection"][:5].copy()
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(EncoderDamagedError, match="do not fit vit") as caught:
        load_encoder(f"{model.config}@{tmp_path / 'w.safetensors'}", cache_dir=tmp_path / "cache")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_weights_that_give_nan_are_damaged(tiny: MakeTiny, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    model = tiny("vit")
    state = load_file(model.weights)
    state["text_projection"][:] = np.nan
    save_file(state, tmp_path / "w.safetensors")
    spec = f"{model.config}@{tmp_path / 'w.safetensors'}"
    with pytest.raises(EncoderDamagedError, match="text tower gives NaN"):
        load_encoder(spec, cache_dir=tmp_path / "cache")
    with pytest.raises(EncoderError, match="gave NaN"):
        load_encoder(spec, cache_dir=tmp_path / "cache", runtime="torch").encode_texts(["a dog"])


# Pickles


class _Payload:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("allow_pickle", [False, True])
@pytest.mark.parametrize("form", ["pickle", "torch"])
def test_a_pickle_never_runs_its_payload(
    tiny: MakeTiny, tmp_path: Path, allow_pickle: bool, form: str
) -> None:
    import torch

    marker, weights = tmp_path / "ran", tmp_path / "weights.pt"
    if form == "pickle":
        weights.write_bytes(pickle.dumps({"state_dict": _Payload(marker)}))
    else:
        torch.save({"state_dict": _Payload(marker)}, weights)
    spec = f"{tiny('vit').config}@{weights}"
    with pytest.raises(EncoderError, match="cannot|do not fit" if allow_pickle else "is a pickle"):
        load_encoder(spec, cache_dir=tmp_path / "cache", allow_pickle=allow_pickle)
    assert not marker.exists()


def test_an_allowed_pickle_gives_the_embeddings_of_its_tensors(
    tiny: MakeTiny, tmp_path: Path, clip_cache: Path
) -> None:
    import torch
    from safetensors.torch import load_file

    model = tiny("vit")
    torch.save({"state_dict": load_file(model.weights)}, tmp_path / "weights.pt")
    spec = f"{model.config}@{tmp_path / 'weights.pt'}"
    pickled = load_encoder(spec, cache_dir=clip_cache, allow_pickle=True, runtime="torch")
    safe = load_encoder(model.spec, cache_dir=clip_cache)
    np.testing.assert_allclose(pickled.encode_texts(["a"]), safe.encode_texts(["a"]), atol=1e-4)


@pytest.mark.slow
def test_vit_b_32_agrees_with_plain_open_clip(open_clip: Any, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    weights = tmp_path / "w.safetensors"
    save_file(open_clip.create_model("ViT-B-32").state_dict(), str(weights))
    images_wanted, texts_wanted = plain_open_clip(open_clip, "ViT-B-32", str(weights), list(TEXT_PROBES))
    encoder = load_encoder(f"ViT-B-32@{weights}", cache_dir=tmp_path / "cache", runtime="onnx", threads=2)
    assert cosines(encoder.encode_images(stills()), images_wanted).min() >= 0.9999
    assert cosines(encoder.encode_texts(TEXT_PROBES), texts_wanted).min() >= 0.9999
