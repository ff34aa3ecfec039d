"""The id and the folder that the runs of one command share."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

SWEEPS = Path("mlruns", "sweeps")


def new_sweep_folder() -> tuple[str, Path]:
    """A fresh sweep id (sortable by time) and the folder for its runs' files, below the current folder."""
    identity = time.strftime("%Y%m%d-%H%M%S-") + secrets.token_hex(2)
    return identity, SWEEPS / identity
