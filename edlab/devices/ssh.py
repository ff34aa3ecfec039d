"""A board: the agent runs there, and is spoken with over the system's OpenSSH client."""

from __future__ import annotations

from edlab.devices.base import Device
from edlab.devices.session import AgentSession
from edlab.errors import DeviceError


class SshDevice(Device):
    """A machine that `ssh` reaches by the name `device.host`."""

    def connect(self) -> AgentSession:
        if not self.config.host:
            raise DeviceError(
                f"{self.config.name} is not configured: device.host is not set",
                hint="device.host=NAME, a name that `ssh NAME` reaches without a password (docs/boards.md)",
            )
        raise DeviceError("not reached yet")
