"""What edlab costs, each figure compared with a bound: rows of the tables of scripts/bench/run and link."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from edlab.engine.command import read_records

Row = tuple[str, str, str, str]  # what, measured, bound, verdict
SHORT = [  # of a run whose own cost is of interest, not its metrics: with one setting there is no search
    "protocol=smoke",
    "protocol.seconds=1",
    "protocol.warmup.seconds=0.5",
    "protocol.throughput.trial_seconds=1",
    "protocol.throughput.max_batch=1",
    "protocol.throughput.max_in_flight=1",
]


def verdict(holds: bool) -> str:
    """The last cell of a row."""
    return "holds" if holds else "FAILS"


def print_rows(groups: Iterable[Iterable[Row]]) -> int:
    """Print a markdown table, each row as soon as it is measured; 1 if one fails, else 0."""
    print("| what | measured | bound | |\n|---|---|---|---|", flush=True)
    failed = False
    for rows in groups:
        for row in rows:
            failed |= row[-1] == verdict(False)
            print("| " + " | ".join(row) + " |", flush=True)
    return int(failed)


def seconds_of(command: list[str], cwd: Path | None = None) -> float:
    """The wall time of a command. Raises `subprocess.CalledProcessError` if it fails."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, cwd=cwd)
    return time.perf_counter() - start


def measured_seconds(folder: Path) -> list[float]:
    """The duration of the measured phases, in each run of the latest sweep of this folder, run with SHORT."""
    sweep = max((folder / "mlruns" / "sweeps").iterdir())
    return [_seconds_of_phases(record.phases) for record in read_records(sweep)]


def _seconds_of_phases(phases: dict[str, dict[str, Any]]) -> float:
    """A trial of the throughput search counts as the one second that SHORT allows for it."""
    idle = (phases["idle"]["end_ns"] - phases["idle"]["start_ns"]) / 1e9
    return idle + len(phases["throughput"]["search"]) + sum(phase.get("seconds", 0.0) for phase in phases.values())
