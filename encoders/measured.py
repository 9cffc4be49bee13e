"""An encoder whose pictures go through the fastest runtime that agrees, as soon as that pays."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from encoders.base import DEFAULT_BATCH, Embeddings, Pixels, Preprocess, normalize
from encoders.errors import EncoderError
from encoders.onnx_runtime import OnnxEncoder, check_pixels, encode_in_batches
from encoders.runtimes import BROKEN, Runtimes
from encoders.specs import Runtime
from encoders.trials import Choice, Tower

MEASURE_AFTER_S = 10.0
"""Seconds of encoding in float32 before anything is measured: who adds fifty photos never waits for it."""
_KEPT = 32  # of the pictures that came, to calibrate with and check on beside drawn ones


class MeasuredEncoder:
    """An encoder and a runtime for its pictures; words go to the encoder. Satisfies `base.Encoder`.

    It begins with the encoder's own runtime, which opens soonest, and changes to the fastest one when it has
    spent as long on pictures as that one takes to load: that costs at most twice what knowing the number of
    pictures beforehand would (the ski rental rule). What is fastest was measured before, or is measured
    after `MEASURE_AFTER_S`.

    Args:
        runtimes: of the encoder.
        runtime: one to use and no other, from the first picture; None chooses.
        on_wait: told, in one line, before something is measured.
    Raises:
        EncoderError: `runtime` cannot run here or does not agree with float32; the message says what to do.
    """

    def __init__(
        self, runtimes: Runtimes, runtime: Runtime | None = None, on_wait: Callable[[str], None] | None = None
    ) -> None:
        self._runtimes, self._base, self._on_wait = runtimes, runtimes.base, on_wait
        self._lock = threading.Lock()
        self._tower: Tower | None = None if runtime is None else runtimes.checked(runtime)
        self._runtime: str = runtime or str(getattr(self._base, "runtime", "onnx"))
        self._settled = runtime is not None
        self._choice: Choice | None = None if self._settled else runtimes.recall()
        self._spent_s = 0.0
        self._seen: list[Pixels] = []
        self._preparing = False
        self.notice: str | None = getattr(self._base, "notice", None)

    @property
    def spec(self) -> str:
        """What `load_encoder` takes to get this encoder again."""
        return self._base.spec

    @property
    def fingerprint(self) -> str:
        """That of the encoder: the runtime is no part of it."""
        return self._base.fingerprint

    @property
    def dim(self) -> int:
        """Width of an embedding."""
        return self._base.dim

    @property
    def image_size(self) -> int:
        """Side of the square the image tower reads, pixels."""
        return self._base.image_size

    @property
    def preprocess(self) -> Preprocess:
        """From a picture to the square the image tower reads."""
        return self._base.preprocess

    @property
    def runtime(self) -> str:
        """What computes pictures now."""
        return self._runtime

    @property
    def batch_size(self) -> int:
        """Squares per `encode_pixels` call that suit the runtime of now best; it may change between calls."""
        return int(getattr(self._tower or self._base, "batch_size", DEFAULT_BATCH))

    @property
    def preparing(self) -> bool:
        """Whether a call measures or loads a runtime now; a thread in it can be left at any time."""
        return self._preparing

    @property
    def calibration(self) -> Any:
        """What came with the encoder, None where nothing did."""
        return getattr(self._base, "calibration", None)

    def encode_pixels(self, pixels: Pixels) -> Embeddings:
        """Return (n, dim) unit rows for (n, size, size, 3) uint8 squares, in order.

        Calls from several threads at once wait for each other. The call that changes the runtime takes as
        long as loading it; the one that measures, half a minute more.
        """
        check_pixels(pixels, self.image_size)
        with self._lock:
            if not self._settled:
                self._settle(pixels)
            began = time.perf_counter()
            try:
                rows = (
                    self._base.encode_pixels(pixels)
                    if self._tower is None
                    else self._through(self._tower, pixels)
                )
            except EncoderError:
                if self._tower is None or self._choice is None:  # a runtime that was asked for
                    raise
                self._runtimes.forget()
                self._tower, self._runtime = None, str(getattr(self._base, "runtime", "onnx"))
                rows = self._base.encode_pixels(pixels)
            self._spent_s += time.perf_counter() - began
            return rows

    def encode_images(self, images: Sequence[Image.Image]) -> Embeddings:
        """Return (len(images), dim) unit rows; images are RGB, upright, any size."""
        return encode_in_batches(self.preprocess, self.encode_pixels, images, self.dim)

    def encode_texts(self, texts: Sequence[str]) -> Embeddings:
        """Return (len(texts), dim) unit rows; long texts are cut at the context length."""
        return self._base.encode_texts(texts)

    def _through(self, tower: Tower, pixels: Pixels) -> Embeddings:
        """Return (n, dim) unit rows of a runtime."""
        step = self.batch_size
        parts = [tower(pixels[i : i + step]) for i in range(0, len(pixels), step)]
        return normalize(np.concatenate(parts)) if parts else np.zeros((0, self.dim), np.float32)

    def _settle(self, pixels: Pixels) -> None:
        """Measure, or change to what was measured, when it is time; keeps first pictures to measure with."""
        if self._choice is None:
            if sum(map(len, self._seen)) < _KEPT:
                self._seen.append(np.array(pixels[:_KEPT]))
            if self._spent_s < MEASURE_AFTER_S:
                return
            if self._on_wait is not None:
                self._on_wait(f"measuring what runs {self.spec} fastest here; done once, half a minute")
            seen = np.concatenate(self._seen)[:_KEPT]
            self._seen = []
            try:
                with self._prepared():
                    self._choice = self._runtimes.measure(self._runtimes.probes(seen))
            except (EncoderError, *BROKEN):  # no memory for it, for one
                self._settled = True
                return
        if self._choice.runtime == self._runtime:
            self._settled = True
        elif self._spent_s >= self._choice.chosen.load_s:
            self._settled = True
            try:
                with self._prepared():
                    self._tower = self._runtimes.open(self._choice.runtime)
                self._runtime = self._choice.runtime
                if isinstance(self._base, OnnxEncoder):
                    self._base.release_images()
            except (EncoderError, *BROKEN):
                # It ran when it was measured; what became of it since must not end a run that can go on.
                self._runtimes.forget()

    @contextlib.contextmanager
    def _prepared(self) -> Iterator[None]:
        self._preparing = True
        try:
            yield
        finally:
            self._preparing = False
