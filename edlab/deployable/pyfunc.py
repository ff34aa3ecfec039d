"""The converted model as a function of a batch, for `mlflow.pyfunc.load_model`, in the runtime that ran it.

Its input is a batch of images as the model sees them: uint8 (N, height, width, channels), RGB (or gray), resized and
cropped. Normalisation, layout, channel order and quantization are part of the model, so that the models of one sweep
are interchangeable. The output is float32: (N, classes), or (N, detections, 6) of x1, y1, x2, y2 as fractions of the
input, score, class; a row without a detection has class -1. Models of arrays take those arrays.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from edlab.agent.errors import AgentError
from edlab.agent.messages import NO_CHANNELS
from edlab.agent.preprocess import table_for
from edlab.agent.runtimes.base import Compiled
from edlab.deployable.manifest import NAME, reader
from edlab.devices import runtimes
from edlab.errors import DeviceError, MissingDependencyError


class ConvertedModel:
    """A converted model, open in its runtime."""

    def __init__(self, folder: Path) -> None:
        """Open the model of a folder with an edlab.json. Raises `MissingDependencyError` or `DeviceError`."""
        facts = json.loads((folder / NAME).read_text())
        if facts["runtime"] is None:
            raise DeviceError(f"this model cannot be loaded: {facts['no_example']}")
        with _explained(facts):
            compiled = self._compiled = _open(folder, facts)
            options = facts[facts["task"]]
            if options.get("anchors"):
                options = options | {"anchors": str(folder / options["anchors"])}
            self._task = reader(facts["task"])(compiled.outputs, options)
        given, spec = facts["preprocessing"], compiled.inputs[0]
        mean, std, channels = given.get("mean", []), given.get("std", []), given.get("channels", NO_CHANNELS)
        self._table = table_for(mean, std, channels, given["layout"], spec.dtype, spec.scale, spec.zero_point)

    def predict(self, batch: Any, params: dict[str, Any] | None = None) -> np.ndarray:
        """The results for a batch: one image after the other, as in the run."""
        self._compiled.requests[0].bind()
        return np.stack([self._one(item[None]) for item in np.asarray(batch)])

    def _one(self, item: np.ndarray) -> np.ndarray:
        request, tensor = self._compiled.requests[0], self._table.apply(item)
        request.set_input(request.prepare(tensor))
        request.execute()
        return np.array(self._task.read(request.get_outputs()), np.float32)  # outputs may be views


def _open(folder: Path, facts: dict[str, Any]) -> Compiled:
    """The model in the runtime that ran it, with the same options."""
    kind = runtimes.load(facts["runtime"]["name"])
    kind.version()  # imports it
    files = [str(folder / file["name"]) for file in facts["files"]]
    runtime = kind(files, len(os.sched_getaffinity(0)), facts["runtime"]["options"])
    runtime.load()
    return runtime.compile(in_flight=1, batch=1)


@contextmanager
def _explained(facts: dict[str, Any]) -> Iterator[None]:
    """Convert errors of the runtime into edlab's. Their text says what to do, since MLflow prints no hints."""
    name, version = facts["runtime"]["name"], facts["runtime"]["version"]
    try:
        yield
    except ImportError as error:
        raise MissingDependencyError(
            f"the runtime of this model, {name} {version}, cannot be imported here ({error}): install it "
            f"({facts['runtime']['install']}), or load a version of the model for another runtime"
        ) from error
    except AgentError as error:
        raise DeviceError(f"{name} cannot open this model here: {error}; {error.hint}") from error
    except Exception as error:  # of any type, from the runtime's library
        raise DeviceError(f"{name} cannot open this model here: {type(error).__name__}: {error}") from error


def _load_pyfunc(folder: str) -> ConvertedModel:
    """What MLflow calls."""
    return ConvertedModel(Path(folder))
