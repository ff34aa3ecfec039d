"""Stage 5: everything that is known about a run, as one record and its files."""

from __future__ import annotations

import functools
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import numpy as np

from edlab import deployable, metrics
from edlab.agent.messages import Machine, Setting, State, encode
from edlab.artifact import Artifact
from edlab.cache import digest
from edlab.config import CalibrationConfig, DatasetConfig, EdlabConfig, Precision
from edlab.data import PreparedData
from edlab.power import Source
from edlab.record import RunRecord, Status
from edlab.reports.plots import PowerSpan, latency_plot, over_time_plot, power_plot, throughput_plot
from edlab.sanitize import text
from edlab.stages.convert import is_complete
from edlab.stages.deploy import Deployment
from edlab.stages.load import Inputs
from edlab.stages.phases import LATENCIES_FILE, Alignment, Latency, Measurement, Throughput, Warmup
from edlab.tasks import Comparison
from edlab.tracking import DatasetInfo, Files

_ON_CPU = "CPUExecutionProvider"  # as onnxruntime names it
_DIGEST = 16  # characters
_LONG_S = 60  # from here on a curve over time is useful


@dataclass
class Outcome:
    """The results of a run so far; a run that fails keeps its earlier results."""

    inputs: Inputs | None = None
    artifact: Artifact | None = None
    weights: dict[str, int] = field(default_factory=dict)  # dtype -> number of weights in the artifact's file
    check: Comparison | None = None
    deployment: Deployment | None = None
    measurement: Measurement = field(default_factory=Measurement)

    def keep_artifact(self, artifact: Artifact) -> None:
        """Keep the output of a conversion step: the next one may fail."""
        self.artifact = artifact


def fill_record(record: RunRecord, config: EdlabConfig, outcome: Outcome, weaker_settings: tuple[str, ...]) -> None:
    """Write everything in the outcome into the record: parameters, metrics, tags, verdict, details.

    `weaker_settings` are the settings of the protocol that are weaker than its tier.
    """
    record.environment = _environment(outcome)
    if outcome.inputs:
        _add_inputs(record, outcome.inputs, config)
    if outcome.artifact:
        _add_artifact(record, outcome.artifact, outcome.weights)
        if outcome.inputs and not is_complete(outcome.artifact, config, outcome.inputs.source):
            record.details["intermediate"] = outcome.artifact.files[0].name
    measured = outcome.measurement.figures
    if outcome.check:
        record.details["conversion_check"] = outcome.check.figures().values  # on this machine
    agreement = outcome.inputs.task.agreement if outcome.inputs else ()
    if outcome.artifact and not {*agreement} <= {*measured.values, *measured.missing}:
        record.missing.update(dict.fromkeys(agreement, "the outputs of the target were not compared"))
    _add_measurement(record, outcome)
    if outcome.deployment:
        record.tags |= _system(outcome.deployment)
    if outcome.deployment and outcome.deployment.device.stand_in:
        record.tags["stand_in"] = outcome.deployment.device.stand_in
    if record.status is Status.ok:
        facts = _facts(config, outcome, weaker_settings)
        record.verdict = metrics.judge(facts)
        record.tags["throttled"], record.details["throttled"] = metrics.throttled(facts)
    else:
        headlines = metrics.headlines(outcome.inputs.task.headline) if outcome.inputs else metrics.headlines()
        for name in headlines:
            if name not in record.metrics:
                record.missing.setdefault(name, f"the run {record.status} at {record.stage}")
        if config.protocol.repeats > 1 and not outcome.measurement.runs:
            ended = f"the run ended before its {config.protocol.repeats} repeats: the metrics are from one process"
            record.missing["latency_run_spread"] = ended


def _system(deployment: Deployment) -> dict[str, str]:
    """What ran the model, as tags that MLflow can filter by."""
    machine, model = deployment.machine, deployment.model
    facts = {"board": machine.board, "cpu": machine.cpu, "gpu": machine.gpu, "os": machine.platform}
    facts |= {"runtime": model.runtime, "runtime_version": model.version}
    return {name: value for name, value in facts.items() if value}


