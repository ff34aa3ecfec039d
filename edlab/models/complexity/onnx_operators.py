"""What ONNX operators cost in multiply-accumulates: formulas of the shapes of their inputs and outputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

from edlab.models.complexity.einsum import einsum_macs

Shape = tuple[int, ...]


class UnknownCostError(Exception):
    """A form of an operator that no formula here covers."""


class UnknownShapeError(Exception):
    """A shape that a formula needs was not inferred; its message is the name of the value."""


@dataclass(frozen=True)
class Operator:
    """One node with the shapes of its values, None if a shape is unknown."""

    attributes: dict[str, Any]
    input_names: tuple[str, ...]
    input_shapes: tuple[Shape | None, ...]
    output_names: tuple[str, ...]
    output_shapes: tuple[Shape | None, ...]

    def has(self, position: int) -> bool:
        return position < len(self.input_names) and bool(self.input_names[position])

    def input(self, position: int) -> Shape:
        return _known(self.input_shapes[position], self.input_names[position])

    @property
    def output(self) -> Shape:
        return _known(self.output_shapes[0], self.output_names[0])


def _known(shape: Shape | None, name: str) -> Shape:
    if shape is None:
        raise UnknownShapeError(name)
    return shape


Formula = Callable[[Operator], int]


def _convolution(weight: int) -> Formula:
    """Each element of the output uses (in / groups) x kernel weights; those are (out, in / groups, *kernel)."""
    return lambda node: prod(node.output) * prod(node.input(weight)[1:])


def _transposed(node: Operator) -> int:
    """Each element of the input uses (out / groups) x kernel weights, which are (in, out / groups, *kernel)."""
    return prod(node.input(0)) * prod(node.input(1)[1:])


def _product(node: Operator) -> int:
    """Each element of the output is a sum over the last axis of the first matrix, or its first if transposed."""
    if node.attributes.get("transBatchA") or node.attributes.get("transBatchB"):
        raise UnknownCostError
    source, turned = node.input(0), node.attributes.get("transA", 0)
    return prod(node.output) * source[-2 if turned and len(source) > 1 else -1]


def _packed_product(node: Operator) -> int:
    """The weights are K x N, stored in blocks of N."""
    return prod(node.output) * int(node.attributes["K"])


def _einsum(node: Operator) -> int:
    shapes = [node.input(position) for position in range(len(node.input_names))]
    macs = einsum_macs(node.attributes["equation"].decode(), shapes)
    if macs is None:
        raise UnknownCostError
    return macs


def _recurrent(node: Operator) -> int:
    """Each step of each sequence uses all weights of both matrices, (directions, gates x hidden, ...)."""
    source = node.input(0)
    return source[0] * source[1] * (prod(node.input(1)) + prod(node.input(2)))


def _scores(query: Shape, length: int, values: int) -> int:
    """Query (batch, queries, width) with keys (length, width), then the weights with values (length, `values`)."""
    return prod(query[:2]) * length * (query[2] + values)


def _projected_attention(past: int) -> Formula:
    """Projection to queries, keys and values by one matrix, then attention (com.microsoft Attention, QAttention)."""

    def macs(node: Operator) -> int:
        source, weight = node.input(0), node.input(1)
        if node.has(past):
            raise UnknownCostError
        sizes = node.attributes.get("qkv_hidden_sizes") or [weight[1] // 3] * 3
        return prod(source) * weight[1] + _scores((*source[:2], sizes[0]), source[1], sizes[2])

    return macs


def _multi_head_attention(node: Operator) -> int:
    """com.microsoft: query (batch, length, width); key and value likewise, or (batch, heads, length, size) each."""
    query = node.input(0)
    if len(query) != 3 or not node.has(1) or not node.has(2) or node.has(6) or node.has(7):
        raise UnknownCostError
    key, value = node.input(1), node.input(2)
    if len(key) == 3 and len(value) == 3:
        return _scores(query, key[1], value[2])
    if len(key) == 4 and len(value) == 4:
        return _scores(query, key[2], value[1] * value[3])
    raise UnknownCostError


def _attention(node: Operator) -> int:
    """ai.onnx: (batch, heads, length, size) or (batch, length, heads x size); queries may share heads of keys."""
    query, key, value = (node.input(position) for position in range(3))
    if node.has(4) or node.has(5):
        raise UnknownCostError
    if len(query) == 4:
        return prod(query[:3]) * key[2] * (query[3] + value[3])
    heads, shared = node.attributes["q_num_heads"], node.attributes["kv_num_heads"]
    return _scores(query, key[1], value[2] // shared * heads)


FORMULAS: dict[str, Formula] = {
    "Attention": _attention,
    "Conv": _convolution(1),
    "ConvInteger": _convolution(1),
    "ConvTranspose": _transposed,
    "DeformConv": _convolution(1),  # sampling the image is free, like all interpolation
    "Einsum": _einsum,
    "GRU": _recurrent,
    "Gemm": _product,
    "LSTM": _recurrent,
    "MatMul": _product,
    "MatMulInteger": _product,
    "QLinearConv": _convolution(3),
    "QLinearMatMul": _product,
    "RNN": _recurrent,
    "com.microsoft.Attention": _projected_attention(4),
    "com.microsoft.DynamicQuantizeLSTM": _recurrent,
    "com.microsoft.DynamicQuantizeMatMul": _product,
    "com.microsoft.FusedConv": _convolution(1),
    "com.microsoft.FusedGemm": _product,
    "com.microsoft.FusedMatMul": _product,
    "com.microsoft.FusedMatMulActivation": _product,
    "com.microsoft.GemmFastGelu": _product,
    "com.microsoft.MatMulBnb4": _packed_product,
    "com.microsoft.MatMulFpQ4": _product,
    "com.microsoft.MatMulInteger16": _product,
    "com.microsoft.MatMulIntegerToFloat": _product,
    "com.microsoft.MatMulNBits": _packed_product,
    "com.microsoft.MultiHeadAttention": _multi_head_attention,
    "com.microsoft.NhwcConv": _convolution(1),
    "com.microsoft.NhwcFusedConv": _convolution(1),
    "com.microsoft.QAttention": _projected_attention(8),
    "com.microsoft.QGemm": _product,
    "com.microsoft.QLinearConv": _convolution(3),
    "com.microsoft.TransposeMatMul": _product,
    "com.ms.internal.nhwc.Conv": _convolution(1),
    "com.ms.internal.nhwc.QLinearConv": _convolution(3),
}

# Elementwise operators, activations, normalisation, pooling, reductions, interpolation, conversions of the type or the
# shape, selection, sorting, random numbers and sequences.
_STANDARD = """
    Abs Acos Acosh Add AffineGrid And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization Bernoulli
    BitCast BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor BlackmanWindow Cast CastLike Ceil Celu CenterCropPad
    Clip Col2Im Compress Concat ConcatFromSequence Constant ConstantOfShape Cos Cosh CumProd CumSum DepthToSpace
    DequantizeLinear Div Dropout DynamicQuantizeLinear Elu Equal Erf Exp Expand EyeLike Flatten Floor Gather
    GatherElements GatherND Gelu GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GridSample
    GroupNormalization HammingWindow HannWindow HardSigmoid HardSwish Hardmax Identity InstanceNormalization IsInf
    IsNaN LRN LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax LpNormalization LpPool Max MaxPool
    MaxRoiPool MaxUnpool Mean MeanVarianceNormalization Min Mish Mod Mul Multinomial Neg NonMaxSuppression NonZero Not
    OneHot Optional OptionalGetElement OptionalHasElement Or PRelu Pad Pow QuantizeLinear RMSNormalization RandomNormal
    RandomNormalLike RandomUniform RandomUniformLike Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp
    ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize ReverseSequence RoiAlign
    RotaryEmbedding Round Scatter ScatterElements ScatterND Selu SequenceAt SequenceConstruct SequenceEmpty
    SequenceErase SequenceInsert SequenceLength Shape Shrink Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign
    SpaceToDepth Split SplitToSequence Sqrt Squeeze Sub Sum Swish Tan Tanh TensorScatter ThresholdedRelu Tile
    TopK Transpose Trilu Unique Unsqueeze Upsample Where Xor
