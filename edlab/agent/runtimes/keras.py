"""Keras on TensorFlow, through a traced function: `model.predict` costs milliseconds per call."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import FixedBatchError
from . import base


class Runtime(base.Runtime):
    packages = "tensorflow"
    formats = ("keras",)
    shapes_of_file = True

    @staticmethod
    def version() -> str:
        import keras
        import tensorflow

        return "%s on tensorflow %s" % (keras.__version__, tensorflow.__version__)

    def runs_on_cpu(self) -> bool:
        import tensorflow

        return not tensorflow.config.list_physical_devices("GPU")

    def load(self) -> None:
        import tensorflow

        # These cannot change once TensorFlow has started; neither can an agent's cores.
        tensorflow.config.threading.set_intra_op_parallelism_threads(self.threads)
        tensorflow.config.threading.set_inter_op_parallelism_threads(1)
        import keras

        self._model = keras.models.load_model(self.path, compile=False)

    def compile(self, in_flight: int, batch: int) -> base.Compiled:
        import tensorflow

        own_batch = self._model.inputs[0].shape[0]
        if batch > 1 and own_batch not in (None, batch):
            raise FixedBatchError("the Keras model's batch is %d" % own_batch)
        traced = tensorflow.function(lambda tensor: self._model(tensor, training=False))
        shape = [batch, *self._model.inputs[0].shape[1:]]
        function = traced.get_concrete_function(tensorflow.TensorSpec(shape, self._model.inputs[0].dtype))
        requests: list[base.Request] = [_Request(function, tensorflow.convert_to_tensor) for _ in range(in_flight)]
        return base.Compiled(
            requests,
            [_spec(tensor) for tensor in self._model.inputs],
            [_spec(tensor) for tensor in self._model.outputs],
            {"intra_op_parallelism_threads": tensorflow.config.threading.get_intra_op_parallelism_threads()},
        )


class _Request(base.Request):
    def __init__(self, function: Any, convert: Any) -> None:
        self._function = function
        self._convert = convert

    def set_input(self, tensor: np.ndarray) -> None:
        self._input = self._convert(tensor)  # copies: TensorFlow shares no memory with an array that may change

    def execute(self) -> None:
        self._result = self._function(self._input)

    def get_outputs(self) -> list[np.ndarray]:
        results = self._result if isinstance(self._result, (tuple, list)) else [self._result]
        return [result.numpy() for result in results]


def _spec(tensor: Any) -> base.TensorSpec:
    return base.TensorSpec(tensor.name, tuple(tensor.shape), str(tensor.dtype))