def run_files(record: RunRecord, outcome: Outcome, config: EdlabConfig, folder: Path) -> Files:
    """The files of a run whose record is complete; those that are not measured are written to `folder`."""
    named = dict(outcome.measurement.files)
    converted: tuple[Path, ...] = ()
    if outcome.artifact:
        named["conversion.log"] = _conversion_log(outcome.artifact, folder / "conversion.log")
        converted = (*outcome.artifact.files, *_package(record, outcome, config, folder / "package"))
    return Files(
        converted=converted,
        named=named,
        dataset=_dataset(config.dataset, outcome.inputs.data) if outcome.inputs else None,
    )


def _package(record: RunRecord, outcome: Outcome, config: EdlabConfig, folder: Path) -> list[Path]:
    """The files next to the converted model with which it can be used. A run is complete without them."""
    inputs, deployment = outcome.inputs, outcome.deployment
    assert inputs
    assert outcome.artifact
    deployed = (deployment.device, deployment.model) if deployment else None
    try:
        return deployable.write(folder, record, config, inputs.source, inputs.data, outcome.artifact, deployed)
    except Exception as error:  # such as a full disk, or a mistake in a plugin's loader
        record.details["no_package"] = text(f"{type(error).__name__}: {error}")
        return []


def draw_plots(record: RunRecord, config: EdlabConfig, measurement: Measurement, folder: Path) -> list[Path]:
    """Draw the plots of a run into `folder`, which takes a second, and more on a busy machine."""
    drawn = []

    def path(name: str) -> Path:
        drawn.append(folder / name)
        return drawn[-1]

    if latencies := measurement.files.get(LATENCIES_FILE):
        # A run that failed in a repeat has only the first process's queries: `runs` is filled when all are joined.
        runs = (measurement, *measurement.repeats) if measurement.runs else (measurement,)
        latency_plot(
            np.load(latencies),
            measurement.figures.values,
            [report.queries for run in runs if (report := run.report(Latency))],
            path("latency.png"),
            title=record.name,
            windows=config.protocol.windows,
        )
    window = measurement.report(Throughput)
    if window and window.search:
        throughput_plot(window.search, path("throughput.png"), title=record.name)
    if window and len(window.ips_by_second) >= _LONG_S:
        watts = measurement.watts_by_second
        over_time_plot(window.ips_by_second, watts, path("over_time.png"), title=record.name)
    if spans := _power_spans(measurement):
        process = ", first process" if measurement.repeats else ""
        power_plot(spans, path("power.png"), title=record.name + process)
    return drawn


def _power_spans(measurement: Measurement) -> list[PowerSpan]:
    """The phases in which power was read, in order; empty without a source."""
    if not isinstance(measurement.power, Source):
        return []
    names = [measurement.power.name, *(other.source.name for other in measurement.others)]
    return [
        PowerSpan(
            result.phase.name,
            result.report.start_ns,
            result.report.end_ns,
            {
                name: (series.t_ns, series.watts)
                for name, series in zip(names, [result.series, *result.others], strict=False)
            },
        )
        for result in measurement.results.values()
        if result.series is not None
    ]


def _conversion_log(artifact: Artifact, path: Path) -> Path:
    """One log of all steps; for steps from the cache, the log of their original run."""
    parts = []
    for step in artifact.steps:
        tools = ", ".join(f"{tool} {version}" for tool, version in step.tools.items())
        origin = "from the cache; it took" if step.cached else "ran for"
        parts.append(
            f"== {step.name} ({tools}): {origin} {step.seconds:.1f} s\n{text(step.log.read_text(errors='replace'))}"
        )
    path.write_text("\n".join(parts) or "no conversion: the source file itself runs\n")
    return path


def _dataset(config: DatasetConfig, data: PreparedData) -> DatasetInfo:
    profile = {
        "evaluation_images": len(data.evaluation),
        "calibration_pool": len(data.calibration_pool),
        "skipped": len(data.skipped),
    }
    scored = digest([data.digest, *_scored(data)])
    return DatasetInfo(name=data.name, digest=scored, source=text(config.path or data.name), profile=profile)


