"""An open_clip model opened to be trained, and written back as open_clip's own folder.

The module is the one that `openclip` builds; what trains it lies in the room `training`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from encoders.adapter import is_adapter
from encoders.builtin import builtin_folder
from encoders.errors import UsageError
from encoders.openclip import TorchModel, quiet
from encoders.published import SAFE_NAME
from encoders.sources import CONFIG_NAME, resolve
from encoders.specs import parse_spec
from encoders.store import Store
from encoders.tokens import TokenIds
from encoders.torch_runtime import image_tower, text_tower


class Trainable:
    """Both towers of an open_clip model in torch, float32, in eval mode, every weight frozen.

    Args:
        spec: any spec of an open_clip model.
        cache_dir, allow_pickle, offline: as for `load_encoder`.
    Attributes:
        image: module, (n, size, size, 3) uint8 to (n, dim), not yet of unit norm.
        text: module, (n, context_length) int64 to (n, dim), not yet of unit norm.
        scale: inverse temperature the model was trained with, at most 100.
    Raises:
        UsageError: the spec names no open_clip model.
        EncoderError: as `load_encoder`.
    """

    def __init__(
        self, spec: str, *, cache_dir: Path, allow_pickle: bool = False, offline: bool = False
    ) -> None:
        parsed = parse_spec(spec)
        if builtin_folder(spec) or (parsed.kind == "dir" and is_adapter(Path(parsed.model))):
            raise UsageError(
                f"encoder {spec!r} is no open_clip model, and only their towers can be trained; "
                "use --method linear, or name an open_clip model with --encoder"
            )
        source = resolve(parsed, allow_pickle=allow_pickle, offline=offline)
        self._built = TorchModel(source, Store(cache_dir))
        self.image: Any = image_tower(self._built)
        self.text: Any = text_tower(self._built)
        scale = getattr(self._built.model, "logit_scale", None)
        self.scale = 100.0 if scale is None else min(100.0, float(scale.detach().exp()))

    def tokenize(self, texts: Sequence[str]) -> TokenIds:
        """Return (len(texts), context_length) int64; long texts are cut."""
        return self._built.tokenizer(texts)

    def save(self, folder: Path) -> None:
        """Write configuration, weights and tokenizer as open_clip does: `local-dir:FOLDER` loads it.

        Raises:
            OSError: the folder cannot be written.
        """
        from safetensors.torch import save_file

        model = self._built.model
        state = {
            name: value.detach().cpu().clone().contiguous() for name, value in model.state_dict().items()
        }
        save_file(state, str(folder / SAFE_NAME))
        config = {
            "model_cfg": self._built.source.model_cfg,
            "preprocess_cfg": dict(model.visual.preprocess_cfg),
        }
        with open(folder / CONFIG_NAME, "w", encoding="utf-8") as file:
            json.dump(config, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        tokenizer = getattr(self._built.open_clip_tokenizer, "tokenizer", None)
        if tokenizer is not None:
            with quiet():
                tokenizer.save_pretrained(str(folder))
