"""The TensorRT library on a target: its version, and a logger, for the toolchain and the runtime."""

from __future__ import annotations

import sys
from typing import Any

from . import cuda
from .boards import jetson
from .errors import AgentError


def version() -> str:
    """Import it, and CUDA's runtime library, and return its version. Raises `ImportError`, on a Jetson `AgentError`."""
    try:
        import tensorrt
    except ImportError as error:
        if not jetson.describe():
            raise
        raise AgentError(
            "tensorrt cannot be imported on the target: %s" % error,
            hint="sudo apt install python3-libnvinfer, and set device.python=/usr/bin/python3, JetPack's own Python",
        ) from error
    cuda.library()
    return str(tensorrt.__version__)


def logger(trt: Any) -> Any:
    """A logger that passes warnings and errors on to stderr, and remembers the last error."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self._last = "unknown error"

        def log(self, severity: Any, message: str) -> None:
            is_error = severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR)
            if is_error:
                self._last = message
            if is_error or severity == trt.ILogger.WARNING:
                sys.stderr.write("TensorRT: %s\n" % message)

        def last_error(self) -> str:
            return self._last

    return Logger()
