"""image.onnx as `quantized` reads it: its weights, its GELUs made whole, and its products by constants."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

CONTRIB = "com.microsoft"
"""The domain of onnxruntime's own operators."""
_LEAST = 64  # rows and columns of a product worth changing


@dataclass(frozen=True, slots=True)
class Product:
    """A matrix product of the graph by a constant.

    Attributes:
        node: its place among the graph's nodes.
        rows: name of its left side, (..., k) float32.
        weights: (k, n) float32.
        bias: name of the (n,) float32 added to it, None where nothing is.
        out: name of the sum.
        spent: places of the nodes that stand for product and sum.
    """

    node: int
    rows: str
    weights: npt.NDArray[np.float32]
    bias: str | None
    out: str
    spent: tuple[int, ...]


def load_graph(path: Path) -> Any:
    """Return the model with its weights in it. onnx itself refuses weights that are a hard link or a link,
    which a cache folder that was copied or deduplicated may well hold; the export has been verified."""
    import onnx
    from onnx import TensorProto

    model = onnx.load(str(path), load_external_data=False)
    for constant in model.graph.initializer:
        if constant.data_location == TensorProto.EXTERNAL:
            where = {entry.key: entry.value for entry in constant.external_data}
            with open(path.parent / Path(where["location"]).name, "rb") as file:
                file.seek(int(where.get("offset", 0)))
                constant.raw_data = file.read(int(where["length"]))
            constant.data_location = TensorProto.DEFAULT
            del constant.external_data[:]
    return model


def fuse_gelu(graph: Any) -> int:
    """Make one node of each GELU that is written out, x * (0.5 * (1 + erf(x / sqrt 2))); return how many.

    onnxruntime knows other spellings of it, not this one of torch's exporter: five passes over the widest
    activations, an eighth of the time of an int8 tower.
    """
    from onnx import helper, numpy_helper

    constants = {constant.name: constant for constant in graph.initializer}
    made_by = {name: place for place, node in enumerate(graph.node) for name in node.output}
    readers: dict[str, list[int]] = {}
    for place, node in enumerate(graph.node):
        for name in node.input:
            readers.setdefault(name, []).append(place)

    def other(node: Any, name: str, value: float | None) -> str | None:
        """Return the other input of a node; with a value, only when that is a constant of this value."""
        rest = [given for given in node.input if given != name]
        if len(rest) != 1 or (value is not None and rest[0] not in constants):
            return None
        if value is not None and not np.allclose(numpy_helper.to_array(constants[rest[0]]), value):
            return None
        return str(rest[0])

    fused: dict[int, Any] = {}
    spent: set[int] = set()
    for place, erf in enumerate(graph.node):
        if erf.op_type != "Erf" or erf.input[0] not in made_by:
            continue
        first = made_by[erf.input[0]]
        divided, places, name = graph.node[first], [first, place], erf.output[0]
        x = divided.input[0]
        if divided.op_type != "Div" or other(divided, x, 2**0.5) is None:
            continue
        for kind, value in (("Add", 1.0), ("Mul", 0.5), ("Mul", None)):
            after = readers.get(name, [])
            if len(after) != 1 or graph.node[after[0]].op_type != kind:
                break
            if (found := other(graph.node[after[0]], name, value)) is None or (value is None and found != x):
                break
            places.append(after[0])
            name = graph.node[after[0]].output[0]
        if len(places) == 5 and len(readers[erf.input[0]]) == 1:
            fused[places[-1]] = helper.make_node("Gelu", [x], [name], domain=CONTRIB)
            spent.update(places)
    nodes = [
        fused.get(place, node)
        for place, node in enumerate(graph.node)
        if place in fused or place not in spent
    ]
    nodes = [type(graph.node[0]).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(nodes)
    return len(fused)


def find_products(graph: Any) -> Iterator[Product]:
    """Yield the products by constants that are large enough, less those that make the output itself."""
    from onnx import numpy_helper

    constants = {constant.name: constant for constant in graph.initializer}
    readers: dict[str, list[int]] = {}
    for place, node in enumerate(graph.node):
        for name in node.input:
            readers.setdefault(name, []).append(place)
    results = {value.name for value in graph.output}
    for place, node in enumerate(graph.node):
        if node.op_type not in ("MatMul", "Gemm") or node.input[1] not in constants:
            continue
        settings = {attribute.name: attribute for attribute in node.attribute}
        if node.op_type == "Gemm" and (
            any(settings[name].f != 1.0 for name in ("alpha", "beta") if name in settings)
            or ("transA" in settings and settings["transA"].i)
        ):
            continue
        weights = numpy_helper.to_array(constants[node.input[1]])
        if weights.ndim != 2 or weights.dtype != np.float32:
            continue
        if node.op_type == "Gemm" and "transB" in settings and settings["transB"].i:
            weights = weights.T
        if min(weights.shape) < _LEAST:
            continue
        out = node.output[0]
        spent: tuple[int, ...] = (place,)
        bias = node.input[2] if len(node.input) > 2 and node.input[2] else None
        after = readers.get(out, [])
        if bias is None and len(after) == 1 and out not in results and graph.node[after[0]].op_type == "Add":
            added = graph.node[after[0]]
            (other,) = [name for name in added.input if name != out] or (out,)
            if other in constants and list(constants[other].dims) == [weights.shape[1]]:
                bias, out, spent = other, added.output[0], (place, after[0])
        if bias is not None and (bias not in constants or list(constants[bias].dims) != [weights.shape[1]]):
            continue
        if out not in results:
            yield Product(place, node.input[0], np.ascontiguousarray(weights), bias, out, spent)
