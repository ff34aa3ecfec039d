"""A stand-in for NVIDIA's `tensorrt` module, where there is no GPU: its engines are ONNX files that onnxruntime runs.

EDLAB_STANDIN_TENSORRT is the version that it plays. What exists in which version follows NVIDIA's documentation, as
far as edlab's agent meets it: the Python API references of 8.2, 8.6, 10.3 and 11.0, and the lists of
added and removed APIs in the migration guides "8.x to 10.x" and "10.x to 11.x" (docs.nvidia.com/deeplearning/tensorrt,
"API Migration Guide"); that version 8 takes no int8 initializers, and no version a DequantizeLinear of int32, follows
onnxruntime issues 11535 and 14229. As in the real module, what a version lacks is not there: AttributeError. The
names were compared with those in NVIDIA's own bindings of 8.6.1, 10.0.1, 10.3.0, 11.0.0 and 11.4.0.

EDLAB_STANDIN_REFUSES is the name of a method of an execution context that answers False.

It proves that edlab calls what is documented. It proves nothing of TensorRT's speed, its numbers, or TensorRT itself.
"""

from __future__ import annotations

import ctypes
import enum
import hashlib
import json
import os
from typing import Any, ClassVar

import numpy as np

__version__ = os.environ["EDLAB_STANDIN_TENSORRT"]
_VERSION = tuple(int(part) for part in __version__.split(".")[:2])
_MAGIC = b"stand-in engine\n"


class DataType(enum.IntEnum):
    FLOAT = 0
    HALF = 1
    INT8 = 2
    INT32 = 3