def _scored(data: PreparedData) -> tuple[list[str], Any]:
    """The names of the scored images, and their labels if there are any."""
    labels = None if data.labels is None else data.labels[data.evaluation].tolist()
    return [data.files[index] for index in data.evaluation], labels


def _add_inputs(record: RunRecord, inputs: Inputs, config: EdlabConfig) -> None:
    source, data = inputs.source, inputs.data
    record.params["model.format"] = source.format
    record.params |= {f"model.input.{key}": value for key, value in source.inputs_in_use().items()}
    if len(source.outputs) > 1:
        record.params["model.output"] = source.output
    record.tags["weights"] = source.weights
    record.tags["task"] = source.task
    if data.labels is not None:
        record.tags["scored_digest"] = digest([data.name, *_scored(data)])[:_DIGEST]
    if data.label_map:
        record.params["dataset.label_map"] = data.label_map
    record.details["source"] = source.model_dump(mode="json")
    record.details["dataset"] = {
        "name": data.name,
        "digest": data.digest,
        "evaluation_images": len(data.evaluation),
        "calibration_pool": len(data.calibration_pool),
        "classes": data.classes,
        "skipped": data.skipped,
        "left_out": data.left_out,
        "problem": inputs.data_problem.message if inputs.data_problem else "",
    }
    if _calibration_images(config, inputs) is not None:
        record.details["calibration_files"] = _calibration_files(config.quantization.calibration, data)
    complexity = source.complexity
    counts = {"macs": complexity.macs, "flops": complexity.flops, "parameters": complexity.parameters}
    for name, count in counts.items():
        if count is None:
            record.missing[name] = complexity.note
        else:
            record.metrics[name] = count


def _calibration_images(config: EdlabConfig, inputs: Inputs) -> int | None:
    """The number of images from which the ranges were computed; None if there are no ranges."""
    calibrated = config.quantization.precision is Precision.int8 and inputs.source.precision == Precision.fp32
    return config.quantization.calibration.images if calibrated else None


def _calibration_files(config: CalibrationConfig, data: PreparedData) -> list[str]:
    """The images from which the ranges were computed; none if there were too few, which fails the conversion."""
    if config.images is None or config.images > len(data.calibration_pool):
        return []
    return [data.calibration_files[index] for index in data.calibration_indices(config.images, config.seed)]


def _add_artifact(record: RunRecord, artifact: Artifact, weights: dict[str, int]) -> None:
    record.tags["artifact_sha256"] = artifact.sha256
    record.metrics["artifact_size_mb"] = artifact.size_bytes / 1e6
    record.metrics["conversion_s"] = artifact.conversion_s
    record.details["artifact"] = artifact.model_dump(mode="json")
    for step in artifact.steps:
        record.metrics.update(step.report.figures)
    record.details["weights"] = weights
    if weights:
        low = sum(count for dtype, count in weights.items() if dtype in ("int8", "uint8"))
        record.metrics["int8_weights_fraction"] = low / sum(weights.values())


def _add_measurement(record: RunRecord, outcome: Outcome) -> None:
    measurement, deployment = outcome.measurement, outcome.deployment
    figures = measurement.figures | _figures_of_agent(outcome)
    if deployment and deployment.device.stand_in:
        figures = figures.emulated(deployment.device.stand_in)
    record.metrics.update(figures.values)
    record.missing.update(figures.missing)
    if measurement.power:
        record.tags["power_boundary"] = measurement.power.boundary
        record.tags["power_source"] = measurement.power.description
    if isinstance(measurement.power, Source):
        record.tags["power_accuracy"] = _accuracy(measurement.power)
    if measurement.predictions_sha256:
        record.tags["predictions_sha256"] = measurement.predictions_sha256
    if measurement.sampling_cost_with:
        record.tags["sampling_cost_with"] = measurement.sampling_cost_with
    if measurement.others:
        record.details["power_sources"] = [
            {
                "source": other.source.description,
                "boundary": other.source.boundary,
                "accuracy": _accuracy(other.source),
                "refresh_s": refresh_s,
                "metrics": other.figures.values,
                "missing": other.figures.missing,
            }
            for other, refresh_s in zip(measurement.others, _refresh_s(measurement), strict=True)
        ]
    if measurement.batch_one_only:
        record.tags["batch_one_only"] = measurement.batch_one_only
    if deployment:
        record.details["runtime"] = encode(deployment.model)
        if deployment.knobs:
            record.details["knobs"] = encode(deployment.knobs)
        if deployment.int8_kernels:
            record.tags["int8_kernels"] = deployment.int8_kernels
            if kernels := deployment.model.int8:
                record.tags["int8_arithmetic"] = kernels.arithmetic
    record.details["phases"] = measurement.as_json()
    if measurement.repeats:
        record.details["runs"] = [run.values for run in measurement.runs]
        record.details["repeats"] = [run.as_json() for run in measurement.repeats]


