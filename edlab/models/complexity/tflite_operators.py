"""What TFLite operators cost in multiply-accumulates: formulas of the shapes of their inputs and outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Operator:
    """One operator with the shapes of its tensors; those of an absent input are empty."""

    options: Any
    inputs: Sequence[Shape]
    outputs: Sequence[Shape]
    constant: Sequence[bool]  # which inputs are weights


Formula = Callable[[Operator], int]


def _convolution(operator: Operator) -> int:
    """Kernels are (out, height, width, in / groups)."""
    return prod(operator.outputs[0]) * prod(operator.inputs[1][1:])


def _depthwise(operator: Operator) -> int:
    """Kernels are (1, height, width, out); an element of the output depends on one channel."""
    return prod(operator.outputs[0]) * prod(operator.inputs[1][1:3])


def _transposed(operator: Operator) -> int:
    """Inputs are the output's sizes, kernels (out, height, width, in), and the features."""
    return prod(operator.inputs[2]) * prod(operator.inputs[1][:3])


def _convolution_3d(operator: Operator) -> int:
    """Kernels are (depth, height, width, in / groups, out)."""
    return prod(operator.outputs[0]) * prod(operator.inputs[1][:4])


def _transposed_3d(operator: Operator) -> int:
    """Inputs are the output's sizes, kernels (depth, height, width, out, in), and the features."""
    return prod(operator.inputs[2]) * prod(operator.inputs[1][:4])


def _fully_connected(operator: Operator) -> int:
    """Weights are (out, in); all axes of the output before the last one are rows."""
    return prod(operator.outputs[0]) * operator.inputs[1][1]


def _batch_matmul(operator: Operator) -> int:
    """Each element of the output is a sum over the columns of the first matrix, or its rows if it is transposed."""
    return prod(operator.outputs[0]) * operator.inputs[0][-2 if operator.options.adjX else -1]


def _recurrent(steps: int) -> Formula:
    """Each step uses all matrices (input, recurrent, projection), the only constants of two dimensions.

    `steps`: how many of the input's first axes are batch and time.
    """

    def macs(operator: Operator) -> int:
        pairs = zip(operator.inputs, operator.constant, strict=True)
        matrices = sum(prod(shape) for shape, constant in pairs if constant and len(shape) == 2)
        return prod(operator.inputs[0][:steps]) * matrices

    return macs


FORMULAS: dict[str, Formula] = {
    "BATCH_MATMUL": _batch_matmul,
    "BIDIRECTIONAL_SEQUENCE_LSTM": _recurrent(2),
    "BIDIRECTIONAL_SEQUENCE_RNN": _recurrent(2),
    "CONV_2D": _convolution,
    "CONV_3D": _convolution_3d,
    "CONV_3D_TRANSPOSE": _transposed_3d,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _fully_connected,
    "LSTM": _recurrent(1),
    "RNN": _recurrent(1),
    "SVDF": _recurrent(1),
    "TRANSPOSE_CONV": _transposed,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _recurrent(2),
    "UNIDIRECTIONAL_SEQUENCE_RNN": _recurrent(2),
}

# Elementwise operators, activations, normalisation, pooling, reductions, interpolation, quantization, and making,
# moving, selecting and sorting elements.
_FREE = """
    ABS ADD ADD_N ARG_MAX ARG_MIN ASSIGN_VARIABLE ATAN2 AVERAGE_POOL_2D BATCH_TO_SPACE_ND BITCAST BITWISE_XOR
    BROADCAST_ARGS BROADCAST_TO BUCKETIZE CAST CEIL COMPLEX_ABS CONCATENATION COS CUMSUM DENSIFY DEPTH_TO_SPACE
    DEQUANTIZE DILATE DIV DYNAMIC_UPDATE_SLICE ELU EMBEDDING_LOOKUP EQUAL EXP EXPAND_DIMS FAKE_QUANT FILL FLOOR
    FLOOR_DIV FLOOR_MOD GATHER GATHER_ND GELU GREATER GREATER_EQUAL HARD_SWISH HASHTABLE HASHTABLE_FIND
    HASHTABLE_IMPORT HASHTABLE_LOOKUP HASHTABLE_SIZE IMAG L2_NORMALIZATION L2_POOL_2D LEAKY_RELU LESS LESS_EQUAL
    LOCAL_RESPONSE_NORMALIZATION LOG LOGICAL_AND LOGICAL_NOT LOGICAL_OR LOGISTIC LOG_SOFTMAX MATRIX_DIAG
    MATRIX_SET_DIAG MAXIMUM MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL MULTINOMIAL NEG NON_MAX_SUPPRESSION_V4
    NON_MAX_SUPPRESSION_V5 NOT_EQUAL ONE_HOT PACK PAD PADV2 POW PRELU QUANTIZE RANDOM_STANDARD_NORMAL RANDOM_UNIFORM
    RANGE RANK READ_VARIABLE REAL REDUCE_ALL REDUCE_ANY REDUCE_MAX REDUCE_MIN REDUCE_PROD REDUCE_WINDOW RELU RELU6
    RELU_0_TO_1 RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR REVERSE_SEQUENCE REVERSE_V2 RIGHT_SHIFT
    ROUND RSQRT SCATTER_ND SEGMENT_SUM SELECT SELECT_V2 SHAPE SIGN SIN SLICE SOFTMAX SPACE_TO_BATCH_ND SPACE_TO_DEPTH
    SPARSE_TO_DENSE SPLIT SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE SUB SUM TANH TILE TOPK_V2
    TRANSPOSE UNIQUE UNPACK UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_MIN UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_SUM
    VAR_HANDLE WHERE ZEROS_LIKE
"""
FREE = frozenset(_FREE.split())
