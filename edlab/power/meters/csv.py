"""A log that the program of another instrument writes while edlab measures: CSV, with a row for each reading.

It is for instruments that edlab does not read itself, whose program logs to a file. The program must write each row
when it is measured, or at most `flush_s` later. Its times are those of this machine's clock, or with `align=pattern`
of any clock: edlab then finds the load that it plays at the start of a measurement in the readings. The format is no
vendor's: the options describe it. Tried with files that a test writes, not with a vendor's program.
"""

from __future__ import annotations

import csv
import math
import os
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from edlab.agent.sensors.base import Sample, Sensor
from edlab.errors import ConfigError
from edlab.power import options

_WAIT_S = 0.9
_POLL_S = 0.02
_TAIL_BYTES = 65536  # of a file with a longer history only the end is read
_AHEAD_S = 1.0  # a row's time may be this much later than now: it may be the end of the reading
_MARGIN_S = 2.0  # between two rows, in addition to `flush_s`
_PAUSE_S = 2.0  # without a reading
_NS = {"s": 1e9, "ms": 1e6, "us": 1e3, "ns": 1.0}
_ISO = "iso"
_NEAR_NS = 86400e9  # a time in the right unit is within a day of now
_ZONES_S = 900.0  # two time zones differ by at least this
_BY_PATTERN = "meter.options.align=pattern"
_DECIMAL_FIX = ": set meter.options.decimal='\",\"' for a decimal comma"
_CLOCK, _PATTERN = "clock", "pattern"

Column = str | int
_TimeOf = Callable[[str], int]


