"""A FAKE of the package pyjoulescope_driver: the documented interface of its Driver, without a device."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

_TICK_S = 0.01

Callback = Callable[[str, Any], None]


def value(start_s: float, end_s: float, watts: float) -> dict[str, Any]:
    """The fields of a statistics value that tell when and how much."""
    return {
        "time": {"range": {"value": [start_s, end_s], "units": "s"}},
        "signals": {"power": {"avg": {"value": watts, "units": "W"}}},
    }


class Bench:
    """The devices that are connected, and what is done to them."""

    def __init__(self) -> None:
        self.paths = ["u/js220/001234"]
        self.watts = 5.0
        self.value: Any = None  # instead of a valid one
        self.busy = False
        self.open_s = 0.0
        self.published: list[tuple[str, Any]] = []
        self.open: set[str] = set()
        self.drivers = 0
        self.finalized = 0


def module(bench: Bench) -> Any:
    """What `import pyjoulescope_driver` gives."""

    class Driver:
        def __init__(self, timeout: float | None = None) -> None:
            bench.drivers += 1
            self._subscribed: dict[str, Callback] = {}
            self._stop = threading.Event()
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()

        def device_paths(self, timeout: float | None = None) -> list[str]:
            return list(bench.paths)

        def open(self, device_prefix: str, mode: str | None = None, timeout: float | None = None) -> None:
            time.sleep(bench.open_s)
            self._require(device_prefix)
            if bench.busy:
                raise RuntimeError("jsdrv_open failed 12 BUSY")
            bench.open.add(device_prefix)

        def close(self, device_prefix: str, timeout: float | None = None) -> None:
            bench.open.discard(device_prefix)
            self._require(device_prefix)

        def publish(self, topic: str, value: Any, timeout: float | None = None) -> None:
            self._require("/".join(topic.split("/")[:3]))
            bench.published.append((topic, value))

        def subscribe(self, topic: str, flags: str, fn: Callback, timeout: float | None = None) -> None:
            assert flags == "pub"
            self._subscribed[topic] = fn

        def unsubscribe(self, topic: str, fn: Callback, timeout: float | None = None) -> None:
            assert self._subscribed.pop(topic) is fn

        def finalize(self, timeout: float | None = None) -> None:
            bench.finalized += 1
            self._stop.set()
            self._thread.join()

        def _require(self, path: str) -> None:
            if path not in bench.paths:
                raise TimeoutError(f"timed out | {path}")

        def _run(self) -> None:
            before = time.monotonic()
            while not self._stop.wait(_TICK_S):
                now = time.monotonic()
                for topic, fn in list(self._subscribed.items()):
                    if topic.split("/s/")[0] in bench.paths:
                        fn(topic, value(before, now, bench.watts) if bench.value is None else bench.value)
                before = now

    class Module:
        pass

    Module.Driver = Driver  # type: ignore[attr-defined]
    return Module
