"""The main job from the shell: rows, exit codes, records, and what MLflow holds afterwards."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from mlflow.tracking import MlflowClient
from workplace import FAST, Workplace

from edlab.record import Status, VerdictState

SIX = ("accuracy_top1", "latency_ms", "throughput_ips", "flops_per_s")


def client(workplace: Workplace) -> MlflowClient:
    return MlflowClient(f"sqlite:///{workplace.folder}/mlruns/mlflow.db")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory, shared_cache) -> Workplace:  # type: ignore[no-untyped-def]
    """The embedded model on three runtimes, fp32 and int8, made once for the tests of this module."""
    place = Workplace(tmp_path_factory.mktemp("sweep"), shared_cache)
    words = ("converter=onnxruntime,openvino,litert", "quantization=fp32,int8", "device.specification.typical_watts=15")
    place.result = place.run("-m", *words)  # type: ignore[attr-defined]
    return place


def test_every_row_ends_well_with_real_accuracy(sweep: Workplace) -> None:
    assert sweep.result.returncode == 0, sweep.result.stdout + sweep.result.stderr  # type: ignore[attr-defined]
    records = sweep.records()
    assert len(records) == 6
    for record in records:
        assert record.status is Status.ok
        assert all(name in record.metrics for name in SIX)
        assert record.metrics["accuracy_top1"] > 0.95
        assert record.metrics["accuracy_images"] > 300
        assert abs(record.metrics["accuracy_drop"]) < 0.02
        assert record.metrics["flops_per_s"] == pytest.approx(
            record.metrics["throughput_ips"] * record.metrics["flops"]
        )


def test_an_estimate_never_has_a_measured_name(sweep: Workplace) -> None:
    for record in sweep.records():
        if record.tags["power_boundary"] == "estimated":
            assert "power_w" not in record.metrics
            assert "efficiency_ips_per_w" not in record.metrics
            assert record.metrics["estimated_power_w"] > 0
            assert "power_w" in record.missing


def test_each_phase_says_what_the_machine_did_meanwhile(sweep: Workplace) -> None:
    phases = ("idle", "warmup", "latency", "host_work", "search", "throughput", "accuracy")
    for record in sweep.records():
        assert set(record.phases) == set(phases)
        assert all(record.phases[name]["activity"]["seconds"] > 0 for name in phases)
    shown = sweep.edlab("show", sweep.records()[0].run_id).stdout
    assert all(f"\n{name} " in shown for name in phases)


def test_the_smoke_tier_is_never_valid(sweep: Workplace) -> None:
    for record in sweep.records():
        assert record.verdict is not None
        assert record.verdict.state is not VerdictState.valid
        assert {"tier_smoke", "protocol_weakened"} <= {reason.code for reason in record.verdict.reasons}


def test_the_table_has_a_row_a_run(sweep: Workplace) -> None:
    output = sweep.result.stdout  # type: ignore[attr-defined]
    for name in ("onnxruntime", "openvino", "litert", "int8", "fp32", "digits_cnn", "tier_smoke"):
        assert name in output


def test_mlflow_holds_parameters_metrics_tags_and_artifacts(sweep: Workplace) -> None:
    mlflow = client(sweep)
    record = sweep.records()[1]
    run = mlflow.get_run(record.run_id)
    assert run.info.status == "FINISHED"
    for name in ("model.name", "model.weights", "quantization.name", "quantization.precision", "converter.name"):
        assert run.data.params[name]
    for name in ("device.name", "dataset.name", "protocol.name"):
        assert run.data.params[name]
    wanted = {"accuracy_top1", "accuracy_top5", "accuracy_drop", "latency_ms", "latency_p50_ms", "throughput_ips"}
    wanted |= {"flops_per_s", "agreement_top1", "macs", "flops", "parameters", "load_ms", "first_inference_ms"}
    wanted |= {"peak_memory_mb", "artifact_size_mb", "conversion_s"}
    assert wanted <= set(run.data.metrics) | {
        name.rpartition("missing.")[2] for name in run.data.tags if "edlab.missing." in name
    }
    tags = run.data.tags
    assert tags["edlab.status"] == "ok"
    assert tags["edlab.sweep_id"] == record.sweep_id
    assert {"edlab.verdict", "edlab.weights", "edlab.power_boundary", "edlab.artifact_sha256"} <= set(tags)
    files = {file.path for file in mlflow.list_artifacts(record.run_id)}
    assert {"converted", "conversion.log", "result.json", "latencies.npy", "environment.json"} <= files


def test_the_latencies_kept_are_those_of_the_headline(sweep: Workplace) -> None:
    record = sweep.records()[0]
    path = client(sweep).download_artifacts(record.run_id, "latencies.npy", str(sweep.folder))
    assert np.load(path).mean() / 1e6 == pytest.approx(record.metrics["latency_ms"])


def test_show_and_pull_find_a_run_by_prefix_and_by_name(sweep: Workplace) -> None:
    record = sweep.records()[0]
    shown = sweep.edlab("show", record.run_id[:12])
    assert shown.returncode == 0, shown.stderr
    assert record.name in shown.stdout
    pulled = sweep.edlab("pull", record.name, "--to", "models")
    assert pulled.returncode == 0, pulled.stderr
    names = {path.name for path in (sweep.folder / "models").iterdir()}
    assert {"edlab.json", "classify.py", "MLmodel"} < names
    assert [Path(name).suffix for name in names].count(".onnx") == 1
    again = sweep.edlab("pull", record.name, "--to", "models")
    assert again.returncode == 2
    assert "already exist" in again.stderr


def test_runs_are_listed_and_a_sweep_is_compared_again(sweep: Workplace) -> None:
    listed = sweep.edlab("runs", "--last", "2")
    shown = sweep.edlab("show", sweep.records()[0].sweep_id)
    assert listed.returncode == shown.returncode == 0
    assert [record.run_id[:8] in listed.stdout for record in sweep.records()].count(True) == 2
    assert all(record.params["converter.name"] in shown.stdout for record in sweep.records())


def test_repeats_run_in_fresh_processes_and_give_the_spread_between_them(workplace: Workplace) -> None:
    result = workplace.run("protocol.repeats=3")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "latency (repeat 3 of 3)" in result.stdout
    (record,) = workplace.records()
    runs = record.details["runs"]
    means = [each["latency_ms"] for each in runs]
    assert record.metrics["latency_runs"] == len(set(means)) == 3
    assert record.metrics["latency_ms"] == pytest.approx(np.mean(means))
    assert record.metrics["latency_run_spread"] == pytest.approx((max(means) - min(means)) / np.mean(means))
    assert record.metrics["latency_ci95_low_ms"] < record.metrics["latency_ms"] < record.metrics["latency_ci95_high_ms"]
    settings = {
        (phases["throughput"]["batch"], phases["throughput"]["in_flight"]) for phases in record.details["repeats"]
    }
    assert settings == {(record.metrics["throughput_batch"], record.metrics["throughput_in_flight"])}
    assert "accuracy_top1" in record.metrics
    assert len(record.details["repeats"]) == 2


def test_a_sweep_in_random_order_makes_every_row_and_numbers_them_as_given(workplace: Workplace) -> None:
    words = ("device.threads=1,2", "quantization=fp32,int8", "device.sensors=[ ]")
    result = workplace.run("-m", "sweep.order=random", *words)
    assert result.returncode == 0, result.stdout + result.stderr
    made = [(record.params["device.threads"], record.params["quantization.name"]) for record in workplace.records()]
    assert made == [(1, "fp32"), (1, "int8"), (2, "fp32"), (2, "int8")]
    for threads, name in made:
        assert f"digits_cnn · {name} · onnxruntime · cpu · device.threads={threads}" in result.stdout
    assert "device.sensors" not in result.stdout  # one value for all rows
    assert "[4/4]" in result.stdout


def test_what_this_machine_measures_in_a_devices_place_is_emulated(workplace: Workplace) -> None:
    result = workplace.run("device.execution=emulated")
    (record,) = workplace.records()
    measured = {"accuracy_top1", "accuracy_drop", "latency_ms", "throughput_ips", "flops_per_s", "load_ms"}
    assert result.returncode == 0, result.stdout + result.stderr
    assert all(f"emulated_{name}" in record.metrics for name in measured)
    assert not any(name.startswith("estimated_") or "power" in name for name in record.metrics)
    of_the_model = {"macs", "flops", "parameters", "artifact_size_mb", "conversion_s", "int8_weights_fraction"}
    assert {name for name in record.metrics if not name.startswith("emulated_")} <= of_the_model
    assert "stand-in" in record.missing["latency_ms"]
    assert "emulated" in {reason.code for reason in record.verdict.reasons if record.verdict}
    assert record.tags["stand_in"]
    assert "≈" in result.stdout


def test_what_the_target_quantizes_is_not_judged_by_its_float_file(workplace: Workplace) -> None:
    workplace.run("device=jetson", "quantization=int8", "converter.options.int8=implicit")
    (record,) = workplace.records()
    assert (record.status, record.stage) == (Status.failed, "deploy")
    assert not {"agreement_top1", "sqnr_db", "int8_weights_fraction"} & set(record.metrics)
    assert "not compared" in record.missing["agreement_top1"]
    assert record.tags["artifact_sha256"]


def test_calibration_settings_reach_the_tool(workplace: Workplace) -> None:
    result = workplace.run(
        "-m",
        "quantization=int8",
        "quantization.calibration.method=minmax,percentile",
        "quantization.calibration.images=16,64",
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert len({record.tags["artifact_sha256"] for record in workplace.records()}) == 4


def test_an_impossible_row_is_skipped_with_the_nearest_and_the_others_go_on(workplace: Workplace) -> None:
    result = workplace.run("-m", "converter=torch,onnxruntime", "quantization=int8")
    refused, done = workplace.records()
    assert refused.status is Status.skipped
    assert "fp32" in refused.hint
    assert done.status is Status.ok
    assert result.returncode == 0


def test_a_single_impossible_run_is_an_error(workplace: Workplace) -> None:
    assert workplace.run("converter=torch", "quantization=int8").returncode == 1


def test_a_failed_row_keeps_its_place_and_the_others_go_on(workplace: Workplace) -> None:
    result = workplace.run("-m", "quantization=int8", "quantization.exclude=[],[no_such_node]")
    done, failed = workplace.records()
    assert result.returncode == 1
    assert done.status is Status.ok
    assert (failed.status, failed.stage) == (Status.failed, "convert")
    assert "no_such_node" in failed.reason
    assert "no_such_node" in result.stdout
    assert "Traceback" not in result.stdout + result.stderr
    run = client(workplace).get_run(failed.run_id)
    assert run.info.status == "FAILED"
    assert run.data.tags["edlab.stage"] == "convert"
    assert run.data.tags["edlab.hint"]


def test_a_missing_data_set_withholds_accuracy_and_nothing_else(workplace: Workplace) -> None:
    """The data set of model=file is ImageNet, which no one has configured."""
    import torch

    from edlab.models.digits_cnn import SIZE, DigitsCNN

    program = torch.export.export(DigitsCNN().eval(), (torch.zeros(1, 3, SIZE, SIZE),))
    torch.export.save(program, workplace.folder / "net.pt2")
    result = workplace.run("model=file", "model.path=net.pt2")
    assert result.returncode == 0, result.stdout + result.stderr
    (record,) = workplace.records()
    assert "accuracy_top1" not in record.metrics
    assert record.missing["accuracy_top1"]
    assert record.metrics["latency_ms"] > 0
    assert record.verdict is not None
    assert "synthetic_inputs" in [reason.code for reason in record.verdict.reasons]


def test_untrained_weights_are_said_and_accuracy_is_withheld(workplace: Workplace) -> None:
    assert workplace.run("model.weights=random").returncode == 0
    (record,) = workplace.records()
    assert "accuracy_top1" not in record.metrics
    assert "agreement_top1" in record.metrics
    assert record.tags["weights"] == "untrained"
    assert record.verdict is not None
    assert "untrained_weights" in [reason.code for reason in record.verdict.reasons]


def test_ctrl_c_leaves_a_record_a_table_and_no_process(workplace: Workplace) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "edlab.main", "-m", *FAST, "quantization=fp32,int8", "protocol.seconds=60"],
        cwd=workplace.folder,
        env=workplace.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "latency" in line:
            break
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 130, "".join(lines) + rest
    (record,) = workplace.records()
    assert record.status is Status.interrupted
    assert "1 of 2 runs" in rest
    assert "Traceback" not in rest
    assert client(workplace).get_run(record.run_id).info.status == "KILLED"


def test_a_reader_that_goes_away_does_not_break_the_run(workplace: Workplace) -> None:
    command = f"{sys.executable} -m edlab.main {' '.join(FAST)} | head -1"
    subprocess.run(command, shell=True, cwd=workplace.folder, env=workplace.environment, check=True, timeout=120)
    (record,) = workplace.records()
    assert record.status is Status.ok
    assert client(workplace).get_run(record.run_id).info.status == "FINISHED"


def test_the_tracking_server_is_checked_first(workplace: Workplace) -> None:
    workplace.environment["MLFLOW_TRACKING_URI"] = "http://127.0.0.1:9"
    start = time.monotonic()
    result = workplace.run()
    assert result.returncode == 2
    assert "127.0.0.1:9" in result.stderr
    assert "Traceback" not in result.stderr
    assert time.monotonic() - start < 60


def test_the_experiments_name_is_honoured(workplace: Workplace) -> None:
    workplace.environment["MLFLOW_EXPERIMENT_NAME"] = "shoot out"
    assert workplace.run().returncode == 0
    assert client(workplace).get_experiment_by_name("shoot out") is not None


def test_result_json_has_a_versioned_schema(sweep: Workplace) -> None:
    path = next((sweep.folder / "mlruns" / "sweeps").glob("*/0/result.json"))
    assert json.loads(path.read_text())["schema_version"] == 1


def test_the_drop_is_split_by_its_causes_on_request(workplace: Workplace) -> None:
    """int8_dynamic has no file that can be evaluated in floating point: those parts are withheld."""
    result = workplace.run(
        "-m", "converter=onnxruntime,openvino,litert", "quantization=int8", "protocol.decompose_drop=true"
    )
    assert result.returncode == 0, result.stdout + result.stderr
    for record in workplace.records():
        parts = [record.metrics[f"accuracy_drop_{name}"] for name in ("conversion", "quantization", "runtime")]
        assert sum(parts) == pytest.approx(record.metrics["accuracy_drop"], abs=1e-9)
        assert abs(parts[0]) < 0.005
    workplace.run("-m", "converter=onnxruntime,litert", "quantization=int8_dynamic", "protocol.decompose_drop=true")
    for record in workplace.records():
        assert record.status is Status.ok, record.reason
        assert "accuracy_drop_conversion" in record.metrics
        assert "floating point" in record.missing["accuracy_drop_quantization"]
