"""ncnn, on the CPU. One net serves all requests in flight; each query has its own extractor.

The threads of a query spin while they wait for each other (libgomp), so that any other program on the cores makes it
many times slower. OMP_WAIT_POLICY=passive in the environment of the agent prevents that.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from edlab.agent.errors import AgentError, FixedBatchError
from edlab.agent.runtimes import base


class Runtime(base.Runtime):
    packages = "ncnn"
    formats = ("ncnn",)
    shapes_of_file = True
    example = "edlab.vendors.ncnn.example"
    # By default, ncnn stores results in float16, and on Arm it also computes in float16, even for an fp32 model.
    options = {"fp16": False}  # noqa: RUF012
    separates_compile = False  # reading the weights lays them out for the instructions and threads that will use them

    @staticmethod
    def version() -> str:
        import ncnn

        return str(ncnn.__version__)

    @classmethod
    def check_profiler(cls, options: dict[str, Any]) -> None:
        raise AgentError(
            "the Python package of ncnn is built without its profiler",
            hint="build ncnn with NCNN_BENCHMARK=ON to print the time of each layer",
        )

    def runs_on_cpu(self) -> bool:
        return True

    def load(self) -> None:
        import ncnn  # noqa: F401  -- the compile time excludes the import

    def compile(self, in_flight: int, batch: int) -> base.Compiled:
        import ncnn

        if batch > 1:
            raise FixedBatchError("ncnn runs one image at a time")
        net = ncnn.Net()
        net.opt.num_threads = self.threads_each(in_flight)
        for name in _FP16:
            setattr(net.opt, name, self.options["fp16"])
        weights = os.path.splitext(self.path)[0] + ".bin"
        if net.load_param(self.path) or net.load_model(weights):
            raise ValueError("ncnn cannot load it, or %s next to it" % os.path.basename(weights))
        blobs = net.blobs()
        inputs = [_spec(blobs[index]) for index in net.input_indexes()]
        outputs = [_spec(blobs[index]) for index in net.output_indexes()]
        return base.Compiled(
            [_Request(net, inputs[0].name, [output.name for output in outputs]) for _ in range(in_flight)],
            inputs,
            outputs,
            {"num_threads": net.opt.num_threads, "fp16": all(getattr(net.opt, name) for name in _FP16)},
        )


_FP16 = ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic")


class _Request(base.Request):
    def __init__(self, net: Any, input_name: str, output_names: list[str]) -> None:
        import ncnn

        self._mat = ncnn.Mat
        self._net = net
        self._input_name = input_name
        self._output_names = output_names

    def prepare(self, tensor: np.ndarray) -> Any:
        return self._mat(tensor[0])  # ncnn reads it without a copy

    def set_input(self, prepared: Any) -> None:
        # An extractor keeps what it has computed: used twice, it would return the first result again.
        self._extractor = self._net.create_extractor()
        self._extractor.input(self._input_name, prepared)

    def execute(self) -> None:
        self._results = []
        for name in self._output_names:
            status, result = self._extractor.extract(name)
            if status:
                raise AgentError(
                    "ncnn cannot run the model: extract returned %d" % status, hint="convert the model again"
                )
            self._results.append(result)

    def get_outputs(self) -> list[np.ndarray]:
        return [np.asarray(result)[None] for result in self._results]


def _spec(blob: Any) -> base.TensorSpec:
    """A blob as its file's shape hint describes it, with the batch of 1 that ncnn omits."""
    shape = blob.shape
    if not shape.dims:
        raise AgentError(
            "the file does not state the shape of '%s'" % blob.name,
            hint="convert the model with converter=ncnn, which writes the shape",
        )
    sizes = [shape.c, shape.h, shape.w][3 - shape.dims :]
    return base.TensorSpec(blob.name, (1, *sizes), "float32")
