"""What a runtime is to the agent: a module with `class Runtime(base.Runtime)`, as docs/adding-a-device.md tells."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np

from ..errors import AgentError
from ..messages import OnProgress, TensorSpec

__all__ = ["Compiled", "OnProgress", "Request", "Runtime", "TensorSpec"]


class Request(ABC):
    """One query in flight, driven by one thread: set_input, execute, get_outputs, as often as wanted.

    The three are timed apart, so each does what a careful engineer would write by hand, and nothing else.
    """

    def bind(self) -> None:  # noqa: B027
        """Called once in the thread that will drive this request; for runtimes that keep state by thread."""

    def prepare(self, tensor: np.ndarray) -> Any:
        """What `set_input` takes for this tensor, made once and not timed: the runtime's own wrapper around it.

        The tensor itself where a runtime has none. It must not copy: a copy belongs to `set_input`, which is timed.
        """
        return tensor

    @abstractmethod
    def set_input(self, prepared: Any) -> None:
        """Hand over the input, which `prepare` gave; its tensor stays as it is until `execute` has returned."""

    @abstractmethod
    def execute(self) -> None:
        """Run the model; the outputs are complete when this returns."""

    @abstractmethod
    def get_outputs(self) -> list[np.ndarray]:
        """All outputs, in the order of `Compiled.outputs`, batch first; they may be views that `execute` overwrites."""


class Compiled(NamedTuple):
    """A model made ready for so many requests in flight of so large a batch."""

    requests: list[Request]
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    options: dict[str, Any]  # those in force, read back from the runtime where it tells


class Runtime(ABC):
    """A runtime with one model file. `load` comes first, then any number of `compile`."""

    name = ""  # by which the host asks for it: its module's, or its entry point's; set when it is found
    packages = ""  # what pip installs to have it
    # The artifact formats that it opens on any processor. device=cpu runs them, and edlab checks files of them on the
    # machine that it runs on, whatever the target is. None where the runtime needs its accelerator.
    formats: tuple[str, ...] = ()
    options: dict[str, Any] = {}  # noqa: RUF012  -- the options that it takes, with their defaults
    # What option `int8_kernels` can be, and what runs then; none where a runtime has but one kind of kernels. See
    # `edlab.agent.int8`: `fast` are the runtime's own kernels, `exact` never saturate, `float` computes in floating
    # point what the int8 file says.
    int8_kernels: dict[str, str] = {}  # noqa: RUF012
    int8_in_float: tuple[str, ...] = ()  # those of them that compute in floating point
    separates_compile = True  # False where one call of the runtime both reads and compiles: `compile` is then load time

    def __init__(self, files: list[str], threads: int, options: dict[str, Any]) -> None:
        """Open files[0], beside which the others lie. Raises `AgentError` for an unknown option or a missing file."""
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
        """Raise `AgentError` where the target lacks the device that `options` (complete) ask for.

        Asked before anything is converted, with no model at hand.
        """

    def runs_on_cpu(self) -> bool:
        """Whether the model, once loaded, runs on the processor whose clocks the agent watches; False: not known."""
        return False

    @abstractmethod
    def load(self) -> None:
        """Read the model file into the runtime's own form."""

    @abstractmethod
    def compile(self, in_flight: int, batch: int) -> Compiled:
        """Make the model ready for `in_flight` requests of `batch` images, which together use `self.threads` threads.

        Raises `FixedBatchError` where the model cannot take this batch.
        """

    def threads_each(self, in_flight: int) -> int:
        """The threads of one request where so many share the cores."""
        return max(1, self.threads // in_flight)
