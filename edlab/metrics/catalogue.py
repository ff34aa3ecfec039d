"""Every metric of a run: its name, its section, its meaning, and its column in a table. This is the only such list.

Tables, listings, `edlab show`, the terminal and docs/metrics.md are generated from it. Units are in the names.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum, StrEnum
from itertools import chain


class Section(StrEnum):
    """Metrics that are shown together, in this order."""

    accuracy = "accuracy"
    latency = "latency"
    throughput = "throughput"
    power = "power"
    model = "model"
    edgetpu = "edgetpu"


@dataclass(frozen=True)
class Column:
    """How a metric is shown: its heading in tables, and its label and unit in a sentence ("latency 1.2 ms")."""

    heading: str  # a line break if it may wrap
    scale: float = 1.0
    form: str = ""  # of the scaled value; empty: three significant digits
    label: str = ""  # empty: not in the last line of a run
    unit: str = ""
    optional: bool = False  # only in tables in which a row has a value
    listed: bool = False  # also in listings, in which names need most of the width

    @property
    def title(self) -> str:
        """The heading in one line."""
        return self.heading.replace("\n/", "/").replace("\n", " ")

    def write(self, value: float) -> str:
        """Format a value as a cell of the column."""
        value *= self.scale
        if self.form:
            return format(value, self.form)
        decimals = 2 - math.floor(math.log10(abs(value))) if value else 0
        return f"{value:,.{max(0, decimals)}f}"


class Better(Enum):
    """Which values of a metric are better."""

    higher = "higher"
    lower = "lower"


@dataclass(frozen=True)
class Metric:
    """One metric, or several with a common explanation. `meaning` is in Markdown.

    `interval` names the metrics that are the ends of its 95 % interval; a metric that is `exact` needs none. Without
    `better`, rows are not ranked by it.
    """

    names: tuple[str, ...]
    section: Section
    meaning: str
    headline: bool = False
    column: Column | None = None
    better: Better | None = None
    interval: tuple[str, str] | None = None
    exact: bool = False


def _family(pattern: str, *parts: str) -> tuple[str, ...]:
    return tuple(pattern.format(part) for part in parts)


_ESTIMATE = ("", "_ci95_low", "_ci95_high")
_PERCENTILES = ("50", "90", "95", "97", "99", "99_9")

CATALOGUE = (
    Metric(
        ("accuracy_top1",),
        Section.accuracy,
        "share of the evaluation images whose best class is the label, 0..1, run on the target",
        headline=True,
        column=Column("top1\n%", scale=100, form=".1f", label="top-1", unit=" %", listed=True, optional=True),
        better=Better.higher,
        interval=("accuracy_ci95_low", "accuracy_ci95_high"),
    ),
    Metric(
        ("latency_ms",),
        Section.latency,
        "mean time of one query at batch 1, one in flight: input copy + execute + output copy",
        headline=True,
        column=Column("ms", label="latency", unit=" ms", listed=True),
        better=Better.lower,
        interval=("latency_ci95_low_ms", "latency_ci95_high_ms"),
    ),
    Metric(
        ("throughput_ips",),
        Section.throughput,
        "inferences completed / wall time over a saturated window; never 1 / latency",
        headline=True,
        column=Column("inf/s", label="throughput", unit="/s", listed=True),
        better=Better.higher,
        interval=("throughput_ci95_low_ips", "throughput_ci95_high_ips"),
    ),
    Metric(
        ("flops_per_s",),
        Section.throughput,
        "`throughput_ips` × operations of the source model (2 × MACs), the same for every quantization",
        headline=True,
        column=Column("GFLOP\n/s", scale=1e-9),
        better=Better.higher,
        interval=("flops_ci95_low_per_s", "flops_ci95_high_per_s"),
    ),
    Metric(
        ("power_w",),
        Section.power,
        "energy over the throughput window (trapezoid over a sensor's readings) / its length",
        headline=True,
        column=Column("W", listed=True),
        better=Better.lower,
        interval=("power_ci95_low_w", "power_ci95_high_w"),
    ),
    Metric(
        ("efficiency_ips_per_w",),
        Section.power,
        "`throughput_ips` / `power_w`",
        headline=True,
        column=Column("inf/s\n/W"),
        better=Better.higher,
        interval=("efficiency_ci95_low_ips_per_w", "efficiency_ci95_high_ips_per_w"),
    ),
    Metric(
        ("accuracy_top5",),
        Section.accuracy,
        "share of images with the label among the five best classes",
        better=Better.higher,
    ),
    Metric(
        ("accuracy_map",),
        Section.accuracy,
        "COCO's mAP of detections, 0..1, instead of top-1: the mean over classes and the "
        "IoU thresholds 0.5, 0.55 … 0.95 of the average precision, run on the target",
        column=Column("mAP\n%", scale=100, form=".1f", label="mAP", unit=" %", listed=True, optional=True),
        better=Better.higher,
        interval=("accuracy_ci95_low", "accuracy_ci95_high"),
    ),
    Metric(
        ("accuracy_map50", "accuracy_map75"),
        Section.accuracy,
        "the same at an IoU of 0.5 only, and of 0.75 only",
        better=Better.higher,
    ),
    Metric(
        _family("accuracy_map_{}", "small", "medium", "large"),
        Section.accuracy,
        "mAP of objects of up to 32 × 32 pixels of the image, up to 96 × 96, and larger",
        better=Better.higher,
    ),
    Metric(
        _family("accuracy_ar{}", "1", "10", "100"),
        Section.accuracy,
        "COCO's average recall with the best 1, 10 or 100 detections of each class and image",
        better=Better.higher,
    ),
    Metric(
        ("accuracy_ci95_low", "accuracy_ci95_high"),
        Section.accuracy,
        "95 % interval of top-1 (Wilson) or mAP (bootstrap over images, below)",
    ),
    Metric(
        ("accuracy_drop",),
        Section.accuracy,
        "top-1 or mAP of the unconverted fp32 model − this, on the same images; the baseline is computed once per "
        "model and data",
        column=Column("drop", scale=100, form="+.1f"),
        better=Better.lower,
        interval=("accuracy_drop_ci95_low", "accuracy_drop_ci95_high"),
    ),
    Metric(
        ("accuracy_drop_ci95_low", "accuracy_drop_ci95_high"),
        Section.accuracy,
        "95 % interval of the drop: for paired proportions (Agresti and Min, 2005); of mAP a bootstrap (below)",
    ),
    Metric(
        _family("accuracy_drop_{}", "conversion", "quantization", "runtime"),
        Section.accuracy,
        "the parts of the drop, with `protocol.decompose_drop=true`; see below",
        better=Better.lower,
    ),
    Metric(
        ("accuracy_claimed_difference",),
        Section.accuracy,
        "top-1 − the claimed value of the model, which is of the full validation set; it has no interval",
    ),
    Metric(
        ("accuracy_images",),
        Section.accuracy,
        "number of images scored",
    ),
    Metric(
        ("accuracy_detections",),
        Section.accuracy,
        "number of detections scored, in all images",
    ),
    Metric(
        ("accuracy_tied_images",),
        Section.accuracy,
        "images with several best classes, of which the first counts; frequent if outputs have 8 bits",
    ),
    Metric(
        ("accuracy_nan_images",),
        Section.accuracy,
        "images with NaN among their outputs; a NaN is never a best class, and a detector's image has no detections",
        better=Better.lower,
    ),
    Metric(
        ("agreement_top1", "sqnr_db"),
        Section.accuracy,
        "the target's outputs against the source model's: share of images with the same best class, and "
        "10 log₁₀(Σ reference² / Σ (reference − candidate)²); missing for a file that is already quantized",
        better=Better.higher,
    ),
    Metric(
        ("agreement_images",),
        Section.accuracy,
        "number of images of which these outputs were compared",
    ),
    Metric(
        ("agreement_boxes", "agreement_iou"),
        Section.accuracy,
        "the same for detections: share of the source model's with a score of 0.3 or more that the target has too, and "
        "the mean IoU of these; see below",
        better=Better.higher,
    ),
    Metric(
        ("agreement_score_difference",),
        Section.accuracy,
        "of these detections the mean absolute difference of the scores",
        better=Better.lower,
    ),
    Metric(
        ("latency_ci95_low_ms", "latency_ci95_high_ms"),
        Section.latency,
        "95 % interval of the mean",
    ),
    Metric(
        ("latency_uncertainty",),
        Section.latency,
        "half of that interval's width / the mean, the table's ±",
        column=Column("±%", scale=100, form=".1f"),
    ),
    Metric(
        _family("latency_p{}_ms", *_PERCENTILES),
        Section.latency,
        "nearest rank: the smallest time that this share of the queries did not exceed",
        better=Better.lower,
    ),
    Metric(
        tuple(name for p in _PERCENTILES for name in _family(f"latency_p{p}_ci95_{{}}_ms", "low", "high")),
        Section.latency,
        "the order statistics that enclose the true percentile at 95 % (below). A percentile needs enough queries so "
        "that the slowest one bounds it: p50 6, p90 36, p95 72, p97 122, p99 368, p99.9 3,688",
    ),
    Metric(
        _family("latency_{}_ms", "std", "min", "max"),
        Section.latency,
        "of all queries",
        better=Better.lower,
    ),
    Metric(
        ("latency_outliers",),
        Section.latency,
        "queries beyond Q3 + 3 IQR: counted, never dropped",
        better=Better.lower,
    ),
    Metric(
        ("latency_drift",),
        Section.latency,
        "change of a line fitted to the windows' medians, from the first window to the last / their mean",
    ),
    Metric(
        ("latency_last_over_first",),
        Section.latency,
        "last window's median / first window's − 1",
    ),
    Metric(
        ("latency_bursts",),
        Section.latency,
        "share of the time (in slices of 50 ms or 5 queries) in which the median query took 15 % or more longer than "
        "in the fastest quarter of the slices, or in which no query ended",
        better=Better.lower,
    ),
    Metric(
        _family("{}_ms", "input_copy", "execute", "output_copy"),
        Section.latency,
        "the three stages of the latency, means",
        better=Better.lower,
    ),
    Metric(
        ("preprocess_ms", "postprocess_ms"),
        Section.latency,
        "uint8 image to input tensor, and outputs to what is scored; not in `latency_ms`",
        better=Better.lower,
    ),
    Metric(
        ("first_inference_ms",),
        Section.latency,
        "the first query after the model was opened",
        better=Better.lower,
    ),
    Metric(
        ("latency_runs", "latency_run_spread"),
        Section.latency,
        "with `protocol.repeats`: the processes, and the range of their values / the mean",
    ),
    Metric(
        ("throughput_ci95_low_ips", "throughput_ci95_high_ips"),
        Section.throughput,
        "95 % interval of the throughput, from the rates of the seconds of its window",
    ),
    Metric(
        ("flops_ci95_low_per_s", "flops_ci95_high_per_s"),
        Section.throughput,
        "the same of `flops_per_s`",
    ),
    Metric(
        ("throughput_batch", "throughput_in_flight"),
        Section.throughput,
        'the setting that `throughput_ips` was measured at; "batch x in flight" in the table',
    ),
    Metric(
        ("throughput_batch1_ips",),
        Section.throughput,
        "the best rate at batch 1: `throughput_ips` if its batch is 1, else **one trial** of `trial_seconds` "
        "for the best setting of batch 1 after the search; missing with the note of that trial if it failed",
        better=Better.higher,
    ),
    Metric(
        ("throughput_run_spread",),
        Section.throughput,
        "with `protocol.repeats`: the range of the processes' values / the mean",
    ),
    Metric(
        ("sustained_ratio",),
        Section.throughput,
        "of a window of ten minutes or more: the rate of its last five minutes / that of its fastest five",
        better=Better.higher,
    ),
    Metric(
        ("power_standard_error_w",),
        Section.power,
        "of the mean, from the scatter of single readings around the load; for a counter of energy (RAPL, NVML) half "
        "of the 95 % interval / 1.96; with `protocol.repeats` from the spread of the processes if that is larger",
    ),
    Metric(
        _family("power_ci95_{}_w", "low", "high") + _family("efficiency_ci95_{}_ips_per_w", "low", "high"),
        Section.power,
        "95 % intervals: scatter of the readings, the sensor's resolution and accuracy as far as they are stated, and "
        "the alignment of the clocks",
    ),
    Metric(
        ("idle_power_w", "idle_power_standard_error_w"),
        Section.power,
        "before the measurement, with the model open",
        better=Better.lower,
    ),
    Metric(
        ("energy_per_inference_mj",),
        Section.power,
        "`power_w` / `throughput_ips`, in millijoules",
        better=Better.lower,
    ),
    Metric(
        ("dynamic_power_w",),
        Section.power,
        "`power_w` - `idle_power_w`",
        better=Better.lower,
    ),
    Metric(
        ("latency_power_w", "latency_energy_per_inference_mj"),
        Section.power,
        "mean power in the single-stream phase (batch 1, one query in flight), and that times the time from one query "
        "to the next",
        better=Better.lower,
    ),
    Metric(
        ("edp_mj_ms",),
        Section.power,
        "energy-delay product: `latency_energy_per_inference_mj` × `latency_ms`, which is P × latency²",
        better=Better.lower,
    ),
    Metric(
        ("ledp_mj_ms",),
        Section.power,
        "loss-energy-delay product of the EDLAB paper: (1 - top-1 or mAP) × `edp_mj_ms`",
        better=Better.lower,
    ),
    Metric(
        tuple(f"sampling_{each}_cost{end}" for each in ("latency", "throughput") for end in _ESTIMATE),
        Section.power,
        "how much longer a query, and an inference at the highest throughput, take while the power source is read, as "
        "a fraction, with its 95 % interval; measured once for each target and source",
    ),
    Metric(
        ("power_readings",),
        Section.power,
        "number of new readings in the window: a reading that the sensor only repeats is none",
    ),
    Metric(
        ("power_readings_dropped",),
        Section.power,
        "readings that were negative, not finite, above 2 × `device.specification.max_watts`, or above what the "
        "boundary allows at all (a rail or module 5 kW, USB 240 W, otherwise 20 kW)",
    ),
    Metric(
        ("power_readings_failed",),
        Section.power,
        "readings that failed; each is a gap",
        better=Better.lower,
    ),
    Metric(
        ("macs", "flops", "parameters"),
        Section.model,
        "of the source model, at batch 1",
        exact=True,
    ),
    Metric(
        ("artifact_size_mb",),
        Section.model,
        "the converted files, 10^6 bytes",
        better=Better.lower,
        exact=True,
    ),
    Metric(
        ("int8_weights_fraction",),
        Section.model,
        "share of the weights in the converted files that are int8",
        exact=True,
    ),
    Metric(
        ("conversion_s",),
        Section.model,
        "all steps of the conversion, even if they are from the cache",
        better=Better.lower,
    ),
    Metric(
        ("load_ms", "compile_ms"),
        Section.model,
        "reading the file into the runtime's own form, and making it ready to run",
        better=Better.lower,
    ),
    Metric(
        ("peak_memory_mb",),
        Section.model,
        "peak resident memory of the agent's process up to the end of the latency phase, 10^6 bytes",
        better=Better.lower,
    ),
    Metric(
        ("edgetpu_ops_mapped_fraction",),
        Section.edgetpu,
        "share of the model's operators that run on the Edge TPU, 0..1; a model with none fails",
        better=Better.higher,
        exact=True,
    ),
    Metric(
        ("edgetpu_onchip_mb",),
        Section.edgetpu,
        "weights that stay in the Edge TPU's memory",
        exact=True,
    ),
    Metric(
        ("edgetpu_streamed_mb",),
        Section.edgetpu,
        "weights that do not fit, and are sent to it at each inference",
        better=Better.lower,
        exact=True,
    ),
)

PREFIXES = ("estimated_", "emulated_")  # of metrics that were not measured on the target

_BY_NAME = {name: metric for metric in CATALOGUE for name in metric.names}


def find(name: str) -> Metric | None:
    """The metric with this name, measured or not; None for a plugin's."""
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return _BY_NAME.get(name)