class TensorIOMode(enum.IntEnum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class MemoryPoolType(enum.IntEnum):
    WORKSPACE = 0


class BuilderFlag(enum.IntEnum):
    FP16 = 0
    INT8 = 1
    TF32 = 6


class NetworkDefinitionCreationFlag(enum.IntEnum):
    EXPLICIT_BATCH = 0
    STRONGLY_TYPED = 1


class ILogger:
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    def __init__(self) -> None:
        self.made = True

    def log(self, severity: int, message: str) -> None:
        raise NotImplementedError


class _Calibrator:
    def __init__(self) -> None:
        self.made = True


class IInt8MinMaxCalibrator(_Calibrator):
    pass


class IInt8EntropyCalibrator2(_Calibrator):
    pass


class _Sealed:
    """As a class of pybind11: only the attributes that it has can be set."""

    _settable: ClassVar[tuple[str, ...]] = ()

    def __setattr__(self, name: str, value: object) -> None:
        if not (name.startswith("_") or name in self._settable):
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")
        object.__setattr__(self, name, value)


class INetworkDefinition(_Sealed):
    def __init__(self, flags: int) -> None:
        self._flags = flags
        self._onnx: Any = None

    def _has(self, flag: str) -> bool:
        return bool(self._flags & 1 << int(getattr(NetworkDefinitionCreationFlag, flag, 31)))

    @property
    def _strongly_typed(self) -> bool:
        return _VERSION >= (11, 0) or self._has("STRONGLY_TYPED")

    @property
    def num_inputs(self) -> int:
        return len(_inputs(self._onnx))

    def get_input(self, index: int) -> _Input:
        return _Input(_inputs(self._onnx)[index])


class _Input:
    def __init__(self, value: Any) -> None:
        self.name = value.name
        self._value = value

    @property
    def shape(self) -> tuple[int, ...]:
        return _shape(self._value)

    @shape.setter
    def shape(self, sizes: tuple[int, ...]) -> None:
        for size, number in zip(self._value.type.tensor_type.shape.dim, sizes, strict=True):
            size.dim_value = number


class ParserError:
    def __init__(self, node: int, operator: str, text: str) -> None:
        self._node, self._operator, self._text = node, operator, text

    def node(self) -> int:
        return self._node

    def node_operator(self) -> str:
        return self._operator

    def desc(self) -> str:
        return self._text


class OnnxParser:
    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
        self._network = network
        self._errors: list[ParserError] = []

    def parse_from_file(self, path: str) -> bool:
        import onnx

        if _VERSION < (10, 0) and not self._network._has("EXPLICIT_BATCH"):
            self._errors = [ParserError(0, "", "the parser takes only networks with an explicit batch")]
            return False
        model = onnx.load(path)
        types = {weight.name: weight.data_type for weight in model.graph.initializer}
        for index, node in enumerate(model.graph.node):
            given = types.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
            if not onnx.defs.has(node.op_type, node.domain):
                self._errors.append(ParserError(index, node.op_type, f"no importer registered for op: {node.op_type}"))
            elif given == onnx.TensorProto.INT32:
                self._errors.append(
                    ParserError(index, node.op_type, f"{node.name}: only activation types allowed as input")
                )
            elif given == onnx.TensorProto.INT8 and _VERSION < (10, 0):
                self._errors.append(ParserError(index, node.op_type, f"{node.input[0]}: invalid weights type of Int8"))
        self._network._onnx = model
        return not self._errors

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> ParserError:
        return self._errors[index]


class IBuilderConfig(_Sealed):
    _settable = ("max_workspace_size", "int8_calibrator")

    def __init__(self) -> None:
        self._flags = {BuilderFlag.TF32}
        self._workspace = 0

    def set_memory_pool_limit(self, pool: MemoryPoolType, size: int) -> None:
        self._workspace = size

    def set_flag(self, flag: BuilderFlag) -> None:
        self._flags.add(flag)

    def clear_flag(self, flag: BuilderFlag) -> None:
        self._flags.discard(flag)

    def _allows(self, flag: str) -> bool:
        return getattr(BuilderFlag, flag, None) in self._flags


class Builder:
    platform_has_fast_fp16 = True
    platform_has_fast_int8 = True

    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def create_network(self, flags: int = 0) -> INetworkDefinition:
        return INetworkDefinition(flags)

    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfig()

    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> memoryview | None:
        import onnx

        if problem := self._problem(network, config):
            self._logger.log(ILogger.ERROR, problem)
            return None
        calibrator = getattr(config, "int8_calibrator", None)
        told = {
            "version": __version__,
            "strongly_typed": network._strongly_typed,
            "flags": sorted(flag.name for flag in config._flags),
            "workspace": config._workspace or getattr(config, "max_workspace_size", 0),
            "calibration": _calibrate(calibrator, network) if calibrator else None,
            "calibrator": type(calibrator).__mro__[1].__name__ if calibrator else None,
        }
        sized = onnx.shape_inference.infer_shapes(network._onnx)
        body = json.dumps(told).encode() + b"\n" + sized.SerializeToString()
        return memoryview(_MAGIC + hashlib.sha256(body).hexdigest().encode() + b"\n" + body)

    def _problem(self, network: INetworkDefinition, config: IBuilderConfig) -> str:
        """Why the real one would build nothing, or not what was meant; empty where it builds."""
        import onnx

        half = any(weight.data_type == onnx.TensorProto.FLOAT16 for weight in network._onnx.graph.initializer)
        explicit = any(node.op_type == "QuantizeLinear" for node in network._onnx.graph.node)
        if network._strongly_typed:
            named = config._flags - {getattr(BuilderFlag, "TF32", None)}
            return f"precision flags in a strongly typed network: {named}" if named else ""
        if explicit and not config._allows("INT8"):
            return "the network has Q/DQ layers, and INT8 is not set"
        if half and not config._allows("FP16"):
            return "the network has float16 weights, and FP16 is not set"
        if config._allows("INT8") and not explicit and not hasattr(config, "int8_calibrator"):
            return "INT8 is set, and there are neither scales nor a calibrator"
        if any(-1 in network.get_input(i).shape for i in range(network.num_inputs)):
            return "the network has dynamic inputs, and no optimization profile has been defined"
        return ""


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def deserialize_cuda_engine(self, serialized: bytes) -> ICudaEngine | None:
        digest, _, body = serialized[len(_MAGIC) :].partition(b"\n")
        if not serialized.startswith(_MAGIC) or hashlib.sha256(body).hexdigest().encode() != digest:
            self._logger.log(ILogger.ERROR, "Serialization assertion stdVersionRead == kSERIALIZATION_VERSION failed")
            return None
        head, _, model = body.partition(b"\n")
        if json.loads(head)["version"] != __version__:
            self._logger.log(ILogger.ERROR, "The engine plan file is not compatible with this version of TensorRT")
            return None
        return ICudaEngine(model)


class ICudaEngine:
    device_memory_size = 4096
    device_memory_size_v2 = 4096

    def __init__(self, model: bytes) -> None:
        import onnx
        import onnxruntime

        self._onnx = onnx.load_from_string(model)
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
        self._tensors = [(value, True) for value in _inputs(self._onnx)]  # and whether it is an input
        self._tensors += [(value, False) for value in self._onnx.graph.output]

    def create_execution_context(self) -> IExecutionContext:
        return IExecutionContext(self)

    def _named(self, name: str) -> tuple[Any, bool]:
        return next((value, is_input) for value, is_input in self._tensors if value.name == name)

    @property
    def num_io_tensors(self) -> int:
        return len(self._tensors)

    def get_tensor_name(self, index: int) -> str:
        return str(self._tensors[index][0].name)

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if self._named(name)[1] else TensorIOMode.OUTPUT

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return _shape(self._named(name)[0])

    def get_tensor_dtype(self, name: str) -> DataType:
        kinds = {1: DataType.FLOAT, 10: DataType.HALF, 3: DataType.INT8, 6: DataType.INT32}  # of onnx.TensorProto
        return kinds[self._named(name)[0].type.tensor_type.elem_type]

    @property
    def num_bindings(self) -> int:
        return len(self._tensors)

    def get_binding_name(self, index: int) -> str:
        return str(self._tensors[index][0].name)

    def get_binding_shape(self, index: int) -> tuple[int, ...]:
        return _shape(self._tensors[index][0])

    def get_binding_dtype(self, index: int) -> DataType:
        return DataType.FLOAT if self._tensors[index][0].type.tensor_type.elem_type == 1 else DataType.HALF

    def binding_is_input(self, index: int) -> bool:
        return self._tensors[index][1]


class IProfiler:
    def report_layer_time(self, layer_name: str, ms: float) -> None:
        raise NotImplementedError


class IExecutionContext:
    profiler: IProfiler | None = None

    def __init__(self, engine: ICudaEngine) -> None:
        self._engine = engine
        self._addresses: dict[str, int] = {}

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._addresses[name] = memory
        return os.environ.get("EDLAB_STANDIN_REFUSES") != "set_tensor_address"

    def execute_async_v3(self, stream_handle: int) -> bool:
        """At once: the streams of the stand-in only hold copies back."""
        names = [value.name for value, _ in self._engine._tensors]
        if not stream_handle or set(names) - set(self._addresses):
            return False
        return self._run([self._addresses[name] for name in names])

    def execute_async_v2(self, bindings: list[int], stream_handle: int) -> bool:
        return bool(stream_handle) and self._run(bindings)

    def _run(self, addresses: list[int]) -> bool:
        feed, outputs = {}, []
        for (value, is_input), address in zip(self._engine._tensors, addresses, strict=True):
            if is_input:
                feed[value.name] = _memory(address, _shape(value))
            else:
                outputs.append((value.name, address))
        results = self._engine._session.run([name for name, _ in outputs], feed)
        for (_, address), result in zip(outputs, results, strict=True):
            _memory(address, result.shape)[...] = result
        if self.profiler:  # as the real one names layers: a product fused with what follows, and changes of layout
            nodes = self._engine._onnx.graph.node
            first, second, *others = (node.name for node in nodes if node.op_type != "Constant")
            names = [f"Reformatting CopyNode for Input Tensor 0 to {first} + {second}", f"{first} + {second}", *others]
            for name in names:
                self.profiler.report_layer_time(name, 0.25)
        return True


def _memory(address: int, shape: tuple[int, ...]) -> Any:
    """float32 numbers on the stand-in's device."""
    size = 4 * int(np.prod(shape))
    return np.frombuffer((ctypes.c_byte * size).from_address(address), np.float32).reshape(shape)


def _calibrate(calibrator: Any, network: INetworkDefinition) -> dict[str, Any]:
    """Ask for every batch, as a calibration does: how many there were, and the sum of the last."""
    assert calibrator.made
    assert calibrator.read_calibration_cache() is None
    shape = (calibrator.get_batch_size(), *network.get_input(0).shape[1:])
    batches, total = 0, 0.0
    while addresses := calibrator.get_batch([network.get_input(0).name]):
        batches, total = batches + 1, float(_memory(addresses[0], shape).sum())
    calibrator.write_calibration_cache(b"")
    return {"batches": batches, "last": total}


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(size.dim_value or -1 for size in value.type.tensor_type.shape.dim)


def _inputs(model: Any) -> list[Any]:
    weights = {weight.name for weight in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in weights]


_ALWAYS = (99, 0)
_SINCE_8_5 = ((8, 5), _ALWAYS)
_UNTIL_10 = ((8, 0), (10, 0))
_UNTIL_11 = ((8, 0), (11, 0))

# From which version on, and before which, something exists.
_LIFETIMES: dict[Any, dict[str, tuple[tuple[int, int], tuple[int, int]]]] = {
    NetworkDefinitionCreationFlag: {"EXPLICIT_BATCH": _UNTIL_11, "STRONGLY_TYPED": ((10, 0), _ALWAYS)},
    ParserError: {"node_operator": ((10, 0), _ALWAYS)},
    BuilderFlag: {"FP16": _UNTIL_11, "INT8": _UNTIL_11},
    Builder: {"platform_has_fast_fp16": _UNTIL_11, "platform_has_fast_int8": _UNTIL_11},
    IBuilderConfig: {"set_memory_pool_limit": ((8, 4), _ALWAYS)},
    ICudaEngine: {
        "device_memory_size": _UNTIL_11,
        "device_memory_size_v2": ((10, 1), _ALWAYS),
        "num_io_tensors": _SINCE_8_5,
        "get_tensor_name": _SINCE_8_5,
        "get_tensor_mode": _SINCE_8_5,
        "get_tensor_shape": _SINCE_8_5,
        "get_tensor_dtype": _SINCE_8_5,
        "num_bindings": _UNTIL_10,
        "get_binding_name": _UNTIL_10,
        "get_binding_shape": _UNTIL_10,
        "get_binding_dtype": _UNTIL_10,
        "binding_is_input": _UNTIL_10,
    },
    IExecutionContext: {
        "set_tensor_address": _SINCE_8_5,
        "execute_async_v3": _SINCE_8_5,
        "execute_async_v2": _UNTIL_10,
    },
}
_SETTABLE = {"max_workspace_size": _UNTIL_10, "int8_calibrator": _UNTIL_11}
_MODULE = {
    "TensorIOMode": _SINCE_8_5,
    "MemoryPoolType": ((8, 4), _ALWAYS),
    "IInt8MinMaxCalibrator": _UNTIL_11,
    "IInt8EntropyCalibrator2": _UNTIL_11,
}


def _exists(lifetime: tuple[tuple[int, int], tuple[int, int]]) -> bool:
    return lifetime[0] <= _VERSION < lifetime[1]


def _forget() -> None:
    """Take away what this version does not have."""
    for kind, names in _LIFETIMES.items():
        gone = [name for name, lifetime in names.items() if not _exists(lifetime)]
        if issubclass(kind, enum.Enum):
            kept = {name: member.value for name, member in kind.__members__.items() if name not in gone}
            globals()[kind.__name__] = enum.IntEnum(kind.__name__, kept)
        else:
            for name in gone:
                delattr(kind, name)
    IBuilderConfig._settable = tuple(name for name, lifetime in _SETTABLE.items() if _exists(lifetime))
    for name, lifetime in _MODULE.items():
        if not _exists(lifetime):
            del globals()[name]


_forget()
