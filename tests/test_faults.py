"""A few seeded points of scripts/faults: a real sweep is broken, and every promise holds after the next start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "faults"
FAULTS = "kill_all,damaged_cache,dead_server"  # other tests have the first start, signals and disks


@pytest.mark.timeout(900)
@pytest.mark.slow
def test_a_sweep_that_is_broken_keeps_its_promises() -> None:
    command = [sys.executable, str(SCRIPT), "--only", FAULTS, "--points", "3", "--seed", "1", "--workers", "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
