"""Which runtime encodes pictures on this machine: tried, compared with float32, and remembered.

onnx      the export on onnxruntime, float32: what every other must agree with, and what answers queries
int8      the same graph in 8-bit integers (`int8_tower`); needs `onnx` the first time
openvino  the same graph run by OpenVINO, where it is installed
bf16      torch with bfloat16 weights, where the processor multiplies them itself
torch     torch in float32: never faster than onnx, for comparison
cuda      torch in float16 on an NVIDIA card

All give comparable embeddings: the fingerprint is the model's, whatever runs it.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from encoders import machine
from encoders.base import DEFAULT_BATCH, Embeddings, Encoder, Pixels
from encoders.errors import EncoderError, RuntimeUnavailableError
from encoders.int8_tower import RECIPE, make_int8, open_int8
from encoders.probes import probe_squares
from encoders.sources import INSTALL
from encoders.specs import RUNTIMES, Runtime, known_runtime
from encoders.store import Store, canonical, read_json, write_json
from encoders.trials import MIN_COSINE, MIN_OVERLAP, Choice, Tower, Trial, attempt, how_many

if TYPE_CHECKING:
    from encoders.openclip import TorchModel

FAST_ENOUGH = 1000.0
"""Squares per second beyond which nothing else is tried: pictures are not decoded faster."""
GAIN = 1.1
"""How much faster than onnx another must be: noise is not a reason."""
BROKEN = (ImportError, RuntimeError, MemoryError, OSError)
"""What another's library raises that is broken, or too large for the memory."""
_PROBES = 64
_TRIES = 3  # a person may stop two of them
_AGAIN = "pixseek encoders --benchmark"
_OPENVINO = 'pip install "pixseek[openvino]"'


