"""The system's own account, on faked trees and on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edlab.agent import system


def fill(root: Path, **files: str) -> Path:
    for name, content in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def test_a_board_is_read_from_its_files(tmp_path: Path) -> None:
    cpu = f"sys__devices__system__cpu__cpu{system.allowed_cpus()[0]}__"
    root = fill(
        tmp_path,
        **{
            "etc__edlab-stand-in": "QEMU user mode\n",
            "proc__cpuinfo": "processor\t: 0\nmodel name\t: Some Processor\nflags\t\t: fpu avx avx2 fma avx512_vnni\n",
            "proc__device-tree__model": "Some Board Rev 1.2\0",
            "proc__meminfo": "MemTotal:       4096 kB\nMemFree: 1 kB\n",
            "proc__stat": "cpu  9 9 9 9 9 9 9 9 0 0\n"
            + "".join(f"cpu{cpu} 100 50 25 700 100 15 10 30 0 0\n" for cpu in system.allowed_cpus()),
            "proc__self__status": "VmPeak:\t9 kB\nVmHWM:\t2048 kB\n",
            "sys__class__thermal__thermal_zone0__temp": "45500\n",
            "sys__class__thermal__thermal_zone0__type": "cpu-thermal\n",
            "sys__class__thermal__thermal_zone1__temp": "disabled\n",
            cpu + "cpufreq__scaling_governor": "performance\n",
            cpu + "cpufreq__scaling_driver": "intel_pstate\n",
            cpu + "thermal_throttle__core_throttle_count": "3\n",
        },
    )
    assert system.describe(root)["board"] == "Some Board Rev 1.2"
    assert system.describe(root)["cpu"] == "Some Processor"
    assert system.describe(root)["instruction_sets"] == "avx2 fma avx512_vnni"
    assert system.describe(root)["stand_in"] == "QEMU user mode"
    state = system.state(root)
    assert state["temperatures_c"] == {"thermal_zone0 (cpu-thermal)": 45.5}
    assert (state["governor"], state["scaling_driver"]) == ("performance", "intel_pstate")
    assert state["throttle_count"] == 3
    assert state["peak_memory_mb"] == pytest.approx(2048 * 1024 / 1e6)
    assert system.describe(root)["memory_mb"] == pytest.approx(4096 * 1024 / 1e6)
    cores, tick = len(system.allowed_cpus()), 1 / os.sysconf("SC_CLK_TCK")
    seconds = system.cpu_seconds(root)
    assert seconds == pytest.approx((200 * tick * cores, 30 * tick * cores, 1030 * tick * cores))


def test_clocks_are_those_of_the_allowed_cores(tmp_path: Path) -> None:
    for cpu in range(max(system.allowed_cpus()) + 2):
        fill(tmp_path, **{f"sys__devices__system__cpu__cpu{cpu}__cpufreq__scaling_cur_freq": f"{1000 * (cpu + 1)}\n"})
    assert system.clocks_mhz(tmp_path) == [cpu + 1 for cpu in system.allowed_cpus()]


@pytest.mark.parametrize(
    ("governors", "told"),
    [
        (["performance", "schedutil", "performance", "performance"], "schedutil"),
        (["powersave", "performance", "performance", "performance"], "performance"),  # of a core that is not allowed
        (["performance", "performance", "conservative", "performance"], "conservative"),
        (["performance", "conservative", "performance", "powersave"], "powersave"),
        (["performance", "", "", "ondemand"], "ondemand"),
        (["performance", "", "", ""], None),
    ],
)
def test_the_governor_is_the_slowest_of_the_allowed_cores(
    governors: list[str], told: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system, "allowed_cpus", lambda: [1, 2, 3])
    for cpu, governor in enumerate(governors):
        if governor:
            fill(tmp_path, **{f"sys__devices__system__cpu__cpu{cpu}__cpufreq__scaling_governor": governor + "\n"})
    assert system.state(tmp_path)["governor"] == told


def test_the_driver_is_that_of_the_first_allowed_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "allowed_cpus", lambda: [1, 2])
    for cpu, driver in enumerate(("acpi-cpufreq", "amd-pstate-epp", "cppc_cpufreq")):
        fill(tmp_path, **{f"sys__devices__system__cpu__cpu{cpu}__cpufreq__scaling_driver": driver + "\n"})
    assert system.state(tmp_path)["scaling_driver"] == "amd-pstate-epp"


def test_what_a_system_does_not_tell_is_none_or_absent(tmp_path: Path) -> None:
    assert system.describe(tmp_path)["stand_in"] is None
    state = system.state(tmp_path)
    assert (state["governor"], state["scaling_driver"]) == (None, None)
    assert (state["throttle_count"], state["peak_memory_mb"]) == (None, None)
    assert (state["temperatures_c"], state["clocks_mhz"]) == ({}, [])
    assert system.cpu_seconds(tmp_path) is None


def test_peak_memory_is_this_processes_own_not_its_parents() -> None:
    ballast = np.ones(400_000_000, np.uint8)  # the parent's peak; ru_maxrss would hand it down
    code = "from edlab.agent.system import peak_memory_mb as peak; a = peak(); b = b'x' * 80_000_000; print(a, peak())"
    folder = Path(__file__).resolve().parents[2]
    output = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(folder)},
    ).stdout
    before, after = map(float, output.split())
    assert before < 300 < ballast.nbytes / 1e6
    assert after - before > 40
