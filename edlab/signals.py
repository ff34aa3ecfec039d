"""Ctrl-C, SIGTERM and SIGHUP: each ends a sweep as KeyboardInterrupt, and none interrupts the writing of a row."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_ORDERLY_S = 10.0  # time to record an interrupted row and to end its processes


class _Interrupter:
    """A handler that raises KeyboardInterrupt, and ignores signals soon after that would cut the recording."""

    def __init__(self) -> None:
        self._deaf_until_s = 0.0

    def __call__(self, number: int, frame: Any) -> None:
        if number == signal.SIGHUP:
            _silence()
        now = time.monotonic()
        if now >= self._deaf_until_s:
            self._deaf_until_s = now + _ORDERLY_S
            with suppress(OSError):  # no print: this may interrupt one
                os.write(2, b"\ninterrupted: recording what was measured\n")
            raise KeyboardInterrupt


def handle() -> None:
    """Let Ctrl-C, SIGTERM and a closing terminal end the program cleanly; a signal that is ignored (nohup) stays
    ignored.

    This has no effect outside the main thread, the only one that receives signals.
    """
    if not _in_main_thread():
        return
    interrupter = _Interrupter()
    for number in _ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupter)


def ignore() -> None:
    """Ignore further signals: printing the table is quick, and then the process ends."""
    if _in_main_thread():
        for number in _ENDING:
            signal.signal(number, signal.SIG_IGN)


@contextmanager
def restored() -> Iterator[None]:
    """Let the process have its present handlers again after the block."""
    handlers = {number: signal.getsignal(number) for number in _ENDING} if _in_main_thread() else {}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


@contextmanager
def deferred() -> Iterator[None]:
    """Delay signals until the end of the block, which is short. Only the main thread receives signals."""
    if not _in_main_thread():
        yield
        return
    received: list[int] = []
    handlers = {number: signal.signal(number, lambda got, frame: received.append(got)) for number in _ENDING}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        if received:
            signal.raise_signal(received[0])


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _silence() -> None:
    """Discard output from now on: the terminal is gone, and printing would fail."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (sys.stdout.fileno(), sys.stderr.fileno()):
        os.dup2(nowhere, descriptor)
