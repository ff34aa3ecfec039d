"""Which runs a command line names."""

from __future__ import annotations

import pytest

from edlab.composition import compose_config, options
from edlab.config import Precision
from edlab.engine.plan import plan
from edlab.errors import ConfigError


def test_every_combination_is_a_job_numbered_as_the_command_line_has_them() -> None:
    jobs = plan(["device.threads=1,2", "quantization=fp32,int8", "protocol=smoke"], multirun=True).jobs()
    assert [job.number for job in jobs] == [0, 1, 2, 3]
    assert [job.overrides[:2] for job in jobs] == [
        ("device.threads=1", "quantization=fp32"),
        ("device.threads=1", "quantization=int8"),
        ("device.threads=2", "quantization=fp32"),
        ("device.threads=2", "quantization=int8"),
    ]
    assert all(job.overrides[2] == "protocol=smoke" for job in jobs)
    assert [job.swept for job in jobs] == [("device.threads=1",)] * 2 + [("device.threads=2",)] * 2


def test_without_multirun_there_is_one_job() -> None:
    assert [job.overrides for job in plan(["device.threads=1"], multirun=False).jobs()] == [("device.threads=1",)]
    assert len(plan([], multirun=False)) == 1
    (job,) = plan(["quantization=fp32,int8"], multirun=False).jobs()
    with pytest.raises(ConfigError, match="several values"):
        compose_config(job.overrides)


def test_of_a_key_that_is_given_twice_the_last_counts() -> None:
    assert [job.overrides for job in plan(["device.threads=1,3", "device.threads=2"], multirun=True).jobs()] == [
        ("device.threads=2",)
    ]


def test_the_samples_have_every_override_and_are_far_fewer_than_the_jobs() -> None:
    planned = plan(["dataset.seed=range(300)", "protocol.seed=range(300)", "quantization=fp32,int8"], multirun=True)
    samples = planned.samples()
    assert (len(planned), len(samples)) == (180_000, 300)
    assert {override for sample in samples for override in sample} == {
        override for overrides in planned.choices.values() for override in overrides
    }
    assert samples[0] == ("dataset.seed=0", "protocol.seed=0", "quantization=fp32")


def test_the_samples_have_every_device_with_every_converter() -> None:
    samples = plan(["device=raspberry_pi,arm_linux", "converter=litert,onnxruntime"], multirun=True).samples()
    assert set(samples) == {
        (f"device={device}", f"converter={converter}")
        for device in ("raspberry_pi", "arm_linux")
        for converter in ("litert", "onnxruntime")
    }


def test_globs_and_ranges_are_counted() -> None:
    planned = plan(["model=glob(m*)", "device.threads=range(1,3)"], multirun=True)
    assert len(planned) == 2 * len([name for name in options("model") if name.startswith("m")])
    with pytest.raises(ConfigError, match="matches nothing"):
        plan(["model=glob(zzz*)"], multirun=True)


def test_an_interval_is_for_sweepers_that_sample_it() -> None:
    with pytest.raises(ConfigError, match="interval") as caught:
        plan(["protocol.seconds=interval(1,2)"], multirun=True)
    assert "hydra/sweeper" in caught.value.hint
    planned = plan(["hydra/sweeper=some", "protocol.seconds=interval(1,2)"], multirun=True)
    assert planned.by_hydra
    assert planned.samples() == [("protocol.seconds=1.0",)]


def test_what_cannot_be_read_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot read 'nonsense'"):
        plan(["nonsense"], multirun=True)


def test_a_key_that_takes_any_can_be_swept() -> None:
    jobs = plan(["converter.options.percentile=99,99.9"], multirun=True).jobs()
    assert [compose_config(job.overrides).converter.options["percentile"] for job in jobs] == [99, 99.9]
    assert [job.swept for job in jobs] == [("converter.options.percentile=99",), ("converter.options.percentile=99.9",)]


def test_auto_can_be_swept() -> None:
    jobs = plan(["model=file", "model.path=net.tflite", "quantization=auto,int8"], multirun=True).jobs()
    assert [compose_config(job.overrides).quantization.precision for job in jobs] == [Precision.auto, Precision.int8]
