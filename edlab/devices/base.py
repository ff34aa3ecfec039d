"""The interface of a device: how its agent is reached. The entry point group `edlab.device_kinds` adds a kind."""

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
    """A target on which agents can be started. Its configuration defines what it can run: runtimes and precisions."""

    def __init__(self, config: DeviceConfig, cache: Cache, modules: Sequence[str] = ()) -> None:
        """`modules` are sent with the agent, each with its package."""
        self.config = config
        self.cache = cache
        self.modules = modules

    def agent(self) -> Path:
        """The agent's zip file, for a Python on the target."""
        return agent_zip.build(self.cache, self.modules)

    @abstractmethod
    def connect(self) -> AbstractContextManager[AgentSession]:
        """Start an agent, which ends with the context. Raises `DeviceError` if the target cannot be reached."""
