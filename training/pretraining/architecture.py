"""open_clip models to train: built from a recipe, and saved as open_clip saves one."""

from __future__ import annotations

import difflib
import importlib.util
import json
import math
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from encoders import EncoderError, EncoderUnavailableError, Preprocess, UsageError, quiet
from training.pretraining.recipes import OpenClipRecipe

if TYPE_CHECKING:
    from torch import Tensor, nn

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
INSTALL = 'pip install "pixseek[clip,train]"'
_NEEDED = {"embed_dim", "vision_cfg", "text_cfg"}


@dataclass(frozen=True, slots=True)
class Architecture:
    """A model under training and what surrounds it.

    Attributes:
        model: open_clip's CLIP, CustomTextCLIP or CoCa; float32, returns dicts.
        config: open_clip's model_cfg.
        preprocess_cfg: open_clip's preprocess_cfg.
        preprocess: from a picture to its square, as `index` will do it.
        tokenizer: texts to (n, context_length) int64.
        tokenizer_dir: its files, None where open_clip carries them.
    """

    model: nn.Module
    config: dict[str, Any]
    preprocess_cfg: dict[str, Any]
    preprocess: Preprocess
    tokenizer: Any
    tokenizer_dir: Path | None

    @property
    def dim(self) -> int:
        return int(self.config["embed_dim"])

    @property
    def captions(self) -> bool:
        """Whether the model has a caption decoder."""
        return "multimodal_cfg" in self.config

    def groups(self, *, image: float, text: float, decoder: float) -> dict[str, float]:
        """Return learning rates by prefix of a parameter's name, for `Run`; the rest has none here."""
        rates = {"visual.": image, "text_decoder.": decoder, "text.": text}
        words = ("transformer.", "token_embedding.", "positional_embedding", "ln_final.", "text_projection")
        return rates | dict.fromkeys(words, text)


def require_torch() -> None:
    """Raises EncoderUnavailableError where torch, open_clip or safetensors is not installed."""
    missing = [
        name for name in ("torch", "open_clip", "safetensors") if importlib.util.find_spec(name) is None
    ]
    if missing:
        raise EncoderUnavailableError("open_clip", f"training needs {' and '.join(missing)}", INSTALL)


def build(recipe: OpenClipRecipe) -> Architecture:
    """Return the model of a recipe with its first weights; random ones follow the recipe's seed.

    Raises:
        UsageError: no such model, one that the loss does not fit, a tokenizer that is needed and not given.
        EncoderError: open_clip cannot build it, or the first weights do not fit it.
    """
    with quiet():
        import open_clip
        import torch

    config = _config(recipe)
    if recipe.loss == "siglip":
        # Zhai et al. 2023, arXiv:2303.15343, section 3.2: without the bias the first steps go wrong.
        config.setdefault("init_logit_bias", -10)
        config.setdefault("init_logit_scale", math.log(10))
    if recipe.loss == "coca" and "multimodal_cfg" not in config:
        raise UsageError(
            'loss = "coca" needs a model with a caption decoder (multimodal_cfg), such as coca_ViT-B-32'
        )
    if config["text_cfg"].get("hf_model_name"):
        raise UsageError(
            "a text tower from transformers (hf_model_name) is not trained here; use another model"
        )
    preprocess_cfg = {
        "mean": list(recipe.preprocess.mean),
        "std": list(recipe.preprocess.std),
        "interpolation": recipe.preprocess.interpolation,
        "resize_mode": recipe.preprocess.resize_mode,
    }
    with quiet(), tempfile.TemporaryDirectory() as folder:
        settings = {"model_cfg": config, "preprocess_cfg": preprocess_cfg}
        Path(folder, CONFIG).write_text(json.dumps(settings))
        torch.manual_seed(recipe.seed)
        try:
            model = open_clip.create_model(
                f"local-dir:{folder}", load_weights=False, pretrained_text=False, output_dict=True
            )
        except Exception as error:  # open_clip raises whatever torch, timm or a dataclass raises
            raise EncoderError(
                f"open_clip cannot build the model: {_short(error)}; check model_cfg in the recipe"
            ) from error
        decoder = getattr(model, "text_decoder", None)
        if decoder is not None:
            # open_clip leaves it as the memory was; its other towers start theirs so.
            projection = decoder.text_projection
            torch.nn.init.normal_(projection, std=projection.shape[0] ** -0.5)
        if recipe.init is not None:
            _load(model, recipe.init)
    size = model.visual.image_size
    if isinstance(size, (tuple, list)):
        if len(set(size)) != 1:
            raise UsageError(f"the model reads {size} pictures; pixseek's are squares")
        size = size[0]
    preprocess = Preprocess(int(size), recipe.preprocess.resize_mode, recipe.preprocess.interpolation)
    return Architecture(
        model, config, preprocess_cfg, preprocess, _tokenizer(recipe, config), recipe.tokenizer
    )


