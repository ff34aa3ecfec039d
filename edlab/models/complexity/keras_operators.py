"""What TensorFlow operators cost in multiply-accumulates: formulas of the shapes of their inputs and outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

from edlab.models.complexity.einsum import einsum_macs

Shapes = Sequence[Sequence[int]]
Formula = Callable[[Shapes, Shapes, Mapping[str, Any]], int | None]  # inputs, outputs, attributes


def _matmul(turned: str) -> Formula:
    """Each element of the output is a sum over the columns of the first matrix, or its rows if it is transposed."""
    return lambda inputs, outputs, attributes: prod(outputs[0]) * inputs[0][-2 if attributes.get(turned) else -1]


def _convolution(inputs: Shapes, outputs: Shapes, _: Mapping[str, Any]) -> int:
    """Kernels are (*size, in / groups, out)."""
    return prod(outputs[0]) * prod(inputs[1][:-1])


def _depthwise(inputs: Shapes, outputs: Shapes, _: Mapping[str, Any]) -> int:
    """Kernels are (height, width, in, multiplier); an element of the output depends on one channel."""
    return prod(outputs[0]) * prod(inputs[1][:2])


def _transposed(inputs: Shapes, outputs: Shapes, _: Mapping[str, Any]) -> int:
    """Inputs are the output's sizes, kernels (*size, out, in), and the features."""
    return prod(inputs[2]) * prod(inputs[1][:-1])


def _einsum(inputs: Shapes, outputs: Shapes, attributes: Mapping[str, Any]) -> int | None:
    equation = attributes["equation"]
    return einsum_macs(equation.decode() if isinstance(equation, bytes) else equation, inputs)


# A formula returns None for a form that it does not cover.
FORMULAS: dict[str, Formula] = {
    "BatchMatMul": _matmul("adj_x"),
    "BatchMatMulV2": _matmul("adj_x"),
    "BatchMatMulV3": _matmul("adj_x"),
    "Conv2D": _convolution,
    "Conv2DBackpropInput": _transposed,
    "Conv3D": _convolution,
    "Conv3DBackpropInputV2": _transposed,
    "DepthwiseConv2dNative": _depthwise,
    "Einsum": _einsum,
    "MatMul": _matmul("transpose_a"),
}

# Elementwise operators, activations, normalisation, pooling, reductions, interpolation, quantization, and making,
# reading, moving, selecting and sorting elements.
_FREE = """
    Abs Acos Acosh Add AddN AddV2 AdjustContrastv2 AdjustHue AdjustSaturation All Any ApproximateEqual ArgMax ArgMin
    Asin Asinh Assert AssignAddVariableOp AssignSubVariableOp AssignVariableOp Atan Atan2 Atanh AvgPool AvgPool3D
    BatchToSpace BatchToSpaceND BiasAdd BiasAddV1 Bincount Bitcast BitwiseAnd BitwiseOr BitwiseXor BroadcastArgs
    BroadcastTo Bucketize Cast Ceil CheckNumerics ClipByValue Complex ComplexAbs Concat ConcatV2 Conj Const Cos Cosh
    CropAndResize Cummax Cummin Cumprod Cumsum CumulativeLogsumexp DenseBincount DepthToSpace Dequantize Div DivNoNan
    DynamicPartition DynamicStitch Elu EnsureShape Equal Erf Erfc Erfinv Exp ExpandDims Expm1
    FakeQuantWithMinMaxArgs FakeQuantWithMinMaxVars FakeQuantWithMinMaxVarsPerChannel Fill Floor FloorDiv FloorMod
    FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 Gather GatherNd GatherV2 Greater GreaterEqual Identity IdentityN
    Imag ImageProjectiveTransformV2 ImageProjectiveTransformV3 InTopKV2 Inv InvertPermutation IsFinite IsInf IsNan
    L2Loss LRN LeakyRelu LeftShift Less LessEqual Lgamma LinSpace Log Log1p LogSoftmax LogicalAnd LogicalNot LogicalOr
    MatrixBandPart MatrixDiag MatrixDiagPart MatrixDiagPartV2 MatrixDiagPartV3 MatrixDiagV2 MatrixDiagV3 MatrixSetDiag
    MatrixSetDiagV3 Max MaxPool MaxPool3D MaxPoolV2 MaxPoolWithArgmax Maximum Mean Min Minimum MirrorPad Mod Mul
    MulNoNan Multinomial Ndtri Neg NextAfter NoOp NonMaxSuppressionV3 NonMaxSuppressionV4 NonMaxSuppressionV5 NotEqual
    OneHot OnesLike Pack Pad PadV2 ParallelDynamicStitch PlaceholderWithDefault Pow PreventGradient Prod
    QuantizeAndDequantizeV2 QuantizeAndDequantizeV3 QuantizeAndDequantizeV4 QuantizeV2 RGBToHSV HSVToRGB
    RandomStandardNormal RandomUniform RandomUniformInt Range Rank ReadVariableOp Real RealDiv Reciprocal Relu Relu6
    Reshape ResizeArea ResizeBicubic ResizeBilinear ResizeNearestNeighbor Reverse ReverseSequence ReverseV2 RightShift
    Rint Roll Round Rsqrt ScaleAndTranslate ScatterNd Select SelectV2 Selu Shape ShapeN Sigmoid Sign Sin Sinh Size
    Slice Snapshot Softmax Softplus Softsign SpaceToBatch SpaceToBatchND SpaceToDepth Split SplitV Sqrt Square
    SquaredDifference Squeeze StatelessMultinomial StatelessRandomGetAlg StatelessRandomGetKeyCounter
    StatelessRandomGetKeyCounterAlg StatelessRandomNormal StatelessRandomNormalV2 StatelessRandomUniform
    StatelessRandomUniformIntV2 StatelessRandomUniformV2 StatelessTruncatedNormal StatelessTruncatedNormalV2
    StopGradient StridedSlice Sub Sum Tan Tanh TensorScatterAdd TensorScatterMax TensorScatterMin TensorScatterSub
    TensorScatterUpdate Tile TopK TopKV2 Transpose TruncateDiv TruncateMod TruncatedNormal Unique UniqueV2 Unpack
    UnravelIndex UnsortedSegmentMax UnsortedSegmentMin UnsortedSegmentProd UnsortedSegmentSum UpperBound LowerBound
    VarIsInitializedOp VariableShape Where Xdivy Xlog1py Xlogy ZerosLike
"""
FREE = frozenset(_FREE.split())
