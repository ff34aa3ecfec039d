"""TensorRT: runs its engines, one execution context for each request in flight. `..toolchains.tensorrt` builds them.

Buffers are from libcudart (`..cuda`), so a JetPack image has everything that this needs. Versions 8, 10 and 11 differ:

| version | network | precision | tensors |
|---|---|---|---|
| 8.0 to 8.4 | explicit batch, weakly typed | builder flags | bindings, execute_async_v2 |
| 8.5 to 9 | explicit batch, weakly typed | builder flags | by name, execute_async_v3 |
| 10 | strongly typed; weakly for implicit int8 | as in the ONNX file | by name, execute_async_v3 |
| 11 | strongly typed | as in the ONNX file | by name, execute_async_v3 |

Sources: TensorRT Python API reference of each, and the migration guides "8.x to 10.x" and "10.x to 11.x".
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np

from .. import cuda, tensorrt_library
from ..errors import AgentError, FixedBatchError
from . import base

_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT8": "int8",
    "UINT8": "uint8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
}


# Names of layers in an engine: "a + b" are fused; "Reformatting CopyNode ... to a" only changes the layout for a.
_FUSED = re.compile(r" \+ |PWN\(|[()|]+|, ")
_REFORMAT = "Reformatting"


class Runtime(base.Runtime):
    packages = "tensorrt"

    @staticmethod
    def version() -> str:
        return tensorrt_library.version()

    def load(self) -> None:
        import tensorrt

        self._trt = tensorrt
        self._logger = tensorrt_library.logger(tensorrt)
        self._runtime = tensorrt.Runtime(self._logger)
        with open(self.path, "rb") as file:
            self._engine = self._runtime.deserialize_cuda_engine(file.read())
        if self._engine is None:
            raise ValueError(self._logger.last_error())

    def profile(self, tensors: list[np.ndarray], runs: int) -> list[base.LayerTime] | None:
        context = self._engine.create_execution_context()
        if context is None:
            raise AgentError("TensorRT cannot create an execution context: %s" % self._logger.last_error())
        times: dict[str, list[float]] = {}

        class Profiler(self._trt.IProfiler):  # type: ignore[misc,name-defined]
            def report_layer_time(self, layer_name: str, ms: float) -> None:
                times.setdefault(layer_name, []).append(ms)

        request = _Request(context, _tensors(self._trt, self._engine))
        request.set_input(tensors[0])
        request.execute()  # warm-up
        profiler = Profiler()  # a name for it, because TensorRT keeps no reference
        context.profiler = profiler
        for number in range(runs):
            request.set_input(tensors[number % len(tensors)])
            request.execute()
        return [
            base.LayerTime(
                name,
                "",
                *base.per_query(each, runs),
                place="GPU",
                sources=[] if name.startswith(_REFORMAT) else _FUSED.split(name),
            )
            for name, each in times.items()
        ]

    def compile(self, in_flight: int, batch: int) -> base.Compiled:
        tensors = _tensors(self._trt, self._engine)
        inputs = [tensor.spec for tensor in tensors if tensor.is_input]
        outputs = [tensor.spec for tensor in tensors if not tensor.is_input]
        if batch > 1:
            raise FixedBatchError("the engine was built for a batch of %s" % inputs[0].shape[0])
        requests: list[base.Request] = []
        for _ in range(in_flight):
            context = self._engine.create_execution_context()
            if context is None:
                raise AgentError(
                    "TensorRT cannot create an execution context: %s" % self._logger.last_error(),
                    hint="lower protocol.throughput.max_in_flight: each request needs its own memory",
                )
            requests.append(_Request(context, tensors))
        return base.Compiled(requests, inputs, outputs, {"context_memory_mb": _context_memory(self._engine) / 1e6})


class _Tensor(NamedTuple):
    """An input or output of an engine."""

    spec: base.TensorSpec
    is_input: bool


class _Request(base.Request):
    """A context with its own stream and buffers."""

    def __init__(self, context: Any, tensors: list[_Tensor]) -> None:
        self._context = context
        self._stream = cuda.Stream()
        pinned = [cuda.PinnedArray(tensor.spec.shape, tensor.spec.dtype) for tensor in tensors]  # type: ignore[arg-type]
        buffers = list(zip(tensors, pinned, [cuda.DeviceMemory(array.array.nbytes) for array in pinned]))
        self._input, self._input_memory = next((a, m) for tensor, a, m in buffers if tensor.is_input)
        self._outputs = [(memory, array) for tensor, array, memory in buffers if not tensor.is_input]
        self._arguments: tuple[Any, ...]
        if hasattr(context, "set_tensor_address"):
            for tensor, _, held in buffers:
                if not context.set_tensor_address(tensor.spec.name, held.address):
                    raise AgentError(
                        "TensorRT rejects the memory for '%s'" % tensor.spec.name,
                        hint="the agent's log shows the cause",
                    )
            self._enqueue, self._arguments = context.execute_async_v3, (self._stream.handle,)
        else:
            addresses = [held.address for _, _, held in buffers]
            self._enqueue, self._arguments = context.execute_async_v2, (addresses, self._stream.handle)

    def set_input(self, tensor: np.ndarray) -> None:
        self._input.array[...] = tensor
        self._stream.to_device(self._input, self._input_memory)
        self._stream.synchronize()

    def execute(self) -> None:
        if not self._enqueue(*self._arguments):
            raise AgentError("TensorRT cannot run the engine", hint="the agent's log shows the cause")
        self._stream.synchronize()

    def get_outputs(self) -> list[np.ndarray]:
        for memory, array in self._outputs:
            self._stream.to_host(memory, array)
        self._stream.synchronize()
        return [array.array for _, array in self._outputs]


def _tensors(trt: Any, engine: Any) -> list[_Tensor]:
    """The inputs and outputs in the engine's order, which is also that of bindings."""
    if hasattr(engine, "num_io_tensors"):
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        return [
            _tensor(
                name,
                engine.get_tensor_shape(name),
                engine.get_tensor_dtype(name),
                engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT,
            )
            for name in names
        ]
    return [
        _tensor(
            engine.get_binding_name(index),
            engine.get_binding_shape(index),
            engine.get_binding_dtype(index),
            engine.binding_is_input(index),
        )
        for index in range(engine.num_bindings)
    ]


def _tensor(name: str, shape: Any, dtype: Any, is_input: bool) -> _Tensor:
    """Raises `AgentError` if its size is unknown before a run."""
    sizes = tuple(shape)
    if -1 in sizes:
        raise AgentError(
            "the engine's '%s' is %s: its size depends on the image" % (name, list(sizes)),
            hint="export the model without operators whose output size depends on the image (NonZero, "
            "NonMaxSuppression)",
        )
    return _Tensor(base.TensorSpec(name, sizes, _DTYPES[dtype.name]), is_input)


def _context_memory(engine: Any) -> int:
    """Bytes of scratch memory on the GPU that one context has."""
    size = getattr(engine, "device_memory_size_v2", None)  # from 10.1 on, and since 11 alone
    return int(engine.device_memory_size if size is None else size)
