"""Facts of the system: processor, clocks, governor, temperatures, load and this process's memory.

A value that the system does not report is None, or absent from its dict.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from pathlib import Path
from typing import Any, NamedTuple

_ROOT = Path("/")


def describe(root: Path = _ROOT) -> dict[str, Any]:
    """What does not change: processor and board, kernel, memory (MB, 10^6 bytes) and the cores that this process may
    use.

    stand_in is the description of a machine that stands in for a board, from its file /etc/edlab-stand-in.
    """
    memory = re.search(r"MemTotal:\s+(\d+) kB", _text(root / "proc/meminfo"))
    return {
        "platform": platform.platform(),
        "machine": platform.machine(),
        "stand_in": _text(root / "etc/edlab-stand-in").strip() or None,
        "board": _text(root / "proc/device-tree/model").strip("\0\n ") or None,
        "cpu": cpu_model(root),
        "virtual": "hypervisor" in cpu_flags(root),
        "instruction_sets": instruction_sets(root),
        "cpus": allowed_cpus(),
        "memory_mb": _megabytes(memory.group(1)) if memory else None,
    }


def state(root: Path = _ROOT) -> dict[str, Any]:
    """What changes during a benchmark.

    clocks_mhz (of the cores that this process may use), governor (see `governor`), scaling_driver (the driver of that
    governor), temperatures_c by zone, throttle_count (thermal events since boot, if the processor counts them),
    load_1m, peak_memory_mb, free_disk_mb (on the agent's disk).
    """
    return {
        "clocks_mhz": clocks_mhz(root),
        "governor": governor(root),
        "scaling_driver": scaling_driver(root),
        "temperatures_c": temperatures_c(root),
        "throttle_count": throttle_count(root),
        "load_1m": os.getloadavg()[0],
        "peak_memory_mb": peak_memory_mb(root),
        "free_disk_mb": shutil.disk_usage(os.path.dirname(os.path.abspath(sys.argv[0]))).free / 1e6,
    }


def allowed_cpus() -> list[int]:
    """The cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


# The features that decide how a processor multiplies int8, fp16 and bf16, named as in /proc/cpuinfo (x86 "flags", Arm
# "Features").
_INSTRUCTION_SETS = (
    "avx2 fma f16c avx_vnni avx512f avx512_vnni avx512_bf16 avx512_fp16 amx_int8 amx_bf16 "
    "asimd asimdhp asimddp i8mm bf16 sve sve2 sme"
).split()


def instruction_sets(root: Path = _ROOT) -> str | None:
    """The vector instructions of the processor that matter to inference, "avx2 fma f16c"; None if it reports none."""
    flags = cpu_flags(root)
    return " ".join(name for name in _INSTRUCTION_SETS if name in flags) or None


def cpu_flags(root: Path = _ROOT) -> list[str]:
    """The processor's features as /proc/cpuinfo names them; including "hypervisor" in a virtual machine (x86)."""
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", _text(root / "proc/cpuinfo"), re.MULTILINE)
    return flags.group(1).split() if flags else []


def cpu_model(root: Path = _ROOT) -> str | None:
    """The processor's name: `model name` on x86, `Hardware` or nothing on Arm."""
    match = re.search(r"^(?:model name|Hardware)\s*:\s*(.+)$", _text(root / "proc/cpuinfo"), re.MULTILINE)
    return match.group(1).strip() if match else platform.processor() or None


def clocks_mhz(root: Path = _ROOT) -> list[float]:
    """The present clock of each allowed core: cpufreq, else /proc/cpuinfo."""
    folder = root / "sys/devices/system/cpu"
    clocks = [_number(folder / "cpu{}/cpufreq/scaling_cur_freq".format(cpu)) for cpu in allowed_cpus()]
    if None not in clocks:
        return [kilohertz / 1000 for kilohertz in clocks if kilohertz is not None]
    listed = re.findall(r"^cpu MHz\s*:\s*([\d.]+)", _text(root / "proc/cpuinfo"), re.MULTILINE)
    return [float(listed[cpu]) for cpu in allowed_cpus() if cpu < len(listed)]


_SLOW_GOVERNORS = ("powersave", "conservative")  # slowest first


def governor(root: Path = _ROOT) -> str | None:
    """The clock governor of the allowed cores. If they differ, a governor that lowers clocks has priority."""
    governors = list(filter(None, (_cpufreq(root, cpu, "scaling_governor") for cpu in allowed_cpus())))
    slow = [name for name in _SLOW_GOVERNORS if name in governors]
    return next(iter(slow + governors), None)


def scaling_driver(root: Path = _ROOT) -> str | None:
    """The kernel's clock driver of the first allowed core. The meaning of a governor's name depends on it.

    With intel_pstate and amd-pstate-epp, "powersave" is the usual, dynamic policy (Linux, admin-guide/pm,
    intel_pstate.rst and amd-pstate.rst, active mode); with others it is the lowest clock (cpufreq.rst).
    """
    return _cpufreq(root, allowed_cpus()[0], "scaling_driver")


def _cpufreq(root: Path, cpu: int, name: str) -> str | None:
    return _text(root / "sys/devices/system/cpu/cpu{}/cpufreq".format(cpu) / name).strip() or None


def temperatures_c(root: Path = _ROOT) -> dict[str, float]:
    """Degrees Celsius by thermal zone; a zone that cannot be read now is omitted."""
    readings = {}
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        millidegrees = _number(zone / "temp")
        if millidegrees is not None:
            readings["{} ({})".format(zone.name, _text(zone / "type").strip())] = millidegrees / 1000
    return readings


def peak_memory_mb(root: Path = _ROOT) -> float | None:
    """The most resident memory of this process so far, MB (10^6 bytes). VmHWM: ru_maxrss would inherit the parent's."""
    match = re.search(r"VmHWM:\s+(\d+) kB", _text(root / "proc/self/status"))
    return _megabytes(match.group(1)) if match else None


class CpuSeconds(NamedTuple):
    """The time of the cores that this process may use since boot, summed over the cores."""

    busy: float  # used by any process or the kernel
    stolen: float  # needed, but given to another machine by the hypervisor
    total: float


def cpu_seconds(root: Path = _ROOT) -> CpuSeconds | None:
    """From /proc/stat: user nice system idle iowait irq softirq steal, in clock ticks (proc(5))."""
    ticks = [0] * 8
    lines = dict(re.findall(r"^cpu(\d+) (.*)$", _text(root / "proc/stat"), re.MULTILINE))
    for cpu in allowed_cpus():
        fields = lines.get(str(cpu), "").split()[:8]
        if len(fields) < 8:
            return None
        ticks = [sum(pair) for pair in zip(ticks, map(int, fields))]
    user, nice, kernel, idle, iowait, irq, softirq, steal = (tick / os.sysconf("SC_CLK_TCK") for tick in ticks)
    busy = user + nice + kernel + irq + softirq
    return CpuSeconds(busy, steal, busy + steal + idle + iowait)


def throttle_count(root: Path = _ROOT) -> int | None:
    """Thermal events of the allowed cores since boot; None if the processor does not count them (only Intel's do)."""
    counts = [
        _number(root / "sys/devices/system/cpu/cpu{}/thermal_throttle/core_throttle_count".format(cpu))
        for cpu in allowed_cpus()
    ]
    known = [int(count) for count in counts if count is not None]
    return sum(known) if known else None


def _megabytes(kibibytes: str) -> float:
    """10^6 bytes, from a value of proc(5) in kB, which are 1024 bytes."""
    return int(kibibytes) * 1024 / 1e6


def _text(path: Path) -> str:
    """The file's text; empty if it is missing or cannot be read."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _number(path: Path) -> float | None:
    try:
        return float(_text(path))
    except ValueError:
        return None
