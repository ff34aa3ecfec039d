"""Whether a converter and a device have everything that they need, and how to fix it if not."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edlab import converters, devices, power, toolenvs
from edlab.agent.messages import Availability, Machine, SensorFound, Sensors, State
from edlab.cache import Cache
from edlab.config import ConverterConfig, DeviceConfig, EdlabConfig, Execution
from edlab.converters import ToolEnv
from edlab.devices import agent_zip
from edlab.errors import BusyError, ConfigError, EdlabError
from edlab.models.weights import NAMED_WEIGHTS
from edlab.packages import install

_METER_SECONDS = 5.0
_LOW_DISK_MB = 2000.0  # on a target


@dataclass(frozen=True)
class Finding:
    """One line of a report: a part, whether it can be used, the details, and the fix if it cannot.

    `optional` is a part that edlab does not require: the runtime of an extra, a board that is not configured. `absent`
    is a part that is not there or was not checked, which is no error: a device without a power sensor, or in use.
    """

    part: str
    ok: bool
    details: str
    fix: str = ""
    optional: bool = False
    absent: bool = False


def preflight(configs: Sequence[EdlabConfig], cache: Cache) -> list[Finding]:
    """What the converters and devices of these runs are missing. This takes seconds, before anything runs, and stops no
    run.

    A device that this machine's CPU stands in for is not checked, and neither are the programs of its vendor: its
    converter needs only the packages of the steps before them.
    """
    native = [config for config in configs if config.device.execution is Execution.native]
    toolchains: dict[str, tuple[ConverterConfig, bool]] = {}
    for config in configs:
        key, is_native = repr(config.converter), config.device.execution is Execution.native
        toolchains[key] = config.converter, is_native or (key in toolchains and toolchains[key][1])
    targets: dict[str, DeviceConfig] = {}
    formats: dict[str, set[str]] = {}
    findings = [
        finding for toolchain, programs in toolchains.values() for finding in converter(toolchain, cache, programs)
    ]
    for config in native:
        key = _identity(config.device)
        targets[key] = config.device
        formats.setdefault(key, set()).update(_output_formats(config.converter))
    for key, target in targets.items():
        findings += device(target, cache, sorted(formats[key] & target.runtimes.keys()))
    return [finding for finding in findings if not finding.ok]


def of_run(config: EdlabConfig, cache: Cache) -> Iterator[Finding]:
    """What one run needs: its files, its converter, and its device with the runtime for the converter's output."""
    yield from _files(config)
    yield from converter(config.converter, cache)
    yield from device(config.device, cache, _output_formats(config.converter))
    yield from meter(config)


def check_files(configs: Sequence[EdlabConfig]) -> None:
    """Raise `ConfigError` for a missing file or folder of the model or its data, if each of these runs has one.

    Otherwise the rows with missing ones fail, and the others run.
    """
    missing = [next((finding for finding in _files(config) if not finding.ok), None) for config in configs]
    if (first := missing[0]) and all(missing):
        raise ConfigError(first.details, hint=first.fix)


def _files(config: EdlabConfig) -> Iterator[Finding]:
    """The files that the model and the data set name. They are read when a run starts."""
    weights = config.model.weights if config.model.weights not in NAMED_WEIGHTS else None
    named = {
        "model.path": config.model.path,
        "model.weights": weights,
        "dataset.path": config.dataset.path,
        "dataset.calibration_path": config.dataset.calibration_path,
    }
    yield Finding(f"model={config.model.name}", True, f"dataset={config.dataset.name}")
    for key, path in named.items():
        if path and Path(path).expanduser().exists():
            yield Finding(key, True, path)
        elif path:
            fix = f"fix {key}" + ("" if Path(path).is_absolute() else f": it is relative to {Path.cwd()}")
            yield Finding(key, False, f"{key}={path} does not exist", fix)


def _output_formats(config: ConverterConfig) -> list[str]:
    """The output format of this converter; empty if it cannot be loaded, which is already a finding."""
    with contextlib.suppress(EdlabError):
        return [converters.load(config.name).format]
    return []


def _identity(device: DeviceConfig) -> str:
    """What identifies a target, whatever else its runs set."""
    return repr((device.name, device.kind, device.address, device.target, device.python, device.env, device.options))


def converter(config: ConverterConfig, cache: Cache, programs: bool = True) -> Iterator[Finding]:
    """The packages of a toolchain, and its programs and its tool environment unless `programs` is false."""
    part = f"converter={config.name}"
    try:
        kind = converters.load(config.name)
    except EdlabError as error:
        yield Finding(part, False, error.message, error.hint, optional=True)
        return
    if missing := kind.missing():
        fix = install([kind.requirements[package] for package in missing])
        yield Finding(part, False, f"missing {', '.join(missing)}", fix, optional=True)
        return
    tools = ""
    try:
        if programs:
            converters.get(config).check_programs()
            tools = _tools(kind.toolenv, config.python, cache)
    except EdlabError as error:
        yield Finding(part, False, error.message, error.hint, optional=True)
        return
    place = "; its tool is on the device" if kind.on_target else ""
    yield Finding(part, True, f"{', '.join(kind.takes)} → {kind.format}{tools}{place}")


def _tools(recipe: ToolEnv | None, python: str | None, cache: Cache) -> str:
    """Where the vendor's tool is, if not in edlab's own Python. Raises `MissingDependencyError`."""
    if recipe is None:
        return ""
    if place := python or toolenvs.find(recipe, cache):
        return f"; tools in {place}"
    toolenvs.base_python(recipe)
    return f"; the first run installs {', '.join(recipe.requirements)} into a separate environment"


