"""Every device that edlab ships, each run with this machine's CPU in its place."""

from __future__ import annotations

from workplace import Workplace

from edlab.composition import options


def test_each_device_runs_what_its_defaults_ask_for(workplace: Workplace) -> None:
    names = options("device")
    words = [f"device={','.join(names)}", "device.execution=emulated", "device.address=null", "dataset.images=50"]
    result = workplace.run("-m", *words, timeout_s=900)
    records = {record.params["device.name"]: record for record in workplace.records()}
    assert set(names) == set(records), result.stdout + result.stderr
    for name, record in records.items():
        if record.status == "skipped":
            assert "quantizes the file itself" in record.hint, f"{name}: {record.reason}"  # its target quantizes
            continue
        assert record.status == "ok", f"{name}: {record.reason}"
        assert record.details["artifact"]["precision"] == record.params["quantization.precision"]
        assert record.metrics["emulated_accuracy_top1"] > 0.9
