"""What ATen operators cost in multiply-accumulates. Views and pointwise operators are free, by PyTorch's own tags."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any


def _product(first: int, second: int) -> Callable[[tuple[Any, ...], Any], int]:
    """A matrix product of the arguments at these positions: (..., m, k) with (..., k, n), or with a vector (k)."""

    def macs(args: tuple[Any, ...], output: Any) -> int:
        left, right = args[first].shape, args[second].shape
        return int(prod(left) * (right[-1] if len(right) > 1 else 1))

    return macs


def _convolution(args: tuple[Any, ...], output: Any) -> int:
    """Each element of the output uses (in / groups) x kernel weights; if transposed, each element of the input does."""
    source, weight, transposed = args[0], args[1], args[6]
    return int(prod((source if transposed else output).shape) * prod(weight.shape[1:]))


def _deformable(args: tuple[Any, ...], output: Any) -> int:
    """The convolution of the sampled image; sampling it is free, like all interpolation."""
    return int(prod(output.shape) * prod(args[1].shape[1:]))


def _attention(args: tuple[Any, ...], output: Any) -> int:
    """Queries (batch, heads, length, size) with keys, then their weights with values; no query is masked out."""
    query, key, value = (tensor.shape for tensor in args[:3])
    return int(prod(query[:3]) * key[2] * (query[3] + value[3]))


# Operators whose cost is a formula of their arguments and output.
FORMULAS: dict[str, Callable[[tuple[Any, ...], Any], int]] = {
    "aten::_scaled_dot_product_cudnn_attention": _attention,
    "aten::_scaled_dot_product_efficient_attention": _attention,
    "aten::_scaled_dot_product_flash_attention": _attention,
    "aten::_scaled_dot_product_flash_attention_for_cpu": _attention,
    "aten::_scaled_dot_product_fused_attention_overrideable": _attention,
    "aten::mm": _product(0, 1),
    "aten::bmm": _product(0, 1),
    "aten::mv": _product(0, 1),
    "aten::dot": _product(0, 1),
    "aten::vdot": _product(0, 1),
    "aten::_addmm_activation": _product(1, 2),
    "aten::_int_mm": _product(0, 1),
    "aten::addmm": _product(1, 2),
    "aten::addmv": _product(1, 2),
    "aten::addbmm": _product(1, 2),
    "aten::baddbmm": _product(1, 2),
    "aten::convolution": _convolution,
    "aten::_convolution": _convolution,
    "aten::convolution_overrideable": _convolution,
    "torchvision::deform_conv2d": _deformable,
}

# Operators that not all releases of PyTorch tag as views or pointwise, in place or not, and that have no products:
# activations and comparisons, normalisation, pooling, reductions, interpolation, and making, moving, selecting, sorting
# and quantizing elements.
_ATEN = """
    _adaptive_avg_pool2d _adaptive_avg_pool3d _assert_async _assert_scalar _assert_tensor_metadata _conj_physical
    _embedding_bag _embedding_bag_forward_only _functional_assert_async _functional_assert_scalar _fused_rms_norm
    _index_put_impl _local_scalar_dense _log_softmax _masked_softmax _native_batch_norm_legit
    _native_batch_norm_legit_no_training _prelu_kernel _safe_softmax _softmax _stack _to_copy _unsafe_index
    _unsafe_index_put _unsafe_view _upsample_bicubic2d_aa _upsample_bilinear2d_aa _upsample_nearest_exact1d
    _upsample_nearest_exact2d _upsample_nearest_exact3d _weight_norm_interface abs adaptive_avg_pool1d
    adaptive_max_pool2d adaptive_max_pool3d all amax amin aminmax any arange argmax argmin as_strided
    as_strided_copy avg_pool1d avg_pool2d avg_pool3d bernoulli bincount bucketize cat celu channel_shuffle clone
    col2im complex constant_pad_nd copy copysign count_nonzero cummax cummin cumprod cumsum detach detach_copy
    diag_embed elu embedding empty empty_like empty_permuted empty_strided eq exponential eye fill fill_diagonal
    flip floor_divide fractional_max_pool2d fractional_max_pool3d full full_like gather gcd ge gelu glu
    grid_sampler_2d grid_sampler_3d gt hardsigmoid hardswish hardtanh heaviside histc im2col index index_add
    index_copy index_fill index_put index_reduce index_select isin kthvalue lcm le leaky_relu lift lift_fresh
    lift_fresh_copy linalg_vector_norm linspace log_sigmoid_forward log_softmax logcumsumexp logsumexp lt
    masked_fill masked_scatter masked_select max max_pool2d_with_indices max_pool3d_with_indices max_unpool2d
    max_unpool3d mean median min mish mode multinomial nanmedian nansum native_batch_norm native_channel_shuffle
    native_dropout native_group_norm native_layer_norm ne new_empty new_empty_strided new_full new_ones new_zeros
    nonzero norm normal ones ones_like permute_copy pixel_shuffle pixel_unshuffle polar prod rand rand_like randint
    randn randn_like randperm reflection_pad1d reflection_pad2d reflection_pad3d renorm repeat repeat_interleave
    replication_pad1d replication_pad2d replication_pad3d resize roll rot90 rrelu_with_noise rsub scalar_tensor
    scatter scatter_add scatter_reduce searchsorted select_scatter selu slice_scatter sort split_with_sizes_copy
    squeeze squeeze_copy stack std std_mean sum t take threshold topk trace transpose tril tril_indices triu
    triu_indices unfold_copy uniform unique_consecutive unique_dim unsafe_split unsafe_split_with_sizes unsqueeze
    unsqueeze_copy upsample_bicubic2d upsample_bilinear2d upsample_linear1d upsample_nearest1d upsample_nearest2d
    upsample_nearest3d upsample_trilinear3d var var_mean view_copy where xlogy zero zeros zeros_like
"""
FREE = frozenset(
    [
        *(f"aten::{name}" for name in _ATEN.split()),
        "prim::device",
        "quantized_decomposed::dequantize_per_channel",
        "quantized_decomposed::dequantize_per_tensor",
        "quantized_decomposed::quantize_per_channel",
        "quantized_decomposed::quantize_per_tensor",
    ]
)
