"""Interrupts that wait: what must not be cut in two is done first, then the signal is handled."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def held_interrupts() -> Iterator[Callable[[], None]]:
    """Hold INT, TERM and HUP back to the end of the block, or until what is given is called.

    Those that came are handled then. In another thread than the main one nothing is held:
    signals are not handled there.
    """
    came: list[int] = []

    def hold(number: int, frame: FrameType | None) -> None:
        del frame
        came.append(number)

    handlers = {}
    if threading.current_thread() is threading.main_thread():
        for number in INTERRUPTS:
            handler = signal.getsignal(number)
            # One that is ignored, or ends us, is also what a new program inherits.
            if callable(handler):
                handlers[number] = handler
                signal.signal(number, hold)

    def release() -> None:
        while handlers:
            signal.signal(*handlers.popitem())
        while came:
            signal.raise_signal(came.pop())

    try:
        yield release
    finally:
        release()