class Csv(Sensor):
    """The watts of each new row, at the time that the row states.

    `late_s` is `flush_s`: a row may arrive that much later than its time. Rows from before the first reading are not
    read, except those of the last `flush_s`. A file that is replaced or cut is read from its start.

    If the clock is unknown (`align=pattern`), the first row that arrives is taken as measured at its arrival, which is
    wrong by at most `flush_s`, and no row from before it is read.
    """

    paced = False

    def __init__(
        self,
        *,
        path: str,
        time_column: Column,
        boundary: str,
        watts_column: Column | None = None,
        volts_column: Column | None = None,
        amps_column: Column | None = None,
        time_unit: str = "s",
        delimiter: str = ",",
        decimal: str = ".",
        align: str = "clock",
        flush_s: float = 5.0,
        lag_s: float = 0.0,
    ) -> None:
        """Columns are names of the header, or numbers from 1 for a file without a header.

        `time_unit` is s, ms, us or ns since 1970 (Unix time), or iso: 2026-01-31T12:00:00.125, in local time unless an
        offset follows; with `align=pattern`, since any time. `decimal` is the decimal separator. Raises `ConfigError`.
        """
        self._path = Path(options.text("path", path)).expanduser()
        super().__init__(f"csv {self._path}", "csv", options.boundary(boundary), options.number("lag_s", lag_s))
        self.late_s = options.number("flush_s", flush_s)
        self._columns = _columns(time_column, watts_column, volts_column, amps_column)
        self.knows_time = _choice("align", align, (_CLOCK, _PATTERN)) == _CLOCK
        self._unit = _choice("time_unit", time_unit, (*_NS, _ISO))
        self._decimal = _choice("decimal", decimal, (".", ","))
        self._delimiter = _delimiter(delimiter, self._decimal)
        self._log: _Log | None = None
        self._last_ns = 0  # the time of the last row
        self._ahead_ns: int | None = 0 if self.knows_time else None  # of the rows' clock, Unix time less theirs
        self._read_at = -math.inf
        self._row_at = -math.inf

    def read(self) -> Sample | None:
        """See `Sensor.read`: the next row. None: there is none yet."""
        now = time.monotonic()
        if now - self._read_at > _PAUSE_S:
            self.close()  # between two phases: the rows of the meantime are history
            self._row_at = now
        try:
            return self._next(now + _WAIT_S)
        finally:
            self._read_at = time.monotonic()

    def close(self) -> None:
        """See `Sensor.close`."""
        log, self._log = self._log, None
        if log is not None:
            log.close()

    def _next(self, deadline: float) -> Sample | None:
        try:
            while (line := self._next_line()) is None:
                if time.monotonic() >= deadline:
                    self._check_patience()
                    return None
                time.sleep(_POLL_S)
        except OSError:
            time.sleep(max(0.0, deadline - time.monotonic()))  # the next reading follows at once
            raise
        self._row_at = time.monotonic()
        return self._sample(line)

    def _next_line(self) -> str | None:
        """The next row that is not history; None if the file is missing, or has no further row yet."""
        if self._log is None:
            since_ns = self._since_ns()
            try:
                self._log = _Log(self._path, self._columns, self._delimiter, since_ns)
            except FileNotFoundError:
                return None  # the program has not created it yet
        line = self._log.next_line(self._time_ns)
        if line is None and self._log.was_replaced():
            self.close()
        return line

    def _since_ns(self) -> int | None:
        """The time of the first row to read; None: the next one that is written."""
        if self.knows_time:
            return max(time.time_ns() - round(self.late_s * 1e9), self._last_ns + 1)
        return self._last_ns + 1 if self._last_ns else None

    def _check_patience(self) -> None:
        silent_s = time.monotonic() - self._row_at
        if silent_s < self.late_s + _MARGIN_S:
            return
        if self._log is None:
            raise FileNotFoundError(f"{self._path} does not exist: is the program that writes it running?")
        raise TimeoutError(f"{self._path} has no new row for {silent_s:.0f} s: {self._log.problem()}")

    def _sample(self, line: str) -> Sample:
        assert self._log
        fields = self._log.fields(line)
        watts = math.prod(self._number(field, line) for field in fields[1:])
        if not math.isfinite(watts) or watts < 0:
            raise ValueError(f"{self._path} has the row {line[:80]!r}, whose power is {watts:g} W")
        t_ns = self._time_ns(fields[0])
        if self._ahead_ns is None:
            self._ahead_ns = time.time_ns() - t_ns
        age_s = (time.time_ns() - t_ns) / 1e9
        if self.knows_time and (age_s < -_AHEAD_S or t_ns < (self._log.since_ns or 0)):
            where = f"{age_s:.1f} s before" if age_s > 0 else f"{-age_s:.1f} s after"
            raise ValueError(
                f"{self._path} has a new row whose time {fields[0]!r} is {where} now: {self._fix(fields[0], age_s)}"
            )
        if t_ns <= self._last_ns:
            raise ValueError(
                f"{self._path} has the row {line[:80]!r}, whose time is not after that of the row before it"
            )
        self._last_ns = t_ns
        return Sample(t_ns + self._ahead_ns - _wall_clock_ns(), watts)

    def _fix(self, text: str, age_s: float) -> str:
        """What to change for a row whose time is this old."""
        now_ns = time.time_ns()
        if self._unit != _ISO:
            value = self._number(text, text)
            near = (unit for unit, ns in _NS.items() if unit != self._unit and abs(value * ns - now_ns) < _NEAR_NS)
            if unit := next(near, ""):
                return f"set meter.options.time_unit={unit}"
        elif abs(age_s) > _ZONES_S:
            return "is it of another time zone? Let the program write the offset (+00:00), or set " + _BY_PATTERN
        late = "raise meter.options.flush_s if its rows are written late; " if age_s > 0 else ""
        return f"{late}if its clock is another one than this machine's, set {_BY_PATTERN}"

    def _time_ns(self, text: str) -> int:
        """Nanoseconds since 1970. Raises `ValueError`."""
        if self._unit == _ISO:
            return round(datetime.fromisoformat(text).timestamp() * 1e9)
        return round(self._number(text, text) * _NS[self._unit])

    def _number(self, text: str, line: str) -> float:
        try:
            return float(text if self._decimal == "." else text.replace(",", "."))
        except ValueError:
            fix = _DECIMAL_FIX if self._decimal == "." and "," in text else ""
            raise ValueError(
                f"{self._path} has the row {line[:80]!r}, in which {text!r} is not a number{fix}"
            ) from None


