"""Stage 4, first half: the timed phases on the target; every figure from what was measured there."""

from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edlab import metrics, power
from edlab.agent.messages import Setting, State, ThroughputReport, Trial
from edlab.artifact import Artifact
from edlab.config import DeviceConfig, EdlabConfig, ProtocolConfig
from edlab.devices import AgentSession, Pool, read_array
from edlab.stages.deploy import Deployment
from edlab.stages.load import Inputs, OnProgress
from edlab.stages.reports import Reports
from edlab.tasks import Comparison

LATENCIES_FILE = "latencies.npy"  # int64 nanoseconds of each query, in order
_STAGES_FILE = "latency_stages.npy"
_IDLE_S = 1.0  # without a sensor: long enough to see what else keeps the target busy
_STAGES = ("input_copy_ms", "execute_ms", "output_copy_ms")


@dataclass
class Measurement:
    """What the phases gave, filled as each ends, so that a run which breaks off keeps what it had."""

    figures: metrics.Figures = field(default_factory=metrics.Figures)
    reports: Reports = field(default_factory=Reports)
    stability: metrics.Stability | None = None
    power: power.Source | power.Estimate | None = None
    batch_one_only: str = ""  # why no larger batch could be tried; empty where one could
    check: Comparison | None = None  # the target's outputs against the source model's
    after: State | None = None  # clocks, temperatures and load after the last timed phase
    repeats: list[Measurement] = field(default_factory=list)  # the timed phases, in fresh processes (protocol.repeats)
    runs: list[metrics.Figures] = field(default_factory=list)  # each run's own figures, where there are repeats


def measure_again(
    config: EdlabConfig,
    inputs: Inputs,
    deployment: Deployment,
    measurement: Measurement,
    folder: Path,
    on_progress: OnProgress,
) -> None:
    """Run the timed phases once more, on a fresh process of the agent, and add them to `measurement.repeats`.

    The throughput is measured at the setting that the first run's search found.
    """
    again = Measurement()
    measurement.repeats.append(again)
    folder = _repeat_folder(folder, len(measurement.repeats) + 1)
    folder.mkdir(exist_ok=True)
    first = measurement.reports.throughput
    assert first
    setting = Setting(first.batch, first.in_flight)
    measure_speed(config, inputs, deployment, again, folder, on_progress, setting)


def _repeat_folder(folder: Path, number: int) -> Path:
    """Where a repeat keeps its files; the first run, number 1, keeps them in the run's folder itself."""
    return folder / f"repeat-{number}"


def join_repeats(measurement: Measurement, folder: Path) -> None:
    """Make the figures of the first run and of its repeats one; `folder` gets the queries of all of them in order."""
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


def measure_speed(
    config: EdlabConfig,
    inputs: Inputs,
    deployment: Deployment,
    measurement: Measurement,
    folder: Path,
    on_progress: OnProgress,
    setting: Setting | None = None,
) -> None:
    """Run idle, warm-up, latency, host work and throughput (searched, unless `setting` is known)."""
    session = deployment.session
    measurement.power = power.choose(config.power, session, deployment.device)
    pool = _pool(inputs, config.protocol)
    _measure_idle(session, config, measurement, folder, on_progress)
    measurement.reports.warmup = session.warmup(pool, config.protocol.warmup, on_progress)
    _measure_latency(session, pool, config.protocol, measurement, folder, on_progress)
    _measure_throughput(session, pool, config, inputs, deployment.artifact, measurement, folder, on_progress, setting)
    measurement.after = session.state()


def _pool(inputs: Inputs, protocol: ProtocolConfig) -> Pool:
    """The images that the timed queries rotate over: drawn from the evaluation images with the protocol's seed."""
    evaluation = inputs.data.evaluation
    drawn = np.random.default_rng(protocol.seed).permutation(evaluation)[: protocol.pool]
    return Pool(inputs.data.images, drawn.tolist())


def _measure_idle(
    session: AgentSession, config: EdlabConfig, measurement: Measurement, folder: Path, on_progress: OnProgress
) -> None:
    source = measurement.power
    if not isinstance(source, power.Source):
        measurement.reports.idle = session.idle(seconds=_IDLE_S, on_progress=on_progress)
        return
    seconds = config.power.idle_seconds + source.lag_s
    message = f"reading {source.name}"
    with source:
        span = session.idle(
            seconds=seconds, on_progress=lambda phase, fraction, _: on_progress(phase, fraction, message)
        )
    measurement.reports.idle = span
    series = measurement.reports.power["idle"] = source.series(span.start_ns, span.end_ns)
    series.save(folder / "idle_samples.npy")
    measurement.figures |= metrics.idle_power(
        series.t_ns,
        series.watts,
        start_ns=span.start_ns + round(source.lag_s * 1e9),
        bounds=metrics.Bounds(source.boundary, max_watts=config.device.specification.max_watts),
    )


