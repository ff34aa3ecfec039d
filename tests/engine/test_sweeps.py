"""A command with several runs, from the shell. Those here end as the model is loaded, and measure nothing."""

from __future__ import annotations

import pytest
from workplace import Workplace

from edlab.record import Stage

NO_MODEL = ("model=file", "model.path=broken.onnx")  # fails when it is loaded


def test_a_sweep_that_cannot_start_is_not_announced(workplace: Workplace) -> None:
    """Its folder would never exist."""
    result = workplace.edlab("run", "-m", "protocol.seed=range(300)", "model=nope")
    assert result.returncode == 2
    assert "unknown model 'nope'" in result.stderr
    assert "mlruns/sweeps/" not in result.stdout


def test_a_wrong_value_at_the_end_of_a_sweep_stops_it_before_anything_runs(workplace: Workplace) -> None:
    result = workplace.edlab("run", "-m", "quantization=fp32,int8", "protocol=smoke,quick", "device.threads=1,2,nope")
    assert result.returncode == 2
    assert "nope" in result.stderr
    assert not (workplace.folder / "mlruns" / "sweeps").exists()


@pytest.mark.parametrize("targets", ["null,CPU", "CPU,null"])
def test_overrides_that_do_not_go_together_cost_their_run_alone(workplace: Workplace, targets: str) -> None:
    (workplace.folder / "broken.onnx").write_bytes(b"not a model")
    result = workplace.run("-m", *NO_MODEL, "device=cpu,intel", f"device.target={targets}")
    assert result.returncode == 1
    assert "Traceback" not in result.stdout + result.stderr
    assert "device.target is unsupported for cpu" in result.stdout
    made = [(record.params["device.name"], record.params.get("device.target")) for record in workplace.records()]
    assert sorted(made, key=str) == [("cpu", None), ("intel", "CPU"), ("intel", None)]
    assert "3 of 4 runs" in result.stdout


def test_a_sweeper_of_hydra_decides_on_the_runs(workplace: Workplace) -> None:
    (workplace.folder / "broken.onnx").write_bytes(b"not a model")
    words = ("-m", *NO_MODEL, "hydra/sweeper=basic", "hydra.sweep.dir=elsewhere", "device.threads=1,2")
    result = workplace.run(*words)
    assert result.returncode == 1
    assert "Traceback" not in result.stdout + result.stderr
    first, second = workplace.records()
    assert (first.params["device.threads"], second.params["device.threads"]) == (1, 2)
    assert first.stage is second.stage is Stage.load
    assert "device.threads=2" in result.stdout
    assert not (workplace.folder / "elsewhere").exists()
    refused = workplace.run(*words, "sweep.order=random")
    assert refused.returncode == 2
    assert "sweep.order=random" in refused.stderr


@pytest.mark.parametrize(
    ("flags", "printed"),
    [
        (("--cfg", "job"), "name: digits_cnn"),
        (("--info", "defaults-tree"), "converter: auto"),
        (("--hydra-help",), "Hydra"),
    ],
)
def test_what_hydra_prints_of_itself(workplace: Workplace, flags: tuple[str, ...], printed: str) -> None:
    result = workplace.edlab("run", *flags)
    assert result.returncode == 0, result.stderr
    assert printed in result.stdout
    assert not (workplace.folder / "mlruns" / "sweeps").exists()
