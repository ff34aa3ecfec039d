"""The charts of a report as descriptions for Plotly: plain data, drawn by the page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from edlab.comparison import Estimate, direction, estimate, front, names, reliable
from edlab.comparison.estimates import EMULATED
from edlab.metrics import catalogue
from edlab.metrics.catalogue import Better
from edlab.record import RunRecord, VerdictState, as_text
from edlab.reports.report.labels import labels, safe
from edlab.reports.report.published import Published
from edlab.reports.report.summary import missing, title, unit, written
from edlab.reports.table import NAMES

#: Okabe and Ito's colours for colour-blind readers, those first that are visible on white and on black.
COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999999")
_FRONT = "#d55e00"
_PALE = 0.5  # the opacity of an INVALID run
_MOST_ROWS = 24  # of a chart; of more runs, those that its text states
_LARGEST = 34  # pixels, the diameter of the largest file
_WIDE_RANGE = 20  # largest over smallest value from which an axis is logarithmic
_PERCENTILES = ("50", "90", "99")
_ROW, _FRAME = 24, 130  # pixels: of a bar or a label, and of the axes and the legend
_HOVER_LINE = 48  # characters
_DIFFERENT = len(COLORS)  # colours and signs that a person can tell apart


class Power(NamedTuple):
    """The power readings of a run: seconds from the first one, and watts."""

    seconds: Sequence[float]
    watts: Sequence[float]


@dataclass(frozen=True)
class Chart:
    """A chart with the same content in words; without traces, `text` is why there is none."""

    key: str
    title: str
    text: str
    traces: list[dict[str, Any]] = field(default_factory=list)
    layout: dict[str, Any] = field(default_factory=dict)
    note: str = ""


def charts(
    records: Sequence[RunRecord], published: Sequence[Published] = (), power: Mapping[str, Power] | None = None
) -> list[Chart]:
    """All charts of these runs; `power` has the readings of some of them by uuid."""
    colors = _colors(map(_device, records))
    return [
        _bars("throughput", "throughput_ips", records, published, colors),
        _bars("efficiency", "efficiency_ips_per_w", records, published, colors),
        _trade_off(records, published),
        _drop(records),
        _distribution(records, published),
        _power(records, power or {}),
    ]


def _bars(
    key: str, name: str, records: Sequence[RunRecord], published: Sequence[Published], colors: Mapping[str, str]
) -> Chart:
    """One metric by model and device: a bar for each run; of many runs, for the best of each model and device."""
    found = {each.uuid: value for each in records if (value := estimate(each, name, estimates=True))}
    heading = f"{title(name)} by model and device"
    stated = [each for each in published if each.metric == name]
    if not found and not stated:
        return Chart(key, heading, f"There is no chart: {_sentence(missing(records, name))}")
    shown = [record for record in records if record.uuid in found]
    note = ""
    if len(shown) > _MOST_ROWS:
        shown = _best_of_each(shown, found, name)
        note = "Only the best run of each model and device is shown; the table has all. "
        called = {record.uuid: as_text(record.params.get("model.name", record.name)) for record in shown}
    else:
        called = labels(shown, without=("device.name",))
    shown = sorted(shown, key=lambda each: found[each.uuid].value, reverse=True)[:_MOST_ROWS]
    order = dict.fromkeys([safe(called[each.uuid]) for each in shown] + [safe(each.model) for each in stated])
    traces = []
    for (device, prefix), members in _groups(shown, found).items():
        traces.append(
            {
                "type": "bar",
                "orientation": "h",
                "offsetgroup": safe(device),
                "name": safe(device + _marked(prefix), _HOVER_LINE),
                "y": [safe(called[each.uuid]) for each in members],
                "x": [_scaled(name, found[each.uuid]).value for each in members],
                "error_x": _error([_scaled(name, found[each.uuid]) for each in members]),
                "hovertext": [_hover(each, [(name, found[each.uuid])]) for each in members],
                "marker": {
                    "color": colors[device],
                    "opacity": [_opacity(each) for each in members],
                    "pattern": {"shape": {"": "", EMULATED: "/"}.get(prefix, "\\")},
                },
            }
        )
    for device in dict.fromkeys(each.device for each in stated):
        figures = [each for each in stated if each.device == device]
        traces.append(
            {
                "type": "bar",
                "orientation": "h",
                "offsetgroup": safe(f"{device}, published"),
                "name": safe(f"{device}, published"),
                "y": [safe(each.model) for each in figures],
                "x": [_scale(name) * each.value for each in figures],
                "hovertext": [_published_hover(each) for each in figures],
                "marker": {"color": "rgba(0,0,0,0)", "line": {"color": colors.get(device, COLORS[-1]), "width": 2}},
            }
        )
    ranked = _ranked(shown, found)
    values = "; ".join(
        f"{called[each.uuid]} on {_device(each)} {written(name, found[each.uuid])}" for each in ranked[:3]
    )
    count = f"Highest of {len(ranked)}" if len(ranked) > 1 else "One run"
    first = f"{count}: {values}." if ranked else "All runs are INVALID."
    text = f"{note}{first}{_legend(shown, found)}" if shown else "Published figures only."
    bars = sum(len(trace["y"]) for trace in traces)
    layout = _layout(f"{title(name).lower()}, {unit(name)}", rows=max(bars, _lines(order))) | {"barmode": "group"}
    layout["yaxis"] = _categories(order)
    return Chart(key, heading, text, traces, layout, _sources(stated))


def _best_of_each(records: Sequence[RunRecord], found: Mapping[str, Estimate], name: str) -> list[RunRecord]:
    """The best run of each model and device; one that is INVALID or was not measured only if there is no other."""
    kept: dict[tuple[str, str], RunRecord] = {}

    def rank(record: RunRecord) -> tuple[bool, bool, float]:
        value = found[record.uuid]
        return not _is_invalid(record), not value.prefix, _sign(name) * value.value

    for record in sorted(records, key=rank):
        kept[as_text(record.params.get("model.name", "")), _device(record)] = record
    return list(kept.values())


def _ranked(records: Sequence[RunRecord], found: Mapping[str, Estimate]) -> list[RunRecord]:
    """The runs that a caption may name as the best, in their order: reliable ones, and measured ones if any are."""
    sound = reliable(records)
    return [each for each in sound if not found[each.uuid].prefix] or sound


def _sign(name: str) -> int:
    return 1 if direction(name) is Better.higher else -1


def _trade_off(records: Sequence[RunRecord], published: Sequence[Published]) -> Chart:
    """Accuracy against latency, with the size of the files as area and the Pareto front."""
    accuracy = names.metric(names.ACCURACY, records) if _has_accuracy(records) else "accuracy_top1"
    heading = f"{title(accuracy)} against latency"
    found = {
        each.uuid: (x, y) for each in records if (x := estimate(each, "latency_ms")) and (y := estimate(each, accuracy))
    }
    if not found:
        needed = accuracy if not _has_accuracy(records) else "latency_ms"
        return Chart("trade_off", heading, f"There is no chart: {_sentence(missing(records, needed))}")
    shown = [record for record in records if record.uuid in found]
    called = labels(shown)
    key = _distinguishing(shown)
    colors = _colors(as_text(record.params.get(key, "")) for record in shown)
    largest = max(each.metrics.get("artifact_size_mb", 0.0) for each in shown) or 1.0
    traces = []
    for (value, prefix), members in _groups(shown, {uuid: x for uuid, (x, _) in found.items()}, key).items():
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": safe(value + _marked(prefix), _HOVER_LINE),
                "x": [found[each.uuid][0].value for each in members],
                "y": [_scaled(accuracy, found[each.uuid][1]).value for each in members],
                "error_x": _error([found[each.uuid][0] for each in members], f"{colors[value]}70"),
                "error_y": _error([_scaled(accuracy, found[each.uuid][1]) for each in members], f"{colors[value]}70"),
                "hovertext": [
                    _hover(each, [("latency_ms", found[each.uuid][0]), (accuracy, found[each.uuid][1])])
                    for each in members
                ],
                "marker": {
                    "color": colors[value],
                    "symbol": "x" if prefix == EMULATED else "circle",
                    "opacity": [_opacity(each) * 0.85 for each in members],
                    "size": [each.metrics.get("artifact_size_mb", 0.0) for each in members],
                    "sizemode": "area",
                    "sizeref": 2 * largest / _LARGEST**2,
                    "sizemin": 5,
                },
            }
        )
    on_front = sorted(front(reliable(shown), (accuracy, "latency_ms")), key=lambda each: found[each.uuid][0].value)
    line = [found[each.uuid] for each in on_front]
    if on_front:
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": "Pareto front",
                "x": [x.value for x, _ in line],
                "y": [_scaled(accuracy, y).value for _, y in line],
                "line": {"color": _FRONT, "dash": "dash", "width": 1.5},
                "hoverinfo": "skip",
            }
        )
    pairs = _pairs(published, "latency_ms", accuracy)
    if pairs:
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": "published",
                "x": [x.value for x, _ in pairs],
                "y": [_scale(accuracy) * y.value for _, y in pairs],
                "hovertext": [f"{_published_hover(x)}<br>{_published_hover(y)}" for x, y in pairs],
                "marker": {"color": COLORS[-1], "symbol": "diamond-open", "size": 11, "line": {"width": 2}},
            }
        )
    points = "; ".join(
        f"{called[each.uuid]} ({written(accuracy, found[each.uuid][1])}, {written('latency_ms', found[each.uuid][0])})"
        for each in on_front[:5]
    )
    more = f" and {len(on_front) - 5} more" if len(on_front) > 5 else ""
    text = f"Pareto front, from the fastest: {points}{more}." if points else "No Pareto front: all runs are INVALID."
    sizes = "The area of a mark is the size of the converted files; lines are 95 % intervals."
    layout = _layout("latency, ms", rows=14)
    layout["yaxis"] = {"title": {"text": f"{title(accuracy)}, {unit(accuracy)}"}, "automargin": True}
    if _is_wide([x.value for x, _ in found.values()]):
        layout["xaxis"] |= {"type": "log", "dtick": "D2"}
    note = _sources([each for pair in pairs for each in pair])
    return Chart(
        "trade_off",
        heading,
        f"{text} {sizes}{_legend(shown, {uuid: x for uuid, (x, _) in found.items()})}",
        traces,
        layout,
        note,
    )


def _pairs(published: Sequence[Published], x: str, y: str) -> list[tuple[Published, Published]]:
    """The published figures of the same model and device for both metrics."""
    known = {(each.model, each.device, each.metric): each for each in published}
    keys = dict.fromkeys((each.model, each.device) for each in published)
    return [(known[*key, x], known[*key, y]) for key in keys if (*key, x) in known and (*key, y) in known]


def _drop(records: Sequence[RunRecord]) -> Chart:
    """The accuracy drop of each run by its quantization settings, coloured by model or converter."""
    name, heading = "accuracy_drop", "Accuracy drop by quantization"
    found = {each.uuid: value for each in records if (value := estimate(each, name))}
    if not found:
        return Chart("drop", heading, f"There is no chart: {_sentence(missing(records, name))}")
    shown = [record for record in records if record.uuid in found]
    settings = labels(shown, without=("model.name", "device.name"), unique=False)
    if len(set(settings.values())) > _MOST_ROWS:
        settings = {each.uuid: as_text(each.params.get("quantization.name", "")) for each in shown}
    varied = [key for key in ("model.name", "device.name") if len(_values(shown, key)) > 1]
    series = {each.uuid: " on ".join(as_text(each.params.get(key, "")) for key in varied) for each in shown}
    if len(set(series.values())) > _DIFFERENT:
        series = {each.uuid: as_text(each.params.get("model.name", "")) for each in shown}
    colors = _colors(series.values())
    traces = []
    for part in dict.fromkeys(series.values()):
        members = [each for each in shown if series[each.uuid] == part]
        traces.append(
            {
                "type": "scatter",
                "orientation": "h",
                "mode": "markers",
                "name": safe(part or "all runs", _HOVER_LINE),
                "y": [safe(settings[each.uuid]) for each in members],
                "x": [_scaled(name, found[each.uuid]).value for each in members],
                "error_x": _error([_scaled(name, found[each.uuid]) for each in members]),
                "hovertext": [_hover(each, [(name, found[each.uuid])]) for each in members],
                "marker": {
                    "color": colors[part],
                    "size": 9,
                    "opacity": [_opacity(each) for each in members],
                    "symbol": ["x" if found[each.uuid].prefix == EMULATED else "circle" for each in members],
                },
            }
        )
    worst = max(shown, key=lambda each: found[each.uuid].value)
    lossless = [each for each in shown if (low := found[each.uuid].low) is not None and low <= 0]
    text = (
        f"Right of 0 is a loss against the unconverted model; lines are 95 % intervals. "
        f"Largest: {labels(shown)[worst.uuid]}, {written(name, found[worst.uuid])}. "
        f"No drop is shown for {len(lossless)} of {len(shown)} runs, whose interval contains 0 or a gain."
    )
    rows = sorted({safe(label) for label in settings.values()})
    points = len({(settings[uuid], series[uuid]) for uuid in found})
    layout = _layout(f"accuracy drop, {unit(name)}", rows=max(_lines(rows), 0.8 * points))
    layout |= {"scattermode": "group", "yaxis": _categories(rows)}
    layout["xaxis"] |= {"zeroline": True, "zerolinewidth": 2}
    return Chart("drop", heading, text + _legend(shown, found), traces, layout)


def _distribution(records: Sequence[RunRecord], published: Sequence[Published]) -> Chart:
    """The fastest query and percentiles of each run; of the runs with the lowest median if there are many."""
    heading = "Latency distribution"
    found = {each.uuid: value for each in records if (value := estimate(each, "latency_p50_ms"))}
    if not found:
        return Chart("distribution", heading, f"There is no chart: {_sentence(missing(records, 'latency_ms'))}")
    ordered = sorted((each for each in records if each.uuid in found), key=lambda each: found[each.uuid].value)
    shown = ordered[:_MOST_ROWS]
    called = labels(shown)
    rows = {safe(_marked_label(called[each.uuid], found[each.uuid])): each for each in shown}
    marks = [_marks(rows, number) for number in range(len(_PERCENTILES))]
    stated = [each for each in published if each.metric in ("latency_ms", "latency_p50_ms")]
    if stated:
        marks.append(_published_latencies(stated))
    text = (
        "The bar is from the fastest query to the last mark; slower queries, 1 % beyond p99, are not drawn. Thin lines "
        "are 95 % intervals. "
    )
    if ranked := _ranked(shown, found):
        text += f"Lowest median: {called[ranked[0].uuid]}, {written('latency_ms', found[ranked[0].uuid])}."
    else:
        text += "All runs are INVALID."
    if len(shown) < len(ordered):
        text += f" Only the {len(shown)} runs with the lowest median are shown, of {len(ordered)}."
    every = [*rows, *(row for trace in marks for row in trace["y"])]
    layout = _layout("latency, ms", rows=_lines(every))
    layout["yaxis"] = _categories(every)
    if _is_wide([x for trace in marks for x in trace["x"]]):
        layout["xaxis"] |= {"type": "log", "dtick": "D2"}
    traces = [_spans(rows), *marks]
    return Chart("distribution", heading, text + _legend(shown, found), traces, layout, _sources(stated))


def _percentile(record: RunRecord, percentile: str) -> Estimate | None:
    """A percentile of the latency with its interval, as far as they are known."""
    name = f"latency_p{percentile}"
    found, low, high = (estimate(record, name + end) for end in ("_ms", "_ci95_low_ms", "_ci95_high_ms"))
    return found and found._replace(low=low and low.value, high=high and high.value)


def _spans(rows: Mapping[str, RunRecord]) -> dict[str, Any]:
    """A bar for each run, from the fastest query to the highest known percentile."""
    ends = [max(value.value for p in _PERCENTILES if (value := _percentile(each, p))) for each in rows.values()]
    outer = [
        [(name, value) for name in ("latency_min_ms", "latency_max_ms") if (value := estimate(each, name))]
        for each in rows.values()
    ]
    starts = [values[0][1].value if values else end for values, end in zip(outer, ends, strict=True)]
    return {
        "type": "bar",
        "orientation": "h",
        "name": "fastest query to last mark",
        "y": list(rows),
        "base": starts,
        "x": [end - start for start, end in zip(starts, ends, strict=True)],
        "width": 0.3,
        "hovertext": [_hover(each, values) for each, values in zip(rows.values(), outer, strict=True)],
        "marker": {"color": COLORS[-1], "opacity": [_PALE * _opacity(each) for each in rows.values()]},
    }


def _marks(rows: Mapping[str, RunRecord], number: int) -> dict[str, Any]:
    """One percentile of each run, with its interval."""
    percentile, sign, color = _PERCENTILES[number], ("circle", "diamond", "line-ns")[number], COLORS[number]
    present = [(row, each, value) for row, each in rows.items() if (value := _percentile(each, percentile))]
    name = f"latency_p{percentile}_ms"
    return {
        "type": "scatter",
        "mode": "markers",
        "name": {"50": "median"}.get(percentile, f"p{percentile}"),
        "y": [row for row, _, _ in present],
        "x": [value.value for _, _, value in present],
        "error_x": _error([value for _, _, value in present], color),
        "hovertext": [_hover(each, [(name, value)]) for _, each, value in present],
        "marker": {
            "color": color,
            "symbol": sign,
            "size": 10,
            "opacity": [_opacity(each) for _, each, _ in present],
            "line": {"color": color, "width": 2 if sign == "line-ns" else 0},
        },
    }


def _published_latencies(stated: Sequence[Published]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "published",
        "y": [safe(f"{each.model} {each.device}, published") for each in stated],
        "x": [each.value for each in stated],
        "hovertext": [_published_hover(each) for each in stated],
        "marker": {"color": COLORS[-1], "symbol": "diamond-open", "size": 10, "line": {"width": 2}},
    }


def _power(records: Sequence[RunRecord], power: Mapping[str, Power]) -> Chart:
    """The power readings of some runs over the throughput window."""
    heading = "Power over time"
    shown = [record for record in records if record.uuid in power]
    if not shown:
        reason = missing(records, "power_w")
        if any("power_w" in each.metrics for each in records):
            reason = "no readings were found with these runs"
        return Chart("power", heading, f"There is no chart: {_sentence(reason)}")
    called, traces = labels(shown), []
    for number, record in enumerate(shown):
        readings = power[record.uuid]
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": safe(called[record.uuid], _HOVER_LINE),
                "x": list(readings.seconds),
                "y": list(readings.watts),
                "hoverinfo": "x+y+name",
                "line": {
                    "color": COLORS[number % len(COLORS)],
                    "width": 1.5,
                    "dash": ("solid", "dash", "dot", "dashdot")[number % 4],
                },
            }
        )
    boundaries = {record.tags.get("power_boundary", "unknown") for record in shown}
    text = f"The readings during the throughput window; the watts include: {', '.join(sorted(boundaries))}."
    if len(power) < sum("power_w" in each.metrics for each in records):
        text += f" Only {len(shown)} runs are shown."
    layout = _layout("seconds", rows=10)
    layout["yaxis"] = {"title": {"text": "W"}, "rangemode": "tozero", "automargin": True}
    return Chart("power", heading, text, traces, layout)


def _layout(across: str, rows: float) -> dict[str, Any]:
    return {
        "height": max(round(_FRAME + _ROW * rows), 240),
        "margin": {"l": 10, "r": 10, "t": 10, "b": 45},
        "xaxis": {"title": {"text": across}, "automargin": True},
        "legend": {"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom", "itemsizing": "constant"},
        "hovermode": "closest",
    }


def _categories(found: Iterable[str]) -> dict[str, Any]:
    """An axis with the first category on top."""
    categories = list(dict.fromkeys(found))[::-1]
    return {
        "type": "category",
        "automargin": True,
        "categoryorder": "array",
        "categoryarray": categories,
        "range": [-0.6, len(categories) - 0.4],
        "dtick": 1,
        "tickfont": {"size": 11},
    }


def _lines(rows: Iterable[str]) -> float:
    """The height that the labels need, in rows; all get the height of the one with the most lines."""
    labels_ = set(rows)
    return len(labels_) * (1 + 0.45 * max(label.count("<br>") for label in labels_))


def _groups(
    records: Sequence[RunRecord], found: Mapping[str, Estimate], key: str = "device.name"
) -> dict[tuple[str, str], list[RunRecord]]:
    """The runs by the value of a setting and by how the metric was obtained (its prefix)."""
    groups: dict[tuple[str, str], list[RunRecord]] = {}
    for record in records:
        value = as_text(record.params.get(key, "all runs"))
        groups.setdefault((value, found[record.uuid].prefix), []).append(record)
    return groups


def _distinguishing(
    records: Sequence[RunRecord],
    keys: Sequence[str] = ("device.name", "converter.name", "quantization.name", "model.name"),
) -> str:
    """The first of these settings with a few different values, else the first."""
    return next((key for key in keys if 1 < len(_values(records, key)) <= _DIFFERENT), keys[0])


def _values(records: Sequence[RunRecord], key: str) -> set[str]:
    return {as_text(record.params.get(key, "")) for record in records}


def _colors(found: Iterable[str]) -> dict[str, str]:
    return {value: COLORS[number % len(COLORS)] for number, value in enumerate(dict.fromkeys(found))}


def _device(record: RunRecord) -> str:
    return as_text(record.params.get("device.name", "all runs"))


def _is_invalid(record: RunRecord) -> bool:
    return record.verdict is not None and record.verdict.state is VerdictState.invalid


def _opacity(record: RunRecord) -> float:
    return _PALE if _is_invalid(record) else 1.0


def _marked(prefix: str) -> str:
    return {"": "", EMULATED: " ≈ emulated"}.get(prefix, " ~ estimated")


def _marked_label(label: str, found: Estimate) -> str:
    return f"≈ {label}" if found.prefix == EMULATED else label


def _legend(records: Sequence[RunRecord], found: Mapping[str, Estimate]) -> str:
    """What pale and marked values are, if there are any."""
    parts = []
    if any(map(_is_invalid, records)):
        parts.append(" Pale: INVALID runs.")
    prefixes = {found[each.uuid].prefix for each in records if each.uuid in found}
    if EMULATED in prefixes:
        parts.append(" ≈ was measured on a stand-in for the device.")
    if "estimated_" in prefixes:
        parts.append(" ~ is an estimate from a specification, not a measurement.")
    return "".join(parts)


def _hover(record: RunRecord, values: Sequence[tuple[str, Estimate]]) -> str:
    names_ = ", ".join(as_text(record.params[key]) for key in NAMES.values() if key in record.params)
    verdict = str(record.verdict.state) if record.verdict else ""
    size = record.metrics.get("artifact_size_mb")
    lines = [names_, *(f"{title(name)}: {written(_stated(name), found)}" for name, found in values)]
    lines += [f"{size:.3g} MB"] if size else []
    lines.append(f"{record.run_id[:8]} {verdict}".strip())
    return "<br>".join(safe(line, _HOVER_LINE) for line in lines if line)


def _stated(name: str) -> str:
    """Percentiles and extremes are written as latencies."""
    return "latency_ms" if name.startswith(("latency_p", "latency_m")) else name


def _published_hover(each: Published) -> str:
    value = written(each.metric, Estimate(each.value))
    lines = (f"{each.model}, {each.device}", f"{title(each.metric)}: {value}", f"published: {each.source}")
    return "<br>".join(safe(line, _HOVER_LINE) for line in lines)


def _sources(stated: Sequence[Published]) -> str:
    found = list(dict.fromkeys(each.source for each in stated))
    return f"Hollow: published figures, not measured by edlab ({'; '.join(found)})." if found else ""


def _scale(name: str) -> float:
    metric = catalogue.find(name)
    return metric.column.scale if metric and metric.column else 1.0


def _scaled(name: str, found: Estimate) -> Estimate:
    """In the unit of its column."""
    return found.scaled(_scale(name))


def _error(found: Sequence[Estimate], color: str | None = None) -> dict[str, Any]:
    """The distances to the ends of the intervals, if they are known; with a color the lines have no caps."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [None if each.high is None else max(each.high - each.value, 0) for each in found],
        "arrayminus": [None if each.low is None else max(each.value - each.low, 0) for each in found],
        "thickness": 1,
        "width": 0 if color else 3,
        **({"color": color} if color else {}),
    }


def _has_accuracy(records: Sequence[RunRecord]) -> bool:
    return any(estimate(record, name) for record in records for name in catalogue.accuracies())


def _is_wide(found: Sequence[float]) -> bool:
    positive = [value for value in found if value > 0]
    return len(positive) == len(found) and max(positive) > _WIDE_RANGE * min(positive)


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."
