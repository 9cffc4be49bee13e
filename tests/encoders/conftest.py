"""Open_clip models small enough to export in seconds, with random weights."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from encoders import Embeddings

_TEXT: dict[str, Any] = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
_VISION: dict[str, Any] = {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8}
_NO_CAUSE = {"no_causal_mask": True, "proj_bias": True, "pool_type": "last", "norm_kwargs": {"eps": 1e-6}}
CONFIGS: dict[str, dict[str, Any]] = {
    "vit": {"embed_dim": 32, "vision_cfg": _VISION, "text_cfg": _TEXT},
    # As SigLIP: a timm tower with attention pooling, text without a causal mask, a Hugging Face tokenizer.
    "siglip": {
        "embed_dim": 64,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": {
            "image_size": 160,
            "timm_model_name": "test_vit3",
            "timm_model_pretrained": False,
            "timm_pool": "map",
            "timm_proj": "linear",
        },
        "text_cfg": _TEXT
        | _NO_CAUSE
        | {
            "context_length": 16,
            "vocab_size": 200,
            "hf_tokenizer_name": "nobody/none",
            "tokenizer_kwargs": {"clean": "canonicalize"},
        },
    },
    "coca": {
        "embed_dim": 32,
        "custom_text": True,
        "multimodal_cfg": {
            "width": 32,
            "context_length": 76,
            "vocab_size": 49408,
            "layers": 1,
            "heads": 2,
            "n_queries": 8,
            "attn_pooler_heads": 2,
        },
        "vision_cfg": _VISION
        | {"attentional_pool": True, "attn_pooler_queries": 8, "attn_pooler_heads": 2, "output_tokens": True},
        "text_cfg": _TEXT | {"context_length": 76, "embed_cls": True, "output_tokens": True},
    },
    "resnet": {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None},
        "text_cfg": _TEXT,
    },
}


@dataclass(frozen=True)
class Tiny:
    """A model in files, saved as open_clip saves one.

    Attributes:
        folder: open_clip_config.json, open_clip_model.safetensors, and the tokenizer if it has one.
        config: the model configuration alone.
    """

    name: str
    folder: Path
    config: Path

    @property
    def weights(self) -> Path:
        return self.folder / "open_clip_model.safetensors"

    @property
    def spec(self) -> str:
        return f"{self.config}@{self.weights}"

    def copy(self, to: Path) -> Tiny:
        shutil.copytree(self.folder, to)
        return Tiny(self.name, to, to / self.config.name)


@pytest.fixture(scope="session")
def open_clip() -> Iterator[Any]:
    """open_clip itself; the test is skipped where the [clip] extra is not installed."""
    pytest.importorskip("torch", reason="the [clip] extra is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield pytest.importorskip("open_clip", reason="the [clip] extra is not installed")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory, open_clip: Any) -> Callable[..., Tiny]:
    """Return a function that gives one of CONFIGS as files, with given preprocessing."""
    made: dict[str, Tiny] = {}

    def make(name: str, **preprocess: Any) -> Tiny:
        key = name + json.dumps(preprocess, sort_keys=True)
        if key not in made:
            made[key] = _make(open_clip, tmp_path_factory.mktemp(name), name, preprocess)
        return made[key]

    return make


@pytest.fixture(scope="session")
def clip_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder that holds what earlier tests exported. Copy it to damage it."""
    return tmp_path_factory.mktemp("cache")


def _make(open_clip: Any, folder: Path, name: str, preprocess: dict[str, Any]) -> Tiny:
    import torch
    from safetensors.torch import save_file

    config = folder / f"{name}.json"
    config.write_text(json.dumps(CONFIGS[name]))
    settings = {"model_cfg": CONFIGS[name], "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(settings))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(7)
        model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
        if "hf_tokenizer_name" in CONFIGS[name]["text_cfg"]:
            small_tokenizer().save_pretrained(folder)
    state = {key: value.clone().contiguous() for key, value in model.state_dict().items()}
    save_file(state, str(folder / "open_clip_model.safetensors"))
    return Tiny(name, folder, config)


def small_tokenizer() -> Any:
    """Return a transformers tokenizer of 200 tokens, trained on two sentences."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    fast = Tokenizer(models.BPE(byte_fallback=False, unk_token="<unk>"))
    fast.normalizer = normalizers.NFKC()
    fast.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=200, special_tokens=["<pad>", "</s>", "<unk>"], show_progress=False
    )
    fast.train_from_iterator(["a photo of a small dog on the beach", "two cats and a red car"] * 3, trainer)
    fast.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=fast, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", padding_side="right"
    )


SHAPES = (
    (1, 1),
    (1, 300),
    (300, 1),
    (5000, 40),
    (40, 2500),
    (32, 32),
    (33, 32),
    (97, 101),
    (640, 479),
    (2, 3),
)


def stills() -> list[Image.Image]:
    """Return RGB pictures of noise in odd shapes."""
    rng = np.random.default_rng(3)
    return [Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in SHAPES]


def cosines(a: Embeddings, b: Embeddings) -> Any:
    """Return the cosine of each pair of rows."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
