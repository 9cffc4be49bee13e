"""8-bit products: against numpy done slowly, whatever the shape, and whichever form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from encoders.graph import fuse_gelu
from encoders.onnx_runtime import session_options
from encoders.quantized import (
    BLOCK,
    HEADROOM,
    Quantizer,
    quantize_blocks,
    quantize_columns,
    quantize_rows,
)
from tests.encoders.conftest import cosines

onnx = pytest.importorskip("onnx", reason="the [clip] extra is not installed")

SIDE = 8
WIDTHS = ((SIDE * SIDE * 3, 200), (200, 96), (96, 64))  # 200: no multiple of a block


def weights(outlier: float = 1.0) -> list[Any]:
    """Three layers; a column of the first is made `outlier` times larger, which the second takes back."""
    rng = np.random.default_rng(5)
    made = [(rng.normal(size=shape) / np.sqrt(shape[0])).astype(np.float32) for shape in WIDTHS]
    made[0][:, 0] *= outlier
    made[1][0] /= outlier
    return made


def write_graph(path: Path, layers: list[Any]) -> None:
    """pixels -> MatMul + Add -> Relu -> Gemm (transposed, with bias) -> Relu -> MatMul = embeddings."""
    from onnx import TensorProto, helper, numpy_helper

    biases = [np.linspace(-0.1, 0.1, shape[1]).astype(np.float32) for shape in WIDTHS]
    constants = [
        numpy_helper.from_array(np.array([-1, SIDE * SIDE * 3]), "shape"),
        numpy_helper.from_array(np.array(255.0, dtype=np.float32), "white"),
        numpy_helper.from_array(layers[0], "w0"),
        numpy_helper.from_array(np.ascontiguousarray(layers[1].T), "w1"),
        numpy_helper.from_array(layers[2], "w2"),
        *(numpy_helper.from_array(bias, f"b{i}") for i, bias in enumerate(biases)),
    ]
    nodes = [
        helper.make_node("Cast", ["pixels"], ["cast"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["cast", "white"], ["scaled"]),
        helper.make_node("Reshape", ["scaled", "shape"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w0"], ["m0"]),
        helper.make_node("Add", ["b0", "m0"], ["a0"]),
        helper.make_node("Relu", ["a0"], ["r0"]),
        helper.make_node("Gemm", ["r0", "w1", "b1"], ["a1"], transB=1),
        helper.make_node("Relu", ["a1"], ["r1"]),
        helper.make_node("MatMul", ["r1", "w2"], ["embeddings"]),
    ]
    pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", SIDE, SIDE, 3])
    embeddings = helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["n", WIDTHS[-1][1]])
    graph = helper.make_graph(nodes, "tower", [pixels], [embeddings], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), str(path))


def squares(count: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)


def run(model: Any, pixels: Any) -> Any:
    import onnxruntime

    session = onnxruntime.InferenceSession(model, session_options(1), providers=["CPUExecutionProvider"])
    return session.run(["embeddings"], {"pixels": pixels})[0]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_graph(tmp_path / "image.onnx", weights())
    return tmp_path / "image.onnx"


def test_the_products_found_are_all_but_the_one_that_makes_the_output(path: Path) -> None:
    found = Quantizer(path, squares(8))._found
    assert [(product.weights.shape, product.bias) for product in found] == [
        (WIDTHS[0], "b0"),
        (WIDTHS[1], "b1"),
    ]
    assert np.array_equal(found[1].weights, weights()[1])


def test_whole_products_are_what_numpy_makes_of_the_same_integers(path: Path) -> None:
    calibration, pixels = squares(8), squares(5, seed=1)
    layers = weights()
    rows = pixels.reshape(5, -1).astype(np.float32) / np.float32(255)
    seen = calibration.reshape(8, -1) / 255.0
    hidden = np.maximum(seen @ layers[0] + np.linspace(-0.1, 0.1, 200), 0)
    for number, high in enumerate((seen.max(), hidden.max())):
        small, scale, zero = quantize_rows(rows, 0.0, HEADROOM * float(high))
        columns, scales = quantize_columns(layers[number])
        product = (small.astype(np.int64) - zero) @ columns.astype(np.int64)
        bias = np.linspace(-0.1, 0.1, WIDTHS[number][1])
        rows = np.maximum(product * (scale * scales) + bias, 0).astype(np.float32)
    assert np.allclose(run(Quantizer(path, calibration).graph(0), pixels), rows @ layers[2], atol=2e-2)


@pytest.mark.parametrize("blocks", [0, 1, 2])
def test_every_mixture_of_forms_says_what_float32_says(path: Path, blocks: int) -> None:
    pixels = squares(40, seed=2)
    got = run(Quantizer(path, squares(16)).graph(blocks), pixels)
    assert cosines(got, run(str(path), pixels)).min() > 0.998


@pytest.mark.parametrize("blocks", [0, 2])
def test_an_embedding_does_not_depend_on_its_batch(path: Path, blocks: int) -> None:
    model, pixels = Quantizer(path, squares(16)).graph(blocks), squares(6, seed=3)
    alone = np.concatenate([run(model, pixels[i : i + 1]) for i in range(6)])
    assert np.allclose(run(model, pixels), alone, atol=1e-5)


def test_blocks_of_weights_read_back_as_the_weights() -> None:
    (layer, *_) = weights()
    packed, scales = quantize_blocks(layer)
    assert packed.shape == (200, -(-layer.shape[0] // BLOCK), BLOCK)
    back = ((packed.astype(np.float32) - 128) * scales[..., None]).reshape(200, -1)[:, : layer.shape[0]].T
    assert np.abs(back - layer).max() <= np.abs(layer).max() / 127 / 2 + 1e-6


def test_an_outlier_channel_goes_into_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_graph(tmp_path / "image.onnx", weights(outlier=300.0))
    pixels = squares(40, seed=2)
    wanted = run(str(tmp_path / "image.onnx"), pixels)

    def least(blocks: int) -> float:
        model = Quantizer(tmp_path / "image.onnx", squares(16)).graph(blocks)
        return float(cosines(run(model, pixels), wanted).min())

    assert least(0) > 0.99
    monkeypatch.setattr("encoders.quantized.SMOOTH", (0.0,))
    assert least(0) < 0.95


def test_the_product_that_8_bits_cost_most_comes_first_into_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("encoders.quantized.SMOOTH", (0.0,))
    write_graph(tmp_path / "image.onnx", weights(outlier=300.0))
    pixels = squares(40, seed=2)
    quantizer = Quantizer(tmp_path / "image.onnx", squares(16))
    wanted = run(str(tmp_path / "image.onnx"), pixels)
    assert quantizer._order[0] == quantizer._found[1].node  # its rows hold the outlier
    whole, mixed = (
        float(np.median(cosines(run(quantizer.graph(blocks), pixels), wanted))) for blocks in (0, 1)
    )
    assert whole < 0.96 < 0.99 < mixed


@pytest.mark.parametrize(("half", "fused"), [(0.5, 1), (0.4, 0)])
def test_a_gelu_that_is_written_out_becomes_one_node(half: float, fused: int) -> None:
    from onnx import TensorProto, helper, numpy_helper

    constants = [
        numpy_helper.from_array(np.array(value, dtype=np.float32), name)
        for name, value in (("root", 2**0.5), ("one", 1.0), ("half", half))
    ]
    nodes = [
        helper.make_node("Div", ["x", "root"], ["d"]),
        helper.make_node("Erf", ["d"], ["e"]),
        helper.make_node("Add", ["e", "one"], ["a"]),
        helper.make_node("Mul", ["half", "a"], ["m"]),
        helper.make_node("Mul", ["x", "m"], ["embeddings"]),
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in ("x", "embeddings"))
    model = helper.make_model(
        helper.make_graph(nodes, "gelu", [x], [y], constants),
        opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)],
        ir_version=9,
    )
    import onnxruntime

    def answer() -> Any:
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        return session.run(None, {"x": np.linspace(-4, 4, 50, dtype=np.float32)})[0]

    before = answer()
    assert fuse_gelu(model.graph) == fused
    assert len(model.graph.node) == (1 if fused else 5)
    assert np.allclose(answer(), before, atol=1e-6)
