"""The phases of a measurement: idle, warm-up, latency, host work, throughput. Timed by time.perf_counter_ns.

Independent of the protocol: requests and tensors in, metrics out. One file each; `progress(fraction, message)` is
called once a second, from a separate thread.
"""

from __future__ import annotations

from .host_work import HOST_WORK_QUERIES, host_work
from .idle import idle
from .latency import Latencies, latency
from .profile import profile
from .saturate import batches, driver_limit, saturate
from .search import Search, search
from .settings import Limits
from .warmup import halves_agree, warmup
from .window import Window

__all__ = [
    "HOST_WORK_QUERIES",
    "Latencies",
    "Limits",
    "Search",
    "Window",
    "batches",
    "driver_limit",
    "halves_agree",
    "host_work",
    "idle",
    "latency",
    "profile",
    "saturate",
    "search",
    "warmup",
]
