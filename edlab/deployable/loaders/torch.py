"""The model in PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from edlab.agent.runtimes.torch import _full_float32, _tensors


class Network:
    """An exported program (torch.export) on the device of the run."""

    def __init__(self, files: list[str], options: dict[str, Any]) -> None:
        self._device = torch.device(options["device"])
        program = torch.export.load(files[0])
        if self._device.type == "cuda":
            from torch.export.passes import move_to_device_pass

            _full_float32()
            program = move_to_device_pass(program, self._device)
        self._module = program.module()

    def run(self, tensor: np.ndarray) -> list[np.ndarray]:
        """The outputs for a batch."""
        with torch.inference_mode():
            results = self._module(torch.from_numpy(tensor).to(self._device))
        return [result.cpu().numpy() for result in _tensors(results)]
