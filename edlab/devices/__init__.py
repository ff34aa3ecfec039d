"""Targets: starting an agent on one, and talking with it."""

from __future__ import annotations

from contextlib import AbstractContextManager

from edlab.cache import Cache
from edlab.config import DeviceConfig
from edlab.devices.arrays import read_array
from edlab.devices.base import Device
from edlab.devices.local import LocalDevice
from edlab.devices.session import AgentSession, Pool, Probe
from edlab.devices.ssh import SshDevice
from edlab.errors import ConfigError
from edlab.registry import load_target, plugins

__all__ = ["AgentSession", "Device", "Pool", "Probe", "connect", "get", "read_array"]


def get(config: DeviceConfig, cache: Cache) -> Device:
    """The device of this configuration. Raises `ConfigError` for a kind that no one has added."""
    if config.kind == "ssh" or (config.kind == "local" and config.host):
        return SshDevice(config, cache)
    if config.kind == "local":
        return LocalDevice(config, cache)
    kinds = plugins("device_kinds")
    if config.kind not in kinds:
        raise ConfigError(
            f"there is no kind of device '{config.kind}'", hint="there are " + ", ".join(["local", "ssh", *kinds])
        )
    kind: type[Device] = load_target(kinds[config.kind].value)
    return kind(config, cache)


def connect(config: DeviceConfig, cache: Cache) -> AbstractContextManager[AgentSession]:
    """Start an agent on the device; leaving the context ends it."""
    return get(config, cache).connect()