def _accuracy(source: Source) -> str:
    """The largest error of a reading as it is stated, for a reader."""
    return "not stated" if source.accuracy is None else f"{100 * source.accuracy:.3g} %"


def _refresh_s(measurement: Measurement) -> list[float | None]:
    """How often each other source renewed its readings in the throughput window; None if that is unknown."""
    window = measurement.results.get(Throughput)
    found = [metrics.refresh_s(series.t_ns, series.watts) for series in window.others] if window else []
    return found + [None] * (len(measurement.others) - len(found))


def _figures_of_agent(outcome: Outcome) -> metrics.Figures:
    """The agent's metrics outside the phases: load, compile, first inference, memory."""
    values, missing = {}, {}
    if outcome.deployment:
        model = outcome.deployment.model
        values["load_ms"] = model.load_ms
        if model.compile_ms is None:
            missing["compile_ms"] = f"{model.runtime} loads and compiles in one step: see load_ms"
        else:
            values["compile_ms"] = model.compile_ms
    aligned = outcome.measurement.report(Alignment) is not None  # its load ran before the warm-up
    if (warmup := outcome.measurement.report(Warmup)) and not aligned:
        values["first_inference_ms"] = warmup.first_inference_ms
    latency = outcome.measurement.report(Latency)
    if latency and latency.peak_memory_mb is not None:
        values["peak_memory_mb"] = latency.peak_memory_mb
    return metrics.Figures(values, missing)


def _facts(config: EdlabConfig, outcome: Outcome, weaker_settings: tuple[str, ...]) -> metrics.Facts:
    inputs, deployment, measurement = outcome.inputs, outcome.deployment, outcome.measurement
    assert inputs
    assert deployment
    figures = measurement.figures.values
    runs = [measurement, *measurement.repeats]
    named = {"": measurement} | {f" (repeat {number})": run for number, run in enumerate(measurement.repeats, 2)}
    window = measurement.report(Throughput)
    assert window
    return metrics.Facts(
        tier=config.protocol.name,
        stand_in=deployment.device.stand_in,
        weaker_settings=weaker_settings,
        truncated=tuple(name + which for which, run in named.items() for name in run.truncated()),
        warmup_settled=all(report.settled for run in runs if (report := run.report(Warmup))),
        repeats=1 + len(measurement.repeats),
        latency_ms=figures.get("latency_ms"),
        latency_interval_ms=_interval(figures, "latency_ci95_low_ms", "latency_ci95_high_ms"),
        stability=measurement.stability,
        max_interval=config.protocol.max_interval,
        throughput_ips=figures.get("throughput_ips"),
        throughput_interval_ips=_interval(figures, *metrics.THROUGHPUT_INTERVAL),
        searched_ips=metrics.searched(window.search, Setting(window.batch, window.in_flight)),
        search_unfinished=window.search_truncated,
        driver_limit_ips=window.driver_limit_ips,
        activities={
            name + which: activity for which, run in named.items() for name, activity in run.activities().items()
        },
        virtual_machine=deployment.machine.virtual,
        governor=deployment.before.governor,
        scaling_driver=deployment.before.scaling_driver,
        on_cpu=deployment.model.on_cpu,
        sustained_ratio=figures.get("sustained_ratio"),
        trained=inputs.source.trained,
        accelerated_fraction=_accelerated_fraction(outcome),
        power_mode_changed=next(filter(None, (_changed_mode(deployment.before, run.after) for run in runs)), ""),
        real_inputs=inputs.real,
        images_skipped=len(inputs.data.skipped),
        assumed_preprocessing=inputs.source.assumed,
        stated=(*inputs.source.reasons, *inputs.data.reasons),
        outputs=_output_facts(config, outcome),
        power=_power_facts(measurement),
    )


