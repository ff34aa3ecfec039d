"""The phases of a measurement, one file each, in the order of their execution. A new one is a file and a line here."""

from __future__ import annotations

from typing import Any

from edlab.stages.phases.accuracy import Accuracy
from edlab.stages.phases.alignment import Alignment, FinalAlignment
from edlab.stages.phases.base import Bench, Measurement, Other, Phase
from edlab.stages.phases.host_work import HostWork
from edlab.stages.phases.idle import Idle
from edlab.stages.phases.latency import LATENCIES_FILE, Latency
from edlab.stages.phases.profile import PROFILE_FILE, Profile
from edlab.stages.phases.queries import run_queries
from edlab.stages.phases.single_stream import SingleStream
from edlab.stages.phases.throughput import Throughput
from edlab.stages.phases.warmup import Warmup

__all__ = [
    "LATENCIES_FILE",
    "PROFILE_FILE",
    "TIMED",
    "UNTIMED",
    "Accuracy",
    "Alignment",
    "Bench",
    "FinalAlignment",
    "HostWork",
    "Idle",
    "Latency",
    "Measurement",
    "Other",
    "Phase",
    "Profile",
    "SingleStream",
    "Throughput",
    "Warmup",
    "run_queries",
]

TIMED: tuple[Phase[Any], ...] = (
    Alignment(),
    Idle(),
    Warmup(),
    Latency(),
    SingleStream(),
    HostWork(),
    Throughput(),
    FinalAlignment(),
)  # again in each repeat
UNTIMED: tuple[Phase[Any], ...] = (Accuracy(), Profile())  # once, after the first run of the timed ones
