"""What host and agent say to each other comes over whole: each request and reply, as JSON and back."""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from edlab.agent import messages, protocol
from edlab.agent.messages import METHODS, decode, encode

ACTIVITY = messages.Activity(1.5, 0.5, None, 0.0, 3, [1800.0, 2400.0], None)
POOL = messages.Pool("/images.npy", [4, 0, 2])
KERNELS = messages.Int8Kernels({"int8_kernels": "exact"}, "EXACT", "SATURATING", "in words", in_float=False)
STATE = messages.State([1800.0], "performance", None, {"zone0 (cpu)": 45.5}, 0, 0.7, 300.0, 5e4, power_mode="MAXN")

# For each method requests and replies: with all of their parts, and with those that may be missing left out.
SAID: dict[str, tuple[list[Any], list[Any]]] = {
    "hello": (
        [messages.Nothing()],
        [
            messages.Machine(
                1, "python3", "1.0", "3.7.9", "1.21", "Linux", "aarch64", "QEMU", "Board", "CPU", True, "asimd", [0, 2],
                8e3, l4t="36.4.3", gpu="Card", gpu_driver="580",
            ),
            messages.Machine(1, "p", "1.0", "3.7", "1.21", "Linux", "x86_64", None, None, None, False, None, [0], None),
        ],
    ),
    "state": (
        [messages.Nothing()],
        [STATE, messages.State([], None, None, {}, None, 0.0, None, 1.0)],
    ),
    "available": (
        [
            messages.Available(["tensorrt"], {"tensorrt": {"dla_core": 0, "nested": {"a": [1]}}}),
            messages.Available(None, {}),
        ],
        [
            messages.Runtimes(
                {
                    "onnxruntime": messages.Availability(version="1.20"),
                    "openvino": messages.Availability(reason="not installed", hint="pip install openvino"),
                }
            ),
            messages.Runtimes({}),
        ],
    ),
    "sensors": (
        [messages.Nothing()],
        [
            messages.Sensors(
                [messages.SensorFound("rapl", "rapl", "package", 0.5, "/tree")],
                [messages.UnusableSensor("nvml", "nvml", "no driver", "install it")],
            ),
            messages.Sensors([], []),
        ],
    ),
    "clock": ([messages.Nothing()], [messages.Clock(2**62)]),
    "record_start": ([messages.RecordStart("rapl", 0.05)], [messages.Nothing()]),
    "record_stop": ([messages.RecordStop("rapl")], [messages.Nothing()]),
    "record_series": (
        [messages.RecordSeries("rapl", 1, 2**62, "/samples.npy")],
        [messages.Readings(1, "gone"), messages.Readings()],
    ),
    "lock": ([messages.Lock("machine", "me@here", 7, 60.0)], [messages.Nothing()]),
    "set_knob": ([messages.SetKnob("governor", "performance")], [messages.KnobSet("schedutil", "performance")]),
    "expect": (
        [messages.Expect("key", {"model.xml": 5}, {"model.xml": "ab"}, 1e9)],
        [messages.Expected(folder="/f"), messages.Expected(part="/f.part", present={"model.xml": 3})],
    ),
    "accept": (
        [messages.Accept("key", {"model.xml": "ab"})],
        [messages.Accepted(folder="/f"), messages.Accepted(damaged=["model.xml"])],
    ),
    "scratch": ([messages.Nothing()], [messages.Folder("/scratch")]),
    "identify": ([messages.Identify("tensorrt", {"tf32": False})], [messages.Identity({"tensorrt": "10.3.0"})]),
    "build": (
        [
            messages.Build("tensorrt", ["/m.onnx"], "/m.engine", {"tf32": True}, None),
            messages.Build(
                "tensorrt", ["/m.onnx"], "/m.engine", {},
                messages.Calibration("/images.npy", [1, 2], [0.5] * 3, [0.25] * 3, "bgr"),
            ),
        ],
        [messages.Built(12.5)],
    ),
    "open": (
        [
            messages.Open("onnxruntime", ["/m.onnx"], {"providers": ["CPU"]}, 2, [0.5] * 3, [0.25] * 3, "NCHW"),
            messages.Open("litert", ["/m"], {}, 1, [0.0] * 3, [1.0] * 3, "NHWC", "bgr", "/probe.tflite", "NHWC"),
        ],
        [
            messages.Opened(
                "litert", "1.0", 3.5, None,
                [messages.TensorSpec("in", (None, 224, 224, 3), "int8", 0.5, -3)],
                [messages.TensorSpec("out", (1, 10), "float32")],
                {"nodes": {"CPUExecutionProvider": 3}}, True, KERNELS,
            ),
            messages.Opened("keras", "3.0", 3.5, 1.5, [], [], {}, False, None),
        ],
    ),
    "predict": ([messages.Predict(POOL, "/logits.npy")], [messages.PredictReport(3, 0.5, 2, {"threads": 2}, ACTIVITY)]),
    "idle": (
        [messages.Idle(0.5)],
        [messages.IdleReport(1, 2**62, ACTIVITY)],
    ),
    "warmup": ([messages.Warmup(POOL, 10, 1.0, 0.02, 30.0)], [messages.WarmupReport(9.5, 20, 1.5, True, ACTIVITY)]),
    "latency": (
        [messages.Latency(POOL, 100, 10.0, 60.0, 10, 0.05, "/latency.npy")],
        [
            messages.LatencyReport(100, 1_000, 10_500_001_000, 10.5, False, ACTIVITY, 310.5),
            messages.LatencyReport(9, 5, 60_000_000_005, 60.0, True, ACTIVITY, None),
        ],
    ),
    "host_work": ([messages.HostWork(POOL)], [messages.HostWorkReport(0.5, 0.25, 64, ACTIVITY)]),
    "throughput": (
        [
            messages.Throughput(POOL, 10.0, 60.0, 64, 16, 0.03, 1.0),
            messages.Throughput(POOL, 10.0, 60.0, 64, 16, 0.03, 1.0, messages.Setting(4, 2)),
        ],
        [
            messages.ThroughputReport(
                400.0, 150.0, "", 5e4, 4, 2, 4000.5, [401.0, 399.0], 10.0, False, True, ACTIVITY, ACTIVITY, 1, 2,
                [messages.Trial(1, 1, 150.0), messages.Trial(16, 1, None, "no memory")], {"threads": 1},
            ),
            messages.ThroughputReport(
                400.0, None, "no time", None, 4, 2, 4000.5, [], 10.0, True, False, ACTIVITY, None, 1, 2, [], {}
            ),
        ],
    ),
    "profile": (
        [messages.Profile(POOL, 50)],
        [
            messages.ProfileReport(
                [messages.LayerTime("a", "Conv", 0.5, 0.75, "CPU", "jit", "f", ["b"])], "", 1.5, ACTIVITY
            ),
            messages.ProfileReport(None, "it has no profiler", 0.5, ACTIVITY),
        ],
    ),
    "close": ([messages.Nothing()], [messages.Nothing()]),
}  # fmt: skip


