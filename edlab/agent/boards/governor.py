"""The clock governor of the processor's cores (Linux, admin-guide/pm/cpufreq.rst), the same for all cores."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import AgentError
from ..sensors import SYSFS_VARIABLE
from . import base

_WRITE = 'while [ $# -gt 0 ]; do echo "$1" > "$2" || exit 1; shift 2; done'


class Knob(base.Knob):
    """A name of scaling_available_governors. If cores differ, it is "performance powersave ...", one for each core."""

    def available(self) -> None:
        """See `base.Knob`."""
        files = _files()
        if not files:
            raise AgentError(
                "the target has no clock governor", hint="virtual machines have none: remove device.knobs.governor"
            )
        if not all(os.access(str(file), os.W_OK) for file in files):
            raise AgentError(
                "this user is not allowed to set the clock governor of the target",
                hint="run on the target: sudo chmod a+w %s (valid until it reboots)" % _pattern(),
            )

    def show(self) -> str:
        """The governor, or the governors of all cores in order if they differ."""
        found = [_text(file) for file in _files()]
        return found[0] if len(set(found)) == 1 else " ".join(found)

    def choose(self, wanted: str) -> str:
        """Only a governor that every core has."""
        each = [_text(file.with_name("scaling_available_governors")).split() for file in _files()]
        common = [name for name in each[0] if all(name in others for others in each)]
        if wanted not in common:
            raise AgentError(
                "the processor has no governor '%s'" % wanted,
                hint="set device.knobs.governor to one of: %s" % ", ".join(common),
            )
        return wanted

    def set(self, value: str) -> None:
        """See `base.Knob`."""
        for file in _files():
            try:
                file.write_text(value + "\n")
            except OSError as error:
                raise AgentError(
                    "cannot write %s to %s: %s" % (value, file, error.strerror),
                    hint="`dmesg` on the target may show the cause",
                ) from error

    def undo(self, value: str) -> list[str]:
        """See `base.Knob`."""
        files, names = _files(), value.split()
        if len(names) == 1:
            names *= len(files)
        pairs = [word for name, file in zip(names, files) for word in (name, str(file))]
        return ["/bin/sh", "-c", _WRITE, "governor", *pairs]


def _pattern() -> str:
    return os.path.join(os.environ.get(SYSFS_VARIABLE, "/sys"), "devices/system/cpu/cpu*/cpufreq/scaling_governor")


def _files() -> list[Path]:
    """One file for each core, in the order of their names."""
    pattern = Path(_pattern())
    return sorted(Path(pattern.anchor).glob(str(pattern.relative_to(pattern.anchor))))


def _text(file: Path) -> str:
    return file.read_text().strip()
