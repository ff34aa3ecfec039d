"""What a night can bring: a server that goes away, a terminal that closes, a disk that fills. From the shell."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient
from mlflow_server import MlflowServer
from workplace import FAST, Workplace

from edlab.record import RunRecord, Status

TWO = ("-m", *FAST, "quantization=fp32,int8")
LONG = ("-m", *FAST, "quantization=fp32,int8", "protocol.seconds=60")


@pytest.fixture
def server(tmp_path: Path, workplace: Workplace) -> Iterator[MlflowServer]:
    server = MlflowServer(tmp_path / "server")
    server.start()
    workplace.environment["MLFLOW_TRACKING_URI"] = server.uri
    yield server
    server.end()


class Sweep:
    """A sweep in progress: its output is read line by line, and `when` does something as a word comes up."""

    def __init__(self, workplace: Workplace, *words: str, output: int | None = None) -> None:
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "edlab.main", *words],
            cwd=workplace.folder,
            env=workplace.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if output is None else output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def when(self, word: str, do: Callable[[], object]) -> None:
        """Wait for a line with this word."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.decode())
            if word in self.lines[-1]:
                do()
                return
        raise AssertionError("".join(self.lines))

    def rest(self, timeout_s: float = 300) -> str:
        """All output, once the sweep has ended."""
        rest, _ = self.process.communicate(timeout=timeout_s)
        return "".join([*self.lines, rest.decode()])


def on_server(server: MlflowServer) -> list[tuple[str, float | None]]:
    """Status and accuracy of the rows that the server has, oldest first; the parent of a sweep must have ended."""
    client = MlflowClient(server.uri)
    experiment = client.get_experiment_by_name("edlab")
    assert experiment
    runs = list(reversed(client.search_runs([experiment.experiment_id])))
    assert all(run.info.status != "RUNNING" for run in runs if "edlab.sweep" in run.data.tags)
    rows = [run for run in runs if "edlab.sweep_id" in run.data.tags]
    return [(run.info.status, run.data.metrics.get("accuracy_top1")) for run in rows]


def test_a_server_that_dies_in_a_sweep_costs_nothing(workplace: Workplace, server: MlflowServer) -> None:
    sweep = Sweep(workplace, *TWO)
    sweep.when("latency", lambda: server.send(signal.SIGKILL))
    output = sweep.rest()
    assert sweep.process.returncode == 0, output
    records = workplace.records()
    assert [record.status for record in records] == [Status.ok] * 2
    assert all("accuracy_top1" in record.metrics for record in records)
    assert "not in MLflow yet" in output
    assert "edlab sync" in output
    assert "Traceback" not in output
    away = workplace.edlab("sync")
    assert away.returncode == 2
    assert server.address in away.stderr
    address = workplace.environment.pop("MLFLOW_TRACKING_URI")
    elsewhere = workplace.edlab("sync")
    assert elsewhere.returncode == 1
    assert f"2 runs are kept for {address}" in elsewhere.stdout
    workplace.environment["MLFLOW_TRACKING_URI"] = address
    server.start()
    for _ in range(2):  # once is enough, and twice does no harm
        assert workplace.edlab("sync").returncode == 0
        expected = [("FINISHED", record.metrics["accuracy_top1"]) for record in records]
        assert on_server(server) == expected
    assert not any(record.unrecorded for record in workplace.records())


def test_ctrl_c_ends_the_waiting_for_a_server_that_has_stopped(workplace: Workplace, server: MlflowServer) -> None:
    sweep = Sweep(workplace, *TWO)
    sweep.when("record", lambda: server.send(signal.SIGSTOP))
    threading.Timer(5, sweep.process.send_signal, [signal.SIGINT]).start()
    output = sweep.rest(timeout_s=30)
    server.send(signal.SIGCONT)
    assert sweep.process.returncode == 130, output
    (record,) = workplace.records()
    assert "accuracy_top1" in record.metrics
    assert record.status is Status.ok  # it had been measured
    assert "1 of 2 runs" in output
    assert "edlab sync" in output
    assert workplace.edlab("sync").returncode == 0
    assert on_server(server)[0] == ("FINISHED", record.metrics["accuracy_top1"])


def assert_interrupted(workplace: Workplace) -> None:
    """One row, interrupted, here and in MLflow, with the table in the sweep's folder."""
    (record,) = workplace.records()
    assert record.status is Status.interrupted
    client = MlflowClient(f"sqlite:///{workplace.folder}/mlruns/mlflow.db")
    assert client.get_run(record.run_id).info.status == "KILLED"
    (table,) = (workplace.folder / "mlruns" / "sweeps").glob("*/table.md")
    assert "interrupted" in table.read_text()


def test_sighup_leaves_a_record_and_a_table(workplace: Workplace) -> None:
    """A shell that ends sends one, and the kernel another."""
    sweep = Sweep(workplace, *LONG)

    def twice() -> None:
        for delay_s in (0.0, 0.3):
            threading.Timer(delay_s, sweep.process.send_signal, [signal.SIGHUP]).start()

    sweep.when("latency", twice)
    sweep.rest()
    assert sweep.process.returncode == 130
    assert_interrupted(workplace)


