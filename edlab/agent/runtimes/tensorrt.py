"""TensorRT: builds its engine on the target and runs it, one execution context for each request in flight.

Buffers are libcudart's (`..cuda`), so a JetPack image has all that this needs. Versions 8, 10 and 11 differ:

| version | network | precision | tensors |
|---|---|---|---|
| 8.0 to 8.4 | explicit batch, weakly typed | builder flags | bindings, execute_async_v2 |
| 8.5 to 9 | explicit batch, weakly typed | builder flags | by name, execute_async_v3 |
| 10 | strongly typed; weakly for implicit int8 | as in the ONNX file | by name, execute_async_v3 |
| 11 | strongly typed | as in the ONNX file | by name, execute_async_v3 |

Sources: TensorRT Python API reference of each, and the migration guides "8.x to 10.x" and "10.x to 11.x".
"""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import numpy as np

from .. import cuda, jetson, system
from ..errors import AgentError, FixedBatchError
from ..preprocess import InputTable
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
_EXPLICIT_INT8 = "converter.options.int8=explicit"


class Runtime(base.Runtime):
    packages = "tensorrt"

    @staticmethod
    def version() -> str:
        try:
            import tensorrt
        except ImportError as error:
            if not jetson.describe():
                raise
            raise AgentError(
                "tensorrt cannot be imported on the target: %s" % error,
                hint="sudo apt install python3-libnvinfer, and device.python=/usr/bin/python3: JetPack's own Python",
            ) from error
        cuda.library()
        return str(tensorrt.__version__)

    @staticmethod
    def identity(options: dict[str, Any]) -> dict[str, str]:
        """The GPU's size and the board's power mode are part of it: kernels are chosen by their times under these."""
        described = {
            "tensorrt": Runtime.version(),
            "cuda": cuda.runtime_version(),
            "gpu": cuda.device_name(),
            "compute_capability": cuda.compute_capability(),
            "multiprocessors": str(cuda.multiprocessors()),
            "memory_gib": "%.0f" % (cuda.memory_bytes() / 2**30),  # whole ones: the kernel keeps a little for itself
            "board": system.describe()["board"],
            "l4t": jetson.describe().get("l4t"),
            "power_mode": jetson.state().get("power_mode"),
        }
        return {key: value for key, value in described.items() if value}

    @staticmethod
    def build(
        files: list[str], out: str, options: dict[str, Any], calibration: dict[str, Any] | None, report: base.Report
    ) -> None:
        """ONNX -> engine. `options`: precision, workspace_mb, tf32; for implicit int8 also int8, method, layout."""
        import tensorrt

        engine = build_engine(tensorrt, files[0], options, calibration, report)
        with open(out, "wb") as file:
            file.write(engine)

    def load(self) -> None:
        import tensorrt

        self._trt = tensorrt
        self._logger = _logger(tensorrt)
        self._runtime = tensorrt.Runtime(self._logger)
        with open(self.path, "rb") as file:
            self._engine = self._runtime.deserialize_cuda_engine(file.read())
        if self._engine is None:
            raise ValueError(self._logger.last_error())

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
                    "TensorRT makes no execution context: %s" % self._logger.last_error(),
                    hint="lower protocol.throughput.max_in_flight: each request has memory of its own",
                )
            requests.append(_Request(context, tensors))
        return base.Compiled(requests, inputs, outputs, {"context_memory_mb": _context_memory(self._engine) / 1e6})


class _Tensor(NamedTuple):
    """An input or output of an engine."""

    spec: base.TensorSpec
    is_input: bool


