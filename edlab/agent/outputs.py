"""Whether the outputs of the first queries are what the runtime declares, and numbers: checked during the warm-up."""

from __future__ import annotations

import numpy as np

from .errors import AgentError
from .runtimes.base import Runtime, TensorSpec
from .tasks import Task

CHECKED_QUERIES = 3  # a model may really output NaN for one image


class OutputCheck:
    """Called with the outputs of each of the first `CHECKED_QUERIES` queries, outside of the timed part.

    The count, the dtypes and, unless a runtime only repeats those of its file, the shapes must be the declared ones; of
    one query at least, the task must read no NaN and not only infinity.
    """

    def __init__(self, runtime: Runtime, declared: list[TensorSpec], task: Task) -> None:
        self._runtime = runtime
        self._declared = declared
        self._task = task
        self._without_numbers = 0  # queries

    def __call__(self, outputs: list[np.ndarray]) -> None:
        """Raise `AgentError` that names the runtime, the tensor, and what was expected and found."""
        if len(outputs) != len(self._declared):
            raise self._error("returned %d outputs" % len(outputs), "declares %d" % len(self._declared))
        for output, spec in zip(outputs, self._declared):
            if not isinstance(output, np.ndarray):
                raise self._error("returned '%s' as %s" % (spec.name, type(output).__name__), "must return arrays")
            if not _same_dtype(output, spec.dtype):
                raise self._error("returned '%s' as %s" % (spec.name, output.dtype), "declares %s" % spec.dtype)
            if not self._runtime.shapes_of_file and not _fits(output.shape, spec.shape):
                found, wanted = _text(output.shape), _text(spec.shape)
                raise self._error("returned '%s' with the shape %s" % (spec.name, found), "declares %s" % wanted)
        values = self._task.read(outputs)
        if np.isnan(values).any() or not np.isfinite(values).any():
            self._without_numbers += 1
        if self._without_numbers == CHECKED_QUERIES:
            raise AgentError(
                "the runtime %s outputs NaN or infinity%s for each of the first %d images"
                % (self._runtime.name, self._place(outputs), CHECKED_QUERIES),
                hint="the conversion or the runtime is faulty: try quantization=fp32, and read the conversion's log",
            )

    def _error(self, did: str, but: str) -> AgentError:
        return AgentError(
            "the runtime %s %s, but it %s" % (self._runtime.name, did, but),
            hint="fix get_outputs of the runtime, or the outputs of its Compiled",
        )

    def _place(self, outputs: list[np.ndarray]) -> str:
        """ " in 'NAME'", the tensor that has them; empty if none has."""
        names = [spec.name for output, spec in zip(outputs, self._declared) if not _is_finite(output)]
        return " in '%s'" % names[0] if names else ""


def _same_dtype(output: np.ndarray, declared: str) -> bool:
    """True also for a name that numpy does not know, such as bfloat16."""
    try:
        return output.dtype == np.dtype(declared)
    except TypeError:
        return True


def _fits(shape: tuple[int, ...], declared: tuple[int | None, ...]) -> bool:
    return len(shape) == len(declared) and all(want in (None, size) for size, want in zip(shape, declared))


def _is_finite(output: np.ndarray) -> bool:
    return output.dtype.kind != "f" or bool(np.isfinite(output).all())


def _text(shape: tuple[int | None, ...]) -> str:
    return "(%s)" % ", ".join("?" if size is None else str(size) for size in shape)
