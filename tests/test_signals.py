"""Signals are the main thread's alone."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from edlab import signals

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture
def _as_before() -> Iterator[None]:
    handlers = {number: signal.getsignal(number) for number in NUMBERS}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_as_before")
def test_another_thread_installs_no_handlers() -> None:
    def in_a_thread() -> None:
        signals.handle()
        with signals.deferred():
            signals.ignore()

    before = [signal.getsignal(number) for number in NUMBERS]
    with ThreadPoolExecutor(1) as pool:
        pool.submit(in_a_thread).result()
    assert [signal.getsignal(number) for number in NUMBERS] == before
    signals.handle()
    assert signal.getsignal(signal.SIGTERM) not in before
