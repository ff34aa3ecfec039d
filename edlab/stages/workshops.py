"""The workshops that an agent keeps: the target, or a Python that a vendor's tool needs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edlab.agent.messages import Calibration
from edlab.config import ConverterConfig
from edlab.converters import CalibrationData, Step, Workshop
from edlab.devices import AgentSession
from edlab.stages.load import OnProgress


class AgentWorkshop(Workshop):
    """Runs `step.toolchain` of the agent at the other end of a session."""

    def __init__(self, session: AgentSession, on_progress: OnProgress) -> None:
        self._session = session
        self._on_progress = on_progress

    def versions(self, step: Step) -> dict[str, str]:
        """The toolchain's identity there."""
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
