"""Stage 4: the phases on the target; every metric is computed from measurements there."""

from __future__ import annotations

import dataclasses
from contextlib import closing, nullcontext
from pathlib import Path

import numpy as np

from edlab import metrics, power
from edlab.agent.messages import Setting
from edlab.errors import MeasurementError
from edlab.stages.deploy import Deployment
from edlab.stages.load import OnProgress
from edlab.stages.phases import LATENCIES_FILE, TIMED, UNTIMED, Bench, Measurement, Other, Throughput
from edlab.stages.sampling_cost import sampling_cost


def measure(bench: Bench) -> None:
    """Run all phases."""
    _run_timed(bench)
    for phase in UNTIMED:
        if phase.applies(bench):
            phase.measure(bench)


def measure_again(bench: Bench, deployment: Deployment, on_progress: OnProgress) -> None:
    """Run the timed phases again, in a new process of the agent, and add them to the measurement's repeats.

    The throughput is measured at the setting that the first run's search found.
    """
    first = bench.measurement.report(Throughput)
    assert first
    repeats = bench.measurement.repeats
    repeats.append(Measurement())
    folder = _repeat_folder(bench.folder, len(repeats) + 1)
    folder.mkdir(exist_ok=True)
    _run_timed(
        dataclasses.replace(
            bench,
            deployment=deployment,
            measurement=repeats[-1],
            folder=folder,
            on_progress=on_progress,
            setting=Setting(first.batch, first.in_flight),
        )
    )


def _run_timed(bench: Bench) -> None:
    config = bench.config
    chosen = power.choose(config.power, config.meter, bench.session, bench.deployment.device)
    bench.measurement.power, bench.measurement.others = chosen.power, list(map(Other, chosen.others))
    with closing(bench.source) if bench.source else nullcontext():
        _check_meter(bench)
        for phase in TIMED:
            if phase.applies(bench):
                phase.measure(bench)
        bench.measurement.after = bench.session.state()
        if bench.setting is None:  # not in a repeat
            bench.measurement.figures |= sampling_cost(bench)


def _check_meter(bench: Bench) -> None:
    """Raise `MeasurementError` if a meter is requested and cannot be read."""
    meter = bench.config.meter.name
    if isinstance(bench.source, power.HostMeter):
        bench.on_progress("meter", None, f"reading {bench.source.name}")
        if problem := bench.source.find_problem():
            raise MeasurementError(
                f"meter={meter} cannot be read: {problem}",
                hint=f"`edlab doctor meter={meter}` with the same options reads it; meter=none measures without it",
            )


def _repeat_folder(folder: Path, number: int) -> Path:
    """The folder for the files of a repeat; the first run, number 1, uses the run's folder itself."""
    return folder / f"repeat-{number}"


def derive(bench: Bench) -> None:
    """Add the metrics that depend on several phases, after the last of them."""
    measurement = bench.measurement
    measurement.figures |= metrics.energy_delay(measurement.figures, bench.inputs.task.scores[0])


def join_repeats(measurement: Measurement, folder: Path) -> None:
    """Combine the metrics of the first run and its repeats; the queries of all are saved in `folder`, in order.

    The other files of a repeat, such as its power readings, become files of the run, with its number in their names.
    """
    if not measurement.repeats:
        return
    folders = [folder, *(_repeat_folder(folder, number) for number, _ in enumerate(measurement.repeats, 2))]
    ns = [np.load(each / LATENCIES_FILE) for each in folders]
    np.save(folder / LATENCIES_FILE, np.concatenate(ns))
    runs = [measurement, *measurement.repeats]
    measurement.runs = [run.figures for run in runs]
    joined = metrics.over_runs(measurement.runs, metrics.pooled_latency(ns))
    stabilities = [run.stability for run in runs if run.stability]
    measurement.stability = metrics.typical(stabilities) if stabilities else None
    joined |= metrics.stability_figures(measurement.stability)
    measurement.figures = measurement.figures.without(joined.missing) | joined
    for other in zip(*(run.others for run in runs), strict=False):
        other[0].figures = metrics.power_over_runs([each.figures for each in other], measurement.runs)
    for number, repeat in enumerate(measurement.repeats, 2):
        files = {f"repeat_{number}_{name}": path for name, path in repeat.files.items() if name != LATENCIES_FILE}
        measurement.files |= files