def device(config: DeviceConfig, cache: Cache, formats: Sequence[str] | None = None) -> Iterator[Finding]:
    """Connect, and report what the target has and what is missing; only runtimes for `formats` (None: all)."""
    name = config.name
    wanted = list(config.runtimes) if formats is None else formats
    runtimes = sorted({config.runtimes[file_format] for file_format in wanted if file_format in config.runtimes})
    try:
        with devices.connect(dataclasses.replace(config, lock_timeout=0.0), cache) as session:
            try:
                session.lock()
            except BusyError as error:  # no imports during another run
                details = f"not checked: {error.message}; run doctor again afterwards"
                yield Finding(f"device={name}", True, details, absent=True)
                return
            hello, state = session.hello(), session.state()
            found = session.available(runtimes) if runtimes else {}
            sensors = session.sensors()
    except EdlabError as error:
        optional = bool(config.stand_in) or (config.kind == "ssh" and not config.address)
        yield Finding(f"device={name}", False, error.message, error.hint, optional=optional)
        return
    yield Finding(f"device={name}", True, _machine(hello))
    yield Finding(f"{name}: python", True, f"{hello.python}, numpy {hello.numpy}")
    yield from _condition(config, state)
    for file_format in wanted:
        yield _runtime(config, file_format, found)
    yield from _power(config, sensors)


def meter(config: EdlabConfig) -> Iterator[Finding]:
    """Read the power meter for some seconds: its watts, how often it is renewed, and its resolution."""
    try:
        opened = power.open_meter(config.meter)
    except EdlabError as error:
        yield Finding(f"meter={config.meter.name}", False, error.message, error.hint)
        return
    if opened is None:
        return
    tried = power.try_out(opened, config.power.interval_s, _METER_SECONDS)
    part = f"meter={config.meter.name}"
    if tried.readings:
        aligned = "" if opened.knows_time else "; a run aligns its times by a load pattern, which was not tried"
        yield Finding(part, True, f"{opened.name}: {tried}{aligned}")
    else:
        yield Finding(part, False, tried.error, tried.fix)


def plugins() -> Iterator[Finding]:
    """Parts of the agent that packages add and that are not found here; only runs that use them fail."""
    for part, error in agent_zip.lost().items():
        yield Finding(part, False, error.message, error.hint, optional=True)


def _runtime(config: DeviceConfig, file_format: str, found: dict[str, Availability]) -> Finding:
    """Whether files of the format `file_format` can run; `found` is the agent's answer for each runtime."""
    name, runtime = config.name, config.runtimes.get(file_format)
    if runtime is None:
        able = ", ".join(config.runtimes)
        return Finding(f"{name}: {file_format}", False, f"{name} has no runtime for it", f"it supports {able}")
    if error := agent_zip.lost().get(f"runtime '{runtime}'"):
        return Finding(f"{name}: {runtime}", False, error.message, error.hint, optional=True)
    answer = found[runtime]
    if answer.version:
        return Finding(f"{name}: {runtime}", True, f"{runtime} {answer.version} runs {file_format} files")
    return Finding(f"{name}: {runtime}", False, answer.reason, answer.hint, optional=True)


def _machine(hello: Machine) -> str:
    """The board or the processor, and the graphics cards that NVIDIA's driver lists."""
    machine = hello.board or hello.cpu or hello.machine
    return f"{machine}; GPU: {hello.gpu}, driver {hello.gpu_driver}" if hello.gpu else machine


def _power(config: DeviceConfig, found: Sensors) -> Iterator[Finding]:
    """The sensors that measure the device; of the others only readable ones, marked as not used."""
    part = f"{config.name}: power"
    measuring = [sensor for sensor in found.sensors if power.measures(config, sensor)]
    others = [sensor for sensor in found.sensors if not power.measures(config, sensor)]
    files = {sensor.stand_in for sensor in measuring if sensor.stand_in}
    note = f"; from the files under {files.pop()}, not the hardware" if files else ""
    note += f"; not in device.sensors: {_listed(others)}" if others else ""
    yield Finding(part, True, (_listed(measuring) or _without_sensor(config)) + note, absent=not measuring)
    for name in config.sensors:
        if error := agent_zip.lost().get(f"sensor '{name}'"):
            yield Finding(part, False, error.message, error.hint, optional=True)
    for unusable in found.unusable:
        if power.measures(config, unusable):
            yield Finding(part, False, f"{unusable.name}: {unusable.reason}", unusable.hint, optional=True)


def _listed(sensors: Sequence[SensorFound]) -> str:
    return ", ".join(f"{sensor.name} ({sensor.boundary})" for sensor in sensors)


def _without_sensor(config: DeviceConfig) -> str:
    if config.specification.typical_watts is None:
        return "no sensor, and no estimate: set device.specification.typical_watts to get an estimate"
    return f"no sensor: estimated as {config.specification.typical_watts:g} W, from device.specification"


def _condition(config: DeviceConfig, state: State) -> Iterator[Finding]:
    """Disk, clocks and temperature, if the target reports them."""
    name = config.name
    ok = state.free_disk_mb > _LOW_DISK_MB
    place = "device.workdir" if config.address else "EDLAB_CACHE"
    fix = "" if ok else f"free space on the target's disk, or set {place} to a folder on another disk"
    yield Finding(f"{name}: disk", ok, f"{state.free_disk_mb / 1000:.0f} GB free", fix)
    clocks = f"{max(state.clocks_mhz):.0f} MHz" if state.clocks_mhz else "not reported"
    governor = f", governor {state.governor}" if state.governor else ""
    yield Finding(f"{name}: clocks", True, clocks + governor)
    if temperatures := state.temperatures_c:
        hottest = max(temperatures, key=lambda zone: temperatures[zone])
        yield Finding(f"{name}: temperature", True, f"{temperatures[hottest]:.0f} °C, the hottest: {hottest}")
