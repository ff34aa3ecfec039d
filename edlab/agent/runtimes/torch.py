"""PyTorch: an exported program (torch.export), the unconverted baseline, on the CPU or on a CUDA GPU.

On a GPU each request in flight has its own stream and buffers. The model's kernels are captured once into a CUDA
graph and replayed: launched one by one from Python, for a small network, launching takes longer than running. Facts are
from PyTorch's notes "CUDA semantics" (sections "TensorFloat-32", "CUDA streams", "CUDA Graphs").
"""

from __future__ import annotations

import re
import sys
from typing import Any

import numpy as np

from ..errors import AgentError, FixedBatchError
from . import base

_MARK = "edlab:"  # before the name of a node in a profiler's trace
_WARM_UP = 3  # runs before a capture: libraries initialise and choose their kernels, which a graph cannot contain


class Runtime(base.Runtime):
    packages = "torch"
    formats = ("pt2",)
    # cuda_graphs: capture the model if possible; if not, the reported options state why.
    options = {"device": "cpu", "cuda_graphs": True}  # noqa: RUF012

    @staticmethod
    def version() -> str:
        import torch

        return str(torch.__version__)

    @staticmethod
    def check_device(options: dict[str, Any]) -> None:
        _device(str(options["device"]))

    def runs_on_cpu(self) -> bool:
        return bool(self._device.type == "cpu")

    def load(self) -> None:
        import torch

        self._device = _device(str(self.options["device"]))
        self._program = torch.export.load(self.path)
        if self._device.type == "cuda":
            from torch.export.passes import move_to_device_pass

            _full_float32()
            self._program = move_to_device_pass(self._program, self._device)

    def compile(self, in_flight: int, batch: int) -> base.Compiled:
        signature = self._program.graph_signature
        inputs = self._specs(signature.user_inputs)
        outputs = self._specs(signature.user_outputs)
        if batch > 1 and inputs[0].shape[0] is not None:
            raise FixedBatchError("the exported program's batch is %d" % inputs[0].shape[0])
        module = self._program.module()
        if self._device.type == "cuda":
            return self._compile_cuda(module, inputs, outputs, in_flight, batch)
        threads = self.threads_each(in_flight)
        requests: list[base.Request] = [_Request(module, threads) for _ in range(in_flight)]
        return base.Compiled(requests, inputs, outputs, {"num_threads": threads})

    def profile(self, tensors: list[np.ndarray], runs: int) -> list[base.LayerTime] | None:
        """The nodes of the exported program, run one by one: without a CUDA graph, and with Python between them."""
        import torch

        on_gpu = self._device.type == "cuda"
        module = self._program.module()
        inputs = [torch.from_numpy(tensor).to(self._device) for tensor in tensors]
        kinds = [torch.profiler.ProfilerActivity.CPU] + [torch.profiler.ProfilerActivity.CUDA] * on_gpu
        if not on_gpu:
            torch.set_num_threads(self.threads_each(1))
        with torch.inference_mode():
            _marked(module).run(inputs[0])  # warm-up
            with torch.profiler.profile(activities=kinds) as profiler:
                for number in range(runs):
                    _marked(module).run(inputs[number % len(inputs)])
        times: dict[str, list[float]] = {}
        for event in profiler.events():
            if event.name.startswith(_MARK) and not str(event.device_type).endswith("CUDA"):
                times.setdefault(event.name[len(_MARK) :], []).append(_microseconds(event, on_gpu) / 1e3)
        return [
            base.LayerTime(
                node.name,
                str(node.target).partition(".")[2] or str(node.target),
                *base.per_query(times[node.name], runs),
                place=str(self._device),
                precision=_precision(node),
                sources=[node.name],
            )
            for node in module.graph.nodes
            if node.op == "call_function" and node.name in times
        ]

    def _compile_cuda(
        self, module: Any, inputs: list[base.TensorSpec], outputs: list[base.TensorSpec], in_flight: int, batch: int
    ) -> base.Compiled:
        import torch

        shape = [batch if size is None else size for size in inputs[0].shape]
        example = torch.zeros(shape, dtype=getattr(torch, inputs[0].dtype))
        requests = [CudaRequest(module, example, self._device, self.options["cuda_graphs"]) for _ in range(in_flight)]
        options = {
            "device": str(self._device),
            "gpu": torch.cuda.get_device_name(self._device),
            "cuda": torch.version.cuda,
            "tf32": torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32,
            "cudnn_benchmark": torch.backends.cudnn.benchmark,
        }
        notes = [request.note for request in requests if request.note]
        options["cuda_graphs"] = not notes
        if notes:
            options["cuda_graphs_note"] = notes[0]
        return base.Compiled(list(requests), inputs, outputs, options)

    def _specs(self, names: list[str]) -> list[base.TensorSpec]:
        values = {node.name: node.meta["val"] for node in self._program.graph.nodes if "val" in node.meta}
        return [
            base.TensorSpec(
                name,
                tuple(size if isinstance(size, int) else None for size in values[name].shape),
                str(values[name].dtype).partition(".")[2],
            )
            for name in names
        ]


