"""The programming interface: `edlab.run(...)` performs one run and returns its record; `edlab.sweep(...)` several."""

from __future__ import annotations

import base64
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, overload

from rich.console import Console

from edlab import benchmark, predictions_file
from edlab.composition import compose_config
from edlab.identity import new_sweep_folder
from edlab.models import registered
from edlab.predictions_file import Right, unknown
from edlab.record import RunRecord, Status
from edlab.source import Preprocessing

if TYPE_CHECKING:
    import pandas
    import torch


class Sweep(Sequence[RunRecord]):
    """Recorded runs, as a sequence of their records; a notebook shows them as a table and charts."""

    def __init__(self, records: Sequence[RunRecord], right: Right = unknown) -> None:
        self._records = tuple(records)
        self._right = right

    @overload
    def __getitem__(self, index: int) -> RunRecord: ...
    @overload
    def __getitem__(self, index: slice) -> Sweep: ...
    def __getitem__(self, index: int | slice) -> RunRecord | Sweep:
        """A record; of a slice, those runs."""
        return Sweep(self._records[index], self._right) if isinstance(index, slice) else self._records[index]

    def __len__(self) -> int:
        """The number of runs."""
        return len(self._records)

    def __repr__(self) -> str:
        """What was compared, and how the runs ended."""
        from edlab.reports.report import compared

        return f"<Sweep: {compared(self)}>"

    def to_dataframe(self) -> pandas.DataFrame:
        """A row for each run: how it ended, its settings, and its metrics by name (units in the names)."""
        import pandas

        from edlab.reports.table import data

        return pandas.DataFrame([data(record, list(record.params)) for record in self])

    def _repr_html_(self) -> str:
        """The table of `edlab show SWEEP`, and the charts."""
        from edlab.reports.sheet import Format
        from edlab.reports.table import table

        return table(self, right=self._right).write(Format.html) + self._charts() if self else "<p>no runs</p>"

    def _charts(self) -> str:
        """The charts of the sweep as pictures."""
        from edlab.reports.sweep import draw

        with tempfile.TemporaryDirectory() as folder:
            pictures = {path.stem: path.read_bytes() for path in draw(self, "", Path(folder), ".svg")}
        return "".join(
            f'<img alt="{name.replace("_", " ")}" src="data:image/svg+xml;base64,{base64.b64encode(data).decode()}">'
            for name, data in pictures.items()
        )


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


def sweep(overrides: Sequence[str]) -> Sweep:
    """Convert, run, measure and record every combination of the overrides; the same as `edlab run -m`.

    overrides: as on the command line: `["model=mobilenet_v2", "quantization=fp32,int8"]`.

    Returns the runs in their order; those that failed or are unsupported are among them. The progress is printed to
    stderr.

    Raises `ConfigError` for an invalid override and `TrackingError` if runs cannot be recorded, before anything runs,
    and `KeyboardInterrupt` after Ctrl-C, once what was measured is recorded.
    """
    from edlab.engine import command

    command.environment_without_telemetry()
    performed = command.sweep(overrides, Console(file=sys.stderr, highlight=False))
    return Sweep(performed.records, predictions_file.below(performed.folder))


def runs(*names: str, filter: str = "") -> Sweep:
    """Recorded runs, from MLflow or from files.

    names: runs, sweeps, result.json files, or folders of sweeps; none: the latest sweep, or with a filter all runs.
    filter: only runs that match MLflow's filter, for example `"params.`device.name` = 'cpu'"`.

    Records from MLflow have no `environment` and `details`, which are in the run's result.json. Runs of a folder whose
    result.json is missing or damaged are named on stderr, and not returned.

    Raises `TrackingError` if there are none, or for an ambiguous name or an invalid filter.
    """
    from edlab.cli_results import report_problems
    from edlab.results import Results

    results = Results()
    found = Sweep(results.find(names, filter), results.right)
    report_problems(results)
    return found


def _model_overrides(model: str | torch.nn.Module, preprocessing: Preprocessing | None) -> list[str]:
    """The overrides that choose the model; a model that exists only in this process has no target to import."""
    if isinstance(model, str) and model not in registered():
        return [f"model={model}"]
    name = model if isinstance(model, str) else type(model).__name__
    overrides = ["model=python", f"model.name={name}", "model.target=null"]
    for key, value in preprocessing.model_dump(exclude_none=True).items() if preprocessing else ():
        overrides.append(f"model.preprocessing.{key}={list(value) if isinstance(value, tuple) else value}")
    return overrides