class _Request(base.Request):
    """A context with a stream and buffers of its own."""

    def __init__(self, context: Any, tensors: list[_Tensor]) -> None:
        self._context = context
        self._stream = cuda.Stream()
        pinned = [cuda.PinnedArray(tensor.spec.shape, tensor.spec.dtype) for tensor in tensors]  # type: ignore[arg-type]
        memory = [cuda.DeviceMemory(array.array.nbytes) for array in pinned]
        buffers = list(zip(tensors, pinned, memory))
        self._input, self._input_memory = next((a, m) for tensor, a, m in buffers if tensor.is_input)
        self._output, self._output_memory = next((a, m) for tensor, a, m in buffers if not tensor.is_input)
        self._memory = memory  # also that of outputs that nobody reads
        self._arguments: tuple[Any, ...]
        if hasattr(context, "set_tensor_address"):
            for tensor, _, held in buffers:
                if not context.set_tensor_address(tensor.spec.name, held.address):
                    raise AgentError(
                        "TensorRT does not take the memory for '%s'" % tensor.spec.name,
                        hint="the agent's log says why",
                    )
            self._enqueue, self._arguments = context.execute_async_v3, (self._stream.handle,)
        else:
            addresses = [held.address for held in memory]
            self._enqueue, self._arguments = context.execute_async_v2, (addresses, self._stream.handle)

    def set_input(self, tensor: np.ndarray) -> None:
        self._input.array[...] = tensor
        self._stream.to_device(self._input, self._input_memory)
        self._stream.synchronize()

    def execute(self) -> None:
        if not self._enqueue(*self._arguments):
            raise AgentError("TensorRT refuses to run the engine", hint="the agent's log says why")
        self._stream.synchronize()

    def get_output(self) -> np.ndarray:
        self._stream.to_host(self._output_memory, self._output)
        self._stream.synchronize()
        return self._output.array


def build_engine(
    trt: Any, path: str, options: dict[str, Any], calibration: dict[str, Any] | None, report: base.Report
) -> Any:
    """The serialized engine of an ONNX file, by the module `trt`; what it holds can be written as bytes.

    Raises `AgentError` with the parser's or the builder's own words.
    """
    major = int(trt.__version__.split(".")[0])
    implicit = options.get("int8") == "implicit"
    if implicit and major >= 11:
        raise AgentError("TensorRT %s has no implicit int8" % trt.__version__, hint=_EXPLICIT_INT8)
    logger = _logger(trt)
    builder = trt.Builder(logger)
    weakly = major < 10 or implicit
    network = builder.create_network(_network_flags(trt, major, weakly))
    _parse(trt, network, logger, path)
    config = builder.create_builder_config()
    _limit_workspace(trt, config, options["workspace_mb"] << 20)
    if not options["tf32"]:
        config.clear_flag(trt.BuilderFlag.TF32)  # on by default, and float32 only in name
    if weakly and options["precision"] != "fp32":
        _allow(trt, builder, config, options["precision"])
    _fix_batch(network)
    if implicit:
        assert calibration is not None
        config.int8_calibrator = _calibrator(trt, options["method"], options["layout"], calibration, report)
    report(None, "TensorRT %s tries kernels: minutes on a small board" % trt.__version__)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise AgentError("TensorRT builds no engine: %s" % logger.last_error(), hint="the agent's log has all of it")
    return engine


def _network_flags(trt: Any, major: int, weakly: bool) -> int:
    flags = trt.NetworkDefinitionCreationFlag
    if major < 10:
        return 1 << int(flags.EXPLICIT_BATCH)  # all that the ONNX parser takes; from 10 on there is nothing else
    return 0 if weakly else 1 << int(flags.STRONGLY_TYPED)


def _parse(trt: Any, network: Any, logger: Any, path: str) -> None:
    parser = trt.OnnxParser(network, logger)
    if parser.parse_from_file(path):
        return
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    words = [_describe(error) for error in errors] or [logger.last_error()]
    raise AgentError(
        "TensorRT %s does not take the ONNX file: %s" % (trt.__version__, "; ".join(words)),
        hint="the ONNX file is kept with the run; `polygraphy inspect` or Netron shows the node of that number",
    )


