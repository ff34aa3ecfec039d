"""This machine: the agent is a subprocess, pinned to the cores that the device is given."""

from __future__ import annotations

import os
import subprocess
import sys
from urllib.parse import quote

from edlab.devices import agent_zip
from edlab.devices.base import Device
from edlab.devices.session import AgentSession
from edlab.errors import ConfigError, DeviceError


class LocalDevice(Device):
    """The machine that edlab runs on."""

    def connect(self) -> AgentSession:
        python = self.config.python or sys.executable
        cpus = ",".join(map(str, self._cpus()))
        archive = agent_zip.build(self.cache)
        try:
            process = subprocess.Popen(
                [python, str(archive), "--cpus", cpus],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, **self.config.env},
                start_new_session=True,
            )
        except OSError as error:
            raise DeviceError(
                f"cannot start the agent of {self.config.name} with {python}: {error.strerror}",
                hint="give device.python the path of a Python interpreter, or leave it out",
            ) from error
        return AgentSession(process, self.config, self._lock() if self.config.exclusive else None)

    def _lock(self) -> str:
        """The accelerator, by whatever name the device goes: the runtimes that drive it, and which unit it is."""
        words = [*sorted(set(self.config.runtimes.values())), self.config.target]
        return quote("-".join(filter(None, words)), safe="")

    def _cpus(self) -> list[int]:
        allowed = sorted(os.sched_getaffinity(0))
        threads = self.config.threads or len(allowed)
        if threads > len(allowed):
            raise ConfigError(
                f"device.threads={threads} is more than the {len(allowed)} cores that edlab may use here",
                hint=f"device.threads={len(allowed)}",
            )
        return allowed[:threads]
