"""Published figures, from a CSV file, to show next to what was measured."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import NamedTuple

from edlab.errors import ConfigError
from edlab.metrics import catalogue
from edlab.registry import did_you_mean

_COLUMNS = ("model", "device", "metric", "value", "source")
_HINT = f"the first line must be {','.join(_COLUMNS)}; docs/report.md has an example"


class Published(NamedTuple):
    """One figure: `metric` is a name of the catalogue and `value` is in its unit; `source` is a reference."""

    model: str
    device: str
    metric: str
    value: float
    source: str


def read_published(path: Path) -> list[Published]:
    """The figures of a CSV file. Raises `ConfigError` for a file that is not readable, or an invalid line."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a text file in UTF-8"
        raise ConfigError(f"cannot read {path}: {reason}", hint=_HINT) from error
    reader = csv.DictReader(text.splitlines())
    missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise ConfigError(f"{path} has no column '{missing[0]}'", hint=_HINT)
    return [_figure(path, reader.line_num, row) for row in reader]


def _figure(path: Path, line: int, row: dict[str, str | None]) -> Published:
    model, device, metric, value, source = ((row.get(name) or "").strip() for name in _COLUMNS)
    if catalogue.find(metric) is None:
        names = [name for each in catalogue.CATALOGUE for name in each.names]
        hint = f"{did_you_mean(metric, names)}docs/metrics.md lists the metrics, for example latency_ms"
        raise ConfigError(f"{path}, line {line}: unknown metric '{metric}'", hint=hint)
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ConfigError(f"{path}, line {line}: '{value}' is not a number", hint="use a point, no unit: 2.6")
    if not source:
        raise ConfigError(f"{path}, line {line}: the source is missing", hint="add the address or title it is from")
    return Published(model, device, metric, number, source)
