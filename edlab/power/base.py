"""The interface of a source of power readings, and its result: a series on the agent's clock."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from edlab.power.align import Alignment
from edlab.power.clock import ClockRelation


@dataclass(frozen=True)
class Series:
    """Readings in order of time: `t_ns` (n,) int64 of the agent's clock, and `watts` (n,) float64.

    `clock_error_ns` is the possible common error of all times, and `clock_drift` the seconds that the agent's clock
    gained on the source's in each second. A failed reading is a gap: `failed` counts them, and `error` is the last
    error.
    """

    t_ns: NDArray[np.int64]
    watts: NDArray[np.float64]
    failed: int = 0
    error: str = ""
    clock_error_ns: int = 0
    clock_drift: float = 0.0

    def on_agents_clock(self, clocks: ClockRelation) -> Series:
        """The readings of a source with the host's clock, at the times of the agent's clock."""
        t_ns = clocks.agent_ns(self.t_ns)
        return dataclasses.replace(self, t_ns=t_ns, clock_error_ns=clocks.error_ns, clock_drift=clocks.drift)

    def save(self, path: Path) -> None:
        """Write CSV: the nanoseconds of the agent's clock, and watts."""
        rows = (f"{t_ns},{watts:.9g}" for t_ns, watts in zip(self.t_ns.tolist(), self.watts.tolist(), strict=True))
        path.write_text("\n".join(["time_ns,power_w", *rows]) + "\n")


class Source(ABC):
    """Samples power while its context is open; the context can be entered again.

    `boundary`, one of BOUNDARIES in edlab/agent/sensors/base.py, defines what the watts include; `lag_s` is how far
    back a reading may reach; `resolution_w`, `accuracy` and `renewed_s` are None if unknown: see `Sensor` there.
    `stand_in` is the folder of files from which the readings are, if they are not from the hardware.
    """

    def __init__(
        self,
        name: str,
        boundary: str,
        lag_s: float = 0.0,
        stand_in: str = "",
        *,
        resolution_w: float | None = None,
        accuracy: float | None = None,
        renewed_s: float | None = None,
    ) -> None:
        self.name = name
        self.boundary = boundary
        self.lag_s = lag_s
        self.stand_in = stand_in
        self.resolution_w = resolution_w
        self.accuracy = accuracy
        self.renewed_s = renewed_s

    @property
    def late_s(self) -> float:
        """How much later than its time a reading may arrive, in seconds."""
        return 0.0

    @property
    def search_s(self) -> float | None:
        """How much the readings' times may be wrong before `shift`, in seconds; None: they are right."""
        return None

    def shift(self, alignment: Alignment) -> None:
        """Correct the times of all readings, if they may be wrong."""
        raise NotImplementedError

    @property
    def description(self) -> str:
        """The source of the watts, for the record of a run."""
        return f"{self.name}, from the files under {self.stand_in}" if self.stand_in else self.name

    @abstractmethod
    def start(self) -> None:
        """Begin to sample, and discard earlier samples."""

    @abstractmethod
    def stop(self) -> None:
        """Stop sampling; `series` still has the samples."""

    def close(self) -> None:  # noqa: B027
        """Release the meter's connection, after the last phase."""

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
