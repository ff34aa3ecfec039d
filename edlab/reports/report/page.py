"""The page: everything in one file, with all texts escaped, and scripts that the page's own policy allows by hash."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, NamedTuple

from edlab.comparison import shared
from edlab.predictions_file import Right, unknown
from edlab.record import RunRecord, Status, as_text
from edlab.reports.profile import profile_sheet
from edlab.reports.report.charts import Chart, Power, charts
from edlab.reports.report.published import Published
from edlab.reports.report.summary import best, caveats, compared
from edlab.reports.sheet import Cell, Format, Sheet
from edlab.reports.table import ID, end_cell, table

_SCRIPT = re.compile(r"</(?=script)|<!--", re.IGNORECASE)  # would end or change a script element
_NO_SETTINGS = ("model.input.", "tracking.", "cache.")
_FACTS = ("host", "target", "before")  # the parts of a record's environment


@dataclass(frozen=True)
class Content:
    """What the page shows.

    `power` has readings by uuid; `complete` are runs whose environment is known, one for each target; `profiled` are
    runs with a profile in their details; `address` is the page of a run in MLflow, or empty; `right` is by which
    accuracies are compared image by image; `heading` names what was compared; `created` is when, and by what.
    """

    records: Sequence[RunRecord]
    heading: str
    created: str
    published: Sequence[Published] = ()
    power: Mapping[str, Power] = field(default_factory=dict)
    complete: Sequence[RunRecord] = ()
    profiled: Sequence[RunRecord] = ()
    address: Callable[[RunRecord], str] = lambda record: ""
    right: Right = unknown


class _Row(NamedTuple):
    """A row of the table: its cells, and the address of its run."""

    cells: Sequence[Cell]
    address: str


class _Ended(NamedTuple):
    """A run without a result."""

    run: str
    name: str
    status: Cell
    stage: str
    reason: str
    hint: str


def page(content: Content) -> str:
    """The page as HTML. The same content gives the same page."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    environment = Environment(
        loader=PackageLoader("edlab.reports", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    records = content.records
    sheet = table(records, right=content.right)
    drawn = charts(records, content.published, content.power)
    scripts = [_SCRIPT.sub(_escaped, text) for text in (get_plotlyjs(), _part("page.js"))]
    return environment.get_template("page.html.j2").render(
        content=content,
        compared=compared(records),
        best=best(records, content.right),
        caveats=caveats(records),
        charts=drawn,
        sheet=sheet,
        rows=[
            _Row(cells, content.address(record))
            for cells, record in zip(sheet.rows, records, strict=True)
            if not isinstance(cells, str)
        ],
        ended=[_ended(record) for record in records if record.status not in (Status.ok, Status.running)],
        profiles=[
            (f"{each.name} {each.run_id[:ID]}".strip(), profile_sheet(each, top=None)) for each in content.profiled
        ],
        settings=_settings(records),
        environments=[_environment(record) for record in content.complete if record.environment],
        data={"charts": [_data(chart) for chart in drawn], "csv": _csv_lines(sheet)},
        scripts=[Markup(script) for script in scripts],
        hashes=" ".join(f"'sha256-{_hash(script)}'" for script in scripts),
        style=Markup(_part("page.css")),
    )


def _part(name: str) -> str:
    return files("edlab.reports.report").joinpath(name).read_text(encoding="utf-8")


def _escaped(match: re.Match[str]) -> str:
    """The same characters of a string or a regular expression of JavaScript."""
    return match[0][0] + "\\" + match[0][1:]


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _data(chart: Chart) -> dict[str, Any]:
    return {"key": chart.key, "traces": chart.traces, "layout": chart.layout}


def _csv_lines(sheet: Sheet) -> list[str]:
    """The headings and each row as lines of CSV, so that the page can copy those that are shown."""
    lines = []
    for row in csv.reader(io.StringIO(sheet.write(Format.csv))):
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerow(row)
        lines.append(out.getvalue())
    return lines


def _ended(record: RunRecord) -> _Ended:
    stage = str(record.stage or record.tags.get("stage", ""))
    return _Ended(record.run_id[:ID], record.name, end_cell(record), stage, record.reason, record.hint)


def _settings(records: Sequence[RunRecord]) -> dict[str, str]:
    """What is equal in all runs, those of the protocol first."""
    keys = dict.fromkeys(key for record in records for key in record.params if not key.startswith(_NO_SETTINGS))
    found = shared(records, list(keys))
    return dict(sorted(found.items(), key=lambda item: (not item[0].startswith("protocol."), item[0])))


def _environment(record: RunRecord) -> tuple[str, dict[str, str]]:
    """The device of a run, and the facts of its host and target."""
    facts = {
        f"{part} {name}": as_text(value)
        for part in _FACTS
        for name, value in record.environment.get(part, {}).items()
        if value not in ("", None, [], {})
    }
    return as_text(record.params.get("device.name", record.name)), facts | _versions(record)


def _versions(record: RunRecord) -> dict[str, str]:
    """The versions of the tools that converted the model, and of the runtime."""
    steps = record.details.get("artifact", {}).get("steps", [])
    return {f"tool {name}": str(version) for step in steps for name, version in step.get("tools", {}).items()}
