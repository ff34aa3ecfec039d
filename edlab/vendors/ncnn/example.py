"""The model in ncnn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ncnn
import numpy as np

from edlab.vendors.ncnn.runtime import _FP16


class Network:
    """An ncnn file on the CPU, with the arithmetic of the run."""

    def __init__(self, files: list[str], options: dict[str, Any]) -> None:
        self._net = ncnn.Net()
        for name in _FP16:
            setattr(self._net.opt, name, options["fp16"])
        self._net.load_param(files[0])
        self._net.load_model(str(Path(files[0]).with_suffix(".bin")))
        blobs = self._net.blobs()
        self._input = blobs[self._net.input_indexes()[0]].name
        self._outputs = [blobs[index].name for index in self._net.output_indexes()]

    def run(self, tensor: np.ndarray) -> list[np.ndarray]:
        """The outputs for a batch of 1."""
        extractor = self._net.create_extractor()
        extractor.input(self._input, ncnn.Mat(tensor[0]))
        return [np.array(extractor.extract(name)[1])[None] for name in self._outputs]
