"""Where quantization hurts: the layers of a converted model that add most noise, on the images of the check."""

from __future__ import annotations

from typing import Any, NamedTuple

from edlab import converters
from edlab.cache import Cache
from edlab.config import EdlabConfig
from edlab.converters import CalibrationData
from edlab.errors import UnsupportedError
from edlab.isolation import run_isolated
from edlab.metrics.layer_noise import LayerNoise, layer_noise
from edlab.metrics.profile import SourceLayer
from edlab.stages import reference
from edlab.stages.convert import convert
from edlab.stages.load import Inputs, OnProgress


class Explanation(NamedTuple):
    """The layers, the one that adds most noise first."""

    layers: list[LayerNoise]
    images: int  # on which they were compared
    can_exclude: bool  # the converter can leave single layers in floating point
    sha256: str  # of the quantized file


def explain(config: EdlabConfig, inputs: Inputs, cache: Cache, on_progress: OnProgress) -> Explanation:
    """Convert again (from the cache) and compare the quantized file with the float32 file it was made from.

    Raises `UnsupportedError` with the reason if that is not available.
    """
    artifact = convert(config, inputs, cache, on_progress)
    quantized, floating = artifact.on_host, artifact.unquantized
    converter = converters.get(config.converter)
    if not quantized.precision.startswith("int8") or floating is None:
        raise _unavailable(_no_pair(inputs.source.precision, quantized.precision))
    function = converter.layer_noise.get(quantized.format)
    if function is None or floating.format != quantized.format:
        raise _unavailable(f"converter={converter.name} cannot compare {quantized.format} files layer by layer")
    rows = reference.check_images(inputs.data)
    images = CalibrationData(inputs.data.images, rows.tolist(), inputs.source.preprocessing, inputs.data.digest)
    on_progress("compare layers", None, f"on {len(rows)} images")
    arguments: dict[str, Any] = {
        "floating": str(floating.files[0]),
        "quantized": str(quantized.files[0]),
        "images": images.describe(),
        "layout": quantized.layout,
        "options": quantized.steps[-1].options,
    }
    logs = cache.root / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    found = run_isolated(function, arguments, log=logs / f"explain-{quantized.sha256[:16]}.log")
    layers = [SourceLayer(**fields) for fields in found["layers"]]
    return Explanation(
        layer_noise(layers, found["noise"], found["ends"]),
        len(rows),
        converter.capability(config.quantization.precision).exclude,
        artifact.sha256,
    )


def _no_pair(source: str, precision: str) -> str:
    if source != "fp32":
        return f"the source file is already {source}: there is no float32 file to compare with"
    return f"the file on this machine is {precision}: nothing is quantized, or only the target quantizes it"


def _unavailable(reason: str) -> UnsupportedError:
    return UnsupportedError(
        f"not available: {reason}", hint="use converter=onnxruntime, openvino or litert with quantization=int8"
    )
