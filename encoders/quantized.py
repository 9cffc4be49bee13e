"""image.onnx again, with its large matrix products in 8-bit integers: the graph, and how it is made.

Two forms of a product, both with one scale per output channel of the weights or finer:
    whole    activations uint8 with one scale, known beforehand from calibration squares, so that an embedding
             does not depend on which others are in the batch. Some channels of a trained transformer are a
             hundred times larger than the rest and would leave no bits to them: part of their size goes into
             the weights first. Three to four times as fast as float32.
    blocks   weights and activations scaled in runs of `BLOCK` values along the sum (MatMulNBits), where that
             is not enough. Less than twice as fast as float32.
Convolutions, attention scores, norms and the last projection stay in float32.

Sources: Dettmers et al. 2022, arXiv:2208.07339 (outlier channels); Xiao et al. 2022, arXiv:2211.10438 (static
scales per tensor); onnxruntime's operators MatMulIntegerToFloat and MatMulNBits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from encoders.base import Pixels
from encoders.graph import CONTRIB, Product, find_products, fuse_gelu, load_graph
from encoders.onnx_runtime import session_options

BLOCK = 128
_ROWS = 64  # of a product's input per square, kept to judge what 8 bits cost it
HEADROOM = 1.1
"""What of a larger value than calibration showed still fits: a cut value costs more than a coarser scale."""
SMOOTH = (0.0, 0.5, 0.75)
"""How much of a channel's size goes from the activations into the weights; the best is kept per product."""
_WORTH = 0.7
Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Seen:
    """What calibration squares showed of a product's left side.

    Attributes:
        low, high: least and largest value after `factors`, 0 and `HEADROOM` included.
        factors: (k,) float32 that channels are divided by, None for ones.
        cost: error of the product in `whole` form, relative to the product; both in the Frobenius norm.
    """

    low: float
    high: float
    factors: npt.NDArray[np.float32] | None
    cost: float


class Quantizer:
    """image.onnx of an export, ready to be written in 8 bits.

    Args:
        path: the float32 graph.
        squares: (n, size, size, 3) uint8 to calibrate with.
        threads: of onnxruntime; None means the physical cores.
    Attributes:
        products: how many matrix products may change.
    Raises:
        ImportError: the package `onnx` is not installed.
        MemoryError, OSError: as they come.
    """

    def __init__(self, path: Path, squares: Pixels, threads: int | None = None) -> None:
        self._model = load_graph(path)
        fuse_gelu(self._model.graph)
        self._found = list(find_products(self._model.graph))
        seen = _calibrate(path, self._found, squares, threads)
        order = sorted(self._found, key=lambda product: -seen[product.node].cost)
        self._order, self._seen = [product.node for product in order], seen
        self.products = len(self._found)

    def graph(self, blocks: int) -> bytes:
        """Return the ONNX model whose `blocks` worst products are in blocks, the others whole."""
        import onnx
        from onnx import helper

        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        in_blocks = set(self._order[:blocks])
        put: dict[int, list[Any]] = {}
        spent: set[int] = set()
        for product in self._found:
            form = _blocks if product.node in in_blocks else _whole
            nodes, constants = form(product, self._seen[product.node])
            put[product.node] = nodes
            spent.update(product.spent)
            model.graph.initializer.extend(constants)
        nodes = []
        for place, node in enumerate(self._model.graph.node):
            nodes += put.get(place, [] if place in spent else [node])
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        used = {name for node in nodes for name in node.input}
        kept = [constant for constant in model.graph.initializer if constant.name in used]
        del model.graph.initializer[:]
        model.graph.initializer.extend(kept)
        del model.graph.value_info[:]
        if not any(entry.domain == CONTRIB for entry in model.opset_import):
            model.opset_import.append(helper.make_opsetid(CONTRIB, 1))
        return bytes(model.SerializeToString())


def quantize_rows(rows: Array, low: float, high: float) -> tuple[Array, float, int]:
    """Return `rows` as uint8, the scale and the zero point: rows are near scale * (uint8 - zero)."""
    scale = max(high - low, 1e-12) / 255.0
    zero = round(-low / scale)
    return np.clip(np.rint(rows / scale) + zero, 0, 255).astype(np.uint8), scale, zero


def quantize_columns(weights: Array) -> tuple[Array, Array]:
    """Return (k, n) weights as int8 and one scale per column."""
    scales = np.maximum(np.abs(weights).max(axis=0), 1e-12) / 127.0
    return np.rint(weights / scales).astype(np.int8), scales.astype(np.float32)


