"""Where conversion steps run besides edlab's own Python: with an agent, on the target or in a tool environment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from edlab import devices, toolenvs
from edlab.agent.messages import Calibration
from edlab.cache import Cache
from edlab.config import ConverterConfig, DeviceConfig
from edlab.converters import HOST, TOOLENV, CalibrationData, Converter, HostProcess, Step, Workshop
from edlab.devices import AgentSession
from edlab.errors import AgentError, ConversionError, DeviceError, MissingDependencyError
from edlab.stages.load import OnProgress

_PYTHON = "set converter.python to the Python interpreter of an environment that has the tools, or remove it"


@contextmanager
def on_this_machine(
    converter: Converter, config: ConverterConfig, cache: Cache, on_progress: OnProgress
) -> Iterator[Mapping[str, Workshop]]:
    """The workshops by name: HOST and, for a converter that has a tool environment, TOOLENV, created on first use.

    Raises `MissingDependencyError` and `ConversionError` like `toolenvs.get_or_make`.
    """
    workshops: dict[str, Workshop] = {HOST: HostProcess()}
    if converter.toolenv is None:
        yield workshops
        return
    install = ", ".join(converter.toolenv.requirements)
    python = config.python or str(
        toolenvs.get_or_make(converter.toolenv, cache, lambda: on_progress("convert", None, f"install {install}"))
    )
    device = DeviceConfig(
        name=f"{config.name}'s tool environment",
        kind="local",
        python=python,
        memory_limit_gb=config.memory_limit_gb,
        env={"PYTHONPATH": "", "PYTHONHASHSEED": "0"},  # the packages on the host's path are for another Python
    )
    try:
        agent = devices.connect(device, cache)
    except DeviceError as error:
        raise MissingDependencyError(error.message, hint=_PYTHON) from error
    with agent as session:
        yield {**workshops, TOOLENV: ToolEnvironment(session, on_progress)}


class AgentWorkshop(Workshop):
    """Runs `step.toolchain` of a session's agent."""

    def __init__(self, session: AgentSession, on_progress: OnProgress) -> None:
        self._session = session
        self._on_progress = on_progress

    def versions(self, step: Step) -> dict[str, str]:
        """The identity of the toolchain there."""
        return self._session.identity(step.toolchain, step.options)

    def run(
        self,
        step: Step,
        inputs: Sequence[Path],
        out: Path,
        calibration: CalibrationData | None,
        config: ConverterConfig,
        log: Path,
    ) -> float:
        try:
            with self._explained():
                return self._session.build(
                    step.toolchain,
                    inputs,
                    out,
                    options=step.options,
                    calibration=Calibration(**calibration.describe()) if calibration else None,
                    timeout_s=config.timeout_s,
                    on_progress=self._on_progress,
                )
        finally:
            log.write_text(self._session.log + "\n")

    def _explained(self) -> AbstractContextManager[None]:
        """Converts a step's errors; errors of a target are unchanged."""
        return nullcontext()


class ToolEnvironment(AgentWorkshop):
    """The same on this machine, where errors are not caused by a target."""

    def versions(self, step: Step) -> dict[str, str]:
        try:
            return super().versions(step)
        except DeviceError as error:
            raise MissingDependencyError(error.message, hint=error.hint, log=error.log) from error

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except AgentError as error:
            raise ConversionError(error.message, hint=error.hint, log=error.log) from error
        except DeviceError as error:  # the agent was lost
            limits = "raise converter.timeout_s or converter.memory_limit_gb if that was the cause"
            raise ConversionError(error.message, hint=f"read the step's log; {limits}", log=error.log) from error
