"""Step 3: an agent on the target, with the artifact open in its runtime."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from edlab import devices
from edlab.artifact import Artifact
from edlab.cache import Cache
from edlab.config import EdlabConfig
from edlab.devices import AgentSession
from edlab.steps.load import Inputs, OnProgress


@dataclass(frozen=True)
class Deployment:
    """An agent that has the artifact open, and what both said of themselves."""

    session: AgentSession
    hello: dict[str, Any]  # the target: machine, CPU, Python, ...
    model: dict[str, Any]  # load_ms, compile_ms, inputs, outputs, effective options, runtime version
    before: dict[str, Any]  # clocks, temperatures and load before anything was measured


@contextmanager
def deploy(
    config: EdlabConfig, inputs: Inputs, artifact: Artifact, cache: Cache, on_progress: OnProgress
) -> Iterator[Deployment]:
    """Connect to the device and open the artifact there; the agent lives as long as the context."""
    on_progress("deploy", None, config.device.name)
    with devices.connect(config.device, cache) as session:
        hello = session.hello()
        before = session.state()
        model = session.open(artifact, inputs.source.preprocessing, config.device)
        yield Deployment(session, hello, model, before)
