"""The runs in words: what was compared, what is best by each headline, and what limits the comparison."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from edlab.comparison import Estimate, estimate, names, obstacles
from edlab.comparison import best as winner_of
from edlab.comparison.estimates import EMULATED
from edlab.metrics import catalogue
from edlab.metrics.catalogue import Section
from edlab.predictions_file import Right, unknown
from edlab.record import RunRecord, Status, VerdictState, as_text
from edlab.reports.report.labels import labels
from edlab.reports.table import NAMES

_MOST_NAMED = 4  # in one sentence
_TITLES = {
    "accuracy_top1": "Top-1 accuracy", "accuracy_map": "mAP", "accuracy_drop": "Accuracy drop", "latency_ms": "Latency",
    "throughput_ips": "Throughput", "flops_per_s": "Operations per second", "power_w": "Power",
    "efficiency_ips_per_w": "Efficiency", "latency_min_ms": "Fastest query", "latency_max_ms": "Slowest query",
}  # fmt: skip
_UNITS = {
    "accuracy_top1": "%", "accuracy_map": "%", "accuracy_drop": "percentage points", "latency_ms": "ms",
    "throughput_ips": "inferences/s", "flops_per_s": "G/s", "power_w": "W", "efficiency_ips_per_w": "inferences/s/W",
}  # fmt: skip
_PLURALS = {"model": "models", "quant": "quantizations", "converter": "converters", "device": "devices"}


class Best(NamedTuple):
    """The answer for one metric; `run` is empty if there is none, and `text` has the reason."""

    title: str
    run: str
    text: str


def title(name: str) -> str:
    """A metric in words."""
    if name.startswith("latency_p"):
        return f"Latency {name.removeprefix('latency_').removesuffix('_ms').replace('_', '.')}"
    return _TITLES.get(name, name)


def unit(name: str) -> str:
    """The unit of a metric's column."""
    return _UNITS.get(name, "")


def written(name: str, found: Estimate) -> str:
    """A value with its unit, the mark of one that was not measured on the target, and half its interval."""
    column = catalogue.column(name)
    mark = {"": "", EMULATED: "≈ "}.get(found.prefix, "~ ")
    text = f"{mark}{column.write(found.value)} {unit(name)}".strip()
    if found.low is None or found.high is None:
        return text
    metric = catalogue.find(name)
    if metric and metric.section is Section.accuracy:
        return f"{text} ({column.scale * found.low:.1f} to {column.scale * found.high:.1f})"
    return f"{text} ± {found.relative_half or 0:.1%}"


def compared(records: Sequence[RunRecord]) -> str:
    """What was compared, and how the runs ended, in two sentences."""
    parts = []
    for heading, key in NAMES.items():
        values = sorted({as_text(record.params[key]) for record in records if key in record.params})
        if len(values) == 1:
            parts.append(f"{'quantization' if heading == 'quant' else heading} {values[0]}")
        elif values:
            parts.append(f"{len(values)} {_PLURALS[heading]} ({_listed(values)})")
    states = Counter(each.ending or "no verdict" for each in records)
    ends = ", ".join(f"{count} {state}" for state, count in states.most_common())
    count = "1 run" if len(records) == 1 else f"{len(records)} runs"
    return f"{count}: {', '.join(parts)}. Result: {ends}."


def best(records: Sequence[RunRecord], right: Right = unknown) -> list[Best]:
    """The best run by each headline, and those that are not shown to be worse."""
    called = labels(records)
    return [_best(records, name, called, right) for name in names.compared(records) if name != "accuracy_drop"]


def _best(records: Sequence[RunRecord], name: str, called: Mapping[str, str], right: Right) -> Best:
    heading = title(name)
    measured = [record for record in records if name in record.metrics]
    ranked = measured or [record for record in records if EMULATED + name in record.metrics]
    if not ranked:
        return Best(heading, "", _why_missing(records, name))
    found = winner_of(ranked, name, right)
    if found is None:
        return Best(heading, "", "no winner: all runs with a value are INVALID")
    winner, alike = found
    others = _listed([called[record.uuid] for record in alike])
    return Best(
        heading, called[winner.uuid], _known(winner, name) + (f". Not shown to be worse: {others}" if alike else "")
    )


def _known(record: RunRecord, name: str) -> str:
    found = estimate(record, name)
    assert found is not None
    return written(name, found)


def _why_missing(records: Sequence[RunRecord], name: str) -> str:
    reason = missing(records, name)
    if any(f"estimated_{name}" in record.metrics for record in records):
        return f"no winner: only estimated (~), not measured: {reason}"
    return f"not measured: {reason}"


def missing(records: Sequence[RunRecord], name: str) -> str:
    """The most frequent reason why runs do not have a metric; those of runs that ended before it count last."""
    reasons = Counter(each.missing[name] for each in records if each.status is Status.ok and name in each.missing)
    reasons = reasons or Counter(each.missing[name] for each in records if name in each.missing)
    return reasons.most_common(1)[0][0] if reasons else "no run has a value"


def caveats(records: Sequence[RunRecord]) -> list[str]:
    """What limits the comparison."""
    return list(_caveats(records))


def _caveats(records: Sequence[RunRecord]) -> Iterator[str]:
    ok = [record for record in records if record.status is Status.ok]
    if not ok:
        yield "No run was measured: see the failed and skipped rows."
        return
    invalid = [each for each in ok if each.verdict and each.verdict.state is VerdictState.invalid]
    if invalid:
        codes = Counter(code for each in invalid if each.verdict for code in each.verdict.invalidating)
        named = _listed([code for code, _ in codes.most_common()])
        text = f"{len(invalid)} of {len(ok)} measured runs are INVALID, and are never a winner"
        yield f"{text}. Reasons of these runs: {named}." if named else f"{text}."
    if any(each.tags.get("weights") == "untrained" for each in ok):
        yield "Some models have random weights (untrained): their speed is real, their accuracy means nothing."
    if any(name.startswith(EMULATED) for each in ok for name in each.metrics):
        yield "Values marked ≈ were measured on a stand-in, not on the device."
    if any(name.startswith("estimated_") for each in ok for name in each.metrics):
        yield "Values marked ~ are estimates from a specification, not measurements."
    base = ok[0]
    for code, message in {each.code: each.message for record in ok for each in obstacles(record, base)}.items():
        yield f"Not all runs are comparable ({code}): {message}."
    if any("latency_runs" not in each.metrics for each in ok):
        yield (
            "Intervals (95 %) exclude the differences between processes if a run has no repeats: "
            "set protocol.repeats=5 to include them."
        )


def _listed(found: Sequence[str]) -> str:
    shown = ", ".join(found[:_MOST_NAMED])
    return f"{shown} and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else shown