def names() -> tuple[str, ...]:
    """The names of all metrics."""
    return tuple(_BY_NAME)


def column(name: str) -> Column:
    """The column of a metric; one with its name as the heading if it has none."""
    metric = find(name)
    own = metric.column if metric and name == metric.names[0] else None
    return own or Column(name)


def headlines(accuracy: str = "accuracy_top1") -> tuple[str, ...]:
    """The names of the six that every run reports; `accuracy` is the metric of the run's task."""
    found = (metric.names[0] for metric in CATALOGUE if metric.headline)
    return tuple(accuracy if name == "accuracy_top1" else name for name in found)


def with_intervals(names: Collection[str]) -> set[str]:
    """These metrics and the ends of their intervals, measured or not: the names by which runs record them."""
    ends = (metric.interval for name in names if (metric := find(name)) and metric.interval)
    return {prefix + name for name in (*names, *chain.from_iterable(ends)) for prefix in ("", *PREFIXES)}


def accuracies() -> tuple[str, ...]:
    """The accuracy metrics of the tasks, one for each."""
    in_section = (metric for metric in CATALOGUE if metric.section is Section.accuracy)
    return tuple(metric.names[0] for metric in in_section if metric.column and metric.column.label)


def columns() -> dict[str, Column]:
    """The columns of a table by the metric's name, in order."""
    order = {section: index for index, section in enumerate(Section)}
    with_column = [metric for metric in CATALOGUE if metric.column]
    ordered = sorted(with_column, key=lambda metric: order[metric.section])
    return {metric.names[0]: metric.column for metric in ordered if metric.column}


def markdown(section: Section | None) -> str:
    """The table of docs/metrics.md for a section; None: the headlines, which are in no other table."""
    rows = [metric for metric in CATALOGUE if (metric.headline if section is None else metric.section == section)]
    lines = ["| metric | what it is |", "|---|---|"]
    for metric in rows:
        if section is None or not metric.headline:
            lines.append(f"| {_names(metric.names)} | {metric.meaning} |")
    return "\n".join(lines) + "\n"


def _names(names: tuple[str, ...]) -> str:
    if len(names) <= 3:
        return ", ".join(f"`{name}`" for name in names)
    return f"`{names[0]}` … `{names[-1]}`"
