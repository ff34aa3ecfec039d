"""ncnn: .param and .bin by pnnx, in float32, or with float16 weights.

pnnx's options are from https://github.com/Tencent/ncnn/tree/master/tools/pnnx. The tools that make int8 files
(ncnn2table, ncnn2int8) are in neither the ncnn nor the pnnx package.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from edlab.config import Precision, QuantizationConfig
from edlab.converters import onnx_prepare
from edlab.converters.base import Capability, Converter, Step
from edlab.converters.onnx_export import export_steps
from edlab.errors import ConversionError, ModelError
from edlab.isolation import describe_exit
from edlab.source import SourceModel, input_shape

_TOOLS = {"pnnx": "edlab[ncnn]", "ncnn": "edlab[ncnn]", "onnx": "edlab"}


class NcnnConverter(Converter):
    """Converts to ncnn, via ONNX."""

    name = "ncnn"
    format = "ncnn"
    takes = ("pt2", "onnx")  # of Keras models pnnx keeps operators that ncnn does not have, such as a one-sided padding
    capabilities: ClassVar[Mapping[Precision, Capability]] = {
        Precision.fp32: Capability(),
        Precision.fp16: Capability(),
    }
    requirements = _TOOLS

    def _steps(self, source: SourceModel, quantization: QuantizationConfig) -> tuple[Step, ...]:
        export = export_steps(source)
        shape = list(input_shape(source.preprocessing, "NCHW" if export else source.layout))
        return (
            *export,
            Step(
                name="onnx_to_ncnn",
                version=2,
                function=f"{__name__}:onnx_to_ncnn",
                output="model.param",
                format="ncnn",
                precision=quantization.precision.value,
                layout="NCHW" if export else source.layout,
                tools=_TOOLS,
                options={"fp16": quantization.precision is Precision.fp16, "shape": shape},
            ),
        )


def onnx_to_ncnn(inputs: list[str], out: str, options: dict[str, Any], calibration: None) -> None:
    """ONNX -> ncnn; float16 applies to the weights, and the device chooses the arithmetic."""
    import pnnx

    with tempfile.TemporaryDirectory() as folder:  # pnnx writes more files next to its input
        name = Path(inputs[0]).name
        prepared = onnx_prepare.prepare(inputs[0], Path(folder, name), shape=options.get("shape"))
        if prepared == Path(inputs[0]):
            Path(folder, name).symlink_to(inputs[0])
        input_shape, output_shape = _shapes(prepared)
        ended = subprocess.run(
            [
                pnnx.EXEC_PATH,
                name,
                f"inputshape=[{','.join(map(str, input_shape))}]",
                f"fp16={int(options['fp16'])}",
                f"ncnnparam={out}",
                f"ncnnbin={Path(out).with_suffix('.bin')}",
            ],
            cwd=folder,
        )
    if ended.returncode:  # float16 ONNX files crash it
        raise ConversionError(
            f"pnnx failed with {describe_exit(ended.returncode)}",
            hint="use a float32 model, or choose another converter for it",
        )
    _finish(Path(out), {"in0": input_shape[1:], "out0": output_shape[1:]})


def _shapes(path: Path) -> tuple[list[int], list[int]]:
    """The shapes of the only input and of the first output, with a batch of 1."""
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    inputs = onnx_prepare.inputs(graph)
    if len(inputs) != 1:
        raise ModelError(f"the model has {len(inputs)} inputs", hint="use a model with one input")
    return _shape(inputs[0]), _shape(graph.output[0])


def _shape(value: Any) -> list[int]:
    sizes = [1, *(dimension.dim_value for dimension in value.type.tensor_type.shape.dim[1:])]
    if not (2 <= len(sizes) <= 4 and all(sizes)):
        raise ModelError(
            f"ncnn does not support the shape {sizes} of '{value.name}' (0 is a free dimension)",
            hint="export the model with a fixed height and width",
        )
    return sizes


def _finish(path: Path, shapes: Mapping[str, Sequence[int]]) -> None:
    """Refuse operators that pnnx could not convert to ncnn, and write the shapes of the named blobs as hints."""
    import ncnn

    lines = path.read_text().splitlines()
    for number, line in enumerate(lines[2:], start=2):  # after the magic number, and the counts of layers and blobs
        kind, _, bottoms, tops_count, *rest = line.split()
        if ncnn.layer_to_index(kind) < 0:
            raise ConversionError(f"ncnn has no operator {kind}", hint="choose another converter for this model")
        tops = rest[int(bottoms) : int(bottoms) + int(tops_count)]
        if tops and tops[0] in shapes:
            size = list(shapes[tops[0]])
            hint = [len(size), *reversed(size), *[1] * (3 - len(size))]
            lines[number] = f"{line} -23330={len(hint)},{','.join(map(str, hint))}"  # 30: dimensions, w, h, c
    path.write_text("\n".join(lines) + "\n")