def _config(recipe: OpenClipRecipe) -> dict[str, Any]:
    """Return open_clip's model_cfg of a recipe."""
    if recipe.model_cfg:
        config, where = json.loads(json.dumps(recipe.model_cfg)), "model_cfg"
    elif recipe.model.endswith(".json"):
        where = recipe.model
        try:
            config = json.loads(Path(recipe.model).read_bytes())
        except (OSError, ValueError) as error:
            raise UsageError(f"model: {recipe.model}: not a JSON file ({_short(error)})") from None
        config = config.get("model_cfg", config) if isinstance(config, dict) else {}
    else:
        import open_clip

        known = {name.lower(): name for name in open_clip.list_models()}
        if recipe.model.lower() not in known:
            near = [known[name] for name in difflib.get_close_matches(recipe.model.lower(), known, n=4)]
            raise UsageError(
                f"model: open_clip has no model named {recipe.model!r}; "
                f"close names: {', '.join(near) or 'none'}"
            )
        config, where = open_clip.get_model_config(known[recipe.model.lower()]), "model"
    missing = sorted(_NEEDED - set(config))
    if missing:
        raise UsageError(f"{where}: an open_clip configuration has {', '.join(sorted(_NEEDED))}; "
                         f"{', '.join(missing)} is missing")  # fmt: skip
    return dict(config)


def _load(model: nn.Module, path: Path) -> None:
    """Load first weights. Raises UsageError for a pickle, EncoderError when they do not fit."""
    import open_clip

    if path.suffix != ".safetensors":
        raise UsageError(f"init: {path} is not a .safetensors file; convert it, or take one that is")
    try:
        open_clip.load_checkpoint(model, str(path), strict=True, weights_only=True)
    except Exception as error:  # safetensors and torch raise their own
        raise EncoderError(
            f"init: the weights in {path} do not fit the model ({_short(error)}); "
            f"check model in the recipe, or fetch the file again"
        ) from error


def _tokenizer(recipe: OpenClipRecipe, config: dict[str, Any]) -> Any:
    """Return open_clip's tokenizer: CLIP's own, or the Hugging Face one in the recipe's folder."""
    text_cfg = config["text_cfg"]
    kwargs = dict(text_cfg.get("tokenizer_kwargs", {}))
    with quiet():
        from open_clip.tokenizer import DEFAULT_CONTEXT_LENGTH, HFTokenizer, SimpleTokenizer

        length = int(text_cfg.get("context_length", DEFAULT_CONTEXT_LENGTH))
        if recipe.tokenizer is None:
            if text_cfg.get("hf_tokenizer_name"):
                raise UsageError(
                    f"the model reads tokens of {text_cfg['hf_tokenizer_name']}: set tokenizer to a folder "
                    "with its tokenizer.json and tokenizer_config.json"
                )
            tokenizer = SimpleTokenizer(context_length=length, **kwargs)
            words = tokenizer.vocab_size
        else:
            text_cfg.setdefault("hf_tokenizer_name", recipe.tokenizer.name)
            kwargs["tokenizer_mode"] = text_cfg.get("tokenizer_mode")
            try:
                tokenizer = HFTokenizer(str(recipe.tokenizer), context_length=length, **kwargs)
            except Exception as error:  # transformers raises whatever its parts raise
                raise UsageError(f"tokenizer: {recipe.tokenizer}: {_short(error)}") from None
            words = len(tokenizer.tokenizer)
    for part in ("text_cfg", "multimodal_cfg"):
        vocabulary = int(config.get(part, {}).get("vocab_size", 49408))
        if part in config and vocabulary < words:
            raise UsageError(
                f"model_cfg.{part}.vocab_size is {vocabulary}; the tokenizer has {words} tokens, so it must "
                f"be {words} or more"
            )
    return tokenizer


def save(architecture: Architecture, state: dict[str, Tensor], out: Path, *, meta: dict[str, str]) -> None:
    """Write `state` to `out` in open_clip's format, for `local-dir:`; the configuration comes last."""
    from training.run import write_safetensors

    out.mkdir(parents=True, exist_ok=True)
    if architecture.tokenizer_dir is not None and architecture.tokenizer_dir.resolve() != out.resolve():
        for file in sorted(architecture.tokenizer_dir.iterdir()):
            if file.suffix in (".json", ".txt", ".model") and file.name != CONFIG and file.is_file():
                shutil.copyfile(file, out / file.name)
    settings = {"model_cfg": architecture.config, "preprocess_cfg": architecture.preprocess_cfg}
    config, weights = out / f"{CONFIG}.part", out / f"{WEIGHTS}.part"
    config.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    with config.open("rb") as written:
        os.fsync(written.fileno())
    tensors = {name: value.detach().cpu().clone().contiguous() for name, value in state.items()}
    write_safetensors(tensors, weights, meta)
    shutil.copymode(config, weights)  # safetensors writes for the owner alone
    weights.replace(out / WEIGHTS)
    config.replace(out / CONFIG)


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
