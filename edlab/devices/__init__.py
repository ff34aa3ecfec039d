"""Targets: start an agent on one, and communicate with it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

from edlab.agent.messages import Pool
from edlab.cache import Cache
from edlab.config import DeviceConfig
from edlab.devices.arrays import read_array
from edlab.devices.base import Device
from edlab.devices.session import AgentSession
from edlab.registry import Group

__all__ = ["AgentSession", "Device", "Pool", "connect", "get", "read_array"]


_KINDS = Group(
    "device_kinds",
    Device,  # type: ignore[type-abstract]
    {
        "local": "edlab.devices.local:LocalDevice",
        "ssh": "edlab.devices.ssh:SshDevice",
        "record": "edlab.testing.replay:RecordingDevice",
        "replay": "edlab.testing.replay:ReplayDevice",
    },
)


def get(config: DeviceConfig, cache: Cache, modules: Sequence[str] = ()) -> Device:
    """The device of this configuration; `modules` are sent with its agent. Raises `ConfigError` for an unknown kind."""
    kind = "ssh" if config.kind == "local" and config.address else config.kind
    return _KINDS.load(kind)(config, cache, modules)


def connect(config: DeviceConfig, cache: Cache, modules: Sequence[str] = ()) -> AbstractContextManager[AgentSession]:
    """Start an agent on the device; leaving the context ends it."""
    return get(config, cache, modules).connect()
