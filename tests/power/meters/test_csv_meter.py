"""The meter csv, against PEERS: files that a test, or a small program, writes as an instrument's program does."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import pytest
from readings import PATIENCE_S, next_sample

from edlab.agent.sensors.base import Sample
from edlab.errors import ConfigError
from edlab.power import HostMeter
from edlab.power.meter import METERS
from edlab.power.meters import csv
from edlab.power.meters.csv import Csv
from edlab.testing.meter import MeterConformance

NAMED: dict[str, Any] = {"time_column": "time", "watts_column": "watts", "boundary": "board_dc"}
LOGGER = """
import sys, time
with open(sys.argv[1], "w", buffering=1) as log:
    print("time,watts", file=log)
    while True:
        print(f"{time.time():.6f},5.0", file=log)
        time.sleep(0.005)
"""


class Log:
    """A log of time and watts: each row is written at once."""

    def __init__(self, path: Path, header: str = "time,watts\n") -> None:
        self.path = path
        self.path.write_text(header)

    def write(self, text: str) -> None:
        with self.path.open("a") as file:
            file.write(text)

    def row(self, watts: float, ago_s: float = 0.0) -> float:
        """Write a row, and return its time."""
        now = time.time() - ago_s
        self.write(f"{now:.9f},{watts}\n")
        return now


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "log.csv")


def sample_of(meter: Csv) -> Sample | None:
    """A reading, if it does not fail."""
    try:
        return meter.read()
    except OSError:
        return None


def here_ns(unix_s: float) -> float:
    """A time of time.time as one of time.perf_counter_ns: the shortest of some tries to read both clocks."""
    tries = []
    for _ in range(20):
        before_ns, now_s, after_ns = time.perf_counter_ns(), time.time(), time.perf_counter_ns()
        tries.append((after_ns - before_ns, (before_ns + after_ns) / 2 - (now_s - unix_s) * 1e9))
    return min(tries)[1]


class TestConformance(MeterConformance):
    meter = "csv"
    options: ClassVar[dict[str, Any]] = {}

    @pytest.fixture(autouse=True)
    def _connected(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        path = tmp_path / "log.csv"
        monkeypatch.setattr(type(self), "options", {"path": str(path), **NAMED})
        program = subprocess.Popen([sys.executable, "-c", LOGGER, path])
        yield
        program.kill()
        program.wait()


def test_its_name_is_in_the_list_of_meters() -> None:
    assert METERS.load("csv") is Csv


def test_rows_at_the_times_that_they_state(log: Log) -> None:
    meter = Csv(path=str(log.path), **NAMED)
    assert (meter.boundary, meter.lag_s, meter.paced, meter.late_s) == ("board_dc", 0.0, False, 5.0)
    assert meter.read() is None
    times = [log.row(5.25, ago_s=0.5), log.row(6.5)]
    first, second = next_sample(meter), next_sample(meter)
    assert (first.watts, second.watts) == (5.25, 6.5)
    assert [first.t_ns, second.t_ns] == [pytest.approx(here_ns(moment), abs=20e6) for moment in times]


@pytest.mark.parametrize(
    ("header", "row", "options"),
    [
        ("time,watts\n", "{s:.6f},5\n", {}),
        ("# time , watts\n", "{s:.6f}, 5 \n", {}),
        ("\ufefftime,watts\r\n", "{s:.6f},5\r\n", {}),
        ("Instrument,42\n\nwatts,note,time\nW,,s\n", '5,"a, b",{s:.6f}\n', {}),
        (
            "t,u,i\n",
            "{s:.6f},2.5,2\n",
            {"time_column": "t", "watts_column": None, "volts_column": "u", "amps_column": "i"},
        ),
        ("t;p\n", "{comma};5,0\n", {"time_column": "t", "watts_column": "p", "delimiter": ";", "decimal": ","}),
        ("t\tp\n", "{s:.6f}\t5\n", {"time_column": "t", "watts_column": "p", "delimiter": "\t"}),
        ("time,watts\n", "{ms:.3f},5\n", {"time_unit": "ms"}),
        ("time,watts\n", "{us:.0f},5\n", {"time_unit": "us"}),
        ("time,watts\n", "{ns:.0f},5\n", {"time_unit": "ns"}),
        ("time,watts\n", "{local},5\n", {"time_unit": "iso"}),
        ("time,watts\n", "{utc},5\n", {"time_unit": "iso"}),
        ("", "5,{s:.6f}\n", {"time_column": 2, "watts_column": 1}),
        ("power,moment\n", "5,{s:.6f}\n", {"time_column": 2, "watts_column": 1}),
    ],
)
def test_a_log_in_another_form(tmp_path: Path, header: str, row: str, options: dict[str, Any]) -> None:
    log = Log(tmp_path / "log", header)
    meter = Csv(path=str(log.path), **{**NAMED, **options})
    now = time.time()
    log.write(
        row.format(
            s=now,
            ms=now * 1e3,
            us=now * 1e6,
            ns=now * 1e9,
            comma=f"{now:.6f}".replace(".", ","),
            local=datetime.fromtimestamp(now).isoformat(),
            utc=datetime.fromtimestamp(now, UTC).isoformat(),
        )
    )
    sample = next_sample(meter)
    assert sample.watts == 5.0
    assert sample.t_ns == pytest.approx(here_ns(now), abs=20e6)


def test_a_file_that_the_program_creates_later(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    meter = Csv(path=str(path), **NAMED)
    assert meter.read() is None
    log = Log(path)
    log.row(5.0)
    assert next_sample(meter).watts == 5.0


def test_the_rows_from_before_are_not_read_but_the_latest(log: Log) -> None:
    for second in range(5000, 3, -1):
        log.row(1.0, ago_s=second)
    log.row(2.0, ago_s=0.01)
    meter = Csv(path=str(log.path), **NAMED, flush_s=3)
    assert next_sample(meter).watts == 2.0


def test_half_a_row_is_read_once_it_is_whole(log: Log) -> None:
    meter = Csv(path=str(log.path), **NAMED)
    log.write(f"{time.time():.6f},1")
    assert meter.read() is None
    log.write("2.5\n")
    assert next_sample(meter).watts == 12.5


@pytest.mark.parametrize("row", ["{now},watts", "{now},", "{now}", "{now},-1", "{now},nan", "{now},inf", "noon,5", "x"])
def test_a_row_that_is_no_power_fails_and_the_next_succeeds(log: Log, row: str) -> None:
    meter = Csv(path=str(log.path), **NAMED)
    log.row(5.0, ago_s=0.1)
    next_sample(meter)
    log.write(row.format(now=time.time()) + "\n")
    log.row(6.0)
    with pytest.raises(ValueError, match=r"the row|isoformat"):
        meter.read()
    assert next_sample(meter).watts == 6.0


@pytest.mark.parametrize(
    ("row", "options", "fix"),
    [
        ("{ms:.0f},5\n", {}, "set meter.options.time_unit=ms"),
        ("{s:.6f},5\n", {"time_unit": "us"}, "set meter.options.time_unit=s"),
        ("{zone},5\n", {"time_unit": "iso"}, "another time zone"),
        ("1000,5\n", {}, "set meter.options.align=pattern"),
        ("{s:.6f};5,3\n", {"delimiter": ";"}, "set meter.options.decimal='\",\"'"),
    ],
)
def test_a_row_that_cannot_be_used_names_the_option(
    tmp_path: Path, row: str, options: dict[str, Any], fix: str
) -> None:
    log = Log(tmp_path / "log", f"time{options.get('delimiter', ',')}watts\n")
    meter = Csv(path=str(log.path), **NAMED, **options)
    assert meter.read() is None
    now = time.time()
    log.write(row.format(s=now, ms=now * 1e3, zone=datetime.fromtimestamp(now - 7200).isoformat()))
    with pytest.raises(ValueError, match=re.escape(fix)):
        next_sample(meter)


@pytest.mark.parametrize("ago_s", [3600, -3600])
def test_new_rows_whose_time_is_far_from_now_fail(log: Log, ago_s: float) -> None:
    meter = Csv(path=str(log.path), **NAMED)
    assert meter.read() is None
    log.row(5.0, ago_s=ago_s)
    with pytest.raises(ValueError, match=r"3600\.\d s (before|after) now: .*align=pattern"):
        next_sample(meter)


def test_rows_of_the_same_time_fail(log: Log) -> None:
    meter = Csv(path=str(log.path), **NAMED)
    log.write(2 * f"{time.time():.6f},5\n")
    next_sample(meter)
    with pytest.raises(ValueError, match="not after that of the row before it"):
        meter.read()


@pytest.mark.parametrize("anew", ["replaced", "cut"])
def test_a_file_that_is_written_anew(log: Log, anew: str) -> None:
    meter = Csv(path=str(log.path), **NAMED)
    for _ in range(10):
        log.row(5.0)
        next_sample(meter)
    if anew == "replaced":
        log.path.rename(log.path.with_suffix(".old"))
    Log(log.path)
    log.row(6.0)
    assert next_sample(meter).watts == 6.0


def test_a_pause_between_two_phases(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows of the meantime are not read one by one, and none is read again."""
    monkeypatch.setattr(csv, "_PAUSE_S", 0.0)
    meter = Csv(path=str(log.path), **NAMED)
    log.row(5.0)
    assert next_sample(meter).watts == 5.0
    log.row(6.0)
    assert next_sample(meter).watts == 6.0
    assert meter.read() is None


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "does not exist"),
        ("", "none of its lines is a header"),
        ("seconds,watts\n1,5\n", "none of its lines is a header with the columns time, watts"),
        ("time,watts\nnoon,5\n", "'noon,5' has no time in meter.options.time_unit"),
        ("time,watts\n1000,5\n", "no new row for"),
    ],
)
def test_a_log_without_new_rows_fails_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, problem: str
) -> None:
    monkeypatch.setattr(csv, "_MARGIN_S", 0.0)
    path = tmp_path / "log.csv"
    if content is not None:
        path.write_text(content)
    meter = Csv(path=str(path), **NAMED, flush_s=0)
    for _ in range(2):
        with pytest.raises(OSError, match=problem):
            meter.read()
    path.unlink(missing_ok=True)
    log = Log(path)
    stop = threading.Event()
    writer = threading.Thread(target=lambda: [log.row(5.0) for _ in iter(lambda: stop.wait(0.01), True)])
    writer.start()
    try:
        while not (sample := sample_of(meter)):
            pass
    finally:
        stop.set()
        writer.join()
    assert sample.watts == 5.0