def _measure_latency(
    session: AgentSession,
    pool: Pool,
    protocol: ProtocolConfig,
    measurement: Measurement,
    folder: Path,
    on_progress: OnProgress,
) -> None:
    measurement.reports.latency = session.latency(
        pool,
        folder / _STAGES_FILE,
        queries=protocol.queries,
        seconds=protocol.seconds,
        max_seconds=protocol.max_seconds,
        windows=protocol.windows,
        max_interval=protocol.max_interval,
        on_progress=on_progress,
    )
    stages_ns: NDArray[np.int64] = read_array(folder / _STAGES_FILE, 2)
    total_ns = stages_ns.sum(axis=1)
    np.save(folder / LATENCIES_FILE, total_ns)
    measurement.figures |= metrics.latency(total_ns, protocol.windows)
    measurement.stability = metrics.stability(total_ns, protocol.windows)
    measurement.figures |= metrics.stability_figures(measurement.stability)
    host_work = measurement.reports.host_work = session.host_work(pool, on_progress)
    stages_ms = dict(zip(_STAGES, (stages_ns.mean(axis=0) / 1e6).tolist(), strict=True))
    stages_ms |= {"preprocess_ms": host_work.preprocess_ms, "postprocess_ms": host_work.postprocess_ms}
    measurement.figures |= metrics.Figures(stages_ms)


def _measure_throughput(
    session: AgentSession,
    pool: Pool,
    config: EdlabConfig,
    inputs: Inputs,
    artifact: Artifact,
    measurement: Measurement,
    folder: Path,
    on_progress: OnProgress,
    setting: Setting | None,
) -> None:
    source, complexity = measurement.power, inputs.source.complexity
    assert source is not None
    sampled = source if isinstance(source, power.Source) else None
    search = config.protocol.throughput
    seconds = config.protocol.window_seconds
    if sampled:
        seconds = max(seconds, config.power.active_seconds + sampled.lag_s)
    beyond = max(seconds - config.protocol.seconds, 0)  # a window that is meant to be long does not shorten the search
    if not inputs.source.batchable:  # the images of a batch would decide on one another's outputs
        search = dataclasses.replace(search, max_batch=1)
    with sampled or contextlib.nullcontext():
        window = measurement.reports.throughput = session.throughput(
            pool,
            search,
            seconds=seconds,
            max_seconds=config.protocol.max_seconds + beyond,
            setting=setting,
            on_progress=on_progress,
        )
    rate = window.throughput_ips
    measurement.figures |= metrics.throughput(rate, complexity.flops)
    measurement.figures |= metrics.setting(window.batch, window.in_flight)
    if window.batch == 1:
        measurement.figures |= metrics.batch1(rate)
    elif setting is None:
        measurement.figures |= metrics.batch1(window.batch1_ips, window.batch1_note)
    measurement.batch_one_only = _batch_one_only(inputs, artifact, window.search)
    measurement.figures |= metrics.sustained(np.array(window.ips_by_second))
    if isinstance(source, power.Source):
        series = measurement.reports.power["throughput"] = source.series(window.start_ns, window.end_ns)
        series.save(folder / "power_samples.npy")
        _add_power(series, source, config, window, measurement)
    else:
        measurement.figures |= metrics.estimated_power(source.watts, rate, source.reason)


def _add_power(
    series: power.Series, source: power.Source, config: EdlabConfig, window: ThroughputReport, measurement: Measurement
) -> None:
    """The power over the throughput window, from what the source read meanwhile."""
    bounds = _bounds(source, config.device, measurement.figures)
    length_s = len(window.ips_by_second)
    measurement.reports.watts_by_second = metrics.watts_by_second(
        series.t_ns, series.watts, window.start_ns, length_s, bounds
    )
    measurement.figures |= metrics.Figures({"power_readings_failed": series.failed})
    measurement.figures |= metrics.power(
        series.t_ns,
        series.watts,
        window.start_ns,
        window.end_ns,
        window.throughput_ips,
        min_seconds=config.power.active_seconds,
        min_samples=config.power.active_samples,
        lag_s=source.lag_s,
        bounds=bounds,
        error=series.error,
    )


def _batch_one_only(inputs: Inputs, artifact: Artifact, trials: list[Trial]) -> str:
    """Why only batch 1 could run; empty where a larger one did, or none was tried."""
    if not inputs.source.batchable:
        return "the images of a batch would decide on one another's outputs"
    reasons = [metrics.batch_one_only(trials)]
    if reasons[0]:
        reasons += [step.report.details.get("batch_one_only", "") for step in artifact.steps]
    return "; ".join(filter(None, reasons))


def _bounds(source: power.Source, device: DeviceConfig, figures: metrics.Figures) -> metrics.Bounds:
    return metrics.Bounds(
        source.boundary,
        idle_w=figures.values.get("idle_power_w"),
        idle_standard_error_w=figures.values.get("idle_power_standard_error_w", 0.0),
        max_watts=device.specification.max_watts,
    )
