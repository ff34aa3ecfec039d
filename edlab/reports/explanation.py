"""Where quantization hurts, and what it costs to leave the worst layers in floating point."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from edlab.metrics import catalogue
from edlab.metrics.layer_noise import LayerNoise
from edlab.record import RunRecord, VerdictState
from edlab.reports.sheet import Cell, Heading, Note, Sheet

_DROP, _LATENCY = "accuracy_drop", "latency_ms"


def layers_sheet(layers: Sequence[LayerNoise], worst: int, images: int) -> Sheet:
    """The layers that add most noise."""
    total = sum(layer.added for layer in layers)
    headings = [
        *(Heading(text, is_number=True) for text in ("SQNR\ndB", "at\ninput", "added\nnoise", "share")),
        Heading("operator", is_spare=True),
        Heading("layer", folds=True),
    ]
    cells: list[list[Cell] | str] = [
        [
            Cell(_decibels(layer.sqnr_db)),
            Cell(_decibels(layer.input_sqnr_db)),
            Cell(f"{100 * layer.added:.2g} %"),
            Cell(f"{layer.added / total:.0%}" if total else ""),
            Cell(layer.operator),
            Cell(layer.module or layer.name),
        ]
        for layer in layers[:worst]
    ]
    title = f"the {min(worst, len(layers))} of {len(layers)} layers that add most noise, on {images} images"
    notes = [
        "SQNR: signal to quantization noise at a layer's output, against the float32 graph; it includes the noise of "
        "the layers before",
        "added noise: noise power / signal power at the output, minus that at the input",
    ]
    return Sheet(headings, cells, [layer._asdict() for layer in layers[:worst]], title, list(map(Note, notes)))


def _decibels(value: float | None) -> str:
    return "no noise" if value is None else f"{value:.1f}"


def exclude_override(names: Sequence[str]) -> str:
    """The override that leaves these layers in floating point, quoted for a shell."""
    listed = ",".join("'" + name.replace("'", "\\'") + "'" for name in names)
    override = f"quantization.exclude=[{listed}]"
    return shlex.quote(override) if set(override) & set('"$`\\!') else f'"{override}"'


def trial_sheet(before: RunRecord, after: RunRecord, excluded: int) -> Sheet:
    """Both rows: the accuracy regained and the latency paid, with 95 % intervals."""
    texts = ("in floating\npoint", "accuracy\n%", "drop, points", "latency ms", "verdict")
    cells: list[list[Cell] | str] = [
        [
            Cell(record.run_id[:8]),
            *map(Cell, (layers, _accuracy(record), _drop(record), _latency(record), _verdict(record))),
        ]
        for record, layers in ((before, "as it was"), (after, f"+{excluded} layers"))
    ]
    data = [{"run_id": record.run_id} | record.metrics for record in (before, after)]
    notes = [Note(_regained(before, after)), Note(_paid(before, after))]
    return Sheet([Heading("run"), *(Heading(text, is_number=True) for text in texts)], cells, data, notes=notes)


def _verdict(record: RunRecord) -> str:
    return record.verdict.state.value if record.verdict else "missing"


def _prefixed(record: RunRecord, name: str) -> float | None:
    """A metric, measured on the device or on its stand-in."""
    return record.metrics.get(f"emulated_{name}" if "stand_in" in record.tags else name)


def _mark(record: RunRecord) -> str:
    return "\u2248" if "stand_in" in record.tags else ""


def _accuracy(record: RunRecord) -> str:
    found = (_prefixed(record, name) for name in catalogue.accuracies())
    value = next((each for each in found if each is not None), None)
    return "missing" if value is None else f"{_mark(record)}{100 * value:.2f}"


def _interval(record: RunRecord, *names: str) -> tuple[float, float, float] | None:
    """A value with the ends of its interval; None if it is missing."""
    value, low, high = (_prefixed(record, name) for name in names)
    return None if value is None or low is None or high is None else (value, low, high)


def _drops(record: RunRecord) -> tuple[float, float, float] | None:
    return _interval(record, _DROP, f"{_DROP}_ci95_low", f"{_DROP}_ci95_high")


def _latencies(record: RunRecord) -> tuple[float, float, float] | None:
    return _interval(record, _LATENCY, "latency_ci95_low_ms", "latency_ci95_high_ms")


def _drop(record: RunRecord) -> str:
    found = _drops(record)
    if found is None:
        return "missing"
    value, low, high = (100 * each for each in found)
    return f"{_mark(record)}{value:+.2f} ({low:+.2f} to {high:+.2f})"


def _latency(record: RunRecord) -> str:
    found = _latencies(record)
    if found is None:
        return "missing" if (mean := _prefixed(record, _LATENCY)) is None else f"{_mark(record)}{mean:.3g}"
    return f"{_mark(record)}{found[0]:.3g} ({found[1]:.3g} to {found[2]:.3g})"


def _regained(before: RunRecord, after: RunRecord) -> str:
    """The difference of the drops. Their half-widths are added, which is wider than the true interval."""
    first, second = _drops(before), _drops(after)
    if first is None or second is None:
        return "accuracy regained: unknown, because the accuracy drop of a row is missing"
    low, high = 100 * (first[1] - second[2]), 100 * (first[2] - second[1])
    shown = "" if low > 0 or high < 0 else ": no difference shown"
    return f"accuracy regained: {100 * (first[0] - second[0]):+.2f} points (at most {low:+.2f} to {high:+.2f}){shown}"


def _paid(before: RunRecord, after: RunRecord) -> str:
    """The ratio of the latencies, between the extremes of both intervals."""
    first, second = _latencies(before), _latencies(after)
    if VerdictState.invalid in (_verdict(before), _verdict(after)):
        return "latency paid: unknown, because a row is INVALID: `edlab show RUN` states why"
    if first is None or second is None:
        return "latency paid: unknown, because the interval of a row is missing"
    low, high = second[1] / first[2], second[2] / first[1]
    shown = "" if low > 1 or high < 1 else ": no difference shown"
    return f"latency paid: x {second[0] / first[0]:.3g} (at most {low:.3g} to {high:.3g}){shown}"
