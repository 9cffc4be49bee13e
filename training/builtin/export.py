"""Towers and decoder to ONNX files with float16 initialisers, and the folder an encoder is loaded from.

The graphs compute in float32: each float16 initialiser is followed by a Cast that onnxruntime folds away
when it loads the file, so half precision costs nothing but the last three digits of a weight.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from encoders import Preprocess
from training.builtin.captions import END, START
from training.builtin.models import Decoder, ImageTower, NextToken, Shape, TextTower

OPSET = 17
SMALL = 256
"""Initialisers with fewer elements than this stay float32: biases and norms are cheap and matter."""


def export_graph(
    module: nn.Module,
    examples: Tensor | tuple[Tensor, ...],
    path: Path,
    names: tuple[Sequence[str], Sequence[str]],
    axes: dict[str, dict[int, str]],
) -> None:
    """Write the module as ONNX; `names` are those of its inputs and outputs, `axes` their dynamic ones."""
    module.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the TorchScript exporter announces its successor
        torch.onnx.export(
            module,
            examples if isinstance(examples, tuple) else (examples,),
            str(path),
            input_names=list(names[0]),
            output_names=list(names[1]),
            dynamic_axes=axes,
            opset_version=OPSET,
            do_constant_folding=False,  # keeps the parameters' names; onnxruntime folds when it loads
            dynamo=False,
        )


def halve(path: Path) -> None:
    """Store the large float32 initialisers of an ONNX file as float16, each with a Cast back to float32."""
    model = onnx.load(str(path))
    graph, casts = model.graph, []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or int(np.prod(tensor.dims)) < SMALL:
            continue
        values = numpy_helper.to_array(tensor).astype(np.float16)
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values, f"{name}.half"))
        casts.append(
            helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT, name=f"{name}.cast")
        )
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    del model.graph.value_info[:]
    model.doc_string = ""
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def run_graph(path: Path, arrays: Sequence[npt.NDArray[np.generic]]) -> list[npt.NDArray[np.float32]]:
    """Return the outputs of an ONNX file for its inputs in order."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    inputs = {slot.name: array for slot, array in zip(session.get_inputs(), arrays, strict=True)}
    return [np.asarray(output, dtype=np.float32) for output in session.run(None, inputs)]


@torch.inference_mode()
def agreement(module: nn.Module, path: Path, arrays: Sequence[npt.NDArray[np.generic]]) -> float:
    """Return the lowest cosine between a row of the module's outputs and the ONNX file's."""
    ours = module.eval()(*(torch.from_numpy(array) for array in arrays))
    lowest = 1.0
    for mine, theirs in zip(
        ours if isinstance(ours, tuple) else (ours,), run_graph(path, arrays), strict=True
    ):
        mine, other = mine.flatten(1), torch.from_numpy(theirs).flatten(1)
        lowest = min(lowest, float(torch.nn.functional.cosine_similarity(mine, other).min()))
    return lowest


def sha256_of(path: Path) -> str:
    """Return the hex sha256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_config(
    folder: Path, *, shape: Shape, preprocess: Preprocess, recipe: str, tokens: Sequence[str]
) -> None:
    """Write config.json: sizes, preprocessing, recipe, the decoder's pieces, the files' sha256."""
    names = ("image.onnx", "text.onnx", "tokenizer.json", "decoder.onnx")
    config = {
        "format": 1,
        "recipe": recipe,
        "dim": shape.dim,
        "shape": asdict(shape),
        "image_size": preprocess.size,
        "preprocess": asdict(preprocess),
        "normalisation": "x / 127.5 - 1 in the graph; rows of unit L2 norm",
        "context_length": shape.context,
        "sha256": {name: sha256_of(folder / name) for name in names},
        "caption": {"tokens": list(tokens), "start": START, "end": END, "length": shape.length},
    }
    text = json.dumps(config, indent=2, ensure_ascii=False)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")


def export_encoder(
    image: ImageTower,
    text: TextTower,
    decoder: Decoder,
    tokenizer_json: str,
    tokens: Sequence[str],
    folder: Path,
    *,
    shape: Shape,
    preprocess: Preprocess,
    recipe: str,
) -> dict[str, float]:
    """Write image.onnx, text.onnx, decoder.onnx, tokenizer.json and config.json.

    Returns:
        File name to the lowest cosine between what it and its module return.
    Raises:
        RuntimeError: an exported graph does not agree with its module (cosine below 0.9999).
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (3, preprocess.size, preprocess.size, 3), dtype=np.uint8)
    ids = rng.integers(3, text.tokens.num_embeddings, (5, 9), dtype=np.int64)
    ids[1, 4:] = 0
    seen = rng.normal(size=(5, 50, shape.seen)).astype(np.float32)
    written = rng.integers(1, len(tokens), (5, 7), dtype=np.int64)
    rows = {0: "n"}
    graphs: tuple[tuple[str, nn.Module, tuple[npt.NDArray[np.generic], ...], Any, Any], ...] = (
        (
            "image.onnx",
            image,
            (pixels,),
            (["pixels"], ["embeddings", "positions"]),
            {"pixels": rows, "embeddings": rows, "positions": rows},
        ),
        (
            "text.onnx",
            text,
            (ids,),
            (["ids"], ["embeddings"]),
            {"ids": {0: "n", 1: "tokens"}, "embeddings": rows},
        ),
        (
            "decoder.onnx",
            NextToken(decoder),
            (seen, written),
            (["positions", "ids"], ["logits"]),
            {"positions": rows, "ids": {0: "n", 1: "tokens"}, "logits": rows},
        ),
    )
    cosines = {}
    for name, module, arrays, names, axes in graphs:
        examples = tuple(torch.from_numpy(array) for array in arrays)
        export_graph(module, examples, folder / name, names, axes)
        halve(folder / name)
        longer = [np.concatenate([array, array[::-1]]) for array in arrays]  # another batch size
        cosines[name] = agreement(module, folder / name, longer)
        if cosines[name] < 0.9999:
            raise RuntimeError(f"{name} does not agree with its module: cosine {cosines[name]:.6f}")
    (folder / "tokenizer.json").write_text(tokenizer_json, encoding="utf-8")
    write_config(folder, shape=shape, preprocess=preprocess, recipe=recipe, tokens=tokens)
    return cosines
