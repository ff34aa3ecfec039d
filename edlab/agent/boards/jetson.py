"""A Jetson's own settings: Jetson Linux release, power mode (nvpmodel), and whether its clocks are pinned.

nvpmodel and jetson_clocks are described in the Jetson Linux Developer Guide, "Platform Power and Performance". Other
machines have none of this.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import AgentError
from . import base

_ROOT = Path("/")
_GPUS = ("gpu", "ga10b", "gv11b", "gp10b", "gm20b")  # suffixes of their devfreq nodes: 17000000.ga10b
_TIMEOUT_S = 30


class PowerMode(NamedTuple):
    """One of the modes of /etc/nvpmodel.conf."""

    number: int
    name: str


def describe(root: Path = _ROOT) -> dict[str, Any]:
    """What does not change: l4t, the release of Jetson Linux ("36.4.3"), from /etc/nv_tegra_release."""
    match = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", _text(root / "etc/nv_tegra_release"))
    return {"l4t": "%s.%s" % match.groups()} if match else {}


def state(root: Path = _ROOT) -> dict[str, Any]:
    """What can be set: power_mode and its number, gpu_clock_mhz, and jetson_clocks.

    jetson_clocks is whether the GPU's minimum clock equals its maximum, as that script sets it (`jetson_clocks --show`
    requires root); the unit of devfreq is Hz (Linux, ABI/testing/sysfs-class-devfreq).
    """
    found: dict[str, Any] = {}
    mode = power_mode() if _nvpmodel() else None
    if mode:
        found.update(power_mode=mode.name, power_mode_number=mode.number)
    for gpu in sorted((root / "sys/class/devfreq").glob("*")):
        clocks = [_text(gpu / name).strip() for name in ("cur_freq", "min_freq", "max_freq")]
        if gpu.name.rpartition(".")[2] in _GPUS and all(clocks):
            now, least, greatest = (int(clock) for clock in clocks)
            found.update(gpu_clock_mhz=now / 1e6, jetson_clocks=least == greatest)
    return found


def power_mode() -> PowerMode | None:
    """The current mode, from `nvpmodel -q`; None if this user may not query it."""
    for prefix in ([], _sudo()):  # older releases require root for it
        answer = _run(prefix, "-q")
        match = re.search(r"NV Power Mode: *(.+)\n(\d+)", answer)
        if match:
            return PowerMode(int(match.group(2)), match.group(1).strip())
    return None


class Knob(base.Knob):
    """The power mode, by name or number; its value is the name."""

    def available(self) -> None:
        """See `base.Knob`."""
        if not _nvpmodel():
            raise AgentError("the target has no nvpmodel", hint="device.power_mode is for Jetson boards: remove it")
        if power_mode() is None:
            raise AgentError("nvpmodel -q does not report the current power mode", hint=_ALLOW % _user())

    def show(self) -> str:
        """See `base.Knob`."""
        mode = power_mode()
        return mode.name if mode else ""

    def choose(self, wanted: str) -> str:
        """See `base.Knob`."""
        return _find(wanted).name

    def set(self, value: str) -> None:
        """Raises `AgentError` for a mode that requires a reboot; the board is not rebooted."""
        _set(_find(value))

    def undo(self, value: str) -> list[str]:
        """See `base.Knob`."""
        restore = [*_sudo(), _nvpmodel(), "-m", str(_find(value).number)]
        return ["/bin/sh", "-c", 'echo no | "$@"', "restore", *restore]  # "no" to a reboot


_ALLOW = "let this user run it without a password: echo '%s ALL=(root) NOPASSWD: /usr/sbin/nvpmodel' | "
_ALLOW += "sudo tee /etc/sudoers.d/nvpmodel"


def _find(wanted: str) -> PowerMode:
    """The mode of this name or number among those of `nvpmodel -p --verbose`."""
    listed = re.findall(r"POWER_MODEL: ID=(\d+) NAME=(\S+)", _run([], "-p", "--verbose"))
    modes = [PowerMode(int(number), name) for number, name in listed]
    for mode in modes:
        if wanted in (mode.name, str(mode.number)):
            return mode
    known = ", ".join("%s (%d)" % (mode.name, mode.number) for mode in modes)
    raise AgentError("the board has no power mode '%s'" % wanted, hint="set device.power_mode to one of: %s" % known)


def _set(mode: PowerMode) -> None:
    answer = _run(_sudo(), "-m", str(mode.number))
    # "NVPM WARN: Reboot required for changing to this power mode: 0", and a question, which is answered with "no".
    if "eboot required" in answer:
        raise AgentError(
            "the board must reboot to change to power mode %s" % mode.name,
            hint="run sudo nvpmodel -m %d on the board, let it reboot, then run edlab without device.power_mode"
            % mode.number,
        )
    now = power_mode()
    if now is None or now.number != mode.number:
        last = (answer.strip().splitlines() or ["it printed nothing"])[-1]
        raise AgentError("nvpmodel does not change to power mode %s: %s" % (mode.name, last), hint=_ALLOW % _user())


def _run(prefix: list[str], *arguments: str) -> str:
    """What nvpmodel prints, on both streams; its questions are answered with "no"."""
    command = [*prefix, _nvpmodel(), *arguments]
    try:
        ended = subprocess.run(
            command, input=b"no\n", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=_TIMEOUT_S
        )
    except subprocess.TimeoutExpired as error:
        raise AgentError("%s timed out" % " ".join(command), hint="run it on the board to see why") from error
    return ended.stdout.decode(errors="replace")


def _nvpmodel() -> str:
    """Its path, empty if not found; /usr/sbin is not on the path of every user."""
    return shutil.which("nvpmodel", path=os.environ.get("PATH", os.defpath) + os.pathsep + "/usr/sbin") or ""


def _sudo() -> list[str]:
    return [] if os.geteuid() == 0 or not shutil.which("sudo") else ["sudo", "-n"]


def _user() -> str:
    return os.environ.get("USER", "USER")


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