def quantize_blocks(weights: Array) -> tuple[Array, Array]:
    """Return (k, n) weights as uint8 around 128, (n, runs, BLOCK), and their scales, (n, runs) float32."""
    k, n = weights.shape
    runs = -(-k // BLOCK)
    padded = np.zeros((n, runs * BLOCK), dtype=np.float32)
    padded[:, :k] = weights.T
    padded = padded.reshape(n, runs, BLOCK)
    scales = np.maximum(np.abs(padded).max(axis=2), 1e-12) / 127.0
    return (np.rint(padded / scales[..., None]) + 128).astype(np.uint8), scales.astype(np.float32)


def _calibrate(
    path: Path, products: Sequence[Product], squares: Pixels, threads: int | None
) -> dict[int, Seen]:
    """Return what the float32 graph shows each product, by the place of its node."""
    import onnx
    import onnxruntime

    model = onnx.load(str(path), load_external_data=False)
    names = sorted({product.rows for product in products})
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    options = session_options(threads)
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.parent))
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    low: dict[str, Array] = {}
    high: dict[str, Array] = {}
    sample: dict[str, list[Array]] = {name: [] for name in names}
    for number in range(len(squares)):  # one by one: all inputs of a large tower are hundreds of megabytes
        found = session.run(names, {"pixels": squares[number : number + 1]})
        for name, value in zip(names, found, strict=True):
            rows = value.reshape(-1, value.shape[-1])
            low[name] = np.minimum(low.get(name, np.float32(0)), rows.min(axis=0))
            high[name] = np.maximum(high.get(name, np.float32(0)), rows.max(axis=0))
            if number % 4 == 0:
                sample[name].append(rows[:: max(1, len(rows) // _ROWS)][:_ROWS])
    return {
        product.node: _least_cost(
            product.weights,
            np.concatenate(sample[product.rows]),
            HEADROOM * low[product.rows],
            HEADROOM * high[product.rows],
        )
        for product in products
    }


def _least_cost(weights: Array, rows: Array, low: Array, high: Array) -> Seen:
    """Return what of `SMOOTH` costs a product least; none where some gains little, for that costs a pass."""
    exact = rows @ weights
    size = max(float(np.linalg.norm(exact)), 1e-12)
    tried = []
    for strength in SMOOTH:
        factors = _factors(weights, np.maximum(-low, high), strength)
        least, most = float((low / factors).min()), float((high / factors).max())
        small, scale, zero = quantize_rows(rows / factors, least, most)
        columns, scales = quantize_columns(weights * factors[:, None])
        near = ((small.astype(np.float32) - zero) * np.float32(scale)) @ (columns * scales)
        cost = float(np.linalg.norm(near - exact)) / size
        tried.append(Seen(least, most, None if strength == 0 else factors, cost))
    best = min(tried, key=lambda seen: seen.cost)
    return best if best.cost < _WORTH * tried[0].cost else tried[0]


def _factors(weights: Array, largest: Array, strength: float) -> Array:
    """Return (k,) float32 by which channels are divided before and weights multiplied after (SmoothQuant)."""
    if strength == 0:
        return np.ones(len(weights), dtype=np.float32)
    rows, columns = np.maximum(largest, 1e-5), np.maximum(np.abs(weights).max(axis=1), 1e-5)
    factors = rows**strength / columns ** (1 - strength)
    return np.asarray(factors / np.exp(np.log(factors).mean()), dtype=np.float32)


def _whole(product: Product, seen: Seen) -> tuple[list[Any], list[Any]]:
    """Return nodes and constants of a product with one scale for its left side."""
    from onnx import helper, numpy_helper

    name = f"{product.out}.int8"
    _, scale, zero = quantize_rows(np.zeros(1), seen.low, seen.high)
    weights, source = product.weights, product.rows
    nodes, constants = [], []
    if seen.factors is not None:
        weights, source = weights * seen.factors[:, None], f"{name}.smooth"
        constants.append(numpy_helper.from_array(1 / seen.factors, f"{name}.factors"))
        nodes.append(helper.make_node("Mul", [product.rows, f"{name}.factors"], [source]))
    columns, scales = quantize_columns(weights)
    constants += [
        numpy_helper.from_array(np.array(scale, dtype=np.float32), f"{name}.scale"),
        numpy_helper.from_array(np.array(zero, dtype=np.uint8), f"{name}.zero"),
        numpy_helper.from_array(columns, f"{name}.weights"),
        numpy_helper.from_array(scales, f"{name}.scales"),
    ]
    rows = f"{name}.rows"
    nodes += [
        helper.make_node("QuantizeLinear", [source, f"{name}.scale", f"{name}.zero"], [rows]),
        helper.make_node(
            "MatMulIntegerToFloat",
            [
                rows,
                f"{name}.weights",
                f"{name}.scale",
                f"{name}.scales",
                f"{name}.zero",
                "",
                product.bias or "",
            ],
            [product.out],
            domain=CONTRIB,
        ),
    ]
    return nodes, constants


def _blocks(product: Product, _: Seen) -> tuple[list[Any], list[Any]]:
    """Return nodes and constants of a product in blocks."""
    from onnx import helper, numpy_helper

    name = f"{product.out}.blocks"
    packed, scales = quantize_blocks(product.weights)
    k, n = product.weights.shape
    constants = [
        numpy_helper.from_array(packed, f"{name}.weights"),
        numpy_helper.from_array(scales.reshape(-1), f"{name}.scales"),
    ]
    inputs = [product.rows, f"{name}.weights", f"{name}.scales"]
    if product.bias is not None:
        inputs += ["", "", product.bias]
    node = helper.make_node(
        "MatMulNBits",
        inputs,
        [product.out],
        domain=CONTRIB,
        K=k,
        N=n,
        bits=8,
        block_size=BLOCK,
        accuracy_level=4,
    )
    return [node], constants