class _Log:
    """An open log, which grows. Its first rows are history if they are from before `since_ns`."""

    def __init__(self, path: Path, columns: list[Column], delimiter: str, since_ns: int | None) -> None:
        """`since_ns` None: all rows that exist now are history. Raises `OSError`."""
        self.since_ns = since_ns
        self._path = path
        self._columns = columns
        self._delimiter = delimiter
        self._places: list[int] = []
        self._is_history = True
        self._has_rows = False
        self._note = ""  # a line that is no row, while there is no row
        self._partial = b""
        self._file: BinaryIO = path.open("rb")
        if all(isinstance(column, int) for column in columns):
            self._places = [int(column) - 1 for column in columns]
            self._skip_history()

    def close(self) -> None:
        self._file.close()

    def was_replaced(self) -> bool:
        """Whether the path is another file now, or the file was cut."""
        try:
            now, opened = self._path.stat(), os.fstat(self._file.fileno())
        except FileNotFoundError:
            return True
        return (now.st_dev, now.st_ino) != (opened.st_dev, opened.st_ino) or now.st_size < self._file.tell()

    def next_line(self, time_ns: _TimeOf) -> str | None:
        """The next row; None if it is not complete yet. `time_ns` reads a row's time."""
        while (line := self._line()) is not None:
            if not self._places:
                self._find_columns(line)
            elif line and not self._is_skipped(line, time_ns):
                return line
        self._is_history = False
        return None

    def fields(self, line: str) -> list[str]:
        """The fields of the columns. Raises `ValueError`."""
        row = self._split(line)
        if len(row) <= max(self._places):
            raise ValueError(
                f"{self._path} has the row {line[:80]!r} with {len(row)} fields, not {max(self._places) + 1}"
            )
        return [row[place].strip() for place in self._places]

    def problem(self) -> str:
        """Why there may be no row."""
        if not self._places:
            return f"none of its lines is a header with the columns {', '.join(map(str, self._columns))}"
        if self._note:
            return f"its line {self._note[:80]!r} has no time in meter.options.time_unit"
        return "is the program that writes it running, and does it write each row at once?"

    def _line(self) -> str | None:
        self._partial += self._file.readline()
        if not self._partial.endswith(b"\n"):
            return None
        line, self._partial = self._partial, b""
        return line.decode("utf-8-sig", errors="replace").strip()

    def _find_columns(self, line: str) -> None:
        header = [name.strip() for name in self._split(line.removeprefix("#"))]
        if all(column in header for column in self._columns):
            self._places = [header.index(str(column)) for column in self._columns]
            self._skip_history()

    def _skip_history(self) -> None:
        """Go to the start of a line near the end, or to the end."""
        end = os.fstat(self._file.fileno()).st_size
        tail = _TAIL_BYTES if self.since_ns is not None else 1
        if end - tail > self._file.tell():
            self._file.seek(end - tail)
            self._file.readline()

    def _is_skipped(self, line: str, time_ns: _TimeOf) -> bool:
        """Whether the line is history, or stands before the first row: a header, or its units."""
        try:
            is_old = time_ns(self.fields(line)[0]) < (self.since_ns or 0)
        except ValueError:
            self._note = self._note if self._has_rows else line
            return self._is_history or not self._has_rows
        self._has_rows, self._note = True, ""
        self._is_history = self._is_history and is_old
        return self._is_history

    def _split(self, line: str) -> list[str]:
        return next(csv.reader([line], delimiter=self._delimiter), [])


def _wall_clock_ns() -> int:
    """Unix time less time.perf_counter_ns. Both are read several times: the fastest reading has the least error."""
    tries = []
    for _ in range(3):
        before_ns = time.perf_counter_ns()
        wall_ns = time.time_ns()
        after_ns = time.perf_counter_ns()
        tries.append((after_ns - before_ns, wall_ns - (before_ns + after_ns) // 2))
    return min(tries)[1]


def _columns(time_column: object, watts: object, volts: object, amps: object) -> list[Column]:
    """The columns of the time, and of the watts or the volts and amps."""
    if (watts is None) == (volts is None) or (volts is None) != (amps is None):
        raise ConfigError(
            "the meter csv needs either the option watts_column, or volts_column and amps_column",
            hint="set meter.options.watts_column, or both of volts_column and amps_column",
        )
    named = {"time_column": time_column, "watts_column": watts, "volts_column": volts, "amps_column": amps}
    columns: list[Column] = []
    for name, column in named.items():
        if isinstance(column, int):
            columns.append(options.integer(name, column, least=1))
        elif column is not None:
            columns.append(options.text(name, column))
    if len({type(column) for column in columns}) > 1:
        raise ConfigError(
            f"the columns {', '.join(map(repr, columns))} of the meter csv are both names and numbers",
            hint="set all of meter.options.*_column to names of the header, or to numbers from 1",
        )
    return columns


def _choice(name: str, value: object, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise ConfigError(
            f"the meter option {name} is {value!r}",
            hint=f"set meter.options.{name} to one of: {' '.join(choices)}",
        )
    return str(value)


def _delimiter(value: object, decimal: str) -> str:
    if not isinstance(value, str) or len(value) != 1 or value in '\r\n"' or value == decimal:
        raise ConfigError(
            f"the meter option delimiter is {value!r}, with the decimal separator {decimal!r}",
            hint="set meter.options.delimiter to the character between two fields",
        )
    return value
