"""This machine: the agent is a subprocess, pinned to the cores that the device is given."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from edlab.agent.protocol import MARK_VARIABLE
from edlab.config import DeviceConfig
from edlab.devices.base import Device
from edlab.devices.session import AgentSession
from edlab.errors import ConfigError, DeviceError
from edlab.isolation import kill_marked, memory_limit_bytes

_PAGE = os.sysconf("SC_PAGE_SIZE")


class LocalDevice(Device):
    """The machine that edlab runs on."""

    def connect(self) -> AgentSession:
        python = self.config.python or sys.executable
        cpus = ",".join(map(str, self._cpus()))
        archive = self.agent()
        mark = secrets.token_hex(8)
        environment = {**os.environ, **self.config.env, MARK_VARIABLE: mark}
        try:
            process = subprocess.Popen(
                [python, str(archive), "--cpus", cpus],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            raise DeviceError(
                f"cannot start the agent of {self.config.name} with {python}: {error.strerror}",
                hint="set device.python to the path of a Python interpreter, or remove it",
            ) from error
        return _LocalSession(process, self.config, mark, python, environment)

    def _cpus(self) -> list[int]:
        allowed = sorted(os.sched_getaffinity(0))
        threads = self.config.threads or len(allowed)
        if threads > len(allowed):
            raise ConfigError(
                f"device.threads={threads} is more than the {len(allowed)} cores that edlab may use here",
                hint=f"set device.threads={len(allowed)} or less",
            )
        return allowed[:threads]


def _without_numpy(python: str, environment: Mapping[str, str], log: str) -> DeviceError | None:
    """The error of an agent that ended because its Python cannot import numpy; None if it can."""
    tried = subprocess.run([python, "-c", "import numpy"], env=environment, capture_output=True, text=True)
    if tried.returncode == 0:
        return None
    reason = (tried.stderr.strip().splitlines() or [""])[-1]
    missing = "No module named 'numpy'" in reason
    return DeviceError(
        f"numpy is missing in {python}" if missing else f"{python} cannot import numpy: {reason}",
        hint=f"{python} -m pip install numpy",
        log=log,
    )


class _LocalSession(AgentSession):
    """Ends an agent that uses too much memory of this machine, before the system ends another process for it.

    Daemons that a vendor's runtime started end with the agent: they have its mark in their environment.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        device: DeviceConfig,
        mark: str,
        python: str,
        environment: Mapping[str, str],
    ) -> None:
        self._mark, self._python, self._environment = mark, python, environment
        self._limit = memory_limit_bytes(device.memory_limit_gb)
        super().__init__(process, device)

    def check_alive(self, method: str, moved: float, timeout_s: float, silence_s: float) -> None:
        super().check_alive(method, moved, timeout_s, silence_s)
        if self._resident_bytes() > self._limit:
            raise self.lost(
                f"the agent used more than {self._limit / 1e9:.1f} GB of memory in '{method}'",
                "use a smaller model, lower protocol.throughput.max_batch, or raise device.memory_limit_gb",
            )

    def lost(self, message: str, hint: str = "the end of its log shows what it did last") -> DeviceError:
        error = super().lost(message, hint)
        if "numpy" not in error.log:
            return error
        return _without_numpy(self._python, self._environment, error.log) or error

    def _kill(self) -> None:
        super()._kill()
        kill_marked(MARK_VARIABLE, self._mark)

    def _resident_bytes(self) -> int:
        """The memory of the agent alone; reading it takes microseconds, since the agent is being timed."""
        try:
            pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        except (OSError, IndexError):  # it has ended
            return 0
        return int(pages) * _PAGE