def _describe(error: Any) -> str:
    """Of a parser's error the node and what is wrong with it; version 8 does not tell the node's operator."""
    operator = " (%s)" % error.node_operator() if hasattr(error, "node_operator") else ""
    return "node %d%s: %s" % (error.node(), operator, error.desc().strip())


def _limit_workspace(trt: Any, config: Any, size: int) -> None:
    if hasattr(config, "set_memory_pool_limit"):
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, size)
    else:  # before 8.4
        config.max_workspace_size = size


def _allow(trt: Any, builder: Any, config: Any, precision: str) -> None:
    """Let a weakly typed network use this precision. Raises `AgentError` where the GPU does not have it."""
    if not getattr(builder, "platform_has_fast_%s" % precision):
        raise AgentError("the target's GPU has no %s arithmetic" % precision, hint="quantization=fp32")
    config.set_flag(getattr(trt.BuilderFlag, precision.upper()))


def _fix_batch(network: Any) -> None:
    """Make a free batch 1.

    Not by an optimization profile: before TensorRT 10 each context of an engine wants a profile of its own.
    """
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        shape = tuple(tensor.shape)
        if -1 in shape[1:]:
            raise AgentError(
                "the model's input '%s' is %s, -1 being free" % (tensor.name, list(shape)),
                hint="export it with a fixed height and width",
            )
        if shape[0] == -1:
            tensor.shape = (1, *shape[1:])


def _calibrator(trt: Any, method: str, layout: str, calibration: dict[str, Any], report: base.Report) -> Any:
    """TensorRT's calibrator of this method over the images, one at a time."""
    kinds = {"minmax": trt.IInt8MinMaxCalibrator, "entropy": trt.IInt8EntropyCalibrator2}
    kind: Any = kinds[method]
    images = np.load(calibration["images"], mmap_mode="r")
    indices = calibration["indices"]
    table = InputTable(calibration["mean"], calibration["std"], layout, channels=calibration["channels"])
    pinned = cuda.PinnedArray(tuple(table.shape(1, *images.shape[1:3])), "float32")
    memory = cuda.DeviceMemory(pinned.array.nbytes)
    stream = cuda.Stream()
    positions = iter(range(len(indices)))

    class Calibrator(kind):  # type: ignore[misc]
        def __init__(self) -> None:
            kind.__init__(self)

        def get_batch_size(self) -> int:
            return 1

        def get_batch(self, names: list[str]) -> list[int] | None:
            position = next(positions, None)
            if position is None:
                return None
            report(position / len(indices), "calibrating, image %d of %d" % (position + 1, len(indices)))
            index = indices[position]
            table.apply(images[index : index + 1], pinned.array)
            stream.to_device(pinned, memory)
            stream.synchronize()
            return [memory.address]

        def read_calibration_cache(self) -> None:
            return None  # the engine itself is kept

        def write_calibration_cache(self, cache: Any) -> None:
            pass

    return Calibrator()


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
    """Raises `AgentError` where its size is not known before a run."""
    sizes = tuple(shape)
    if -1 in sizes:
        raise AgentError(
            "the engine's '%s' is %s: its size depends on the image" % (name, list(sizes)),
            hint="export the model without the operators that make it so (NonZero, NonMaxSuppression)",
        )
    return _Tensor(base.TensorSpec(name, sizes, _DTYPES[dtype.name]), is_input)


def _context_memory(engine: Any) -> int:
    """Bytes of scratch memory on the GPU that one context has."""
    size = getattr(engine, "device_memory_size_v2", None)  # from 10.1 on, and since 11 alone
    return int(engine.device_memory_size if size is None else size)


def _logger(trt: Any) -> Any:
    """A logger that passes warnings and errors on to stderr, and remembers the last error."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self._last = "it gives no reason"

        def log(self, severity: Any, message: str) -> None:
            is_error = severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR)
            if is_error:
                self._last = message
            if is_error or severity == trt.ILogger.WARNING:
                sys.stderr.write("TensorRT: %s\n" % message)

        def last_error(self) -> str:
            return self._last

    return Logger()
