"""Whether the int8 kernels of a runtime compute the exact integers on this processor.

x86 processors with AVX2 or AVX-512 and without VNNI multiply uint8 by int8 with `vpmaddubsw`, which adds two products
in 16 bits and saturates: 2 x 255 x 127 = 64,770 becomes 32,767. Runtimes handle it differently (onnxruntime,
"Quantize ONNX models", section "When and why do I need to try U8U8?"; oneDNN, "Nuances of int8 computations").

The probe models (scripts/int8_probes) contain one convolution and one matrix product of large values. Their images are
uniform, so that each output is one sum of products, known exactly, and rounded to steps of the output's scale.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from .messages import Int8Kernels
from .preprocess import InputTable, dequantize
from .runtimes.base import Runtime

EXACT = "exact"  # every output is the right integer
SATURATING = "saturating"  # sums of products were clipped
UNKNOWN = "unknown"  # the probe could not run, or had other results

SIDE, KERNEL, CHANNELS = 12, 3, 16
WEIGHTS = (127 - np.arange(CHANNELS)).astype(np.int8)  # of an output channel; the same for each of its inputs
WEIGHT_SCALE = 2.0**-7
CONV_STEP, PRODUCT_STEP = 32.0, 512.0  # scales of the outputs
GREYS = (255, 200, 100)  # of the images, one value for all pixels

# Tolerance of a correct output, in steps: it is quantized three times, and runtimes round in different ways (OpenVINO
# truncates if it computes Q/DQ nodes in floating point). Saturation costs 30 steps and more.
_ROUNDING = 4

# The probe and its layout, by the format of the artifact that a runtime opens.
FILES = {"onnx": ("int8.onnx", "NCHW"), "openvino": ("int8.onnx", "NCHW"), "tflite": ("int8.tflite", "NHWC")}


def images() -> np.ndarray:
    """The probe's images, uint8 (N, SIDE, SIDE, 3)."""
    return np.stack([np.full((SIDE, SIDE, 3), grey, np.uint8) for grey in GREYS])


def expected(columns: int) -> np.ndarray:
    """The outputs of exact kernels for `images`: float64 (N, columns).

    A branch has the convolution's channels and then the product's. Its activations are uint8 in the first branch and
    int8 in the second, if there is one, where inputs and outputs end at 127 steps.
    """
    branches = []
    for limit in (255, 127)[: columns // (2 * CHANNELS)]:
        values = np.minimum(GREYS, limit)[:, None] * (WEIGHTS * WEIGHT_SCALE)[None]
        for inputs, step in ((3 * KERNEL * KERNEL, CONV_STEP), (3 * SIDE * SIDE, PRODUCT_STEP)):
            branches.append(np.minimum(np.round(values * inputs / step), limit) * step)
    return np.concatenate(branches, axis=1)


def choose(driver: type[Runtime], probe: str, layout: str, options: dict[str, Any]) -> Int8Kernels:
    """Try the runtime's int8 kernels here, and choose.

    Exact kernels replace the fast ones only if those are found to saturate.
    """
    complete = driver.complete(options)
    if not driver.int8_kernels:
        kernels = run(driver, probe, layout, complete)
        return Int8Kernels(options, kernels, kernels, arithmetic="int8", in_float=False)
    fast = run(driver, probe, layout, dict(complete, int8_kernels="fast"))
    wanted = complete["int8_kernels"]
    chosen = "fast" if wanted == "exact" and fast != SATURATING else wanted
    kernels = fast if chosen == "fast" else run(driver, probe, layout, dict(complete, int8_kernels=chosen))
    return Int8Kernels(
        options=dict(options, int8_kernels=chosen),
        int8_kernels=kernels,
        int8_kernels_of_fast=fast,
        arithmetic=driver.int8_kernels[chosen],
        in_float=chosen in driver.int8_in_float,
    )


def run(driver: type[Runtime], probe: str, layout: str, options: dict[str, Any]) -> str:
    """The result of `judge` for the probe model on this runtime with these options."""
    try:
        runtime = driver([probe], 1, options)
        runtime.load()
        compiled = runtime.compile(in_flight=1, batch=1)
        request, source, output = compiled.requests[0], compiled.inputs[0], compiled.outputs[0]
        table = InputTable([0.0] * 3, [1 / 255.0] * 3, layout, source.dtype, source.scale, source.zero_point)
        request.bind()
        rows = []
        for image in images():
            tensor = table.apply(image[None])  # kept until the request has been executed
            request.set_input(request.prepare(tensor))
            request.execute()
            rows.append(dequantize(request.get_outputs()[0].reshape(-1), output.scale, output.zero_point).copy())
    except Exception as error:  # an accelerator may reject the probe in any way: then nothing is known
        sys.stderr.write("int8 probe: %s: %s\n" % (type(error).__name__, error))
        return UNKNOWN
    return judge(np.stack(rows))


def judge(outputs: np.ndarray) -> str:
    """EXACT, SATURATING or UNKNOWN for the outputs (N, columns) of the probe's images."""
    branches = outputs.shape[1] / (2 * CHANNELS)
    if len(outputs) != len(GREYS) or branches not in (1, 2) or not np.isfinite(outputs).all():
        return UNKNOWN
    wanted = expected(outputs.shape[1])
    steps = np.tile(np.repeat([CONV_STEP, PRODUCT_STEP], CHANNELS), outputs.shape[1] // (2 * CHANNELS))
    error = (outputs - wanted) / steps
    if (np.abs(error) <= _ROUNDING).all():
        return EXACT
    return SATURATING if error.max() <= _ROUNDING else UNKNOWN