def test_a_closed_terminal_leaves_a_record_and_a_table(workplace: Workplace) -> None:
    ours, theirs = pty.openpty()
    sweep = Sweep(workplace, *LONG, output=theirs)
    os.close(theirs)
    seen = b""
    while b"latency" not in seen:
        seen += os.read(ours, 65536)
    os.close(ours)
    sweep.process.send_signal(signal.SIGHUP)  # what the kernel sends to the programs of a terminal that closes
    assert sweep.process.wait(timeout=60) == 130
    assert_interrupted(workplace)


def test_three_times_ctrl_c_still_gives_the_table_and_what_was_measured(workplace: Workplace) -> None:
    sweep = Sweep(workplace, *TWO, "protocol.throughput.trial_seconds=30")

    def thrice() -> None:
        for delay_s in (0.0, 0.1, 0.2):
            threading.Timer(delay_s, sweep.process.send_signal, [signal.SIGINT]).start()

    sweep.when("throughput", thrice)
    output = sweep.rest()
    assert sweep.process.returncode == 130
    assert "1 of 2 runs" in output
    assert "Traceback" not in output
    (record,) = workplace.records()
    assert record.status is Status.interrupted
    assert "latency_ms" in record.metrics


@pytest.mark.parametrize("moment", ["before the first row", "in a row"])
def test_a_disk_that_fills_below_the_current_folder_is_said_and_loses_nothing(
    tmp_path: Path, workplace: Workplace, moment: str
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount a small tmpfs")
    filler = disk / ".filler"

    def fill() -> None:
        with suppress(OSError), open(filler, "wb", buffering=0) as file:
            while True:
                file.write(b"x" * 65536)

    try:
        place = Workplace(disk, Path(workplace.environment["EDLAB_CACHE"]))
        place.environment["EDLAB_LOCK_DIR"] = workplace.environment["EDLAB_LOCK_DIR"]
        sweep = Sweep(place, *TWO)
        if moment == "in a row":
            sweep.when("latency", fill)
        else:
            while not list(disk.glob("mlruns/sweeps/*/1")) and sweep.process.poll() is None:
                time.sleep(0.01)
            fill()
        output = sweep.rest()
        assert "Traceback" not in output
        assert sweep.process.returncode == 1, output
        assert "[2/2]" in output  # the next row is tried
        assert "edlab pull ," not in output
        assert output.count("No space left on device") >= 1
        kept = list(disk.glob("mlruns/spool/[!.]*"))
        assert ("kept in mlruns/spool" in output) == bool(kept)
        written = list(disk.glob("mlruns/sweeps/*/*/result.json"))
        assert len(written) == 2 or "not saved, because all disks are full" in output
        filler.unlink()
        assert place.run().returncode == 0
        client = MlflowClient(f"sqlite:///{disk}/mlruns/mlflow.db")
        experiment = client.get_experiment_by_name("edlab")
        assert experiment
        assert not client.search_runs([experiment.experiment_id], "attributes.status = 'RUNNING'")
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_run_that_is_being_made_is_said_to_be_running(workplace: Workplace) -> None:
    said: list[str] = []

    def look() -> None:
        said.append(workplace.edlab("runs").stdout)
        said.append(workplace.edlab("show", "digits_cnn-fp32-onnxruntime-cpu").stdout)
        sweep.process.send_signal(signal.SIGINT)

    sweep = Sweep(workplace, *LONG)
    sweep.when("latency", look)
    sweep.rest()
    assert all("running" in text.lower() for text in said), said
    assert not any("interrupted" in text.lower() for text in said)


SECRETS = {
    "address": "pa55-of-the-server",
    "variable": "hf_pa55-of-the-hub",
    "device": "pa55-of-the-board",
}


@pytest.mark.parametrize("word", ["quantization=fp32", "model.weights=broken.pt"])
def test_no_secret_is_written_or_sent(workplace: Workplace, server: MlflowServer, tmp_path: Path, word: str) -> None:
    workplace.environment["MLFLOW_TRACKING_URI"] = f"http://me:{SECRETS['address']}@{server.address}"
    workplace.environment["HF_TOKEN"] = SECRETS["variable"]
    (workplace.folder / "broken.pt").write_bytes(b"no weights")
    result = workplace.run(word, f"+device.env.VENDOR_TOKEN={SECRETS['device']}")
    (record,) = workplace.records()
    assert record.status is (Status.ok if word == "quantization=fp32" else Status.failed), record.reason
    server.send(signal.SIGTERM)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path for path in written if path.name == "mlflow.db" and path.stat().st_size]
    for secret in SECRETS.values():
        assert secret not in result.stdout + result.stderr
        assert not [path for path in written if secret.encode() in path.read_bytes()], secret


def test_a_result_is_on_the_disk_before_mlflow_hears_of_it(workplace: Workplace, server: MlflowServer) -> None:
    """What a kill -9 of the parent in the middle of the sending leaves."""
    sweep = Sweep(workplace, *FAST, "quantization=fp32")
    sweep.when("record", lambda: server.send(signal.SIGSTOP))
    results = workplace.folder / "mlruns" / "sweeps"
    while not list(results.glob("*/0/result.json")):
        assert sweep.process.poll() is None
    sweep.process.kill()
    sweep.rest()
    server.send(signal.SIGCONT)
    (result,) = results.glob("*/0/result.json")
    assert RunRecord.read(result).metrics["accuracy_top1"] > 0.95
    assert workplace.edlab("sync").returncode == 0
    assert on_server(server) == [("FINISHED", RunRecord.read(result).metrics["accuracy_top1"])]
