"""Built-in knobs pass the suite that third parties subclass, on stand-ins; knobs that break a rule do not."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from conformance import Part
from test_jetson import install_nvpmodel
from workplace import Workplace

from edlab import devices
from edlab.agent.boards import governor
from edlab.cache import Cache
from edlab.composition import compose_config
from edlab.config import DeviceConfig
from edlab.errors import AgentError, ConfigError
from edlab.testing.knob import KnobConformance


def fake_cpufreq(sysfs: Path, governors: tuple[str, ...] = ("schedutil", "schedutil")) -> Path:
    """A /sys of so many cores; a core's files are plain ones, where the kernel's would check what is written."""
    for core, name in enumerate(governors):
        folder = sysfs / f"devices/system/cpu/cpu{core}/cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_governor").write_text(f"{name}\n")
        (folder / "scaling_available_governors").write_text("performance schedutil powersave \n")
    return sysfs


def governors_of(sysfs: Path) -> list[str]:
    files = sorted(sysfs.glob("devices/system/cpu/cpu*/cpufreq/scaling_governor"))
    return [file.read_text().strip() for file in files]


class _OnFiles(KnobConformance):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.sysfs = fake_cpufreq(tmp_path / "sys")

    def environment(self) -> Mapping[str, str]:
        return {"EDLAB_SYSFS": str(self.sysfs)}


class TestGovernor(_OnFiles):
    knob = "governor"
    value = "performance"


class TestPowerMode(KnobConformance):
    knob = "power_mode"
    value = "0"  # by its number: MAXN

    @pytest.fixture(autouse=True)
    def _board(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        install_nvpmodel(tmp_path / "bin", monkeypatch)


def test_cores_that_differ_are_put_back_each(tmp_path: Path) -> None:
    sysfs = fake_cpufreq(tmp_path / "sys", ("powersave", "schedutil", "performance"))
    device = DeviceConfig(name="cpu", env={"EDLAB_SYSFS": str(sysfs)})
    with devices.connect(device, Cache(tmp_path / "cache")) as session:
        change = session.set_knob("governor", "performance")
        assert change == ("powersave schedutil performance", "performance")
        assert governors_of(sysfs) == ["performance"] * 3
    assert governors_of(sysfs) == ["powersave", "schedutil", "performance"]


def test_a_knob_set_twice_goes_back_to_what_was_first(tmp_path: Path) -> None:
    sysfs = fake_cpufreq(tmp_path / "sys")
    device = DeviceConfig(name="cpu", env={"EDLAB_SYSFS": str(sysfs)})
    with devices.connect(device, Cache(tmp_path / "cache")) as session:
        session.set_knob("governor", "performance")
        assert session.set_knob("governor", "powersave") == ("schedutil", "powersave")
    assert governors_of(sysfs) == ["schedutil"] * 2


def test_a_machine_without_governors_and_a_user_who_may_not_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = DeviceConfig(name="cpu", env={"EDLAB_SYSFS": str(tmp_path)})
    connection = devices.connect(device, Cache(tmp_path / "cache"))
    with connection as session, pytest.raises(AgentError, match="no clock governor") as caught:
        session.set_knob("governor", "performance")
    assert "device.knobs.governor" in caught.value.hint
    monkeypatch.setenv("EDLAB_SYSFS", str(fake_cpufreq(tmp_path / "sys")))
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root, who runs the tests in a container, may all
    with pytest.raises(Exception, match="not allowed to set") as refused:
        governor.Knob().available()
    assert "chmod" in refused.value.hint  # type: ignore[attr-defined]


def test_an_unknown_knob_is_refused_with_near_names() -> None:
    with pytest.raises(ConfigError, match=r"unknown knob 'device\.knobs\.govenor'") as caught:
        compose_config(["device.knobs.govenor=performance"])
    assert "did you mean 'governor'" in caught.value.hint
    with pytest.raises(ConfigError, match="differ"):
        compose_config(["device.power_mode=MAXN", "device.knobs.power_mode=MODE_15W"])


FAN = Part(
    name="acme_fan",
    source="""
import os

from edlab.agent.boards import base
from edlab.agent.errors import AgentError


class Knob(base.Knob):
    def __init__(self):
        self.path = os.environ.get("ACME_FAN", "/nonexistent")

    def available(self):
        if not os.path.exists(self.path):
            raise AgentError("there is no Acme fan", hint="plug it in")

    def show(self):
        with open(self.path) as file:
            return file.read().strip()

    def choose(self, wanted):
        if wanted not in ("quiet", "loud"):
            raise AgentError("the fan is never '%s'" % wanted, hint="it is quiet or loud")
        return wanted

    def set(self, value):
        with open(self.path, "w") as file:
            file.write(value)

    def undo(self, value):
        return ["/bin/sh", "-c", 'echo "$1" > "$2"', "fan", value, self.path]
""",
    entries=("edlab.knobs: acme_fan = acme_fan",),
    suite="""
import pytest

from edlab.testing.knob import KnobConformance


class TestFan(KnobConformance):
    knob = "acme_fan"
    value = "loud"

    @pytest.fixture(autouse=True)
    def _fan(self, tmp_path):
        self.path = tmp_path / "fan"
        self.path.write_text("quiet\\n")

    def environment(self):
        return {"ACME_FAN": str(self.path)}
""",
)

# What of the fan above is replaced, by what, and the test of the suite that must see it.
BROKEN = [
    ("file.read().strip()", '"loud"', "test_what_it_shows_can_be_chosen"),
    ("file.write(value)", "pass", "test_it_is_set_for_an_agent_and_put_back_after_it"),
    ('echo "$1" > "$2"', "true", "test_it_is_put_back_after_an_agent_that_is_killed"),
    ('wanted not in ("quiet", "loud")', "False", "test_a_value_that_there_is_not_is_refused_and_changes_nothing"),
    (
        'if not os.path.exists(self.path):\n            raise AgentError("there is no Acme fan", hint="plug it in")',
        'raise AgentError("there is no Acme fan")',
        "test_it_is_available_or_says_what_to_do",
    ),
]


def test_a_knob_of_a_package_is_set_for_a_run_recorded_and_put_back(tmp_path: Path, workplace: Workplace) -> None:
    site, fan = tmp_path / "site", tmp_path / "fan"
    fan.write_text("quiet\n")
    FAN.install(site)
    workplace.environment["PYTHONPATH"] = os.pathsep.join([str(site), workplace.environment.get("PYTHONPATH", "")])
    words = ["quantization=fp32", f"device.env.ACME_FAN={fan}"]
    result = workplace.run(*words, "device.knobs.acme_fan=loud")
    assert result.returncode == 0, result.stdout + result.stderr
    (record,) = workplace.records()
    assert record.details["knobs"] == {"acme_fan": {"before": "quiet", "value": "loud"}}
    assert record.params["device.knobs.acme_fan"] == "loud"
    assert fan.read_text() == "quiet\n"
    fan.unlink()
    assert workplace.run(*words, "device.knobs.acme_fan=loud").returncode == 1
    (failed,) = workplace.records()
    assert (failed.status, failed.reason, failed.hint) == ("failed", "there is no Acme fan", "plug it in")


@pytest.mark.slow
def test_the_suite_fails_knobs_that_break_a_rule(tmp_path: Path) -> None:
    FAN.check_suite(tmp_path, BROKEN)
