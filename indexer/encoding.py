"""`Encoding`: a thread that turns squares into embeddings while other files are still being decoded."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

import numpy as np

from encoders import Embeddings, Encoder
from indexer.outcomes import Decoded

LOOK_AHEAD: int = 4
"""Batches of squares that may wait, so that decoding never waits for the encoder to end a batch."""
LOOK_AHEAD_BYTES: int = 256 * 2**20
"""Of waiting squares. It binds where batches are large, as they are on a GPU."""

Embedded = tuple[Decoded, Embeddings]


class Encoding:
    """Embeds decoded pictures in the order they come, a batch at a time, in a thread of its own.

    One thread adds and takes. The runtime uses all cores for a batch; workers decode beside it.

    Args:
        batch: frames in one call of the encoder. A panorama longer than that is one batch.
        keep_to: pictures may be added while fewer frames than this wait (`full`).
    """

    def __init__(self, encoder: Encoder, batch: int) -> None:
        side = encoder.image_size
        self.encoder, self.batch = encoder, max(1, batch)
        self.keep_to = max(self.batch, min(LOOK_AHEAD * self.batch, LOOK_AHEAD_BYTES // (side * side * 3)))
        self.on_done: Callable[[], None] = _nothing
        """Called in the thread when there is something to take."""
        self._changed = threading.Condition()
        self._waiting: deque[Decoded] = deque()
        self._frames = 0  # in _waiting
        self._busy = False
        self._flush = False
        self._closing = False
        self._done: list[Embedded] = []
        self._trouble: BaseException | None = None
        self._thread: threading.Thread | None = None

    @property
    def full(self) -> bool:
        """Return whether enough waits."""
        return self._frames >= self.keep_to

    def add(self, picture: Decoded) -> None:
        with self._changed:
            self._waiting.append(picture)
            self._frames += len(picture.pixels)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="encode", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def take(self, timeout_s: float = 0.0, *, flush: bool = False) -> list[Embedded]:
        """Return what was embedded since the last call, in order.

        Args:
            timeout_s: how long to wait for something.
            flush: nothing more comes for now: encode what waits although it is no whole batch.
        Raises:
            what the encoder raised: it belongs to the caller's thread.
        """
        with self._changed:
            if flush != self._flush:
                self._flush = flush
                self._changed.notify_all()
            if timeout_s:
                self._changed.wait_for(
                    lambda: bool(self._done or self._trouble) or not (self._waiting or self._busy), timeout_s
                )
            if self._trouble is not None:
                raise self._trouble
            done, self._done = self._done, []
            return done

    def close(self) -> list[Embedded]:
        """End after the batch that is being encoded and return what was embedded; the rest is dropped.

        Where no batch is on its way, one that waits is encoded first: a run that is stopped early has
        something to keep. A batch before which the encoder is `preparing` is not waited for: it is dropped,
        too, and the thread left to itself.
        """
        with self._changed:
            if self._waiting and not self._busy and not self._done and self._trouble is None:
                self._flush = True
                self._changed.notify_all()
                self._wait_for(lambda: bool(self._done or self._trouble))
            self._closing = True
            self._changed.notify_all()
            self._wait_for(lambda: not self._busy)
        return self.take()

    def abandon(self) -> None:
        """Drop everything that waits; the thread ends after its batch."""
        self.on_done = _nothing
        with self._changed:
            self._closing = True
            self._waiting.clear()
            self._changed.notify_all()
        if self._thread is not None and not self._preparing:
            self._thread.join(timeout=5)

    @property
    def _preparing(self) -> bool:
        return bool(getattr(self.encoder, "preparing", False))

    def _wait_for(self, ready: Callable[[], bool]) -> None:
        """Wait, the condition held, until something is so or the encoder does what nobody waits for."""
        while not ready() and not self._preparing:
            self._changed.wait(0.1)

    # -- the thread

    def _run(self) -> None:
        try:
            while (pictures := self._next()) is not None:
                rows = self.encoder.encode_pixels(np.concatenate([picture.pixels for picture in pictures]))
                done: list[Embedded] = []
                start = 0
                for picture in pictures:
                    done.append((picture, rows[start : start + len(picture.pixels)]))
                    start += len(picture.pixels)
                self._finish(done)
        except BaseException as error:
            self._finish([], error)

    def _next(self) -> list[Decoded] | None:
        """Return the next batch; None when there will be none."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._closing or (self._waiting and (self._flush or self._frames >= self.batch))
            )
            if self._closing:
                return None
            pictures = [self._waiting.popleft()]
            frames = len(pictures[0].pixels)
            while self._waiting and frames + len(self._waiting[0].pixels) <= self.batch:
                pictures.append(self._waiting.popleft())
                frames += len(pictures[-1].pixels)
            self._frames -= frames
            self._busy = True
            return pictures

    def _finish(self, done: list[Embedded], trouble: BaseException | None = None) -> None:
        with self._changed:
            self._done += done
            self._trouble = trouble
            self._busy = False
            self._changed.notify_all()
        self.on_done()


def _nothing() -> None:
    pass
