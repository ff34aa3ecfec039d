"""Rewrites an int8 TFLite file to compute the same quantized values in floating point.

Weights and biases become the real values that their integers represent. Every tensor between operators is still
rounded to its own scale, by a QUANTIZE and a DEQUANTIZE after the operator that computes it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edlab import tflite_file


def quantized_to_float(inputs: list[str], out: str, options: dict[str, Any], calibration: None) -> None:
    """Write to `out` the TFLite file `inputs[0]` with floating-point operators between its quantized tensors."""
    from ai_edge_litert import schema_py_generated as schema

    model = tflite_file.parse(Path(inputs[0]).read_bytes())
    for graph in model.subgraphs:
        _Rewriter(schema, model, graph).rewrite()
    Path(out).write_bytes(tflite_file.pack(model))


class _Rewriter:
    def __init__(self, schema: Any, model: Any, graph: Any) -> None:
        self._schema, self._model, self._graph = schema, model, graph
        types = schema.TensorType
        self._integers = {types.INT8: np.int8, types.UINT8: np.uint8, types.INT16: np.int16, types.INT32: np.int32}
        self._quantize = self._code(schema.BuiltinOperator.QUANTIZE)
        self._dequantize = self._code(schema.BuiltinOperator.DEQUANTIZE)
        self._real: dict[int, int] = {}  # quantized tensor -> its values in float32

    def rewrite(self) -> None:
        operators, self._graph.operators = self._graph.operators, []
        for index in self._graph.inputs:
            if self._is_quantized(index):
                self._dequantized(index)
        for operator in operators:
            code = self._model.operatorCodes[operator.opcodeIndex]
            builtin = max(code.builtinCode, code.deprecatedBuiltinCode)
            if builtin != self._schema.BuiltinOperator.DEQUANTIZE:
                operator.inputs = [self._as_real(index) for index in operator.inputs]
            outputs = [index for index in operator.outputs if self._is_quantized(index)]
            if builtin != self._schema.BuiltinOperator.QUANTIZE:
                created = {index: self._float_tensor(index) for index in outputs}
                operator.outputs = [created.get(index, index) for index in operator.outputs]
            self._graph.operators.append(operator)
            if builtin != self._schema.BuiltinOperator.QUANTIZE:
                for index, real in created.items():
                    self._add(self._quantize, real, index)
            for index in outputs:
                self._dequantized(index)

    def _is_quantized(self, index: int) -> bool:
        if index < 0:  # an optional input that is absent
            return False
        tensor = self._graph.tensors[index]
        scale = tensor.quantization.scale if tensor.quantization else None
        return tensor.type in self._integers and scale is not None and len(scale) > 0

    def _as_real(self, index: int) -> int:
        if not self._is_quantized(index):
            return index
        if index not in self._real:
            self._real[index] = self._constant(index)
        return self._real[index]

    def _constant(self, index: int) -> int:
        """A float32 constant with the real values of a quantized one."""
        tensor = self._graph.tensors[index]
        quantization = tensor.quantization
        data = np.asarray(self._model.buffers[tensor.buffer].data, np.uint8).tobytes()
        shape = tuple(tensor.shape)
        values = np.frombuffer(data, self._integers[tensor.type]).reshape(shape).astype(np.float64)
        parts = [1] * len(shape)
        if shape and len(quantization.scale) > 1:
            parts[quantization.quantizedDimension] = len(quantization.scale)
        zero = quantization.zeroPoint if quantization.zeroPoint is not None else [0]
        zeros = np.asarray(zero, np.float64)
        scales = np.asarray(quantization.scale, np.float64)
        real = (values - (zeros.reshape(parts) if len(zeros) > 1 else zeros[0])) * scales.reshape(
            parts if shape else ()
        )
        buffer = self._schema.BufferT()
        buffer.data = np.frombuffer(real.astype(np.float32).tobytes(), np.uint8)
        self._model.buffers.append(buffer)
        created = self._float_tensor(index)
        self._graph.tensors[created].buffer = len(self._model.buffers) - 1
        return created

    def _float_tensor(self, index: int) -> int:
        like, tensor = self._graph.tensors[index], self._schema.TensorT()
        tensor.name = (like.name or b"") + b"/float"
        tensor.shape, tensor.shapeSignature = like.shape, like.shapeSignature
        tensor.type, tensor.buffer = self._schema.TensorType.FLOAT32, 0
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def _dequantized(self, index: int) -> None:
        self._real[index] = self._float_tensor(index)
        self._add(self._dequantize, index, self._real[index])

    def _add(self, code: int, source: int, target: int) -> None:
        operator = self._schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = code, [source], [target]
        self._graph.operators.append(operator)

    def _code(self, builtin: int) -> int:
        code = self._schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = builtin
        code.version = 2  # the first version that supports int8
        self._model.operatorCodes.append(code)
        return len(self._model.operatorCodes) - 1
