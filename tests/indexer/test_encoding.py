"""The encoding thread: order, batches, ends; against encoding one by one."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from encoders import EncoderError
from indexer.encoding import Embedded, Encoding
from indexer.outcomes import Decoded, FileStat
from tests.indexer.crash import SIDE, SeedEncoder


class Watched(SeedEncoder):
    """Remembers the batches it was given; waits for `go` before each."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.go = threading.Event()
        self.go.set()
        self.fails = False

    def encode_pixels(self, pixels):
        assert self.go.wait(10)
        self.sizes.append(len(pixels))
        if self.fails:
            raise EncoderError("no more")
        return super().encode_pixels(pixels)


def picture(token: int, frames: int = 1) -> Decoded:
    pixels = np.random.default_rng(token).integers(0, 256, (frames, SIDE, SIDE, 3), dtype=np.uint8)
    stat, digest = FileStat(1, 1, 1, token, 1), token.to_bytes(32, "big")
    return Decoded(token, b"%d" % token, stat, digest, False, pixels, [None] * frames, 1, 1, "", None, None)


def take_all(encoding: Encoding, count: int) -> list[Embedded]:
    done: list[Embedded] = []
    deadline = time.monotonic() + 10
    while len(done) < count:
        assert time.monotonic() < deadline
        done += encoding.take(0.1, flush=True)
    return done


def test_every_picture_gets_the_rows_it_gets_alone() -> None:
    encoder = Watched()
    encoding = Encoding(encoder, batch=8)
    pictures = [picture(token, 1 + token % 5 * (token % 3 == 0)) for token in range(50)]
    for each in pictures:
        encoding.add(each)
    done = take_all(encoding, 50)
    assert [each.token for each, _ in done] == list(range(50))
    for each, rows in done:
        np.testing.assert_array_equal(rows, SeedEncoder().encode_pixels(each.pixels))
    assert max(encoder.sizes) <= 8
    assert sum(encoder.sizes) == sum(len(each.pixels) for each in pictures)
    encoding.abandon()


def test_part_of_a_batch_waits_for_more_until_there_is_no_more() -> None:
    encoder = Watched()
    encoding = Encoding(encoder, batch=4)
    for token in range(3):
        encoding.add(picture(token))
    time.sleep(0.1)
    assert encoder.sizes == []
    assert len(take_all(encoding, 3)) == 3
    assert encoder.sizes == [3]
    encoding.abandon()


def test_picture_with_more_frames_than_a_batch_is_encoded() -> None:
    encoding = Encoding(Watched(), batch=4)
    encoding.add(picture(1, 13))
    ((_, rows),) = take_all(encoding, 1)
    assert len(rows) == 13
    encoding.abandon()


def test_it_says_when_enough_waits() -> None:
    encoder = Watched()
    encoder.go.clear()
    encoding = Encoding(encoder, batch=2)
    token = 0
    while not encoding.full:
        encoding.add(picture(token))
        token += 1
    assert token <= 8 + 2
    encoder.go.set()
    assert len(take_all(encoding, token)) == token
    assert not encoding.full
    encoding.abandon()


def test_stopping_keeps_the_batch_that_is_encoded_and_drops_the_rest() -> None:
    encoder = Watched()
    encoder.go.clear()
    encoding = Encoding(encoder, batch=2)
    for token in range(7):
        encoding.add(picture(token))
    threading.Timer(0.2, encoder.go.set).start()
    kept = encoding.close()
    assert [each.token for each, _ in kept] == [0, 1]
    assert encoder.sizes == [2]


def test_stopping_before_the_first_batch_keeps_what_waits() -> None:
    encoding = Encoding(Watched(), batch=8)
    for token in range(3):
        encoding.add(picture(token))
    assert len(encoding.close()) == 3


def test_stopping_does_not_wait_for_an_encoder_that_prepares() -> None:
    encoder = Watched()
    encoding = Encoding(encoder, batch=2)
    for token in range(2):
        encoding.add(picture(token))
    deadline = time.monotonic() + 10
    while not encoder.sizes:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    encoder.go.clear()
    for token in range(2, 7):
        encoding.add(picture(token))
    time.sleep(0.1)
    encoder.preparing = True
    started = time.monotonic()
    kept = encoding.close()
    encoding.abandon()
    assert time.monotonic() - started < 1
    assert [each.token for each, _ in kept] == [0, 1]
    encoder.go.set()


def test_what_the_encoder_raises_reaches_the_caller() -> None:
    encoder = Watched()
    encoder.fails = True
    encoding = Encoding(encoder, batch=1)
    told = threading.Event()
    encoding.on_done = told.set
    encoding.add(picture(1))
    assert told.wait(5)
    with pytest.raises(EncoderError, match="no more"):
        encoding.take()
    encoding.abandon()
