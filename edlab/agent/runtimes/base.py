"""The interface of a runtime: a module with `class Runtime(base.Runtime)`, see docs/adding-a-device.md."""

from __future__ import annotations

import os
import statistics
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np

from ..errors import AgentError
from ..messages import LayerTime, OnProgress, TensorSpec

__all__ = ["Compiled", "LayerTime", "OnProgress", "Request", "Runtime", "TensorSpec"]


class Request(ABC):
    """One query in flight, driven by one thread: set_input, execute, get_outputs, repeatedly.

    The three are timed separately, so each does what a careful engineer would write by hand, and nothing else.
    """

    def bind(self) -> None:  # noqa: B027
        """Called once in the thread that will drive this request, for runtimes with state per thread."""

    def prepare(self, tensor: np.ndarray) -> Any:
        """The argument of `set_input` for this tensor, created once and not timed: the runtime's own wrapper around it.

        The tensor itself if a runtime has no wrapper. It must not copy: a copy belongs to `set_input`, which is timed.
        """
        return tensor

    @abstractmethod
    def set_input(self, prepared: Any) -> None:
        """Set the input, the result of `prepare`; its tensor stays unchanged until `execute` has returned."""

    @abstractmethod
    def execute(self) -> None:
        """Run the model; the outputs are complete when this returns."""

    @abstractmethod
    def get_outputs(self) -> list[np.ndarray]:
        """All outputs, in the order of `Compiled.outputs`, batch first; they may be views that `execute` overwrites."""


class Compiled(NamedTuple):
    """A model compiled for a number of requests in flight and a batch."""

    requests: list[Request]
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    options: dict[str, Any]  # the options that are used, read back from the runtime if it reports them


def per_query(durations_ms: list[float], queries: int) -> tuple[float, float]:
    """Median and mean time of a layer in one query, in which it may run several times, as inside a loop."""
    times = len(durations_ms) / queries
    return statistics.median(durations_ms) * times, sum(durations_ms) / queries


class Runtime(ABC):
    """A runtime with one model file. `load` is called first, then `compile` any number of times."""

    name = ""  # the host's name for it: its module's, or its entry point's; set when it is found
    packages = ""  # the packages to install with pip
    # The artifact formats that it opens on any processor. device=cpu runs them, and edlab checks such files on its own
    # machine, whatever the target is. Empty if the runtime needs its accelerator.
    formats: tuple[str, ...] = ()
    options: dict[str, Any] = {}  # noqa: RUF012  -- its options, with their defaults
    # The values of the option `int8_kernels`, and what runs then; empty if a runtime has only one kind of kernels. See
    # `edlab.agent.int8`: `fast` are the runtime's default kernels, `exact` never saturate, `float` computes the int8
    # file in floating point.
    int8_kernels: dict[str, str] = {}  # noqa: RUF012
    int8_in_float: tuple[str, ...] = ()  # the values of `int8_kernels` that compute in floating point
    # True: the shapes of `Compiled.outputs` are those that the file states, and its library does not enforce them. They
    # are not compared with the actual ones; otherwise the first queries of the warm-up must have the shapes declared.
    shapes_of_file = False
    # The module with the loader of the example program that is recorded with a model; empty: built in, or none. See
    # docs/plugins.md, "The example of a runtime".
    example = ""
    separates_compile = True  # False if one call of the runtime both reads and compiles: `compile` is then load time

    def __init__(self, files: list[str], threads: int, options: dict[str, Any]) -> None:
        """Open files[0]; the others are next to it. Raises `AgentError` for an unknown option or a missing file."""
        self.options = self.complete(options)
        for path in files:
            if not os.path.exists(path):
                raise AgentError("the model file %s is not found" % path, hint="convert the model again")
        self.path = files[0]
        self.threads = threads

    @staticmethod
    @abstractmethod
    def version() -> str:
        """Import the runtime and return its version."""

    @classmethod
    def complete(cls, options: dict[str, Any]) -> dict[str, Any]:
        """These options, and the defaults of the others. Raises `AgentError` for an unknown one."""
        unknown = sorted(set(options) - set(cls.options))
        if unknown:
            raise AgentError(
                "%s has no option '%s'" % (cls.name, unknown[0]),
                hint="its options: " + ", ".join(sorted(cls.options)) if cls.options else "it has no options",
            )
        complete = dict(cls.options, **options)
        if cls.int8_kernels and complete["int8_kernels"] not in cls.int8_kernels:
            raise AgentError(
                "%s does not support int8_kernels=%s" % (cls.name, complete["int8_kernels"]),
                hint="set device.options.%s.int8_kernels to %s" % (cls.name, " or ".join(sorted(cls.int8_kernels))),
            )
        return complete

    @staticmethod  # noqa: B027
    def check_device(options: dict[str, Any]) -> None:
        """Raise `AgentError` if the target does not have the device of `options` (complete).

        It is called before anything is converted, without a model.
        """

    @classmethod
    def check_profiler(cls, options: dict[str, Any]) -> None:
        """Raise `AgentError` if `profile` cannot time the layers with these options (complete).

        It is also called on the host, which may not have the library, before anything is measured for a profile.
        """
        if cls.profile is Runtime.profile:
            raise AgentError("the runtime %s does not report the time of each layer" % cls.name)

    def runs_on_cpu(self) -> bool:
        """Whether the loaded model runs on the processor whose clocks the agent monitors; False: unknown."""
        return False

    @abstractmethod
    def load(self) -> None:
        """Read the model file into the runtime's own form."""

    @abstractmethod
    def compile(self, in_flight: int, batch: int) -> Compiled:
        """Compile the model for `in_flight` requests of `batch` images, which share `self.threads` threads.

        Raises `FixedBatchError` if the model does not support this batch.
        """

    def profile(self, tensors: list[np.ndarray], runs: int) -> list[LayerTime] | None:
        """The time of each layer in `runs` queries with these inputs, by the runtime's own profiler.

        The loaded model is compiled again for it, for one query in flight, so that the requests of `compile` stay as
        they are. A runtime without a profiler does not define this method. None: the profiler reported no layers.
        """
        return None

    def threads_each(self, in_flight: int) -> int:
        """The number of threads of one request if this many requests share the cores."""
        return max(1, self.threads // in_flight)
