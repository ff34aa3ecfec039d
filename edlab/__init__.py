"""edlab: benchmarks for edge deep learning accelerators.

import edlab
record = edlab.run("digits_cnn", device="cpu", quantization="int8", converter="openvino")
record.metrics["latency_ms"], record.verdict.state
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edlab.api import run
    from edlab.errors import ConfigError, EdlabError
    from edlab.models import register_model
    from edlab.record import RunRecord
    from edlab.source import Preprocessing

__version__ = "0.1.0"
__all__ = ["ConfigError", "EdlabError", "Preprocessing", "RunRecord", "register_model", "run"]

_HOMES = {
    "ConfigError": "edlab.errors",
    "EdlabError": "edlab.errors",
    "Preprocessing": "edlab.source",
    "RunRecord": "edlab.record",
    "register_model": "edlab.models",
    "run": "edlab.api",
}


def __getattr__(name: str) -> Any:
    """Load the public names when they are first used, so that `import edlab` and `--help` stay fast."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'edlab' has no attribute '{name}'")
