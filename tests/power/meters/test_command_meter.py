"""The meter command, against PEERS: small programs that print watts, as a program for a real meter does."""

from __future__ import annotations

import itertools
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import psutil
import pytest
from readings import PATIENCE_S, next_error, next_sample

from edlab.errors import ConfigError
from edlab.power.meter import METERS
from edlab.power.meters.command import Command
from edlab.testing.meter import MeterConformance

STEADY = "import itertools, time\nfor n in itertools.count(): print(5 + n % 2); time.sleep(0.01)"

Open = Callable[..., Command]


def python(code: str) -> str:
    return shlex.join([sys.executable, "-c", code])


@pytest.fixture
def opened() -> Iterator[Open]:
    """Makes meters of Python programs, and closes them."""
    meters: list[Command] = []

    def of(code: str, **options: Any) -> Command:
        meters.append(Command(command=python(code), **{"boundary": "wall_ac", **options}))
        return meters[-1]

    yield of
    for meter in meters:
        meter.close()


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


class TestConformance(MeterConformance):
    meter = "command"
    options: ClassVar[dict[str, str]] = {"command": python(STEADY), "boundary": "wall_ac"}


def test_its_name_is_in_the_list_of_meters() -> None:
    assert METERS.load("command") is Command


def test_each_line_is_a_sample_at_its_time(opened: Open) -> None:
    meter = opened(
        "import time\nfor watts in ('5', '', ' 0.25 ', '1e1'): print(watts); time.sleep(0.1)\ntime.sleep(99)"
    )
    start_ns = time.perf_counter_ns()
    samples = [next_sample(meter) for _ in range(3)]
    assert [sample.watts for sample in samples] == [5.0, 0.25, 10.0]
    times = [start_ns, *(sample.t_ns for sample in samples), time.perf_counter_ns()]
    assert all(earlier < later for earlier, later in itertools.pairwise(times))
    assert samples[2].t_ns - samples[0].t_ns >= 0.2e9  # the program slept for this long in between, or longer
    assert (meter.paced, meter.boundary, meter.lag_s) == (False, "wall_ac", 0.0)