@dataclass(frozen=True, slots=True)
class Runtimes:
    """What can run the picture tower of one encoder.

    Attributes:
        base: the encoder in float32, which is always there.
        store: the cache folder.
        graph: the tower's float32 graph; None where the model cannot be exported.
        source: sha256 of the graph and its weights.
        build: builds the model in torch, each time anew; raises EncoderError.
        threads: None means the physical cores.
    """

    base: Encoder
    store: Store
    graph: Path | None
    source: str
    build: Callable[[], TorchModel]
    threads: int | None = None

    def why_not(self, runtime: Runtime) -> tuple[str, str] | None:
        """Return why a runtime cannot run here and what to do, or None. Imports torch for `cuda` only."""
        if runtime in ("onnx", "int8", "openvino") and self.graph is None:
            return "the model cannot be exported to ONNX", "use --runtime torch"
        if runtime == "int8" and not machine.installed("onnx") and self._ready_int8() is None:
            return "the package onnx is not installed", INSTALL
        if runtime == "openvino" and not machine.installed("openvino"):
            return "OpenVINO is not installed", _OPENVINO
        if runtime in ("bf16", "torch", "cuda") and not (
            machine.installed("torch") and machine.installed("open_clip")
        ):
            return "torch and open_clip are not installed", INSTALL
        if runtime == "bf16" and not machine.has_bf16():
            return "the processor has no bfloat16 (avx512_bf16 or amx_bf16)", "use --runtime auto"
        if runtime == "cuda":
            if not machine.gpus():
                return "there is no NVIDIA card with its driver", "use --runtime auto"
            from encoders.torch_towers import cuda_is_ready

            if why := cuda_is_ready():
                return why, "install torch with CUDA: https://pytorch.org, or use --runtime auto"
        return None

    def open(self, runtime: Runtime, probes: tuple[Pixels, Embeddings] | None = None) -> Tower:
        """Return a runtime's tower. Raises EncoderError, which says what to do.

        Args:
            probes: squares and their embeddings in float32, in case something must be made; drawn when None.
        """
        reason = self.why_not(runtime)
        if reason is not None:
            raise self._cannot(runtime, *reason)
        if runtime == "onnx":
            return _BaseTower(self.base)
        try:
            if runtime == "int8":
                ready = self._ready_int8()
                if ready is not None:
                    return ready
                assert self.graph is not None
                squares, reference = probes or self.probes()
                folder = self._int8_folder()
                return make_int8(
                    self.graph, self.source, folder, self.store, squares, reference, self.threads
                )
            if runtime == "openvino":
                from encoders.openvino_runtime import OpenVinoTower

                assert self.graph is not None
                return OpenVinoTower(self.graph, self.threads)
            from encoders.torch_towers import TorchTower

            device = "cuda" if runtime == "cuda" else "cpu"
            dtype = {"bf16": "bfloat16", "torch": "float32", "cuda": "float16"}[runtime]
            return TorchTower(self.build(), device, dtype, self.threads)
        except EncoderError as error:
            raise self._cannot(runtime, str(error), "use --runtime auto") from error
        except BROKEN as error:
            raise self._cannot(runtime, _clause(error), "use --runtime auto") from error

    def probes(self, seen: Pixels | None = None) -> tuple[Pixels, Embeddings]:
        """Return squares, drawn ones and up to as many `seen`, and their embeddings in float32."""
        squares = probe_squares(self.base.image_size, _PROBES)
        squares = squares[: how_many(self.base.encode_pixels, squares)]
        if seen is not None:
            half = seen[: len(squares) // 2]
            squares = np.concatenate([half, squares[len(half) :]])
        return squares, self.base.encode_pixels(squares)

    def measure(self, probes: tuple[Pixels, Embeddings] | None = None, *, afresh: bool = False) -> Choice:
        """Return the choice after trying every runtime that can run, and remember it: half a minute or so.

        Args:
            afresh: also those during whose trials pixseek ended `_TRIES` times.
        """
        squares, reference = probes or self.probes()
        first: Runtime = "torch" if self.graph is None else "onnx"
        trials = [attempt(first, lambda: _BaseTower(self.base), squares, None)]
        for runtime in RUNTIMES:
            if runtime not in (first, "torch"):
                if afresh:
                    self._set_tries(runtime, 0)
                trials.append(self._attempt(runtime, squares, reference, trials[0].rate))
        # Once more: what else ran while the first one was measured must not decide.
        again = attempt(first, lambda: _BaseTower(self.base), squares, None)
        trials[0] = replace(trials[0], rate=max(trials[0].rate, again.rate))
        agreeing = [trial for trial in trials if trial.agrees]
        best = max(agreeing, key=lambda trial: trial.rate)
        if best.rate < GAIN * trials[0].rate:
            best = trials[0]
        choice = Choice(known_runtime(best.runtime), tuple(trials), len(squares), machine.description())
        with contextlib.suppress(OSError):  # a cache that cannot be written costs time and breaks nothing
            write_json(self._record(), asdict(choice))
        return choice

    def recall(self) -> Choice | None:
        """Return what was measured on this machine with these versions, None when nothing was."""
        record = read_json(self._record())
        try:
            if record is None:
                return None
            trials = tuple(Trial(**trial) for trial in record["trials"])
            runtime = known_runtime(record["runtime"])
            choice = Choice(runtime, trials, int(record["probes"]), record["machine"])
            return choice if choice.chosen.agrees else None
        except (KeyError, TypeError, ValueError, StopIteration):
            return None

    def forget(self) -> None:
        """Let the next run measure again."""
        with contextlib.suppress(OSError):
            self._record().unlink()

    def checked(self, runtime: Runtime) -> Tower:
        """Return a tower that a person asked for, after it has shown here, once, that it agrees.

        Raises:
            EncoderError: it cannot run, or does not agree.
        """
        tower = self.open(runtime)
        known = self.recall()
        if known is not None and any(trial.runtime == runtime and trial.agrees for trial in known.trials):
            return tower
        if runtime == "onnx" or self._has_agreed(runtime):
            return tower
        squares, reference = self.probes()
        trial = attempt(runtime, lambda: tower, squares, reference)
        if not trial.agrees:
            why = (
                f"it does not agree with float32: least cosine {trial.cosine:.4f} (needs {MIN_COSINE}), "
                f"{trial.overlap:.0%} of neighbours (needs {MIN_OVERLAP:.0%})"
            )
            raise self._cannot(runtime, why, "use --runtime auto")
        with contextlib.suppress(OSError):
            write_json(self._record(runtime), asdict(trial))
        return tower

    def _has_agreed(self, runtime: Runtime) -> bool:
        """Return whether a runtime that was asked for agreed before, on this machine with these versions."""
        record = read_json(self._record(runtime))
        try:
            return record is not None and Trial(**record).agrees
        except TypeError:
            return False

    def _attempt(self, runtime: Runtime, squares: Pixels, reference: Embeddings, rate: float) -> Trial:
        """Return the trial of a runtime; what fails is why it cannot run."""
        if rate > FAST_ENOUGH:
            return Trial(runtime, "not tried: float32 is faster than pictures are decoded")
        reason = self.why_not(runtime)
        if reason is not None:
            return Trial(runtime, reason[0])
        # A kernel that is out of memory ends us without a word, and would so whenever this is tried.
        tries = self._tries(runtime)
        if tries >= _TRIES:
            return Trial(runtime, f"pixseek ended {tries} times while it was tried; to try it: {_AGAIN}")
        self._set_tries(runtime, tries + 1)
        try:
            if runtime == "int8":
                self.open(runtime, (squares, reference))  # made first: that is no part of loading it
            return attempt(runtime, lambda: self.open(runtime, (squares, reference)), squares, reference)
        except EncoderError as error:
            why = error.why if isinstance(error, RuntimeUnavailableError) else str(error)
            return Trial(runtime, why)
        except BROKEN as error:
            return Trial(runtime, _clause(error))
        finally:
            self._set_tries(runtime, 0)

    def _tries(self, runtime: Runtime) -> int:
        """Return how often in a row pixseek ended, however, while it tried a runtime."""
        found = (read_json(self._record(f"{runtime}-tries")) or {}).get("tries")
        return found if isinstance(found, int) else 0

    def _set_tries(self, runtime: Runtime, tries: int) -> None:
        path = self._record(f"{runtime}-tries")
        with contextlib.suppress(OSError):
            if tries:
                write_json(path, {"tries": tries})
            else:
                path.unlink(missing_ok=True)

    def _cannot(self, runtime: str, why: str, remedy: str) -> RuntimeUnavailableError:
        return RuntimeUnavailableError(self.base.spec, runtime, why, remedy)

    def _ready_int8(self) -> Tower | None:
        return open_int8(self._int8_folder(), self.source, self.threads)

    def _int8_folder(self) -> Path:
        return self.store.root / "int8" / self.base.fingerprint

    def _record(self, of: str | None = None) -> Path:
        """Return the file of what was measured; or of a runtime: that it agreed, how often it was tried."""
        about = {"machine": machine.description(), "recipe": RECIPE, "source": self.source}
        key = hashlib.sha256(canonical(about)).hexdigest()[:16]
        name = "-".join(filter(None, (self.base.fingerprint, key, of)))
        return self.store.root / "runtimes" / f"{name}.json"


def _clause(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:160]


class _BaseTower:
    """The encoder's own way."""

    def __init__(self, base: Encoder) -> None:
        self._base = base
        self.batch_size = int(getattr(base, "batch_size", DEFAULT_BATCH))

    def __call__(self, pixels: Pixels) -> Embeddings:
        return self._base.encode_pixels(pixels)