"""
_MICROSOFT = """
    BiasAdd BiasDropout BiasGelu BiasSoftmax BiasSplitGelu BitmaskBiasDropout BitmaskDropout ComplexMul ComplexMulConj
    CropAndResize DequantizeLinear EmbedLayerNormalization ExpandDims FastGelu GatedAdd GatherBlockQuantized GatherND
    Gelu GridSample GroupNorm IsAllFinite MaxpoolWithMask MulInteger NhwcMaxPool Pad QEmbedLayerNormalization
    QLinearAdd QLinearAveragePool QLinearConcat QLinearGlobalAveragePool QLinearLeakyRelu QLinearMul QLinearReduceMean
    QLinearSigmoid QLinearSoftmax QLinearWhere QuantizeLinear QuickGelu Range ReduceSumInteger RemovePadding
    RestorePadding RotaryEmbedding ScaledSiLU SkipGroupNorm SkipLayerNormalization SkipSimplifiedLayerNormalization
    Trilu UnfoldTensor Unique
"""
_NHWC = "AveragePool BatchNormalization DepthToSpace GlobalAveragePool GlobalMaxPool GridSample InstanceNormalization \
    LRN MaxPool QLinearAveragePool QLinearGlobalAveragePool Resize SpaceToDepth"
_CLASSIC = "ArrayFeatureExtractor Binarizer CastMap FeatureVectorizer Imputer LabelEncoder Normalizer OneHotEncoder \
    Scaler ZipMap"
FREE = frozenset(
    [
        *_STANDARD.split(),
        "SimplifiedLayerNormalization",  # onnxruntime puts it into the standard domain
        *(f"com.microsoft.{name}" for name in _MICROSOFT.split()),
        *(f"com.ms.internal.nhwc.{name}" for name in _NHWC.split()),
        *(f"ai.onnx.ml.{name}" for name in _CLASSIC.split()),
    ]
)
