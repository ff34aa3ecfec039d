"""A CUDA GPU by torch and by onnxruntime; and where there is none, that nothing runs on the CPU in its place.

EDLAB_CUDA_PYTHON names an interpreter with the CUDA builds of torch and onnxruntime; left out, it is this one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from test_runtimes import export_onnx
from workplace import Workplace

from edlab import devices
from edlab.agent.messages import Opened, TensorSpec
from edlab.agent.runtimes.onnxruntime import BoundRequest
from edlab.agent.runtimes.torch import CudaRequest
from edlab.cache import Cache
from edlab.composition import compose_config
from edlab.config import DeviceConfig
from edlab.errors import AgentError
from edlab.record import Stage, Status
from edlab.testing.runtime import PREPROCESSING, RuntimeConformance, tiny_network

PYTHON = os.environ.get("EDLAB_CUDA_PYTHON", sys.executable)
GPUS = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True).stdout if shutil.which("nvidia-smi") else ""

needs_gpu = pytest.mark.skipif(not GPUS, reason="nvidia-smi lists no GPU here")
needs_none = pytest.mark.skipif(bool(GPUS), reason="there is a GPU here")


class CudaSuite(RuntimeConformance):
    """The device as it is shipped."""

    @classmethod
    def device(cls, **options: Any) -> DeviceConfig:
        device = compose_config(["device=cuda"]).device
        device.python = PYTHON
        device.runtimes = {"any": cls.runtime}
        device.options[cls.runtime].update(options)
        return device


class TorchSuite(CudaSuite):
    runtime = "torch"

    def export(self, network: Any, folder: Path) -> list[Path]:
        import torch

        torch.export.save(torch.export.export(network, (torch.zeros(1, 3, 32, 32),)), folder / "net.pt2")
        return [folder / "net.pt2"]


class OnnxSuite(CudaSuite):
    runtime = "onnxruntime"

    def export(self, network: Any, folder: Path) -> list[Path]:
        return [export_onnx(network, folder / "net.onnx")]


@needs_gpu
class TestTorch(TorchSuite):
    def test_what_is_in_force_is_told(self, opened: Opened) -> None:
        assert opened.options["device"] == "cuda:0"
        assert opened.options["gpu"]
        assert opened.options["tf32"] is False
        assert opened.options["cuda_graphs"] is True

    def test_without_a_graph_the_logits_are_the_same(
        self, session: Any, artifact: Any, pool: Any, tmp_path: Path
    ) -> None:
        opened = session.open(artifact, PREPROCESSING, self.device(cuda_graphs=False))
        assert opened.options["cuda_graphs"] is False
        session.predict(pool, tmp_path / "logits.npy")
        np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), self.reference(), atol=self.tolerance)


@needs_gpu
class TestOnnxRuntime(OnnxSuite):
    def test_what_is_in_force_is_told(self, opened: Opened) -> None:
        assert opened.options["providers"][0] == "CUDAExecutionProvider"
        assert opened.options["provider_options"]["CUDAExecutionProvider"]["use_tf32"] == "0"
        assert opened.options.get("nodes", {}).get("CPUExecutionProvider", 0) == 0


@needs_none
class TestWithoutAGpu:
    """The builds for the CPU lack the provider; those for CUDA lack the driver, and would warn and go on."""

    @pytest.fixture
    def session(self, cache: Cache) -> Iterator[Any]:
        with devices.connect(OnnxSuite.device(), cache) as session:
            yield session

    def test_torch_says_what_it_lacks(self, session: Any, tmp_path: Path) -> None:
        artifact = TorchSuite.artifact_of(TorchSuite().export(tiny_network(), tmp_path))
        with pytest.raises(AgentError, match=r"built without CUDA|finds no CUDA GPU") as caught:
            session.open(artifact, PREPROCESSING, TorchSuite.device())
        assert "CUDA" in caught.value.hint

    @pytest.mark.parametrize("name", ["cuda:first", "mps", "gpu"])
    def test_torch_refuses_another_device_by_name(self, session: Any, tmp_path: Path, name: str) -> None:
        artifact = TorchSuite.artifact_of(TorchSuite().export(tiny_network(), tmp_path))
        with pytest.raises(AgentError, match=f"unknown torch device '{name}'"):
            session.open(artifact, PREPROCESSING, TorchSuite.device(device=name))

    @pytest.mark.parametrize("others", [[], ["CPUExecutionProvider"]])
    def test_onnxruntime_does_not_fall_back(self, session: Any, tmp_path: Path, others: list[str]) -> None:
        artifact = OnnxSuite.artifact_of(OnnxSuite().export(tiny_network(), tmp_path))
        with pytest.raises(AgentError, match=r"(does not provide|instead of) CUDAExecutionProvider") as caught:
            session.open(artifact, PREPROCESSING, OnnxSuite.device(providers=["CUDAExecutionProvider", *others]))
        assert "onnxruntime-gpu" in caught.value.hint or "library" in caught.value.hint


@needs_none
def test_a_run_without_a_gpu_is_a_failed_row(workplace: Workplace) -> None:
    workplace.run("device=cuda", f"device.python={PYTHON}")
    (record,) = workplace.records()
    assert (record.status, record.stage) == (Status.failed, Stage.deploy)
    assert "CUDAExecutionProvider" in record.reason
    assert not {"latency_ms", "throughput_ips", "accuracy_top1"} & set(record.metrics)


@pytest.mark.parametrize("batch", [1, 3])
def test_bound_buffers_give_what_a_plain_run_gives(tmp_path: Path, batch: int) -> None:
    """I/O binding as a GPU's request uses it, here over buffers in the CPU's memory."""
    import onnxruntime

    axes = {"input": {0: "batch"}, "output": {0: "batch"}}
    path = export_onnx(tiny_network(), tmp_path / "free.onnx", dynamic_axes=axes)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    spec = TensorSpec("input", (None, 3, 32, 32), "float32")
    requests = [BoundRequest(session, spec, ["output"], batch, "cpu", 0) for _ in range(2)]
    tensors = np.random.default_rng(0).random((4, batch, 3, 32, 32), np.float32)
    for request, tensor in zip([*requests, *requests], tensors, strict=True):
        request.set_input(request.prepare(tensor))
        request.execute()
        (expected,) = session.run(None, {"input": tensor})
        np.testing.assert_allclose(request.get_outputs()[0], expected, atol=1e-6)


class Graph:
    """Stands in for torch.cuda.CUDAGraph; counts its replays."""

    replays = 0

    def replay(self) -> None:
        Graph.replays += 1


class Capture:
    """Stands in for torch.cuda.graph, whose end raises as well where an operation broke the capture."""

    under_way = False

    def __init__(self, cuda_graph: Graph, stream: Any) -> None:
        pass

    def __enter__(self) -> None:
        Capture.under_way = True

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        Capture.under_way = False
        if kind:
            raise RuntimeError("operation failed due to a previous error during capture")


@pytest.fixture
def stand_in_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.cuda's documented streams and page-locked memory, on the CPU: all is done when a call returns."""
    import torch

    class Stream:
        def __init__(self, device: Any) -> None:
            pass

        def synchronize(self) -> None:
            pass

    monkeypatch.setattr(Graph, "replays", 0)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "set_stream", lambda stream: None)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", Capture)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)


