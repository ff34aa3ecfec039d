"""The programming interface: `edlab.run(...)` makes one run and returns its record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edlab import benchmark
from edlab.composition import compose_config
from edlab.identity import new_sweep_folder
from edlab.models import registered
from edlab.record import RunRecord
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

    `model` is a name (`edlab models` lists them, those of `@edlab.register_model` among them) or a live
    `torch.nn.Module` that maps (1, 3, height, width) floats to (1, classes) logits; a module needs `preprocessing`.
    `device`, `quantization`, `converter`, `dataset` and `protocol` are as on the command line; None for a quantization
    or converter is the device's own, for a data set the model's. `preprocessing` replaces that of the model.
    `overrides` are further overrides of the command line: `["model.weights=net.pt", "device.threads=1"]`.

    Returns the record of the run, which also lies in ./mlruns and in MLflow: `metrics` by name (units in the names),
    `missing` with a reason for each absent one, `verdict`, `params`, `details`. A run that fails is a record as well,
    with its `status`, `step`, `reason` and `hint`. Raises `ConfigError` for an invalid name or override.
    """
    groups = {
        "device": device,
        "quantization": quantization,
        "converter": converter,
        "dataset": dataset,
        "protocol": protocol,
    }
    words = [f"{group}={name}" for group, name in groups.items() if name]
    config = compose_config([*_model_words(model, preprocessing), *words, *overrides])
    sweep_id, folder = new_sweep_folder()
    module = None if isinstance(model, str) else model
    return benchmark.run(config, sweep_id=sweep_id, folder=folder / "0", module=module)


def _model_words(model: str | torch.nn.Module, preprocessing: Preprocessing | None) -> list[str]:
    """The model in the command line's words; one that lives in this process has no target to import."""
    if isinstance(model, str) and model not in registered():
        return [f"model={model}"]
    name = model if isinstance(model, str) else type(model).__name__
    words = ["model=python", f"model.name={name}", "model.target=null"]
    for key, value in preprocessing.model_dump(exclude_none=True).items() if preprocessing else ():
        words.append(f"model.preprocessing.{key}={list(value) if isinstance(value, tuple) else value}")
    return words