def test_a_path_that_cannot_be_read(tmp_path: Path) -> None:
    """A reading that fails takes its time: the next one follows at once."""
    meter = Csv(path=str(tmp_path), **NAMED)
    start = time.monotonic()
    with pytest.raises(OSError, match="Is a directory"):
        meter.read()
    assert time.monotonic() - start > 0.5


def test_it_is_closed_and_read_again(log: Log) -> None:
    meter = Csv(path=str(log.path), **NAMED)
    log.row(5.0)
    next_sample(meter)
    meter.close()
    log.row(6.0)
    assert next_sample(meter).watts == 6.0


def test_rows_that_are_written_after_a_phase_are_part_of_it(log: Log) -> None:
    """The program keeps the rows of the phase, and writes them all when it is over."""
    source = HostMeter(Csv(path=str(log.path), **NAMED, flush_s=PATIENCE_S), 0.1, time.perf_counter_ns)
    rows: list[str] = []

    def flush() -> None:
        time.sleep(0.2)
        log.write("".join(rows))
        log.row(7.0)

    with source:
        start_ns = time.perf_counter_ns()
        for watts in range(5):
            time.sleep(0.02)
            rows.append(f"{time.time():.9f},{watts}\n")
        end_ns = time.perf_counter_ns()
        writer = threading.Thread(target=flush)
        writer.start()
    writer.join()
    series = source.series(start_ns - 20_000_000, end_ns + 20_000_000)
    assert series.watts.tolist()[:5] == [0, 1, 2, 3, 4]
    assert series.failed == 0


def test_an_interrupted_phase_does_not_wait_for_late_rows(log: Log) -> None:
    source = HostMeter(Csv(path=str(log.path), **NAMED, flush_s=3600), 0.1, time.perf_counter_ns)
    with pytest.raises(KeyboardInterrupt), source:
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    "options",
    [
        {"time_column": "time"},
        {**NAMED, "volts_column": "volts"},
        {**NAMED, "volts_column": "volts", "amps_column": "amps"},
        {"time_column": "time", "volts_column": "volts"},
        {"time_column": "time", "amps_column": "amps"},
        {"time_column": 1, "watts_column": "watts"},
        {"time_column": 0, "watts_column": 1},
        {"time_column": "", "watts_column": "watts"},
        {**NAMED, "time_unit": "minutes"},
        {**NAMED, "delimiter": ";;"},
        {**NAMED, "delimiter": ""},
        {**NAMED, "decimal": ","},
        {**NAMED, "decimal": "'"},
        {**NAMED, "flush_s": -1},
        {**NAMED, "lag_s": -1},
        {**NAMED, "boundary": "dc"},
        {**NAMED, "path": ""},
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as refused:
        Csv(**{"path": "log.csv", "boundary": "board_dc", **options})
    assert "meter.options" in refused.value.hint
