"""Interrupts that wait: what must not be cut in two is done first, then the signal is handled."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class HeldInterrupts:
    """Holds INT, TERM and HUP back from its making until ``release``, or the end of its block.

    In another thread than the main one it does nothing: signals are not handled there.
    """

    def __init__(self) -> None:
        self._came: list[int] = []
        self._handlers = {}
        if threading.current_thread() is threading.main_thread():
            for number in INTERRUPTS:
                handler = signal.getsignal(number)
                # One that is ignored, or ends us, is also what a new program inherits.
                if callable(handler):
                    self._handlers[number] = handler
                    signal.signal(number, self._hold)

    def __enter__(self) -> HeldInterrupts:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def release(self) -> None:
        """Let interrupts through again; those that came are handled now."""
        while self._handlers:
            signal.signal(*self._handlers.popitem())
        while self._came:
            signal.raise_signal(self._came.pop())

    def _hold(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._came.append(number)
