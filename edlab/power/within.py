"""Work that must end in time: the time limits of sockets apply neither to a name server nor to an entire answer."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_LEAST_S = 0.01


def within(deadline: float, late: str, work: Callable[[float], T]) -> T:
    """The result of `work`, which a thread does with the seconds that are left until `deadline` (time.monotonic).

    Raises the `OSError` of `work`, and `TimeoutError` with the message `late` if it has not ended by then: it goes on,
    and its result is lost.
    """
    left_s = max(deadline - time.monotonic(), _LEAST_S)
    box: queue.SimpleQueue[tuple[T] | OSError] = queue.SimpleQueue()

    def run() -> None:
        try:
            box.put((work(left_s),))
        except OSError as error:
            box.put(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        found = box.get(timeout=left_s)
    except queue.Empty:
        raise TimeoutError(late) from None
    if isinstance(found, OSError):
        raise found
    return found[0]