class _Request(base.Request):
    def __init__(self, module: Any, threads: int) -> None:
        import torch

        self._torch = torch
        self._module = module
        self._threads = threads

    def bind(self) -> None:
        self._torch.set_num_threads(self._threads)  # OpenMP stores it per thread

    def prepare(self, tensor: np.ndarray) -> Any:
        return self._torch.from_numpy(tensor)

    def set_input(self, prepared: Any) -> None:
        self._input = prepared

    def execute(self) -> None:
        with self._torch.inference_mode():
            self._result = self._module(self._input)

    def get_outputs(self) -> list[np.ndarray]:
        return [tensor.numpy() for tensor in _tensors(self._result)]


class CudaRequest(base.Request):
    """A stream, and buffers on both sides of the bus: data in page-locked memory is copied only once.

    Each stage waits for its stream, so that its time is not counted in the next stage.
    """

    def __init__(self, module: Any, example: Any, device: Any, graphs: bool) -> None:
        import torch

        self._torch = torch
        self._module = module
        self._stream = torch.cuda.Stream(device)
        self._graph: Any = None
        self.note = "" if graphs else "switched off"  # why there is no graph
        with torch.cuda.stream(self._stream):
            self._input_host = example.pin_memory()
            self._input = example.to(device)
            for _ in range(_WARM_UP):
                self._run()
            self._stream.synchronize()
            self._on_host = [torch.empty_like(output, device="cpu").pin_memory() for output in self._outputs]
            if graphs:
                self._capture()

    def bind(self) -> None:
        # Torch copies a large image on the host with all cores, and OpenMP's threads then spin on them: they slow down
        # the threads that drive the other requests, and the slowest queries become slower.
        self._torch.set_num_threads(1)
        self._torch.cuda.set_stream(self._stream)  # torch stores the current device and stream per thread

    def prepare(self, tensor: np.ndarray) -> Any:
        return self._torch.from_numpy(tensor)

    def set_input(self, prepared: Any) -> None:
        self._input_host.copy_(prepared)
        self._input.copy_(self._input_host, non_blocking=True)
        self._stream.synchronize()

    def execute(self) -> None:
        if self._graph is None:
            self._run()
        else:
            self._graph.replay()
        self._stream.synchronize()

    def get_outputs(self) -> list[np.ndarray]:
        for on_host, output in zip(self._on_host, self._outputs):
            on_host.copy_(output, non_blocking=True)
        self._stream.synchronize()
        return [on_host.numpy() for on_host in self._on_host]

    def _run(self) -> None:
        with self._torch.inference_mode():
            self._outputs = _tensors(self._module(self._input))

    def _capture(self) -> None:
        """Record the model's kernels, or `note` why that is not possible."""
        graph = self._torch.cuda.CUDAGraph()
        try:
            with self._torch.cuda.graph(graph, stream=self._stream):
                self._run()
        except RuntimeError as error:  # such as an operation that waits for the GPU
            cause = error.__context__ or error  # ending a broken capture fails as well, with a less useful message
            self.note = "not captured: %s" % (str(cause).strip().splitlines() or [type(cause).__name__])[0]
        else:
            self._graph = graph


def _tensors(result: Any) -> list[Any]:
    """The tensors of what a module returns."""
    if isinstance(result, dict):
        return list(result.values())
    return list(result) if isinstance(result, (tuple, list)) else [result]


def _marked(module: Any) -> Any:
    """An interpreter of the module's graph that marks each node in a profiler's trace."""
    import torch

    class Marked(torch.fx.Interpreter):  # type: ignore[misc]
        def run_node(self, node: Any) -> Any:
            with torch.profiler.record_function(_MARK + node.name):
                return super().run_node(node)

    return Marked(module)


def _microseconds(event: Any, on_gpu: bool) -> float:
    """The time of an event: of its kernels on a GPU, whose attribute torch has renamed, or on the processor."""
    if not on_gpu:
        return float(event.cpu_time_total)
    return float(event.device_time_total if hasattr(event, "device_time_total") else event.cuda_time_total)


def _precision(node: Any) -> str:
    """The type of a node's output."""
    value = node.meta.get("val")
    return str(value.dtype).partition(".")[2] if hasattr(value, "dtype") else ""


def _device(name: str) -> Any:
    """The torch.device of option `device`. Raises `AgentError` if this torch or this machine does not have it."""
    import torch

    if name == "cpu":
        return torch.device(name)
    if not re.fullmatch(r"cuda(:\d+)?", name):
        raise AgentError("unknown torch device '%s'" % name, hint="set it to cpu, cuda, or cuda:1 for the second GPU")
    device = torch.device(name)
    if not torch.cuda.is_available():
        if torch.version.cuda is None:
            raise AgentError(
                "torch %s is built without CUDA" % torch.__version__,
                hint="install a CUDA build of torch into %s, or set device.python to an interpreter that has one"
                % sys.executable,
            )
        raise AgentError(
            "torch %s finds no CUDA GPU" % torch.__version__,
            hint="check that nvidia-smi lists the GPU, with a driver for CUDA %s or later" % torch.version.cuda,
        )
    count = torch.cuda.device_count()
    if (device.index or 0) >= count:
        raise AgentError("torch finds no %s" % name, hint="the last GPU is cuda:%d" % (count - 1))
    return torch.device("cuda", device.index or 0)


def _full_float32() -> None:
    """Compute in full float32: from Ampere on, cuDNN's convolutions otherwise round it to TF32's 10 bits.

    Also let cuDNN try its algorithms once for each shape, which is fixed here.
    """
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