def logits_of(request: CudaRequest, image: NDArray[np.float32]) -> NDArray[np.float32]:
    request.set_input(request.prepare(image))
    request.execute()
    return request.get_outputs()[0]


def test_a_model_that_cannot_be_captured_runs_without_a_graph_and_says_why(stand_in_cuda: None) -> None:
    import torch

    def network(tensor: Any) -> Any:
        if Capture.under_way:
            raise RuntimeError("operation not permitted when stream is capturing\nmore of it")
        return tensor.mean((2, 3))

    request = CudaRequest(network, torch.zeros(1, 3, 2, 2), "cpu", True)
    assert request.note == "not captured: operation not permitted when stream is capturing"
    np.testing.assert_array_equal(logits_of(request, np.full((1, 3, 2, 2), 5, np.float32)), np.full((1, 3), 5))
    assert Graph.replays == 0


def test_a_captured_model_is_replayed_and_not_called_again(stand_in_cuda: None) -> None:
    import torch

    calls: list[Any] = []

    def network(tensor: Any) -> Any:
        calls.append(tensor)
        return tensor.mean((2, 3))

    request = CudaRequest(network, torch.zeros(1, 3, 2, 2), "cpu", True)
    assert request.note == ""
    made = len(calls)
    logits_of(request, np.ones((1, 3, 2, 2), np.float32))
    assert (len(calls), Graph.replays) == (made, 1)
    np.testing.assert_array_equal(calls[-1], np.ones((1, 3, 2, 2)))  # what was captured reads the new input


def test_graphs_can_be_switched_off(stand_in_cuda: None) -> None:
    import torch

    request = CudaRequest(lambda tensor: (tensor.mean((2, 3)),), torch.zeros(1, 3, 2, 2), "cpu", False)
    assert request.note == "switched off"
    np.testing.assert_array_equal(logits_of(request, np.ones((1, 3, 2, 2), np.float32)), np.ones((1, 3)))


def test_one_host_thread_drives_a_request(stand_in_cuda: None) -> None:
    """Torch would copy an image with as many threads as there are cores, which then spin."""
    import torch

    def drive(request: CudaRequest) -> int:
        request.bind()
        logits_of(request, np.ones((1, 3, 2, 2), np.float32))
        return int(torch.get_num_threads())

    usual = torch.get_num_threads()
    request = CudaRequest(lambda tensor: tensor.mean((2, 3)), torch.zeros(1, 3, 2, 2), "cpu", False)
    try:
        torch.set_num_threads(4)
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(drive, request).result() == 1
    finally:
        torch.set_num_threads(usual)
