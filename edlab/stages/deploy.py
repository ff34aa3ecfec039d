"""Stage 3: an agent on the target, with the artifact open in its runtime."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from edlab import converters, devices
from edlab.agent import int8
from edlab.agent.messages import KnobSet, Machine, Opened, State
from edlab.artifact import Artifact
from edlab.cache import Cache
from edlab.config import DeviceConfig, EdlabConfig, Execution
from edlab.devices import AgentSession
from edlab.errors import DeviceError, UnsupportedError
from edlab.stages import reference
from edlab.stages.convert import calibration_data
from edlab.stages.load import Inputs, OnProgress
from edlab.stages.workshops import AgentWorkshop


@dataclass(frozen=True)
class Deployment:
    """An agent that has the artifact open, and the facts that both report."""

    session: AgentSession
    device: DeviceConfig  # the device that really runs it: the device, or its stand-in
    artifact: Artifact  # the open artifact
    machine: Machine
    model: Opened
    before: State  # the state before the measurement
    knobs: dict[str, KnobSet]  # the knobs that are set until this ends, by name

    @property
    def runs_on(self) -> str:
        """The runtime and the device: "litert on coral"."""
        return f"{self.model.runtime} on {self.device.name}"

    @property
    def int8_kernels(self) -> str | None:
        """Whether the int8 kernels that run are exact (`edlab.agent.int8`); None if nothing runs in int8."""
        if not self.artifact.precision.startswith("int8"):
            return None
        return self.model.int8.int8_kernels if self.model.int8 else int8.UNKNOWN


@contextmanager
def deploy(
    config: EdlabConfig,
    inputs: Inputs,
    artifact: Artifact,
    cache: Cache,
    on_progress: OnProgress,
    on_made: Callable[[Artifact], None] = lambda artifact: None,
) -> Iterator[Deployment]:
    """Connect to the device and open the artifact there; the agent ends with the context.

    The conversion's steps that run on the target come first; `on_made` is called with the output of each.
    """
    device = running_device(config.device)
    on_progress("deploy", None, device.name)
    with devices.connect(device, cache, inputs.source.reader.modules) as session:
        session.lock(on_progress)
        machine = session.hello()
        _ensure_machine(device, machine)
        if machine.stand_in:
            device = dataclasses.replace(device, stand_in=machine.stand_in)
        knobs = {name: session.set_knob(name, value) for name, value in device.settings.items()}
        if config.device.execution is Execution.emulated:
            artifact = artifact.on_host
            on_made(artifact)
        else:
            artifact = converters.run_steps(
                converters.steps_on_target(inputs.source, config.quantization, config.converter),
                artifact,
                {converters.TARGET: AgentWorkshop(session, on_progress)},
                config.converter,
                calibration=lambda: calibration_data(config, inputs),
                cache=cache,
                portable=reference.this_machine().runtimes,
                on_progress=lambda step: on_progress("build", None, f"{step} on {device.name}"),
                on_made=on_made,
            )
        _ensure_precision(artifact, config)
        before = session.state()
        model = session.open(artifact, inputs.source.preprocessing, device, inputs.source.task, inputs.source.reader)
        yield Deployment(session, device, artifact, machine, model, before, knobs)


def running_device(device: DeviceConfig) -> DeviceConfig:
    """The device, or with `device.execution=emulated` this machine's CPU instead."""
    if device.execution is Execution.native:
        return device
    stand_in = "this machine's CPU"
    return dataclasses.replace(reference.this_machine(), name=device.name, threads=device.threads, stand_in=stand_in)


def runtime_of(config: EdlabConfig) -> str:
    """The runtime that opens the converter's format; empty if a stand-in opens an earlier form, or nothing does."""
    return running_device(config.device).runtimes.get(converters.load(config.converter.name).format, "")


def _ensure_machine(device: DeviceConfig, machine: Machine) -> None:
    """Raise `DeviceError` if the target is another kind of machine than the device: its metrics would be wrong."""
    if device.machines and machine.machine not in device.machines:
        raise DeviceError(
            f"{device.name} must be {' or '.join(device.machines)}, and the machine that answered is {machine.machine} "
            f"({machine.board or machine.cpu})",
            hint="fix device.address, or choose the device that matches (`edlab devices`)",
        )


def _ensure_precision(artifact: Artifact, config: EdlabConfig) -> None:
    """Raise `UnsupportedError` if the file to run has another precision than the name of the run.

    On this machine's CPU an artifact that only its target quantizes is still in floating point.
    """
    wanted = config.quantization.precision
    if artifact.precision != wanted:
        emulated = config.device.execution is Execution.emulated
        raise UnsupportedError(
            f"quantization={wanted} was requested, but the {artifact.format} file is {artifact.precision}",
            hint="the target quantizes the file itself: set device.execution=native to run there"
            + (
                ", or converter.options.int8=explicit to quantize it here"
                if config.converter.name == "tensorrt"
                else ""
            )
            if emulated
            else f"set quantization={artifact.precision}",
        )
