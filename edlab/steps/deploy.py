"""Step 3: an agent on the target, with the artifact open in its runtime."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edlab import converters, devices
from edlab.agent import int8
from edlab.artifact import Artifact, StepRecord
from edlab.cache import Cache, digest, sha256_files
from edlab.config import DeviceConfig, EdlabConfig, Execution
from edlab.converters import CalibrationData, Step
from edlab.devices import AgentSession
from edlab.errors import DeviceError, UnsupportedError
from edlab.steps import reference
from edlab.steps.convert import calibration_data
from edlab.steps.load import Inputs, OnProgress

_BUILD_RECORD, _BUILD_LOG = "build.json", "build.log"


@dataclass(frozen=True)
class Deployment:
    """An agent that has the artifact open, and what both said of themselves."""

    session: AgentSession
    device: DeviceConfig  # what really runs it: the device, or its stand-in
    artifact: Artifact  # what is open
    hello: dict[str, Any]  # the target: machine, CPU, Python, ...
    model: dict[str, Any]  # load_ms, compile_ms, inputs, outputs, effective options, runtime version
    before: dict[str, Any]  # clocks, temperatures and load before anything was measured

    @property
    def runs_on(self) -> str:
        """The runtime and the device: "litert on coral"."""
        return f"{self.model['runtime']} on {self.device.name}"

    @property
    def int8_kernels(self) -> str | None:
        """Whether the int8 kernels that run are exact (`edlab.agent.int8`); None where nothing runs in int8."""
        if not self.artifact.precision.startswith("int8"):
            return None
        known: dict[str, Any] = self.model.get("int8") or {}
        return str(known.get("int8_kernels", int8.UNKNOWN))


@contextmanager
def deploy(
    config: EdlabConfig,
    inputs: Inputs,
    artifact: Artifact,
    cache: Cache,
    on_progress: OnProgress,
    on_made: Callable[[Artifact], None] = lambda artifact: None,
) -> Iterator[Deployment]:
    """Connect to the device and open the artifact there; the agent lives as long as the context.

    The conversion's steps that run on the target come first; `on_made` is called with what each wrote.
    """
    device = running_device(config.device)
    on_progress("deploy", None, device.name)
    with devices.connect(device, cache) as session:
        session.lock(on_progress)
        hello = session.hello()
        _ensure_machine(device, hello)
        if hello.get("stand_in"):
            device = dataclasses.replace(device, stand_in=hello["stand_in"])
        if device.power_mode is not None:
            session.set_power_mode(device.power_mode)
        if config.device.execution is Execution.emulated:
            artifact = artifact.on_host
            on_made(artifact)
        else:
            for step in converters.steps_on_target(inputs.source, config.quantization, config.converter):
                calibration = calibration_data(config, inputs) if step.calibrates else None
                timeout_s = config.converter.timeout_s
                artifact = _build(session, step, artifact, calibration, device, timeout_s, cache, on_progress)
                on_made(artifact)
        _ensure_precision(artifact, config)
        before = session.state()
        model = session.open(artifact, inputs.source.preprocessing, device)
        yield Deployment(session, device, artifact, hello, model, before)


def running_device(device: DeviceConfig) -> DeviceConfig:
    """The device, or with `device.execution=emulated` this machine's CPU in its place."""
    if device.execution is Execution.native:
        return device
    stand_in = "this machine's CPU"
    return dataclasses.replace(reference.HOST, name=device.name, threads=device.threads, stand_in=stand_in)


def _ensure_machine(device: DeviceConfig, hello: dict[str, Any]) -> None:
    """Raise `DeviceError` where the target is another kind of machine than the device: its figures are not its."""
    if device.machines and hello["machine"] not in device.machines:
        raise DeviceError(
            f"{device.name} is {' or '.join(device.machines)}, and what answered is {hello['machine']}: "
            f"{hello['board'] or hello['cpu']}",
            hint="correct device.host, or take the device that it is (`edlab devices`)",
        )


def _ensure_precision(artifact: Artifact, config: EdlabConfig) -> None:
    """Raise `UnsupportedError` where what is about to run has another precision than the run is named after.

    On this machine's CPU an artifact that only its target quantizes is still in floating point.
    """
    wanted = config.quantization.precision
    if artifact.precision != wanted:
        emulated = config.device.execution is Execution.emulated
        raise UnsupportedError(
            f"quantization={wanted} was asked for, and the {artifact.format} file to run is {artifact.precision}",
            hint="the target itself makes it; device.execution=native measures it there"
            + (", and converter.options.int8=explicit quantizes it here" if config.converter.name == "tensorrt" else "")
            if emulated
            else f"set quantization={artifact.precision}",
        )


def _build(
    session: AgentSession,
    step: Step,
    given: Artifact,
    calibration: CalibrationData | None,
    device: DeviceConfig,
    timeout_s: float,
    cache: Cache,
    on_progress: OnProgress,
) -> Artifact:
    """One conversion step on the target; what it made before for the same file, options and target is taken again."""
    runtime = device.runtimes[step.format]
    tools = session.identity(runtime, step.options)
    options = dict(step.options)
    key = digest([given.sha256, step.name, step.version, options, tools, calibration.key() if calibration else None])
    ran = False

    def make(folder: Path) -> None:
        nonlocal ran
        ran = True
        on_progress("build", None, f"{step.name} on {device.name}")
        told = session.build(
            runtime,
            given.files,
            folder / step.output,
            options=options,
            calibration=calibration.describe() if calibration else None,
            timeout_s=timeout_s,
            on_progress=on_progress,
        )
        (folder / _BUILD_LOG).write_text(session.log + "\n")
        record = {**told, "sha256": sha256_files([folder / step.output])}
        (folder / _BUILD_RECORD).write_text(json.dumps(record, indent=2) + "\n")

    folder = cache.get_or_make("builds", key, make)
    record = json.loads((folder / _BUILD_RECORD).read_text())
    done = StepRecord(
        name=step.name,
        seconds=record["seconds"],
        cached=not ran,
        tools=tools,
        options=options,
        log=folder / _BUILD_LOG,
    )
    return Artifact(
        format=step.format,
        precision=step.precision,
        layout=step.layout,
        files=(folder / step.output,),
        sha256=record["sha256"],
        steps=(*given.steps, done),
        portable=given.on_host,
        unquantized=given.before_quantization(step.precision),
    )
