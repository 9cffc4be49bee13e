"""Captioners: a tiny built-in decoder that names colours, CoCa models, and encoders that cannot caption."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from encoders import EncoderDamagedError, EncoderError, EncoderUnavailableError, UsageError, load_captioner
from encoders.builtin import BuiltinEncoder, Weights
from encoders.captioning import PUBLISHED, BuiltinCaptioner
from tests.encoders.conftest import CONFIGS, Tiny, stills

ROOT = Path(__file__).parents[2]
TOKENS = [
    "[PAD]",
    "[START]",
    "[END]",
    "a",
    "picture",
    "of",
    "red",
    "green",
    "blue",
    "##dish",
    "man",
    "'",
    "s",
]
TOKENS += ["[UNK]", "two"]
ID = {token: number for number, token in enumerate(TOKENS)}
LENGTH = 9
MakeTiny = Callable[..., Tiny]


def solid(color: str, size: tuple[int, int] = (300, 200)) -> Image.Image:
    return Image.new("RGB", size, color)


def write_weights(folder: Path, *, nan: bool = False, flat: bool = False) -> Path:
    """Write a folder whose decoder says `a picture of` and the colour that the picture has most of.

    Args:
        nan: the decoder's table holds a NaN.
        flat: the decoder answers for the first picture only.
    """
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    from onnx import TensorProto, helper, numpy_helper

    folder.mkdir(parents=True, exist_ok=True)

    def save(name: str, nodes: list[Any], inputs: list[Any], outputs: list[Any], **constants: Any) -> None:
        initializers = [numpy_helper.from_array(value, key) for key, value in constants.items()]
        graph = helper.make_graph(nodes, name, inputs, outputs, initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.checker.check_model(model)
        onnx.save(model, str(folder / name))

    def value(name: str, kind: Any, *shape: Any) -> Any:
        return helper.make_tensor_value_info(name, kind, shape)

    node = helper.make_node
    mix = np.random.default_rng(0).normal(size=(3, 384)).astype(np.float32)
    save(
        "image.onnx",
        [
            node("Cast", ["pixels"], ["float"], to=TensorProto.FLOAT),
            node("Div", ["float", "white"], ["scaled"]),
            node("Transpose", ["scaled"], ["planes"], perm=[0, 3, 1, 2]),
            node("AveragePool", ["planes"], ["squares"], kernel_shape=[32, 32], strides=[32, 32]),
            node("Reshape", ["squares", "flat"], ["rows"]),
            node("Transpose", ["rows"], ["positions"], perm=[0, 2, 1]),
            node("ReduceMean", ["positions"], ["mean"], axes=[1], keepdims=0),
            node("MatMul", ["mean", "mix"], ["embeddings"]),
        ],
        [value("pixels", TensorProto.UINT8, "n", 224, 224, 3)],
        # The embeddings are not the first output: they are to be asked for by name.
        [value("positions", TensorProto.FLOAT, "n", 49, 3), value("embeddings", TensorProto.FLOAT, "n", 384)],
        white=np.float32(255),
        flat=np.array([0, 3, 49], dtype=np.int64),
        mix=mix,
    )
    table = np.full((len(TOKENS), len(TOKENS)), -9, dtype=np.float32)
    for before, after in (
        ("[START]", "a"), ("a", "picture"), ("picture", "of"), ("two", "picture"), ("##dish", "[END]"),
        ("red", "[END]"), ("green", "[END]"), ("blue", "[END]"), ("man", "'"), ("'", "s"), ("s", "picture"),
    ):  # fmt: skip
        table[ID[before], ID[after]] = 5
    table[ID["a"], ID["[UNK]"]] = 99  # likeliest by far, and never to be written
    table[ID["red"], ID["##dish"]] = 3
    if nan:
        table[ID["of"], 5] = np.nan
    see = np.zeros((3, len(TOKENS)), dtype=np.float32)
    for channel, color in enumerate(("red", "green", "blue")):
        see[channel, ID[color]] = 12
    save(
        "decoder.onnx",
        [
            node("Gather", ["ids", "last"], ["token"], axis=1),
            node("Gather", ["table", "token"], ["habit"], axis=0),
            node("ReduceMean", ["positions"], ["mean"], axes=[1], keepdims=0),
            node("MatMul", ["mean", "see"], ["sight"]),
            node("Equal", ["token", "of"], ["asked"]),
            node("Cast", ["asked"], ["weight"], to=TensorProto.FLOAT),
            node("Unsqueeze", ["weight", "axis"], ["column"]),
            node("Mul", ["sight", "column"], ["color"]),
            node("Add", ["habit", "color"], ["all"]),
            node("Slice", ["all", "zero", "one"], ["logits"])
            if flat
            else node("Identity", ["all"], ["logits"]),
        ],
        [value("positions", TensorProto.FLOAT, "n", 49, 3), value("ids", TensorProto.INT64, "n", "t")],
        [value("logits", TensorProto.FLOAT, "m", len(TOKENS))],
        table=table,
        see=see,
        last=np.int64(-1),
        of=np.int64(ID["of"]),
        axis=np.array([1], dtype=np.int64),
        zero=np.array([0], dtype=np.int64),
        one=np.array([1], dtype=np.int64),
    )
    (folder / "text.onnx").write_bytes(b"not read by a captioner")
    write_tokenizer(folder / "tokenizer.json")
    names = ("image.onnx", "text.onnx", "tokenizer.json", "decoder.onnx")
    config = {
        "dim": 384,
        "preprocess": {"size": 224, "mode": "shortest", "interpolation": "bicubic", "fill": 0},
        "normalisation": "as it comes",
        "context_length": 48,
        "sha256": {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names},
        "caption": {"tokens": TOKENS, "start": 1, "end": 2, "length": LENGTH},
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def write_tokenizer(path: Path) -> None:
    """Write a WordPiece tokenizer whose ids are not the decoder's, with words the decoder does not know."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    pieces = ["[PAD]", "[UNK]", "[CLS]", "zebra", "##let", *reversed([t for t in TOKENS if "[" not in t])]
    tokenizer = Tokenizer(
        models.WordPiece({piece: number for number, piece in enumerate(pieces)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]"])
    tokenizer.enable_truncation(5)  # a prompt must not be cut
    tokenizer.save(str(path))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def captioner(weights: Path) -> BuiltinCaptioner:
    return BuiltinCaptioner(weights, threads=1)


def changed(weights: Path, to: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Return a copy of the weights whose config.json was changed."""
    shutil.copytree(weights, to)
    config = json.loads((to / "config.json").read_text(encoding="utf-8"))
    change(config)
    (to / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return to


# --- the built-in decoder


def test_each_picture_gets_its_own_sentence_in_order(captioner: BuiltinCaptioner) -> None:
    colors = ["blue", "red", "lime", "red", "blue"] * 4
    named = {"blue": "blue", "red": "red", "lime": "green"}
    sentences = captioner.caption([solid(color) for color in colors])
    assert sentences == [f"a picture of {named[color]}" for color in colors]
    assert captioner.caption([solid("red")]) == sentences[1:2]
    assert captioner.caption([]) == []


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (9000, 3), (6000, 6000)])
def test_any_size_has_a_caption(captioner: BuiltinCaptioner, size: tuple[int, int]) -> None:
    assert captioner.caption([solid("blue", size)]) == ["a picture of blue"]


@pytest.mark.parametrize(
    ("prompt", "sentence"),
    [
        ("two", "two picture of red"),
        ("TWO", "two picture of red"),
        ("reddish", "reddish"),
        ("a man", "a man's picture of red"),
        ("a man's", "a man's picture of red"),
        ("zebra two 狗 zebralet redlet", "two picture of red"),  # words the decoder does not know
        ("two [UNK] [PAD] [START] [END]", "two picture of red"),
        ("", "a picture of red"),
        ("  \n", "a picture of red"),
    ],
)
def test_a_sentence_goes_on_from_its_prompt(captioner: BuiltinCaptioner, prompt: str, sentence: str) -> None:
    assert captioner.complete(solid("red"), prompt) == sentence


def test_a_prompt_that_cannot_be_followed_is_refused(captioner: BuiltinCaptioner) -> None:
    fits = "two man man two s two"
    assert captioner.complete(solid("red"), fits).startswith(fits)
    with pytest.raises(UsageError, match="too long: 7 word pieces, this captioner takes 6"):
        captioner.complete(solid("red"), f"{fits} two")
    with pytest.raises(UsageError, match="too long: 100 word pieces"):
        captioner.complete(solid("red"), "two " * 100)
    for prompt in ("zebra", "狗", "\ud800", "[PAD]"):
        with pytest.raises(UsageError, match="knows no word"):
            captioner.complete(solid("red"), prompt)


def test_a_repeated_call_gives_the_same_sentences(weights: Path, captioner: BuiltinCaptioner) -> None:
    noise = stills()
    first = captioner.caption(noise)
    assert first == captioner.caption(noise) == BuiltinCaptioner(weights, threads=1).caption(noise)


def test_a_decoder_beside_the_weights_changes_no_embedding(weights: Path, tmp_path: Path) -> None:
    def without(config: dict[str, Any]) -> None:
        del config["caption"], config["sha256"]["decoder.onnx"]

    plain = BuiltinEncoder(changed(weights, tmp_path / "plain", without), threads=1)
    other = changed(weights, tmp_path / "other", lambda c: c["sha256"].update({"decoder.onnx": "0" * 64}))
    pixels = np.random.default_rng(0).integers(0, 256, (3, 224, 224, 3), dtype=np.uint8)
    for folder in (weights, other):
        encoder = BuiltinEncoder(folder, threads=1)
        assert encoder.fingerprint == plain.fingerprint
        np.testing.assert_array_equal(encoder.encode_pixels(pixels), plain.encode_pixels(pixels))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("decoder.onnx", "flip"),
        ("decoder.onnx", "gone"),
        ("decoder.onnx", "unlisted"),
        ("image.onnx", "flip"),
        ("image.onnx", "gone"),
    ],
)
def test_damaged_files_are_named(weights: Path, tmp_path: Path, name: str, damage: str) -> None:
    folder = changed(
        weights, tmp_path / "w", lambda c: c["sha256"].pop(name) if damage == "unlisted" else None
    )
    data = bytearray((folder / name).read_bytes())
    data[-9] ^= 1
    if damage == "flip":
        (folder / name).write_bytes(data)
    elif damage == "gone":
        (folder / name).unlink()
    with pytest.raises(EncoderDamagedError, match=re.escape(name)):
        BuiltinCaptioner(folder, threads=1).caption([solid("red")])


def test_a_decoder_that_gives_nan_is_damaged(tmp_path: Path) -> None:
    broken = BuiltinCaptioner(write_weights(tmp_path, nan=True), threads=1)
    with pytest.raises(EncoderDamagedError, match=r"decoder\.onnx: logits are NaN"):
        broken.caption([solid("red")])


def test_a_decoder_that_does_not_fit_its_config_is_damaged(weights: Path, tmp_path: Path) -> None:
    fewer = changed(weights, tmp_path / "fewer", lambda c: c["caption"]["tokens"].pop())
    flat = write_weights(tmp_path / "flat", flat=True)
    for folder, count in ((fewer, 1), (flat, 2)):
        with pytest.raises(EncoderDamagedError, match=r"decoder\.onnx: logits \("):
            BuiltinCaptioner(folder, threads=1).caption([solid("red")] * count)
    swapped = changed(weights, tmp_path / "swapped", lambda c: None)
    shutil.copy(weights / "image.onnx", swapped / "decoder.onnx")
    config = json.loads((swapped / "config.json").read_text(encoding="utf-8"))
    config["sha256"]["decoder.onnx"] = config["sha256"]["image.onnx"]
    (swapped / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(EncoderDamagedError, match=r"decoder\.onnx"):
        BuiltinCaptioner(swapped, threads=1).caption([solid("red")])


@pytest.mark.parametrize(
    "caption",
    [
        None, {}, [], {"tokens": TOKENS, "start": 1, "end": 99, "length": 9}, {"tokens": 3, "start": 1},
        {"tokens": TOKENS, "start": 1, "end": 2, "length": 2},
        {"tokens": TOKENS, "start": "x", "end": 2, "length": 9},
    ],
)  # fmt: skip
def test_a_config_that_describes_no_decoder_is_named(weights: Path, tmp_path: Path, caption: Any) -> None:
    folder = changed(weights, tmp_path / "w", lambda config: config.update(caption=caption))
    with pytest.raises(EncoderDamagedError, match=r"config\.json"):
        BuiltinCaptioner(folder)


def test_weights_without_a_decoder_say_who_has_one(weights: Path, tmp_path: Path) -> None:
    folder = changed(weights, tmp_path / "w", lambda config: config.pop("caption"))
    with pytest.raises(EncoderError, match="no caption decoder; use one that has: --encoder coca"):
        BuiltinCaptioner(folder)
    with pytest.raises(EncoderUnavailableError, match=r"config\.json"):
        BuiltinCaptioner(tmp_path / "nowhere")


@pytest.mark.skipif("caption" in Weights().config, reason="the shipped weights have a decoder")
def test_the_shipped_weights_without_a_decoder_are_refused_in_one_line(tmp_path: Path) -> None:
    for spec in ("builtin", "auto", " auto "):
        with pytest.raises(EncoderError, match="'builtin' has no caption decoder") as error:
            load_captioner(spec, cache_dir=tmp_path)
        assert all(name in str(error.value) for name in PUBLISHED)


@pytest.mark.skipif("caption" not in Weights().config, reason="the shipped weights have no decoder yet")
def test_the_shipped_weights_describe_a_picture(tmp_path: Path) -> None:
    for spec in ("builtin", "auto"):
        written = load_captioner(spec, cache_dir=tmp_path, threads=1)
        (sentence,) = written.caption([solid("red")])
        assert len(sentence.split()) > 1
        assert written.complete(solid("red"), "a photo of").startswith("a photo of")


def test_captioning_imports_no_torch(weights: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from PIL import Image
import encoders
assert "onnxruntime" not in sys.modules and "torch" not in sys.modules
from encoders.captioning import BuiltinCaptioner
captioner = BuiltinCaptioner(Path({str(weights)!r}), threads=1)
assert captioner.complete(Image.new("RGB", (9, 9), "red"), "two") == "two picture of red"
loaded = {{"torch", "transformers", "open_clip", "onnx"}} & set(sys.modules)
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, cwd=ROOT)


# --- open_clip's models


@pytest.fixture(scope="module")
def decided(tiny: MakeTiny, open_clip: Any, tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """A tiny CoCa model that has preferences: open_clip leaves its last layer as the memory was."""
    import torch
    from safetensors.torch import load_file, save_file

    model = tiny("coca").copy(tmp_path_factory.mktemp("decided") / "coca")
    state = load_file(str(model.weights))
    last = state["text_decoder.text_projection"]
    state["text_decoder.text_projection"] = torch.randn(last.shape, generator=torch.manual_seed(3))
    save_file(state, str(model.weights))
    return model


@pytest.fixture(scope="module")
def coca(decided: Tiny, clip_cache: Path) -> Iterator[Any]:
    from encoders import coca as module

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "WRITTEN", 8)  # the decoder of random weights hardly ever ends
        yield load_captioner(f"local-dir:{decided.folder}", cache_dir=clip_cache, threads=1)


def one_by_one(model: Any, pixels: Any, ids: list[int], steps: int, end: int, banned: set[int]) -> list[int]:
    """The slow reference: the likeliest token each time, by the whole model, with no batch and no beams."""
    import torch

    ids = list(ids)
    for _ in range(steps):
        with torch.no_grad():
            logits = model(pixels, torch.tensor([ids]), output_labels=False)["logits"][0, -1]
        repeats = {ids[i + 2] for i in range(len(ids) - 2) if ids[i : i + 2] == ids[-2:]}
        logits[list(banned | repeats | {end})] = -np.inf
        ids.append(int(logits.argmax()))
    return ids


def test_coca_agrees_with_open_clip_token_by_token(coca: Any, open_clip: Any) -> None:
    from dataclasses import replace

    import torch

    built, picture = coca._built, stills()[7]
    pixels = torch.from_numpy(np.array(built.preprocess(picture))).permute(2, 0, 1)[None].float() / 255
    pixels = (pixels - torch.tensor(built.mean).view(3, 1, 1)) / torch.tensor(built.std).view(3, 1, 1)
    start, end, length = 49406, 49407, 12
    kept = coca._rules
    try:
        coca._rules = replace(kept, width=1)
        coca._context, context = length, coca._context
        written = coca._write([picture], ())[0]
    finally:
        coca._rules, coca._context = kept, context
    slow = one_by_one(built.model, pixels, [start], length - 2, end, {0, start})
    # The search may end anywhere, but with one beam what it wrote until there is the likeliest each time.
    assert len(written) > 20
    assert coca._sentence(slow[1:]).startswith(written)


def test_coca_gives_one_clean_line_per_picture(coca: Any) -> None:
    pictures = [stills()[0], stills()[4], solid("red"), stills()[0], solid("blue", (5000, 40))]
    sentences = coca.caption(pictures)
    assert len(sentences) == 5
    assert sentences[0] == sentences[3] == coca.caption(pictures[:1])[0]
    for sentence in sentences:
        assert sentence.isprintable()
        assert sentence == " ".join(sentence.split())
        assert not re.search("start_of_text|end_of_text|</w>", sentence)
    assert coca.caption([]) == []


@pytest.mark.parametrize(
    ("prompt", "start"),
    [
        ("A photo of", "a photo of "),
        ("a man's red t-shirt, 2019", "a man's red t-shirt, 2019 "),
        ("two <end_of_text> dogs <start_of_text>", "two dogs "),
    ],
)
def test_coca_goes_on_from_a_prompt(coca: Any, prompt: str, start: str) -> None:
    sentence = coca.complete(solid("red"), prompt)
    assert f"{sentence} ".startswith(start)
    assert coca.complete(solid("red"), prompt) == sentence


def test_coca_refuses_a_prompt_longer_than_its_context(coca: Any) -> None:
    with pytest.raises(UsageError, match="too long: 74 tokens, this captioner takes 73"):
        coca.complete(solid("red"), "dog " * 74)
    assert coca.complete(solid("red"), "dog " * 73).split()[:73] == ["dog"] * 73
    assert coca.complete(solid("red"), " ") == coca.caption([solid("red")])[0]


def test_coca_tokens_come_back_as_they_were_typed(coca: Any) -> None:
    encode = coca._built.open_clip_tokenizer.encode
    for sentence in ("a man's t-shirt, red (blue)", 'a sign saying "stop" in 2019', "don't we'll", "café"):
        assert coca._sentence(encode(sentence)) == sentence


def test_coca_weights_with_nan_are_damaged(decided: Tiny, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    model = decided.copy(tmp_path / "nan")
    state = load_file(str(model.weights))
    state["text_decoder.text_projection"][0, 0] = float("nan")
    save_file(state, str(model.weights))
    broken = load_captioner(model.spec, cache_dir=tmp_path / "cache", threads=1)
    with pytest.raises(EncoderDamagedError, match=r"open_clip_model\.safetensors: logits are NaN"):
        broken.caption([solid("red")])


def test_encoders_without_a_decoder_are_refused_before_their_weights_are_read(
    tiny: MakeTiny, tmp_path: Path
) -> None:
    model = tiny("vit")
    for spec in (
        f"local-dir:{model.folder}",
        f"{model.config}@{tmp_path}/none.safetensors",
        "ViT-B-32/openai",
        f"ViT-B-32@{tmp_path}/none.safetensors",
    ):
        with pytest.raises(EncoderError, match="has no caption decoder; use one that has") as error:
            load_captioner(spec, cache_dir=tmp_path, offline=True)
        assert PUBLISHED[0] in str(error.value)


def test_captioners_that_cannot_be_had_say_why(tiny: MakeTiny, tmp_path: Path) -> None:
    with pytest.raises(EncoderUnavailableError, match=r"open_clip_model\.safetensors"):
        load_captioner(PUBLISHED[0], cache_dir=tmp_path, offline=True)
    with pytest.raises(EncoderUnavailableError, match="no such file"):
        load_captioner(f"coca_ViT-B-32@{tmp_path}/none.safetensors", cache_dir=tmp_path)
    with pytest.raises(UsageError, match="not a spec"):
        load_captioner("nonsense", cache_dir=tmp_path)
    with pytest.raises(EncoderError, match="CLIP's tokens only"):
        load_captioner(f"coca_roberta-ViT-B-32@{tmp_path}/none.safetensors", cache_dir=tmp_path)


def test_a_vocabulary_that_is_not_clips_is_refused(tmp_path: Path, open_clip: Any) -> None:
    from tests.encoders.conftest import _make

    small = json.loads(json.dumps(CONFIGS["coca"]))
    small["text_cfg"]["vocab_size"] = small["multimodal_cfg"]["vocab_size"] = 100
    CONFIGS["small-coca"] = small
    try:
        _make(open_clip, tmp_path, "small-coca", {})
    finally:
        del CONFIGS["small-coca"]
    with pytest.raises(EncoderError, match="has 100 tokens"):
        load_captioner(f"local-dir:{tmp_path}", cache_dir=tmp_path / "cache")
