"""The id and the folder that the runs of one command share."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

from edlab.tracking.sweeps import AGAIN

SWEEPS = Path("mlruns", "sweeps")


def new_sweep_folder(*, again: bool = False) -> tuple[str, Path]:
    """A fresh sweep id (sortable by time) and the folder for its runs' files, below the current folder.

    With `again`, its run repeats a recorded one: then it is never the latest sweep, about which commands are.
    """
    identity = time.strftime("%Y%m%d-%H%M%S-") + secrets.token_hex(2) + (AGAIN if again else "")
    return identity, SWEEPS / identity
