"""One run in detail: its parameters, its metrics with units and intervals, what is missing and why."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from edlab.metrics import by_window, catalogue
from edlab.metrics.catalogue import Section
from edlab.record import RunRecord, Status, as_text
from edlab.reports.profile import profile_of, profile_sheet
from edlab.reports.sheet import Cell, Heading, Note, Sheet
from edlab.reports.table import data

_MOST_CLASSES = 12
_MOST_SKIPPED = 5


def show(record: RunRecord) -> RenderableType:
    """The record for the terminal: heading, verdict, metrics by group, missing metrics, conversion, environment."""
    parts: list[RenderableType] = [_heading(record)]
    for section in Section:
        named = {name: value for name, value in record.metrics.items() if _section(name) is section}
        if named:
            values = {name: _number(value) for name, value in named.items()}
            title = str(section)
            if section is Section.power and "power_accuracy" in record.tags:  # it was measured
                title = f"power by {record.tags['power_source']} ({record.tags['power_boundary']})"
                readings = record.phases.get("throughput", {}).get("readings") or {}
                values |= _instrument(readings.get("refresh_s"), record.tags["power_accuracy"])
            parts += ["", _pairs(title, values)]
    for other in record.details.get("power_sources", []):
        values = {name: _number(value) for name, value in other["metrics"].items()}
        values |= _instrument(other.get("refresh_s"), other.get("accuracy"))
        missing = {name: f"missing: {reason}" for name, reason in other["missing"].items()}
        parts += ["", _pairs(f"power by {other['source']} ({other['boundary']})", values | missing)]
    throughput = record.details.get("phases", {}).get("throughput", {})
    if trials := throughput.get("search"):
        found = _trials(trials) | _at_limits(throughput, record.params)
        parts += ["", _pairs("throughput search (batch x in flight, inferences/s)", found)]
    if runs := record.details.get("runs"):
        place = " on the stand-in" if "stand_in" in record.tags else ""
        parts += ["", _pairs(f"runs in new processes{place}", dict(_runs(runs)))]
    if profile_of(record):
        parts += ["", profile_sheet(record)]
    if activities := _activities(record.phases):
        parts += ["", activities]
    if curve := _curve(throughput.get("ips_by_second", [])):
        parts += ["", _pairs("throughput over time", curve)]
    if only := record.tags.get("batch_one_only"):
        parts += ["", _pairs("batch", {"1 only": only})]
    if inputs := _with_prefix(record.params, "model.input.") | _labels(record.details.get("source", {})):
        parts += ["", _pairs("preprocessing", inputs)]
    if dataset := _dataset(record.details.get("dataset", {})):
        parts += ["", _pairs("data set", dataset)]
    if kernels := record.tags.get("int8_kernels"):
        arithmetic = record.tags.get("int8_arithmetic", "not probed on this runtime")
        parts += ["", _pairs("int8 kernels", {"result": kernels, "arithmetic": arithmetic})]
    if record.missing:
        parts += ["", _pairs("missing", _missing(record.missing))]
    if steps := record.details.get("artifact", {}).get("steps"):
        parts += ["", _pairs("conversion", dict(_steps(steps)))]
    if environment := _environment(record.environment):
        parts += ["", _pairs("environment", environment)]
    parts += ["", _pairs("parameters", {name: str(value) for name, value in sorted(record.params.items())})]
    return Group(*parts)


def run_sheet(record: RunRecord) -> Sheet:
    """The record as two columns, for other formats: all facts, parameters and metrics."""
    facts = data(record) | {f"missing.{name}": reason for name, reason in record.missing.items()} | record.params
    cells: list[list[Cell] | str] = [[Cell(name), Cell(_text(value))] for name, value in facts.items()]
    sheet = Sheet([Heading("name"), Heading("value", folds=True)], cells, [record.model_dump(mode="json")], record.name)
    for reason in record.verdict.reasons if record.verdict else ():
        sheet.notes.append(Note(f"{reason.code}: {reason.message}; {reason.advice}"))
    return sheet


def _text(value: Any) -> str:
    return _number(value) if isinstance(value, float) else as_text(value)


def _heading(record: RunRecord) -> RenderableType:
    facts = {"run": record.run_id, "started": record.started_at, "sweep": record.sweep_id}
    if record.status in (Status.ok, Status.running):
        facts["status"] = str(record.status)
    else:
        where = f" at {record.stage}" if record.stage else ""
        facts |= {"status": f"{record.status}{where}", "reason": record.reason, "hint": record.hint}
    if throttled := record.tags.get("throttled"):
        facts["throttled"] = f"{throttled}: {record.details.get('throttled', '')}"
    if record.tags.get("weights") == "untrained":
        facts["weights"] = "UNTRAINED: " + record.details.get("source", {}).get("weights_note", "")
    if files := record.details.get("artifact", {}).get("files"):
        names = ", ".join(PurePath(file).name for file in files)
        facts["model"] = f"{names}: `edlab pull {record.run_id[:8]}` copies it, with a program that runs it"
        if reason := record.details.get("no_package"):
            facts["model"] = f"{names}: `edlab pull {record.run_id[:8]}` copies it (edlab.json is missing: {reason})"
    if record.verdict:
        facts["verdict"] = str(record.verdict.state)
        facts |= {
            f"  {reason.code}{' (INVALID)' if reason.invalid else ''}": f"{reason.message}; {reason.advice}"
            for reason in record.verdict.reasons
        }
    return _pairs(record.name, facts)


def _instrument(refresh_s: float | None, accuracy: str | None) -> dict[str, str]:
    """What is known of a power source, for its section."""
    facts = {} if refresh_s is None else {"new reading every": f"{refresh_s:.2g} s"}
    return facts if accuracy is None else facts | {"accuracy": accuracy}


def _trials(trials: list[dict[str, Any]]) -> dict[str, str]:
    """The rates of each tried setting, in the order of the first trial; later trials are for the finalists."""
    rates: dict[str, list[str]] = {}
    for trial in trials:
        rate = trial["note"] if trial["ips"] is None else _number(trial["ips"])
        rates.setdefault(f"{trial['batch']} x {trial['in_flight']}", []).append(rate)
    return {setting: ", ".join(found) for setting, found in rates.items()}


def _at_limits(throughput: dict[str, Any], params: dict[str, Any]) -> dict[str, str]:
    """The limits of the search that its choice reaches: larger settings win only if faster, so the rate was rising."""
    chosen = {"max_batch": throughput.get("batch", 1), "max_in_flight": throughput.get("in_flight", 1)}
    return {
        f"{limit}={value}": "the best setting is at this limit: a larger one may be faster"
        for limit, value in chosen.items()
        if value > 1 and params.get(f"protocol.throughput.{limit}") == value
    }


def _runs(runs: list[dict[str, float]]) -> Iterator[tuple[str, str]]:
    """The means of each run, from which the metrics above are computed."""
    for number, run in enumerate(runs, 1):
        half = run.get("latency_uncertainty")
        latency = f"{_number(run['latency_ms'])} ms" + (f" ± {half:.1%}" if half is not None else "")
        yield str(number), f"{latency}, {_number(run['throughput_ips'])} inferences/s"


def _activities(phases: dict[str, dict[str, Any]]) -> RenderableType | None:
    """What the machine did in each phase; None if no phase reports it. An empty cell: the target does not report it."""
    table = Table(title="load of the cores", title_justify="left", title_style="bold", box=None, pad_edge=False)
    for heading in ("phase", "s", "edlab", "others", "stolen", "switches", "MHz", "thermal events"):
        table.add_column(heading, justify="left" if heading == "phase" else "right")
    for name, phase in phases.items():
        if activity := phase.get("activity"):
            shares = ("" if activity[key] is None else f"{activity[key]:.1%}" for key in ("own", "others", "stolen"))
            clocks, events = activity["clocks_mhz"], activity["throttle_events"]
            table.add_row(
                name,
                f"{activity['seconds']:.1f}",
                *shares,
                str(activity["involuntary_switches"]),
                f"{min(clocks):.0f} to {max(clocks):.0f}" if clocks else "",
                "" if events is None else str(events),
            )
    return table if table.row_count else None


def _curve(ips: list[float]) -> dict[str, str]:
    """The throughput of each five minutes, as `sustained` compares them; empty for a short window."""
    rates = by_window(ips)
    if len(rates) < 2:
        return {}
    minutes = len(ips) / len(rates) / 60
    return {
        f"minutes {index * minutes:.3g} to {(index + 1) * minutes:.3g}": f"{_number(rate)} inferences/s"
        for index, rate in enumerate(rates)
    }


def _labels(source: dict[str, Any]) -> dict[str, str]:
    """The classes as the model itself names them, if it does."""
    names = source.get("class_names", ())
    listed = ", ".join(f"{index} = {name}" for index, name in enumerate(names[:_MOST_CLASSES]))
    more = f", and {len(names) - _MOST_CLASSES} more: see edlab.json" if len(names) > _MOST_CLASSES else ""
    return {"labels": listed + more} if names else {}


def _dataset(details: dict[str, Any]) -> dict[str, str]:
    """The scored data: the number of images, the class of each folder, and unread files with the reason."""
    facts = {
        name: str(details[key])
        for name, key in (("scored images", "evaluation_images"), ("calibration pool", "calibration_pool"))
        if key in details
    }
    if classes := details.get("classes"):
        listed = [f"{folder} = {index}" for folder, index in list(classes.items())[:_MOST_CLASSES]]
        more = f", and {len(classes) - len(listed)} more" if len(classes) > len(listed) else ""
        facts["classes"] = ", ".join(listed) + more
    for file, reason in details.get("skipped", [])[:_MOST_SKIPPED]:
        facts[f"skipped {file}"] = reason
    if (hidden := len(details.get("skipped", [])) - _MOST_SKIPPED) > 0:
        facts["skipped"] = f"{hidden} more: see result.json"
    if ignored := details.get("left_out"):
        facts["ignored"] = ", ".join(f"{count} {kind}" for kind, count in ignored.items())
    return facts


def _with_prefix(params: dict[str, Any], prefix: str) -> dict[str, str]:
    return {name.removeprefix(prefix): str(value) for name, value in params.items() if name.startswith(prefix)}


def _missing(reasons: dict[str, str]) -> dict[str, str]:
    """Why metrics are missing, each reason once."""
    names: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        names.setdefault(reason, []).append(name)
    return {_some(named): reason for reason, named in names.items()}


def _some(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]}, {len(names) - 1} more"


def _section(name: str) -> Section:
    metric = catalogue.find(name)
    return metric.section if metric else Section.model


def _pairs(title: str, pairs: dict[str, str]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs.items():
        table.add_row(escape(name), escape(value))
    return table


def _environment(environment: dict[str, Any]) -> dict[str, str]:
    """The facts of host and target, without the lists, which are in environment.json."""
    return {
        f"{place} {name}": str(value)
        for place in ("host", "target")
        for name, value in environment.get(place, {}).items()
        if isinstance(value, str | int | float)
    }


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) and abs(value) >= 1000 else f"{value:.6g}"


def _steps(steps: list[dict[str, object]]) -> Iterator[tuple[str, str]]:
    for step in steps:
        tools = step["tools"]
        assert isinstance(tools, dict)
        used = ", ".join(f"{tool} {version}" for tool, version in tools.items())
        cached = " (from the cache)" if step["cached"] else ""
        yield str(step["name"]), f"{step['seconds']:.1f} s{cached}: {used}"
