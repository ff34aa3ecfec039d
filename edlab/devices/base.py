"""What a device is: how its agent is reached. A package adds a kind by the entry point group `edlab.device_kinds`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager

from edlab.cache import Cache
from edlab.config import DeviceConfig
from edlab.devices.session import AgentSession


class Device(ABC):
    """A target that agents can be started on. What it can run is its configuration's: runtimes and precisions."""

    def __init__(self, config: DeviceConfig, cache: Cache) -> None:
        self.config = config
        self.cache = cache

    @abstractmethod
    def connect(self) -> AbstractContextManager[AgentSession]:
        """Start an agent, which ends with the context. Raises `DeviceError` where the target cannot be reached."""
