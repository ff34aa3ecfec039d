"""The programming interface: `edlab.run(...)` makes one run and returns its record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edlab import benchmark
from edlab.composition import compose_config
from edlab.config import ModelConfig, ModelOrigin, PreprocessingConfig
from edlab.identity import new_sweep_folder
from edlab.record import RunRecord
from edlab.source import Preprocessing

if TYPE_CHECKING:
    import torch


def run(
    model: str | torch.nn.Module,
    *,
    device: str = "cpu",
    quantization: str = "fp32",
    converter: str | None = None,
    dataset: str | None = None,
    protocol: str = "quick",
    preprocessing: Preprocessing | None = None,
    overrides: Sequence[str] = (),
) -> RunRecord:
    """Convert, run, measure and record one model; the same as one row of `edlab run`.

    `model` is a name (`edlab models` lists them, those of `@edlab.register_model` among them) or a live
    `torch.nn.Module` that maps (1, 3, height, width) floats to (1, classes) logits; a module needs `preprocessing`.
    `overrides` are further words of the command line: `["model.weights=net.pt", "device.threads=1"]`.

    A run that fails is a record with its status, step, reason and hint. Raises `ConfigError` for a wrong word.
    """
    groups = {
        "model": model if isinstance(model, str) else None,
        "device": device,
        "quantization": quantization,
        "converter": converter,
        "dataset": dataset,
        "protocol": protocol,
    }
    config = compose_config([*(f"{group}={name}" for group, name in groups.items() if name), *overrides])
    module = None if isinstance(model, str) else model
    if module is not None:
        config.model = _live_model(module, preprocessing)
    sweep_id, folder = new_sweep_folder()
    return benchmark.run(config, sweep_id=sweep_id, folder=folder / "0", module=module)


def _live_model(module: torch.nn.Module, preprocessing: Preprocessing | None) -> ModelConfig:
    values = preprocessing.model_dump() if preprocessing else {}
    for key in ("mean", "std"):
        if key in values:
            values[key] = list(values[key])
    return ModelConfig(
        name=type(module).__name__, origin=ModelOrigin.python, preprocessing=PreprocessingConfig(**values)
    )
