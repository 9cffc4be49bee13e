"""Pictures and words to embeddings, and pictures to sentences: the room's door.

Reading order: `errors`, `base` (Encoder, Preprocess), `builtin` (the encoder shipped in the package),
`specs` (what a person may type), `store` (the cache folder), `adapter` (a matrix per tower on another
encoder), `tokens` (tokenizers without torch),
`onnx_runtime` (exported towers), `hub` (the model hub), `published` (what open_clip ships and publishes),
`sources` (from a spec to files), `openclip` (models in torch), `torch_runtime`, `export` (torch to ONNX),
`machine`, `probes`, `trials` (is it fast, does it agree), `graph`, `quantized`, `int8_tower`,
`torch_towers`, `openvino_runtime`, `runtimes` (which one), `measured` (the encoder that changes to it),
`registry` (`load_encoder`, `resolve_auto`, `list_encoders`), `benchmark`, `trainable` (open_clip models to be
trained); then `decoding` (logits to a sentence),
`captioning` (Captioner, `load_captioner`, the built-in decoder), `coca` (open_clip's captioners).

Importing this door imports numpy, and neither Pillow, torch, open_clip, transformers nor onnxruntime.
"""

from __future__ import annotations

import os

from encoders.adapter import AdaptedEncoder, write_adapter
from encoders.base import Embeddings, Encoder, Pixels, Preprocess, normalize
from encoders.benchmark import measure_runtimes
from encoders.builtin import builtin_folder
from encoders.captioning import Captioner, load_captioner
from encoders.errors import (
    EncoderDamagedError,
    EncoderError,
    EncoderMismatchError,
    EncoderUnavailableError,
    PixseekError,
    RuntimeUnavailableError,
    UsageError,
)
from encoders.openclip import quiet
from encoders.registry import (
    AutoChoice,
    EncoderInfo,
    list_encoders,
    load_encoder,
    ready_encoder,
    resolve_auto,
)
from encoders.specs import RUNTIMES, Runtime
from encoders.trainable import Trainable
from encoders.trials import Choice, Trial

# onnxruntime 1.32 for Linux otherwise writes an id of the machine into the person's cache as soon as it is
# imported, collects what it was used for and sends it to its maker.
os.putenv("ORT_DISABLE_TELEMETRY", "1")

__all__ = [
    "RUNTIMES",
    "AdaptedEncoder",
    "AutoChoice",
    "Captioner",
    "Choice",
    "Embeddings",
    "Encoder",
    "EncoderDamagedError",
    "EncoderError",
    "EncoderInfo",
    "EncoderMismatchError",
    "EncoderUnavailableError",
    "Pixels",
    "PixseekError",
    "Preprocess",
    "Runtime",
    "RuntimeUnavailableError",
    "Trainable",
    "Trial",
    "UsageError",
    "builtin_folder",
    "list_encoders",
    "load_captioner",
    "load_encoder",
    "measure_runtimes",
    "normalize",
    "quiet",
    "ready_encoder",
    "resolve_auto",
    "write_adapter",
]
