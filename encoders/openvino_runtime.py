"""The exported picture tower run by OpenVINO: an extra, tried where it is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from encoders.base import DEFAULT_BATCH, Embeddings, Pixels
from encoders.errors import EncoderError
from encoders.onnx_runtime import physical_cores


class OpenVinoTower:
    """image.onnx on the CPU, in bfloat16 where OpenVINO finds the processor has it. Satisfies `trials.Tower`.

    Args:
        path: the float32 graph.
        threads: None means the physical cores.
    Raises:
        EncoderError: OpenVINO cannot read or compile it.
    """

    batch_size = DEFAULT_BATCH

    def __init__(self, path: Path, threads: int | None) -> None:
        import openvino

        try:
            settings: dict[str, Any] = {
                "INFERENCE_NUM_THREADS": threads or physical_cores(),
                "PERFORMANCE_HINT": "THROUGHPUT",
                "NUM_STREAMS": "1",
            }
            self._model = openvino.Core().compile_model(str(path), "CPU", settings)
        except Exception as error:  # OpenVINO's errors are RuntimeErrors and others
            raise EncoderError(f"OpenVINO cannot open it: {' '.join(str(error).split())[:160]}") from error

    def __call__(self, pixels: Pixels) -> Embeddings:
        """Return (n, dim) float32. Raises EncoderError."""
        try:
            found = self._model({"pixels": np.ascontiguousarray(pixels)})[0]
        except Exception as error:
            raise EncoderError(f"OpenVINO failed: {' '.join(str(error).split())[:160]}") from error
        return np.array(found, dtype=np.float32)