def test_a_line_has_the_time_of_its_arrival_even_if_it_is_read_later(opened: Open, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    code = f"print(1)\nprint(2)\ntime.sleep(1)\npathlib.Path({str(ready)!r}).touch()\ntime.sleep(99)"
    meter = opened("import pathlib, time\n" + code)
    next_sample(meter)
    wait_until(ready.exists)
    now_ns = time.perf_counter_ns()
    assert next_sample(meter).t_ns < now_ns


def test_lines_at_once_have_increasing_times(opened: Open) -> None:
    meter = opened("import time\nprint('\\n'.join(map(str, range(100))))\ntime.sleep(99)")
    samples = [next_sample(meter) for _ in range(100)]
    assert [sample.watts for sample in samples] == list(range(100))
    assert all(earlier.t_ns < later.t_ns for earlier, later in itertools.pairwise(samples))


@pytest.mark.parametrize("line", ["5 W", "nan", "inf", "-1", "12,5", "\\xff\\x00", "5" * 5000])
def test_what_is_no_number_of_watts_is_a_failed_reading(opened: Open, line: str) -> None:
    meter = opened(f"import os, time\nos.write(1, b'{line}\\n7\\n')\ntime.sleep(99)")
    error = next_error(meter)
    assert isinstance(error, ValueError)
    assert "the meter's program printed" in str(error)
    assert len(str(error)) < 300
    while True:
        try:
            sample = next_sample(meter)
            break
        except ValueError:  # the next piece of a line that is too long
            continue
    assert sample.watts == 7.0


def test_a_program_that_ends_is_started_again_and_its_last_words_are_in_the_error(opened: Open, tmp_path: Path) -> None:
    code = (
        "import pathlib, sys\n"
        f"starts = pathlib.Path({str(tmp_path / 'starts')!r})\n"
        "with starts.open('a') as file: file.write('x')\n"
        "print(len(starts.read_text()))\n"
        "print('warming up\\nno device found', file=sys.stderr)\n"
        "sys.exit(3)"
    )
    meter = opened(code)
    for start in (1, 2):
        assert next_sample(meter).watts == start
        error = next_error(meter)
        assert isinstance(error, OSError)
        assert "ended with exit code 3: no device found" in str(error)


def test_a_program_that_fails_at_once_is_not_started_again_and_again(opened: Open, tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    meter = opened(f"with open({str(starts)!r}, 'a') as file: file.write('x')\nraise SystemExit('wrong device')")
    begin = time.monotonic()
    for _ in range(3):
        assert "wrong device" in str(next_error(meter))
    assert len(starts.read_text()) <= time.monotonic() - begin + 1


def test_a_silent_program_fails_with_its_last_words_once_the_patience_is_over(opened: Open) -> None:
    code = "import sys, time\nprint('waiting for the meter', file=sys.stderr)\ntime.sleep(99)"
    assert opened(code, patience_s=1e6).read() is None
    meter = opened(code, patience_s=0)
    wait_until(lambda: "waiting for the meter" in str(next_error(meter)))
    assert isinstance(next_error(meter), TimeoutError)


def test_a_slow_program_is_no_failure(opened: Open) -> None:
    meter = opened("import time\nwhile True: print(5); time.sleep(1.5)", patience_s=PATIENCE_S)
    assert [next_sample(meter).watts for _ in range(2)] == [5.0, 5.0]


def test_a_program_that_writes_much_to_its_stderr_is_not_stopped_by_it(opened: Open) -> None:
    meter = opened("import sys, time\nsys.stderr.write('x' * 10_000_000)\nprint(5)\ntime.sleep(99)")
    assert next_sample(meter).watts == 5.0


@pytest.mark.parametrize("stubborn", [False, True], ids=["docile", "stubborn"])
def test_the_program_and_its_children_end_with_close(opened: Open, tmp_path: Path, stubborn: bool) -> None:
    code = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" if stubborn else ""
    code += "import os, sys, subprocess\n"
    code += "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(99)'])\n"
    code += "print(os.getpid()); print(child.pid); child.wait()"
    meter = opened(code)
    processes = [psutil.Process(int(next_sample(meter).watts)) for _ in range(2)]
    meter.close()
    wait_until(lambda: not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in processes))
    meter.close()
    assert next_sample(meter).watts != processes[0].pid  # a later reading starts it again


def test_a_program_can_release_its_device_on_close(opened: Open, tmp_path: Path) -> None:
    released = tmp_path / "released"
    code = (
        "import pathlib, signal, time\n"
        f"def end(*_): pathlib.Path({str(released)!r}).touch(); raise SystemExit\n"
        "signal.signal(signal.SIGTERM, end)\nprint(5)\ntime.sleep(99)"
    )
    meter = opened(code)
    next_sample(meter)
    meter.close()
    wait_until(released.exists)


def test_no_child_stays_behind_a_program_that_ends(opened: Open) -> None:
    code = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(99)'])\nprint(child.pid)"
    )
    meter = opened(code)
    child = psutil.Process(int(next_sample(meter).watts))
    assert "ended with exit code 0" in str(next_error(meter))
    wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def test_it_is_not_started_before_the_first_reading_and_closing_it_unread_is_no_error(
    opened: Open, tmp_path: Path
) -> None:
    meter = opened(f"open({str(tmp_path / 'started')!r}, 'w')")
    meter.close()
    assert not (tmp_path / "started").exists()


def test_there_is_no_shell_unless_it_is_the_program(tmp_path: Path) -> None:
    script = tmp_path / "my meter"
    script.write_text("#!/bin/sh\necho $# >&2\necho 5\nsleep 99\n")
    script.chmod(0o755)
    for command, watts in ((f"'{script}' '1 | cat' ; $HOME", 5.0), ("sh -c 'echo 6 | cat; sleep 99'", 6.0)):
        meter = Command(command=command, boundary="wall_ac")
        try:
            assert next_sample(meter).watts == watts
        finally:
            meter.close()


def test_a_program_that_has_gone_since_is_a_failed_reading(tmp_path: Path) -> None:
    script = tmp_path / "meter"
    script.write_text("#!/bin/sh\necho 5\n")
    script.chmod(0o755)
    meter = Command(command=str(script), boundary="wall_ac")
    script.unlink()
    assert os.strerror(2) in str(next_error(meter))


@pytest.mark.parametrize(
    "options",
    [
        {"command": ""},
        {"command": ["a", "b"]},
        {"command": "python3 'unclosed"},
        {"command": "''"},
        {"command": "no-such-program --watts"},
        {"command": "sh", "boundary": "cpu"},
        {"command": "sh", "lag_s": "1"},
        {"command": "sh", "patience_s": -1},
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as refused:
        Command(**{"boundary": "wall_ac", **options})
    assert refused.value.hint
