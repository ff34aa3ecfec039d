"""The model in ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime

from edlab.agent.runtimes.onnxruntime import _CUDA, _SESSION_ENTRIES


class Network:
    """An ONNX file, with the providers and the int8 kernels of the run."""

    def __init__(self, files: list[str], options: dict[str, Any]) -> None:
        settings = onnxruntime.SessionOptions()
        for entry in _SESSION_ENTRIES[options["int8_kernels"]]:
            settings.add_session_config_entry(entry, "1")
        given = dict({_CUDA: {"use_tf32": 0}}, **options["provider_options"])  # full float32, as in the run
        providers = [(name, given.get(name, {})) for name in options["providers"]]
        self._session = onnxruntime.InferenceSession(files[0], settings, providers=providers)
        self._input = self._session.get_inputs()[0].name

    def run(self, tensor: np.ndarray) -> list[np.ndarray]:
        """The outputs for a batch."""
        outputs: list[np.ndarray] = self._session.run(None, {self._input: tensor})
        return outputs
