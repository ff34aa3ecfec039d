"""What a device is: how its agent is reached. A package adds a kind by the entry point group `edlab.device_kinds`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from edlab.cache import Cache
from edlab.config import DeviceConfig
from edlab.devices import agent_zip
from edlab.devices.session import AgentSession


class Device(ABC):
    """A target that agents can be started on. What it can run is its configuration's: runtimes and precisions."""

    def __init__(self, config: DeviceConfig, cache: Cache, modules: Sequence[str] = ()) -> None:
        """`modules` travel with the agent, each with the package that holds it."""
        self.config = config
        self.cache = cache
        self.modules = modules

    def agent(self) -> Path:
        """The agent's zip file, to be run by a Python on the target."""
        return agent_zip.build(self.cache, self.modules)

    @abstractmethod
    def connect(self) -> AbstractContextManager[AgentSession]:
        """Start an agent, which ends with the context. Raises `DeviceError` where the target cannot be reached."""
