"""The programming interface: `edlab.run(...)` performs one run and returns its record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edlab import benchmark
from edlab.composition import compose_config
from edlab.identity import new_sweep_folder
from edlab.models import registered
from edlab.record import RunRecord, Status
from edlab.source import Preprocessing

if TYPE_CHECKING:
    import torch


def run(
    model: str | torch.nn.Module,
    *,
    device: str = "cpu",
    quantization: str | None = None,
    converter: str | None = None,
    dataset: str | None = None,
    protocol: str = "quick",
    preprocessing: Preprocessing | None = None,
    overrides: Sequence[str] = (),
) -> RunRecord:
    """Convert, run, measure and record one model; the same as one row of `edlab run`.

    model: a name (`edlab models` lists them, including those of `@edlab.register_model`), or a live `torch.nn.Module`
        that maps float32 (1, 3, height, width) to logits (1, classes); a module needs `preprocessing`.
    device: the device that runs it, by name (`edlab devices`).
    quantization: fp32, fp16, int8, ...; None: the device's default; for device=cpu, the model's own.
    converter: the toolchain, by name (`edlab converters`); None: the device's default.
    dataset: the data set for calibration and scoring, by name; None: the model's default.
    protocol: how long to measure: smoke, quick, normal, strict, sustained.
    preprocessing: how an image becomes the input; None: the model's own preprocessing.
    overrides: more overrides, as on the command line: `["model.weights=net.pt", "device.threads=1"]`. They take
    precedence.

    Returns the record of the run, which is also in ./mlruns and in MLflow: `status`, `metrics` by name (units in the
    names), `missing` with a reason for each missing metric, `verdict`, `params`, `details`. A run that fails or is
    unsupported raises no exception: its `status` is failed or skipped, with `stage`, `reason`, `hint` and `log_tail`.

    Raises `ConfigError` for an invalid name, key or value, before anything runs, and `KeyboardInterrupt` after Ctrl-C,
    once the interrupted run has been recorded.

    It can be called from several threads: models are then loaded and converted in parallel, and measured one after
    another, because each run waits for the machine's lock (`device.lock_timeout`). For undisturbed measurements, call
    it from one thread.
    """
    groups = {
        "device": device,
        "quantization": quantization,
        "converter": converter,
        "dataset": dataset,
        "protocol": protocol,
    }
    named = [f"{group}={name}" for group, name in groups.items() if name]
    config = compose_config([*_model_overrides(model, preprocessing), *named, *overrides])
    sweep_id, folder = new_sweep_folder()
    module = None if isinstance(model, str) else model
    record = benchmark.run(config, sweep_id=sweep_id, folder=folder / "0", module=module)
    if record.status is Status.interrupted:
        raise KeyboardInterrupt
    return record


def _model_overrides(model: str | torch.nn.Module, preprocessing: Preprocessing | None) -> list[str]:
    """The overrides that choose the model; a model that exists only in this process has no target to import."""
    if isinstance(model, str) and model not in registered():
        return [f"model={model}"]
    name = model if isinstance(model, str) else type(model).__name__
    overrides = ["model=python", f"model.name={name}", "model.target=null"]
    for key, value in preprocessing.model_dump(exclude_none=True).items() if preprocessing else ():
        overrides.append(f"model.preprocessing.{key}={list(value) if isinstance(value, tuple) else value}")
    return overrides