def sent(message: Any) -> Any:
    """What arrives at the other end of the agent's channel."""
    reader, writer = os.pipe()
    with open(reader, "rb") as end:
        protocol.Channel(writer).send({"result": encode(message)})
        return json.loads(end.readline())["result"]


def test_every_method_is_here() -> None:
    assert SAID.keys() == METHODS.keys()
    for name, (requests, replies) in SAID.items():
        assert {type(request) for request in requests} == {METHODS[name].request}
        assert {type(reply) for reply in replies} == {METHODS[name].reply}


@pytest.mark.parametrize("name", METHODS)
def test_a_request_arrives_as_it_was(name: str) -> None:
    for request in SAID[name][0]:
        assert decode(METHODS[name].request, sent(request)) == request


@pytest.mark.parametrize("name", METHODS)
def test_a_reply_arrives_as_it_was(name: str) -> None:
    for reply in SAID[name][1]:
        assert TypeAdapter(METHODS[name].reply).validate_python(sent(reply)) == reply


def test_a_message_in_a_request_is_a_message_again() -> None:
    arrived = decode(messages.Throughput, sent(SAID["throughput"][0][1]))
    assert isinstance(arrived.pool, messages.Pool)
    assert isinstance(arrived.setting, messages.Setting)


def test_numbers_of_numpy_arrive_as_pythons() -> None:
    """Runtimes and phases give them."""
    numpys = messages.Pool("/images.npy", list(np.arange(2)))
    reply = messages.WarmupReport(np.float32(0.5), np.int64(3), np.float64(1.5), np.bool_(True), ACTIVITY)  # type: ignore[arg-type]
    assert decode(messages.Pool, sent(numpys)) == messages.Pool("/images.npy", [0, 1])
    assert TypeAdapter(messages.WarmupReport).validate_python(sent(reply)) == (0.5, 3, 1.5, True, ACTIVITY)
    assert sent({"shape": np.array([1, 3])}) == {"shape": [1, 3]}


@pytest.mark.parametrize("asked", [{"seconds": 1, "minutes": 0}, {}])
def test_a_request_with_a_field_too_many_or_too_few_is_refused(asked: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=r"minutes|seconds"):
        decode(messages.Idle, asked)


def test_a_field_of_another_type_in_a_reply_is_refused_by_name() -> None:
    reply = sent(SAID["open"][1][0])
    reply["inputs"][0]["shape"] = "wide"
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(messages.Opened).validate_python(reply)
    assert caught.value.errors()[0]["loc"] == ("inputs", 0, "shape")
