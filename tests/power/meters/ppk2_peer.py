"""A Power Profiler Kit II for tests: a FAKE of the package ppk2-api, and a PEER that the real package reads.

The peer answers the commands that the real package writes, on a pseudo-terminal. Both send measurements in the kit's
format: bits 0 to 13 are the converter's value, 14 to 16 its range, and 18 to 23 a counter.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import tty
from pathlib import Path
from typing import Any

import numpy as np

RANGE, RESISTANCE = 4, 0.05  # the calibration that the peer sends
STEP_MICROAMPERES = 4 * 1.8 / 163840 / RESISTANCE * 1e6  # of the converter in that range
PER_S = 100_000
METADATA = "Calibrated: 0\n" + "".join(
    f"R{n}: {RESISTANCE}\nGS{n}: 0\nGI{n}: 1\nO{n}: 0\nS{n}: 0\nI{n}: 0\nUG{n}: 1\n" for n in range(5)
)
METADATA += "VDD: 3000\nHW: 37268\nmode: 2\nIA: 59\nEND"


class Bench:
    """A kit, and what is done to it."""

    def __init__(self) -> None:
        self.adc = 1000
        self.connected = True
        self.silent = False
        self.calibrated: object = True
        self.garbage = b""  # once, before the next measurements
        self.calls: list[Any] = []
        self.ports = 0  # that are open

    @property
    def amperes(self) -> float:
        return self.adc * STEP_MICROAMPERES * 1e-6


class Stream:
    """The measurements since the last call, at 100 kHz."""

    def __init__(self) -> None:
        self._count, self._began = 0, time.monotonic()

    def data(self, adc: int, most: int = 20_000) -> bytes:
        due = int((time.monotonic() - self._began) * PER_S)
        first, self._count = max(self._count, due - most), due
        counters = np.arange(first, due, dtype=np.uint32) & 63
        return (counters << 18 | RANGE << 14 | adc).astype("<u4").tobytes()


def module(bench: Bench) -> Any:
    """What `import ppk2_api.ppk2_api` gives."""

    class Serial:
        def close(self) -> None:
            bench.ports = 0

    class PPK2_API:  # noqa: N801
        def __init__(self, port: str, **kwargs: Any) -> None:
            if not bench.connected:
                raise FileNotFoundError(2, "could not open port", port)
            assert bench.ports == 0
            assert set(kwargs) == {"timeout", "write_timeout", "exclusive"}
            bench.ports, self.ser, self._stream = 1, Serial(), None

        def get_modifiers(self) -> object:
            if isinstance(bench.calibrated, Exception):
                raise bench.calibrated
            return bench.calibrated

        def use_ampere_meter(self) -> None:
            bench.calls.append("ampere")

        def use_source_meter(self) -> None:
            bench.calls.append("source")

        def set_source_voltage(self, mV: int) -> None:
            bench.calls.append(mV)

        def toggle_DUT_power(self, state: str) -> None:
            bench.calls.append(state)

        def start_measuring(self) -> None:
            self._stream: Stream | None = Stream()

        def stop_measuring(self) -> None:
            self._stream = None

        def get_data(self) -> bytes:
            if not bench.connected:
                raise OSError(5, "Input/output error")
            if self._stream is None or bench.silent:
                return b""
            garbage, bench.garbage = bench.garbage, b""
            return garbage + self._stream.data(bench.adc)

        def get_samples(self, buf: bytes) -> tuple[list[float], list[int]]:
            assert buf
            assert len(buf) % 4 == 0
            words = np.frombuffer(buf, "<u4")
            return [float(adc) * STEP_MICROAMPERES for adc in words & 0x3FFF], [0] * len(words)

    class Module:
        pass

    Module.PPK2_API = PPK2_API  # type: ignore[attr-defined]
    return Module


class Peer:
    """A kit on a pseudo-terminal at `path`."""

    def __init__(self, path: Path, bench: Bench) -> None:
        self.commands: list[bytes] = []
        self._bench, self._path = bench, path
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        path.symlink_to(os.ttyname(self._slave))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        os.close(self._master)
        os.close(self._slave)
        self._path.unlink()

    def _run(self) -> None:
        stream: Stream | None = None
        waiting = b""
        while not self._stop.wait(0.001):
            with contextlib.suppress(BlockingIOError):
                command = os.read(self._master, 64)
                self.commands.append(command)
                if b"\x19" in command:
                    waiting += METADATA.encode()
                if b"\x07" in command:
                    stream, waiting = None, b""
                if b"\x06" in command:
                    stream = Stream()
            if stream:
                waiting += stream.data(self._bench.adc)
            with contextlib.suppress(BlockingIOError):
                while waiting:
                    waiting = waiting[os.write(self._master, waiting) :]
