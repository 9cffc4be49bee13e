"""Towers to ONNX files with float16 initialisers, and the folder an encoder is loaded from.

The graphs compute in float32: each float16 initialiser is followed by a Cast that onnxruntime folds away
when it loads the file, so half precision costs nothing but the last three digits of a weight.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from encoders import Preprocess

OPSET = 17
SMALL = 256
"""Initialisers with fewer elements than this stay float32: biases and norms are cheap and matter."""


def export_graph(
    module: nn.Module, example: Tensor, path: Path, names: tuple[str, str], axes: list[str]
) -> None:
    """Write the module as ONNX; `axes` names the input's dynamic axes, the first also the output's."""
    module.eval()
    dynamic = {names[0]: dict(enumerate(axes)), names[1]: {0: axes[0]}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the TorchScript exporter announces its successor
        torch.onnx.export(
            module,
            (example,),
            str(path),
            input_names=[names[0]],
            output_names=[names[1]],
            dynamic_axes=dynamic,
            opset_version=OPSET,
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


def run_graph(path: Path, array: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    """Return the first output of an ONNX file for one input array."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: array})[0], dtype=np.float32)


@torch.inference_mode()
def agreement(module: nn.Module, path: Path, array: npt.NDArray[np.generic]) -> float:
    """Return the lowest cosine between the module's rows and the ONNX file's."""
    ours = module.eval()(torch.from_numpy(array)).numpy()
    return float((ours * run_graph(path, array)).sum(-1).min())


def sha256_of(path: Path) -> str:
    """Return the hex sha256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_config(folder: Path, *, dim: int, context: int, preprocess: Preprocess, recipe: str) -> None:
    """Write config.json: sizes, preprocessing, recipe, and the sha256 of every file the encoder reads."""
    files = {name: sha256_of(folder / name) for name in ("image.onnx", "text.onnx", "tokenizer.json")}
    config = {
        "format": 1,
        "recipe": recipe,
        "dim": dim,
        "image_size": preprocess.size,
        "preprocess": {
            "size": preprocess.size,
            "mode": preprocess.mode,
            "interpolation": preprocess.interpolation,
            "fill": preprocess.fill,
        },
        "normalisation": "x / 127.5 - 1 in the graph; rows of unit L2 norm",
        "context_length": context,
        "sha256": files,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def export_towers(
    image: nn.Module,
    text: nn.Module,
    tokenizer_json: str,
    folder: Path,
    *,
    dim: int,
    context: int,
    preprocess: Preprocess,
    recipe: str,
) -> dict[str, float]:
    """Write image.onnx, text.onnx, tokenizer.json and config.json; return the lowest cosines to torch.

    Raises:
        RuntimeError: an exported graph does not agree with its module (cosine below 0.9999).
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (3, preprocess.size, preprocess.size, 3), dtype=np.uint8)
    ids = rng.integers(3, 1000, (5, 9), dtype=np.int64)
    ids[1, 4:] = 0
    export_graph(image, torch.from_numpy(pixels), folder / "image.onnx", ("pixels", "embeddings"), ["n"])
    export_graph(text, torch.from_numpy(ids), folder / "text.onnx", ("ids", "embeddings"), ["n", "tokens"])
    cosines = {}
    for name, module, array in (("image.onnx", image, pixels), ("text.onnx", text, ids)):
        halve(folder / name)
        longer = np.concatenate([array, array[::-1]])  # another batch size than the example's
        cosines[name] = agreement(module, folder / name, longer)
        if cosines[name] < 0.9999:
            raise RuntimeError(f"{name} does not agree with its module: cosine {cosines[name]:.6f}")
    (folder / "tokenizer.json").write_text(tokenizer_json, encoding="utf-8")
    write_config(folder, dim=dim, context=context, preprocess=preprocess, recipe=recipe)
    return cosines
