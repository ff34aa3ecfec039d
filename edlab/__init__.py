"""edlab: benchmarks for edge deep learning accelerators.

import edlab

record = edlab.run("digits_cnn", device="cpu", quantization="int8", converter="openvino")
record.metrics["latency_ms"], record.verdict.state
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edlab.api import Sweep, run, runs, sweep
    from edlab.errors import (
        AgentError,
        BusyError,
        ConfigError,
        ConversionError,
        DataError,
        DataUnavailableError,
        DeviceError,
        EdlabError,
        MeasurementError,
        MissingDependencyError,
        ModelError,
        StorageError,
        TrackingError,
        UnsupportedError,
    )
    from edlab.models import register_model
    from edlab.record import RunRecord
    from edlab.source import Preprocessing

__version__ = "0.1.0"
__all__ = [
    "AgentError",
    "BusyError",
    "ConfigError",
    "ConversionError",
    "DataError",
    "DataUnavailableError",
    "DeviceError",
    "EdlabError",
    "MeasurementError",
    "MissingDependencyError",
    "ModelError",
    "Preprocessing",
    "RunRecord",
    "StorageError",
    "Sweep",
    "TrackingError",
    "UnsupportedError",
    "register_model",
    "run",
    "runs",
    "sweep",
]

_HOMES = {
    "Preprocessing": "edlab.source",
    "RunRecord": "edlab.record",
    "Sweep": "edlab.api",
    "register_model": "edlab.models",
    "run": "edlab.api",
    "runs": "edlab.api",
    "sweep": "edlab.api",
}  # all others: edlab.errors


def __getattr__(name: str) -> Any:
    """Load the public names when they are first used, so that `import edlab` and `--help` stay fast."""
    if name in __all__:
        return getattr(importlib.import_module(_HOMES.get(name, "edlab.errors")), name)
    raise AttributeError(f"module 'edlab' has no attribute '{name}'")


def __dir__() -> list[str]:
    """The public names, so that a notebook completes them before they are loaded."""
    return ["__version__", *__all__]
