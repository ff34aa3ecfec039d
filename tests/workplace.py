"""Using edlab from the shell, as a person would."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from edlab.record import RunRecord
from edlab.sweep import read_records

# The shortest protocol that still runs every phase; its figures mean nothing.
FAST = (
    "protocol=smoke",
    "protocol.queries=20",
    "protocol.seconds=0.3",
    "protocol.max_interval=1",
    "protocol.warmup.seconds=0.2",
    "protocol.warmup.max_seconds=2",
    "protocol.throughput.trial_seconds=0.1",
    "protocol.throughput.max_in_flight=2",
    "protocol.throughput.max_batch=4",
)


class Workplace:
    """A folder in which `edlab` is used from the shell, as a person would; conversions are shared by the session."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder = folder
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "EDLAB_"))},
            "EDLAB_CACHE": str(cache),
            "COLUMNS": "200",
        }

    def edlab(self, *arguments: str, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
        """Run `edlab ARGUMENTS` here and give its exit code and output."""
        return subprocess.run(
            [sys.executable, "-m", "edlab.cli", *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )

    def run(self, *words: str, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
        """`edlab run` with the shortest protocol."""
        return self.edlab("run", *FAST, *words, timeout_s=timeout_s)

    def records(self) -> list[RunRecord]:
        """The records of the latest sweep, in the order of its runs."""
        return read_records(sorted((self.folder / "mlruns" / "sweeps").iterdir())[-1])
