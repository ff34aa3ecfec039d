"""What a source of power readings is, and what it gives: a series on the agent's clock."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from edlab.power.clock import ClockOffset


@dataclass(frozen=True)
class Series:
    """Readings in order of time: `t_ns` (n,) int64 of the agent's clock, and `watts` (n,) float64.

    `clock_error_ns` is how far all of the times may be off together. A reading that failed is a gap: `failed` counts
    those, and `error` is what the last one said.
    """

    t_ns: NDArray[np.int64]
    watts: NDArray[np.float64]
    failed: int = 0
    error: str = ""
    clock_error_ns: int = 0

    def on_agents_clock(self, offset: ClockOffset) -> Series:
        """The same readings, of a source with the host's clock, at the times of the agent's."""
        return dataclasses.replace(self, t_ns=self.t_ns + offset.ns, clock_error_ns=offset.error_ns)

    def save(self, path: Path) -> None:
        """Write npy, float64 (n, 2): t_ns and watts."""
        np.save(path, np.column_stack((self.t_ns, self.watts)).astype(np.float64))


class Source(ABC):
    """Samples power from entering the context to leaving it, again each time.

    `boundary`, one of BOUNDARIES in edlab/agent/sensors/base.py, says what the watts include; `lag_s` how far back a
    reading may reach. `stand_in` is the folder of files that the readings come from, if they are not the hardware's.
    """

    def __init__(self, name: str, boundary: str, lag_s: float = 0.0, stand_in: str = "") -> None:
        self.name = name
        self.boundary = boundary
        self.lag_s = lag_s
        self.stand_in = stand_in

    @property
    def description(self) -> str:
        """What the record of a run says that the watts came from."""
        return f"{self.name}, from the files under {self.stand_in}" if self.stand_in else self.name

    @abstractmethod
    def start(self) -> None:
        """Begin to sample, and forget what was sampled before."""

    @abstractmethod
    def stop(self) -> None:
        """Sample no more; `series` still has what was sampled."""

    @abstractmethod
    def series(self, start_ns: int, end_ns: int) -> Series:
        """The readings of a span of the agent's clock, and one beyond either end if there is one.

        The two beyond let the power at the ends be interpolated.
        """

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
