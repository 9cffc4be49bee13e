"""An exported encoder back in torch: the towers and the decoder from the weights in its ONNX files.

Parameters keep their names through the export; strides are read from the graph, sizes from config.json.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from encoders import EncoderError, Preprocess
from training.builtin.backbone import MobileNetV2, SameConv
from training.builtin.export import export_encoder
from training.builtin.models import Decoder, ImageHead, ImageTower, Shape, TextTower
from training.builtin.tokenizer import encode_all, load_tokenizer


class Embeddings(nn.Module):
    """A picture tower without its positions."""

    def __init__(self, tower: ImageTower) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, pixels: Tensor) -> Tensor:
        """Map (n, 224, 224, 3) uint8 to (n, dim) float32 rows of unit norm."""
        embeddings: Tensor = self.tower(pixels)[0]
        return embeddings


class Rebuilt:
    """The built-in encoder's towers in torch, in eval mode, every weight frozen: what LoRA tunes.

    Args:
        folder: config.json, image.onnx, text.onnx, decoder.onnx and tokenizer.json.
    Attributes:
        image: module, (n, 224, 224, 3) uint8 to (n, dim) of unit norm.
        text: module, (n, t) int64 to (n, dim) of unit norm.
        scale: inverse temperature for the contrastive loss.
    Raises:
        EncoderError: the files are of an older recipe, whose weights have no names, or not whole.
    """

    scale = 30.0

    def __init__(self, folder: Path) -> None:
        self._config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self._tokenizer_json = (folder / "tokenizer.json").read_text(encoding="utf-8")
        self._tokenizer = load_tokenizer(folder / "tokenizer.json")
        try:
            self._shape = Shape(**self._config["shape"])
            image, convs = _read(folder / "image.onnx")
            # The file has the trunk before the head, and each part's convolutions in order.
            every = [name for name in convs if name.startswith(("trunk.", "head.blocks.", "head.top"))]
            layers = []
            for number, name in enumerate(every):
                weight, bias = image[f"{name}.weight"], image[f"{name}.bias"]
                linear = number == 2 or (2 < number < len(every) - 1 and (number - 3) % 3 == 2)
                layers.append(SameConv(weight, bias, convs[name], not linear))
            backbone = MobileNetV2(layers)
            tower = ImageTower(backbone, ImageHead(self._shape, backbone.upper()))
            tower.load_state_dict(image)
            self._tower, self.image = tower.eval(), Embeddings(tower)
            self.text = TextTower(self._shape)
            self.text.load_state_dict(_read(folder / "text.onnx")[0])
            decoder = _read(folder / "decoder.onnx")[0]
            self._decoder = Decoder(self._shape, len(decoder["decoder.tokens.weight"]))
            self._decoder.load_state_dict({name.removeprefix("decoder."): v for name, v in decoder.items()})
        except (KeyError, TypeError, OSError, RuntimeError) as error:
            raise EncoderError(
                f"{folder}: its weights cannot be read for training ({error!s:.100}); use --method linear"
            ) from error
        for module in (self.image, self.text, self._decoder):
            module.eval().requires_grad_(False)

    def tokenize(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """Return (len(texts), longest) int64, padded with 0."""
        ids = encode_all(self._tokenizer, texts, self._shape.context)
        longest = max(1, int((ids != 0).sum(1).max(initial=1)))
        return ids[:, :longest].astype(np.int64)

    def save(self, folder: Path) -> None:
        """Write the encoder in its own format: `local-dir:FOLDER` loads it."""
        for module in (self._tower, self.text, self._decoder):
            module.to("cpu")
        export_encoder(
            self._tower,
            self.text,
            self._decoder,
            self._tokenizer_json,
            self._config["caption"]["tokens"],
            folder,
            shape=self._shape,
            preprocess=Preprocess(**self._config["preprocess"]),
            recipe=f"{self._config['recipe']}+lora",
        )


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, int]]:
    """Return (parameters by name, float32; convolutions by name in the graph's order, with their stride)."""
    graph = onnx.load(str(path)).graph
    weights = {
        tensor.name.removesuffix(".half"): torch.from_numpy(numpy_helper.to_array(tensor).astype(np.float32))
        for tensor in graph.initializer
    }
    convs = {}
    for node in graph.node:
        if node.op_type == "Conv":
            strides = next(attribute.ints for attribute in node.attribute if attribute.name == "strides")
            convs[node.input[1].removesuffix(".weight")] = int(strides[0])
    return {name: value for name, value in weights.items() if "." in name or name == "positions"}, convs
