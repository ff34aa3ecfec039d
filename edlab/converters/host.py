"""The workshop of most steps: a function in a separate process on this machine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cache as memoize
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path

from edlab.config import ConverterConfig
from edlab.converters.base import Step, Workshop
from edlab.converters.calibration import CalibrationData
from edlab.errors import MissingDependencyError
from edlab.isolation import run_isolated
from edlab.packages import install


class HostProcess(Workshop):
    """Runs `step.function`, within the limits of the converter's configuration."""

    def versions(self, step: Step) -> dict[str, str]:
        """The versions of the step's packages and programs."""
        found = {package: _installed_version(package, requirement) for package, requirement in step.tools.items()}
        return found | (step.identity(step.options) if step.identity else {})

    def run(
        self,
        step: Step,
        inputs: Sequence[Path],
        out: Path,
        calibration: CalibrationData | None,
        config: ConverterConfig,
        log: Path,
    ) -> float:
        started = time.monotonic()
        run_isolated(
            step.function,
            {
                "inputs": [str(path) for path in inputs],
                "out": str(out),
                "options": dict(step.options),
                "calibration": calibration.describe() if calibration else None,
            },
            log=log,
            timeout_s=config.timeout_s,
            memory_limit_gb=config.memory_limit_gb,
            log_limit_mb=config.log_limit_mb,
            environment={"PYTHONHASHSEED": "0"},  # so that tools that iterate over sets write the same file each time
        )
        return time.monotonic() - started


@memoize
def _installed_version(package: str, requirement: str) -> str:
    """The version of an importable package. Raises `MissingDependencyError` if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:  # some are installed under another name: tensorflow-cpu, onnxruntime-gpu
        distributions = packages_distributions().get(package)
    if not distributions:
        raise MissingDependencyError(f"{package} is not installed", hint=install([requirement]))
    return version(distributions[0])
