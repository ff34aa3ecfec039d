"""PyTorch: an exported program (torch.export), the unconverted baseline."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import FixedBatchError
from . import base


class Runtime(base.Runtime):
    packages = "torch"

    @staticmethod
    def version() -> str:
        import torch

        return str(torch.__version__)

    def load(self) -> None:
        import torch

        self._program = torch.export.load(self.path)

    def compile(self, in_flight: int, batch: int) -> base.Compiled:
        threads = self.threads_each(in_flight)
        signature = self._program.graph_signature
        inputs = self._specs(signature.user_inputs)
        if batch > 1 and inputs[0].shape[0] is not None:
            raise FixedBatchError("the exported program's batch is %d" % inputs[0].shape[0])
        module = self._program.module()
        requests: list[base.Request] = [_Request(module, threads) for _ in range(in_flight)]
        return base.Compiled(requests, inputs, self._specs(signature.user_outputs), {"num_threads": threads})

    def _specs(self, names: list[str]) -> list[base.TensorSpec]:
        values = {node.name: node.meta["val"] for node in self._program.graph.nodes if "val" in node.meta}
        return [
            base.TensorSpec(
                name,
                tuple(size if isinstance(size, int) else None for size in values[name].shape),
                str(values[name].dtype).partition(".")[2],
            )
            for name in names
        ]


class _Request(base.Request):
    def __init__(self, module: Any, threads: int) -> None:
        import torch

        self._torch = torch
        self._module = module
        self._threads = threads

    def bind(self) -> None:
        self._torch.set_num_threads(self._threads)  # OpenMP keeps it by thread

    def set_input(self, tensor: np.ndarray) -> None:
        self._input = self._torch.from_numpy(tensor)

    def execute(self) -> None:
        with self._torch.inference_mode():
            self._result = self._module(self._input)

    def get_output(self) -> np.ndarray:
        output = self._result[0] if isinstance(self._result, (tuple, list)) else self._result
        array: np.ndarray = output.numpy()
        return array
