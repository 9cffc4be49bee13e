"""Ctrl-C and its kin: the first signal asks to stop after the current batch, the second leaves at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from face import terminal


class Stopping:
    """What a signal asked for: `event` is set by the first one, the second one leaves at once."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.signal_number: int = signal.SIGINT
        self._nothing_to_keep = False

    @property
    def exit_code(self) -> int:
        return 128 + self.signal_number

    def __call__(self, number: int) -> None:
        if self._nothing_to_keep and not self.event.is_set():
            terminal.restore()
            terminal.note("stopped; run the same command again to go on")
            os._exit(128 + number)
        if self.event.is_set():
            terminal.restore()
            os._exit(128 + number)  # committed work is safe by design; nothing else is worth waiting for
        self.signal_number = number
        self.event.set()

    @contextmanager
    def nothing_to_keep(self) -> Iterator[None]:
        """Let the first signal leave at once: what is under way here can be killed and begun again."""
        self._nothing_to_keep = True
        try:
            yield
        finally:
            self._nothing_to_keep = False


@contextmanager
def heard_signals() -> Iterator[Stopping]:
    """Turn SIGINT, SIGTERM and SIGHUP into a wish to stop; one that is ignored (nohup) stays ignored.

    A thread listens: Python's own handlers wait until an encoder's call returns, which can take seconds.
    """
    stopping = Stopping()
    asked = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    handled = {number for number in asked if signal.getsignal(number) is not signal.SIG_IGN}
    heard, wakeup = os.pipe()
    os.set_blocking(wakeup, False)

    def listen() -> None:
        while numbers := os.read(heard, 16):
            for number in numbers:
                if number in handled:
                    stopping(number)

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    before_fd = signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
    before = {number: signal.signal(number, lambda number, frame: None) for number in handled}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(before_fd)
        os.close(wakeup)
        listener.join()
        os.close(heard)
