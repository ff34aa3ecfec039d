"""TensorRT's builder: an engine for the GPU of this target.

| version | network | precision |
|---|---|---|
| 8, 9 | explicit batch, weakly typed | builder flags |
| 10 | strongly typed; weakly for implicit int8 | as in the ONNX file |
| 11 | strongly typed | as in the ONNX file |

Sources: TensorRT Python API reference of each, and the migration guides "8.x to 10.x" and "10.x to 11.x".
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import cuda, system, tensorrt_library
from ..boards import jetson
from ..errors import AgentError
from ..messages import Calibration, OnProgress
from ..preprocess import table_for
from . import base

_EXPLICIT_INT8 = "set converter.options.int8=explicit"


class Toolchain(base.Toolchain):
    """`options`: precision, workspace_mb, tf32; for implicit int8 also int8, method, layout."""

    packages = "tensorrt"

    @staticmethod
    def version() -> str:
        return tensorrt_library.version()

    @staticmethod
    def identity(options: dict[str, Any]) -> dict[str, str]:
        """The GPU's size and the board's power mode are included: kernels are chosen by their times under these."""
        described = {
            "tensorrt": tensorrt_library.version(),
            "cuda": cuda.runtime_version(),
            "gpu": cuda.device_name(),
            "compute_capability": cuda.compute_capability(),
            "multiprocessors": str(cuda.multiprocessors()),
            "memory_gib": "%.0f" % (cuda.memory_bytes() / 2**30),  # rounded: the kernel reserves a little
            "board": system.describe()["board"],
            "l4t": jetson.describe().get("l4t"),
            "power_mode": jetson.state().get("power_mode"),
        }
        return {key: value for key, value in described.items() if value}

    @staticmethod
    def build(
        files: list[str], out: str, options: dict[str, Any], calibration: Calibration | None, report: OnProgress
    ) -> None:
        import tensorrt

        engine = build_engine(tensorrt, files[0], options, calibration, report)
        with open(out, "wb") as file:
            file.write(engine)


def build_engine(
    trt: Any, path: str, options: dict[str, Any], calibration: Calibration | None, report: OnProgress
) -> Any:
    """The serialized engine of an ONNX file, from the module `trt`; its content can be written as bytes.

    Raises `AgentError` with the message of the parser or the builder.
    """
    major = int(trt.__version__.split(".")[0])
    implicit = options.get("int8") == "implicit"
    if implicit and major >= 11:
        raise AgentError("TensorRT %s does not support implicit int8" % trt.__version__, hint=_EXPLICIT_INT8)
    logger = tensorrt_library.logger(trt)
    builder = trt.Builder(logger)
    weakly = major < 10 or implicit
    network = builder.create_network(_network_flags(trt, major, weakly))
    _parse(trt, network, logger, path)
    config = builder.create_builder_config()
    _limit_workspace(trt, config, options["workspace_mb"] << 20)
    if not options["tf32"]:
        config.clear_flag(trt.BuilderFlag.TF32)  # on by default, and not really float32
    if weakly and options["precision"] != "fp32":
        _allow(trt, builder, config, options["precision"])
    _fix_batch(network)
    if implicit:
        assert calibration is not None
        config.int8_calibrator = _calibrator(trt, options["method"], options["layout"], calibration, report)
    report(None, "TensorRT %s tries kernels: minutes on a small board" % trt.__version__)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise AgentError(
            "TensorRT cannot build the engine: %s" % logger.last_error(), hint="the agent's log has the full output"
        )
    return engine


def _network_flags(trt: Any, major: int, weakly: bool) -> int:
    flags = trt.NetworkDefinitionCreationFlag
    if major < 10:
        return 1 << int(flags.EXPLICIT_BATCH)  # the only one that the ONNX parser supports, and since 10 the only one
    return 0 if weakly else 1 << int(flags.STRONGLY_TYPED)


def _parse(trt: Any, network: Any, logger: Any, path: str) -> None:
    parser = trt.OnnxParser(network, logger)
    if parser.parse_from_file(path):
        return
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    words = [_describe(error) for error in errors] or [logger.last_error()]
    raise AgentError(
        "TensorRT %s does not accept the ONNX file: %s" % (trt.__version__, "; ".join(words)),
        hint="the ONNX file is kept with the run; `polygraphy inspect` or Netron shows the node with that number",
    )


def _describe(error: Any) -> str:
    """The node of a parser's error and its problem; version 8 does not report the node's operator."""
    operator = " (%s)" % error.node_operator() if hasattr(error, "node_operator") else ""
    return "node %d%s: %s" % (error.node(), operator, error.desc().strip())


def _limit_workspace(trt: Any, config: Any, size: int) -> None:
    if hasattr(config, "set_memory_pool_limit"):
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, size)
    else:  # before 8.4
        config.max_workspace_size = size


def _allow(trt: Any, builder: Any, config: Any, precision: str) -> None:
    """Let a weakly typed network use this precision. Raises `AgentError` if the GPU does not support it."""
    if not getattr(builder, "platform_has_fast_%s" % precision):
        raise AgentError("the target's GPU does not support %s" % precision, hint="set quantization=fp32")
    config.set_flag(getattr(trt.BuilderFlag, precision.upper()))


def _fix_batch(network: Any) -> None:
    """Set a free batch to 1.

    Without an optimization profile: before TensorRT 10 each context of an engine needs its own profile.
    """
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        shape = tuple(tensor.shape)
        if -1 in shape[1:]:
            raise AgentError(
                "the model's input '%s' is %s (-1 is a free dimension)" % (tensor.name, list(shape)),
                hint="export it with a fixed height and width",
            )
        if shape[0] == -1:
            tensor.shape = (1, *shape[1:])


def _calibrator(trt: Any, method: str, layout: str, calibration: Calibration, report: OnProgress) -> Any:
    """TensorRT's calibrator of this method over the images, one at a time."""
    kinds = {"minmax": trt.IInt8MinMaxCalibrator, "entropy": trt.IInt8EntropyCalibrator2}
    kind: Any = kinds[method]
    images = np.load(calibration.images, mmap_mode="r")
    indices = calibration.indices
    table = table_for(calibration.mean, calibration.std, calibration.channels, layout)
    pinned = cuda.PinnedArray(tuple(table.shape(1, *images.shape[1:])), "float32")
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
