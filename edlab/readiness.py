"""Whether a converter and a device have what they need, and what mends it where they do not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from edlab import converters, devices
from edlab.cache import Cache
from edlab.config import ConverterConfig, DeviceConfig, EdlabConfig, Execution
from edlab.errors import EdlabError

LOW_DISK_MB = 2000.0


@dataclass(frozen=True)
class Finding:
    """One line of a report: a part, whether it is fit to use, the facts, and the mend where it is not.

    `optional` is a part that edlab does without: the runtime of an extra, a board that nobody has configured.
    """

    part: str
    fit: bool
    facts: str
    mend: str = ""
    optional: bool = False


def preflight(configs: Sequence[EdlabConfig], cache: Cache) -> list[Finding]:
    """What the converters and devices of these runs lack. Asked in seconds, before anything runs; stops nothing."""
    findings: dict[tuple[str, str], Finding] = {}
    for config in _distinct(configs):
        for finding in _needed(config, cache):
            if not finding.fit:
                findings.setdefault((finding.part, finding.facts), finding)
    return list(findings.values())


def _distinct(configs: Sequence[EdlabConfig]) -> list[EdlabConfig]:
    """One configuration for each converter and device among them."""
    return list({repr((config.converter, config.device)): config for config in configs}.values())


def _needed(config: EdlabConfig, cache: Cache) -> Iterator[Finding]:
    """What a run needs of its converter and device; a stand-in on this CPU needs neither."""
    if config.device.execution is Execution.emulated:
        return
    yield from converter(config.converter)
    made = converters.load(config.converter.name).format
    yield from device(config.device, cache, [made] if made in config.device.runtimes else [])


def converter(config: ConverterConfig) -> Iterator[Finding]:
    """The packages and programs of a toolchain."""
    part = f"converter={config.name}"
    kind = converters.load(config.name)
    if missing := kind.missing():
        mends = sorted({kind.requirements[package] for package in missing})
        mend = " && ".join(f"pip install '{mend}'" for mend in mends)
        yield Finding(part, False, f"lacks {', '.join(missing)}", mend, optional=True)
        return
    try:
        converters.get(config).check_programs()
    except EdlabError as error:
        yield Finding(part, False, error.message, error.hint, optional=True)
        return
    yield Finding(part, True, f"{', '.join(kind.takes)} → {kind.format}")


def device(config: DeviceConfig, cache: Cache, formats: Sequence[str] | None = None) -> Iterator[Finding]:
    """Connect, and say what the target has and lacks; of its runtimes those for `formats` (None: all)."""
    name = config.name
    runtimes = {made: config.runtimes[made] for made in (config.runtimes if formats is None else formats)}
    try:
        with devices.connect(config, cache) as session:
            hello, state = session.hello(), session.state()
            found = session.probe(sorted(set(runtimes.values()))) if runtimes else {}
            sensors = session.sensors()
    except EdlabError as error:
        nobodys = config.kind == "ssh" and not config.host
        yield Finding(f"device={name}", False, error.message, error.hint, optional=nobodys)
        return
    yield Finding(f"device={name}", True, str(hello["board"] or hello["cpu"] or hello["machine"]))
    yield Finding(f"{name}: python", True, f"{hello['python']}, numpy {hello['numpy']}")
    yield from _condition(name, state)
    for file_format, runtime in runtimes.items():
        answer = found[runtime]
        if "version" in answer:
            yield Finding(f"{name}: {runtime}", True, f"{answer['version']} runs {file_format}")
        else:
            yield Finding(f"{name}: {runtime}", False, answer["reason"], answer["hint"], optional=True)
    found_sensors = ", ".join(f"{sensor['name']} ({sensor['boundary']})" for sensor in sensors)
    yield Finding(f"{name}: power", True, found_sensors or "no sensor: power is estimated from device.specification")


def _condition(name: str, state: dict[str, Any]) -> Iterator[Finding]:
    """Disk, clocks and temperature, as far as the target tells them."""
    if (free_mb := state["free_disk_mb"]) is not None:
        fit = free_mb > LOW_DISK_MB
        mend = "" if fit else "free space on the target's disk, or point device.workdir at another"
        yield Finding(f"{name}: disk", fit, f"{free_mb / 1000:.0f} GB free", mend)
    clocks = f"{max(state['clocks_mhz']):.0f} MHz" if state["clocks_mhz"] else "not told"
    governor = f", governor {state['governor']}" if state["governor"] else ""
    yield Finding(f"{name}: clocks", True, clocks + governor)
    if temperatures := state["temperatures_c"]:
        hottest = max(temperatures, key=lambda zone: temperatures[zone])
        yield Finding(f"{name}: temperature", True, f"{temperatures[hottest]:.0f} °C, the hottest: {hottest}")
