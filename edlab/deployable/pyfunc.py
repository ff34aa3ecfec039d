"""The converted model as a function of a batch, for `mlflow.pyfunc.load_model`, in the runtime that ran it.

Its input is a batch of images as the model sees them: uint8 (N, height, width, channels), RGB (or gray), resized and
cropped. Normalisation, layout, channel order and quantization are part of the model, so that the models of one sweep
are interchangeable. The output is float32: (N, classes), or (N, detections, 6) of x1, y1, x2, y2 as fractions of the
input, score, class; a row without a detection has class -1. Models of arrays take those arrays.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from edlab.agent import tasks
from edlab.agent.errors import AgentError
from edlab.agent.messages import NO_CHANNELS
from edlab.agent.preprocess import table_for
from edlab.deployable.manifest import NAME
from edlab.devices import runtimes
from edlab.errors import EdlabError


class ModelLoadError(EdlabError):
    """A converted model cannot be loaded here."""

    def __str__(self) -> str:
        return f"{self.message}: {self.hint}" if self.hint else self.message


class ConvertedModel:
    """A converted model, open in its runtime."""

    def __init__(self, folder: Path) -> None:
        """Open the model of a folder with an edlab.json. Raises `ModelLoadError`."""
        facts = json.loads((folder / NAME).read_text())
        if facts["runtime"] is None:
            raise ModelLoadError("no runtime has opened this model", hint=facts["no_example"])
        name = facts["runtime"]["name"]
        kind = runtimes.load(name)
        try:
            kind.version()
            files = [str(folder / file["name"]) for file in facts["files"]]
            self._runtime = kind(files, len(os.sched_getaffinity(0)), facts["runtime"]["options"])
            self._runtime.load()
            compiled = self._runtime.compile(in_flight=1, batch=1)
        except ImportError as error:
            raise ModelLoadError(
                f"the runtime {name} of this model is not installed here", hint=" ; ".join(facts["how_to_run"][:1])
            ) from error
        except AgentError as error:
            raise ModelLoadError(f"{name} cannot open this model here: {error}", hint=error.hint) from error
        except Exception as error:  # of any type, from the runtime's library
            raise ModelLoadError(f"{name} cannot open this model here: {type(error).__name__}: {error}") from error
        given, spec = facts["preprocessing"], compiled.inputs[0]
        channels = given.get("channels", NO_CHANNELS)
        mean, std = given.get("mean", []), given.get("std", [])
        self._table = table_for(mean, std, channels, given["layout"], spec.dtype, spec.scale, spec.zero_point)
        options = facts[facts["task"]]
        if options.get("anchors"):
            options["anchors"] = str(folder / options["anchors"])
        self._task = tasks.find(facts["task"])(compiled.outputs, options)
        self._request = compiled.requests[0]

    def predict(self, batch: Any, params: dict[str, Any] | None = None) -> np.ndarray:
        """The results for a batch: one image after the other, as in the run."""
        self._request.bind()
        return np.stack([self._one(item[None]) for item in np.asarray(batch)])

    def _one(self, item: np.ndarray) -> np.ndarray:
        tensor = self._table.apply(item)
        self._request.set_input(self._request.prepare(tensor))
        self._request.execute()
        return np.array(self._task.read(self._request.get_outputs()), np.float32)


def _load_pyfunc(folder: str) -> ConvertedModel:
    """What MLflow calls."""
    return ConvertedModel(Path(folder))
