"""edlab.run and edlab.register_model: the same job from Python."""

from __future__ import annotations

import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import initialize_config_dir
from workplace import FAST

import edlab
from edlab import benchmark
from edlab.errors import ConfigError
from edlab.record import Reason, RunRecord, Status, Verdict, VerdictState
from edlab.stages.measure import measure

FASTER = FAST[1:]


class Tiny(torch.nn.Module):
    """A module that no child process could import by name."""

    def __init__(self) -> None:
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, 2), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1))
        self.head = torch.nn.Linear(8, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(images).flatten(1))


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDLAB_CACHE", str(shared_cache))


def test_a_named_model() -> None:
    record = edlab.run("digits_cnn", quantization="int8", converter="openvino", protocol="smoke", overrides=FASTER)
    assert record.status is Status.ok, record.reason
    assert record.metrics["accuracy_top1"] > 0.95
    assert record.params["converter.name"] == "openvino"
    assert record.run_id


def test_a_live_module() -> None:
    size = edlab.Preprocessing(height=24, width=24, mean=(0.5, 0.5, 0.5))
    words = [*FASTER, "model.claimed_top1=0.1"]
    record = edlab.run(Tiny(), preprocessing=size, dataset="digits", protocol="smoke", overrides=words)
    assert record.status is Status.ok, record.reason
    assert record.params["model.name"] == "Tiny"
    assert record.details["source"]["preprocessing"]["mean"] == [0.5, 0.5, 0.5]
    assert record.details["source"]["claimed_top1"] == 0.1
    assert record.metrics["parameters"] == sum(parameter.numel() for parameter in Tiny().parameters())


def test_a_registered_model() -> None:
    @edlab.register_model("tiny_registered", height=24, width=24)
    def build() -> torch.nn.Module:
        return Tiny()

    record = edlab.run("tiny_registered", dataset="synthetic", protocol="smoke", overrides=FASTER)
    assert record.status is Status.ok, record.reason
    assert record.params["model.name"] == "tiny_registered"


def test_threads_make_runs_that_are_measured_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    measuring, most = threading.Lock(), threading.Barrier(2)

    def guarded(*arguments: Any) -> None:
        assert measuring.acquire(blocking=False), "two runs have the machine at once"
        with suppress(threading.BrokenBarrierError):
            most.wait(timeout=2)  # where nothing keeps the other out, it gets here too
        measure(*arguments)
        measuring.release()

    monkeypatch.setattr(benchmark, "measure", guarded)

    def make(converter: str) -> RunRecord:
        return edlab.run("digits_cnn", converter=converter, quantization="fp32", protocol="smoke", overrides=FASTER)

    with initialize_config_dir(str(Path.cwd()), version_base="1.3"), ThreadPoolExecutor(2) as pool:
        records = list(pool.map(make, ["onnxruntime", "openvino"]))
    assert [record.status for record in records] == [Status.ok] * 2, [record.reason for record in records]
    assert [record.params["converter.name"] for record in records] == ["onnxruntime", "openvino"]
    assert len({record.run_id for record in records} - {""}) == 2


def test_a_failed_run_is_a_record() -> None:
    record = edlab.run("digits_cnn", converter="torch", quantization="int8", protocol="smoke")
    assert record.status is Status.skipped
    assert record.hint


@pytest.mark.parametrize("cut_in_a_wait", [False, True])
def test_ctrl_c_is_raised_once_the_run_is_recorded(cut_in_a_wait: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: Any) -> None:
        try:
            raise KeyboardInterrupt
        finally:
            if cut_in_a_wait:  # as a queue's `get` does where Ctrl-C comes before it has its lock again
                threading.Lock().release()

    monkeypatch.setattr(benchmark, "measure", interrupt)
    with pytest.raises(KeyboardInterrupt):
        edlab.run("digits_cnn", protocol="smoke", overrides=FASTER)
    (path,) = Path("mlruns/sweeps").glob("*/0/result.json")
    assert RunRecord.read(path).status is Status.interrupted


def test_a_sweep_is_a_table_and_a_data_frame_and_is_found_again() -> None:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    sweep = edlab.sweep(["protocol=smoke", "quantization=fp32,int8", *FASTER])
    assert [record.params["quantization.name"] for record in sweep] == ["fp32", "int8"]
    assert {number: signal.getsignal(number) for number in handlers} == handlers
    frame = sweep.to_dataframe()
    assert list(frame["quantization.name"]) == ["fp32", "int8"]
    assert list(frame["latency_ms"]) == [record.metrics["latency_ms"] for record in sweep]
    shown = sweep._repr_html_()
    assert "<table>" in shown
    assert "data:image/svg+xml;base64," in shown
    assert [record.uuid for record in edlab.runs()] == [record.uuid for record in sweep]
    assert len(edlab.runs(sweep[0].sweep_id, filter="params.`quantization.name` = 'int8'")) == len(sweep[1:]) == 1
    with pytest.raises(ConfigError, match="no key 'modle'"):
        edlab.sweep(["modle=digits_cnn"])


def test_a_wrong_name_is_raised() -> None:
    with pytest.raises(ConfigError, match="unknown model 'nope'"):
        edlab.run("nope")


def test_a_data_set_without_its_path_is_raised() -> None:
    with pytest.raises(ConfigError, match="dataset=image_folder needs"):
        edlab.run("digits_cnn", dataset="image_folder")


def test_the_public_names_are_these_and_all_can_be_imported() -> None:
    errors = {name for name, kind in vars(edlab.errors).items() if isinstance(kind, type)}
    assert "AgentError" in errors
    assert set(edlab.__all__) == errors | {
        "Preprocessing", "RunRecord", "Sweep", "register_model", "run", "runs", "sweep",
    }  # fmt: skip
    assert all(getattr(edlab, name) for name in edlab.__all__)
    assert set(dir(edlab)) == {*edlab.__all__, "__version__"}
    assert all(issubclass(getattr(edlab, name), edlab.EdlabError) for name in errors)


def test_a_notebook_shows_a_record_as_a_table() -> None:
    reason = Reason(code="tier_smoke", message="")
    record = RunRecord(
        name="net-fp32", sweep_id="s", started_at="", metrics={"latency_ms": 1.25}, missing={"power_w": "no <sensor>"}
    )
    record.verdict = Verdict(state=VerdictState.degraded, reasons=[reason])
    html = record._repr_html_()
    assert "<caption>net-fp32</caption>" in html
    assert "latency_ms</th><td style='text-align:left'>1.25</td>" in html
    assert "missing: no &lt;sensor&gt;" in html
    assert "DEGRADED, tier_smoke" in html
