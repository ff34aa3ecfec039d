"""Small model files of every kind: ONNX by its helpers, TFLite by TensorFlow, with metadata and labels."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edlab.config import ModelConfig, ModelOrigin
from edlab.models.files import ModelFile, load_file

CLASSES = 4


def load(path: Path, **keys: Any) -> ModelFile:
    """Read a model file as `model=file` does."""
    folder = path.parent / "out"
    folder.mkdir(exist_ok=True)
    return load_file(ModelConfig(origin=ModelOrigin.file, path=str(path), **keys), folder)


def make_onnx(
    path: Path,
    first: Sequence[Any] = (),
    *,
    last: str = "x",
    opset: int = 13,
    elem: int = TensorProto.FLOAT,
    weights: Sequence[Any] = (),
    metadata: dict[str, str] | None = None,
    domains: Sequence[str] = (),
    functions: Sequence[Any] = (),
    ir: int = 8,
    weights_are_inputs: bool = False,
    shape: Sequence[Any] = (1, 3, 16, 16),
    classes: int = CLASSES,
) -> Path:
    """A convolution, pooling and a matrix product after the nodes `first`, which lead from "x" to `last`."""
    random = np.random.default_rng(0)
    own = [
        numpy_helper.from_array(random.standard_normal((5, 3, 3, 3)).astype(np.float32), "kernel"),
        numpy_helper.from_array(random.standard_normal((5, classes)).astype(np.float32), "matrix"),
        *weights,
    ]
    nodes = [
        *first,
        helper.make_node("Conv", [last, "kernel"], ["conv"], name="conv"),
        helper.make_node("GlobalAveragePool", ["conv"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "matrix"], ["logits"], name="matmul"),
    ]
    values = [helper.make_tensor_value_info("x", elem, shape)]
    if weights_are_inputs:
        values += [helper.make_tensor_value_info(w.name, w.data_type, list(w.dims)) for w in own]
    graph = helper.make_graph(
        nodes, "net", values, [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [shape[0], classes])], own
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(name, 1) for name in domains)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=ir, functions=list(functions))
    helper.set_model_props(model, metadata or {})
    onnx.save(model, path)
    return path


def constant(name: str, value: Any, dtype: Any = np.float32) -> Any:
    return numpy_helper.from_array(np.asarray(value, dtype), name)


def make_tflite(
    path: Path, *, low: float, high: float, dtype: str = "int8", classes: int = CLASSES, size: int = 8
) -> Path:
    """An int8 file of pooling and a matrix product, trained on pixels of low..high, with an input of `dtype`."""
    import tensorflow as tf

    random = np.random.default_rng(0)
    matrix = tf.constant(random.standard_normal((3, classes)).astype(np.float32))

    class Net(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=[tf.TensorSpec((1, size, size, 3), tf.float32)])  # type: ignore[untyped-decorator]
        def __call__(self, images: Any) -> Any:
            return tf.matmul(tf.reshape(tf.nn.avg_pool2d(images, size, 1, "VALID"), (1, 3)), matrix)

    net = Net()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([net.__call__.get_concrete_function()], net)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    ends = [np.full((1, size, size, 3), value, np.float32) for value in (low, high)]
    converter.representative_dataset = lambda: ([image] for image in ends)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = getattr(tf, dtype)
    path.write_bytes(converter.convert())
    return path


def edit_tflite(path: Path, edit: Any) -> Path:
    """Change a TFLite file by `edit(model, schema)` on its object form."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    edit(model, schema)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def add_metadata(
    path: Path, *, mean: Sequence[float] = (), std: Sequence[float] = (), labels: Sequence[str] = ()
) -> Path:
    """TFLITE_METADATA as tflite-support wrote it: normalisation, and a label file in an archive at the end."""
    data = _metadata(mean, std, "labels.txt" if labels else "")

    def add(model: Any, schema: Any) -> None:
        buffer, entry = schema.BufferT(), schema.MetadataT()
        buffer.data = list(data)
        model.buffers.append(buffer)
        entry.name, entry.buffer = "TFLITE_METADATA", len(model.buffers) - 1
        model.metadata = [*(model.metadata or []), entry]

    edit_tflite(path, add)
    if labels:
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("labels.txt", "\n".join(labels) + "\n")
        path.write_bytes(path.read_bytes() + archive.getvalue())
    return path


def _metadata(mean: Sequence[float], std: Sequence[float], labels: str) -> bytes:
    """A ModelMetadata flatbuffer; fields by their number in metadata_schema.fbs."""
    build = flatbuffers.Builder(256)

    def floats(values: Sequence[float]) -> int:
        build.StartVector(4, len(values), 4)
        for value in reversed(values):
            build.PrependFloat32(value)
        return int(build.EndVector())

    def table(fields: int, offsets: dict[int, int], bytes_: dict[int, int] | None = None) -> int:
        build.StartObject(fields)
        for number, offset in offsets.items():
            build.PrependUOffsetTRelativeSlot(number, offset, 0)
        for number, value in (bytes_ or {}).items():
            build.PrependUint8Slot(number, value, 0)
        return int(build.EndObject())

    def vector(offsets: Sequence[int]) -> int:
        build.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            build.PrependUOffsetTRelative(offset)
        return int(build.EndVector())

    units = {}
    if mean:
        options = table(2, {0: floats(mean), 1: floats(std)})
        units = {4: vector([table(2, {1: options}, {0: 1})])}
    files = {}
    if labels:
        files = {6: vector([table(4, {0: build.CreateString(labels)}, {2: 2})])}
    subgraph = table(5, {2: vector([table(7, units)]), 3: vector([table(7, files)])})
    build.Finish(table(8, {3: vector([subgraph])}), b"M001")
    return bytes(build.Output())