def _interval(figures: Mapping[str, float], low: str, high: str) -> tuple[float, float] | None:
    return (figures[low], figures[high]) if low in figures and high in figures else None


def _power_facts(measurement: Measurement) -> metrics.PowerFacts:
    sources = [measurement.power, *(other.source for other in measurement.others)]
    stand_ins = (source.stand_in for source in sources if source and source.stand_in)
    return metrics.PowerFacts(doubts=measurement.figures.doubts, stand_in=next(stand_ins, ""))


def _output_facts(config: EdlabConfig, outcome: Outcome) -> metrics.OutputFacts:
    inputs, deployment = outcome.inputs, outcome.deployment
    assert inputs
    assert deployment
    figures = outcome.measurement.figures.values
    kernels = deployment.model.int8
    return metrics.OutputFacts(
        precision=deployment.artifact.precision,
        converted=bool(deployment.artifact.steps),
        drop_ci95=_interval(figures, "accuracy_drop_ci95_low", "accuracy_drop_ci95_high"),
        max_drop=config.protocol.max_accuracy_drop,
        scored_images=int(figures.get("accuracy_images", 0)),
        calibration_images=_calibration_images(config, inputs),
        calibration_pool=len(inputs.data.calibration_pool),
        doubts=tuple(
            inputs.task.doubts(
                figures,
                outcome.measurement.check,
                inputs.source,
                deployment.artifact.precision,
                metrics.loss_fix(deployment.int8_kernels, deployment.model.runtime),
            )
        ),
        nan_images=int(figures.get("accuracy_nan_images", 0)),
        int8_kernels=deployment.int8_kernels,
        fast_kernels=kernels.int8_kernels_of_fast if kernels else None,
        arithmetic=kernels.arithmetic if kernels else "",
        in_float=bool(kernels and kernels.in_float),
        runtime=deployment.model.runtime,
    )


def _accelerated_fraction(outcome: Outcome) -> float | None:
    """Share of the operators that do not run on the CPU (0..1), if the runtime or compiler reports it; else None."""
    assert outcome.deployment
    nodes: dict[str, int] | None = outcome.deployment.model.options.get("nodes")
    if nodes and not outcome.deployment.model.on_cpu:
        return 1 - nodes.get(_ON_CPU, 0) / sum(nodes.values())
    return outcome.artifact.accelerated_fraction if outcome.artifact else None


def _changed_mode(before: State, after: State | None) -> str:
    """The changes of a Jetson's power mode, as text; empty if there are none."""
    changes = [(name, getattr(before, name), getattr(after, name, None)) for name in ("power_mode", "jetson_clocks")]
    return ", ".join(f"{name} from {old} to {new}" for name, old, new in changes if old is not None and old != new)


def _environment(outcome: Outcome) -> dict[str, Any]:
    """The host, the target and every installed package: the facts needed to reproduce the metrics."""
    deployment = outcome.deployment
    return {
        "host": {"python": platform.python_version(), "platform": platform.platform(), "command": sys.argv},
        "target": _reported(deployment.machine) if deployment else {},
        "before": _reported(deployment.before) if deployment else {},
        "after": _reported(outcome.measurement.after) if outcome.measurement.after else {},
        "packages": _packages(),
    }


@functools.cache
def _packages() -> dict[str, str]:
    """The version of each installed package. Reading hundreds of them takes longer than the rest of a record."""
    found = (package.metadata for package in distributions())
    return dict(sorted({each["Name"]: each["Version"] for each in found}.items()))


def _reported(message: Machine | State) -> dict[str, Any]:
    """Its fields, without the fields that this board does not have."""
    defaults = message._field_defaults
    return {name: value for name, value in message._asdict().items() if name not in defaults or value != defaults[name]}
