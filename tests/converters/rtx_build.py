"""Builds an engine from an ONNX file with TensorRT for RTX, with the agent's own code; for `test_tensorrt_rtx`.

    python rtx_build.py MODEL.onnx MODEL.engine "{options of the step as JSON}" SM86

It needs tensorrt_rtx and numpy, and no GPU: "CPU-Only AOT and TensorRT-RTX Engines" in its documentation. Its Python
API is that of TensorRT 11 (strongly typed networks, no precision flags, no calibrators), its version numbers are not.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import tensorrt_rtx

from edlab.agent.toolchains.tensorrt import build_engine


class ForOneGpu(tensorrt_rtx.Builder):  # type: ignore[misc]
    """A builder for the GPUs of one compute capability."""

    def create_builder_config(self) -> Any:
        config = super().create_builder_config()
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(tensorrt_rtx.ComputeCapability, sys.argv[4]), 0)
        return config


def main() -> None:
    version = tensorrt_rtx.__version__
    tensorrt_rtx.Builder, tensorrt_rtx.__version__ = ForOneGpu, "11.0"
    start = time.perf_counter()
    engine = build_engine(tensorrt_rtx, sys.argv[1], json.loads(sys.argv[3]), None, lambda fraction, message: None)
    seconds = time.perf_counter() - start
    Path(sys.argv[2]).write_bytes(engine)
    print(json.dumps({"version": version, "seconds": seconds, "bytes": len(memoryview(engine))}))


if __name__ == "__main__":
    main()
