"""Published detectors: TFLite files with a post-processing operator, and torchvision's models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from file_makers import add_metadata
from flatbuffers import flexbuffers

from edlab import devices, models, tflite_file
from edlab.agent.messages import TensorSpec
from edlab.agent.tasks.detection import NO_DETECTION, Task
from edlab.artifact import Artifact
from edlab.cache import Cache
from edlab.config import DetectionConfig, DeviceConfig, ModelConfig, ModelOrigin
from edlab.devices import Pool, read_array
from edlab.errors import ModelError
from edlab.source import SourceModel
from edlab.torchvision_import import import_torchvision

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

BOXES, CLASSES = 6, 4  # of the file, the background not counted
DEVICE = DeviceConfig(name="cpu", runtimes={"tflite": "litert", "pt2": "torch"})


# ---- TFLite_Detection_PostProcess


def make_tflite_detector(path: Path, *, quantized: bool, order: tuple[int, ...] = (0, 1, 2, 3)) -> Path:
    """A convolution to box codes and scores, followed by the operator; `order` is that of the file's outputs."""
    import tensorflow as tf

    random = np.random.default_rng(0)
    codes, scores = (tf.constant(random.normal(0, 3, (12, BOXES * n)).astype(np.float32)) for n in (4, CLASSES + 1))

    class Net(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=[tf.TensorSpec((1, 8, 8, 3), tf.float32)])  # type: ignore[untyped-decorator]
        def __call__(self, images: Any) -> Any:
            flat = tf.reshape(tf.nn.avg_pool2d(images, 4, 4, "VALID"), (1, 12))
            boxes = tf.reshape(tf.matmul(flat, codes), (1, BOXES, 4))
            return boxes, tf.sigmoid(tf.reshape(tf.matmul(flat, scores), (1, BOXES, CLASSES + 1)))

    net = Net()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([net.__call__.get_concrete_function()], net)
    if quantized:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([random.random((1, 8, 8, 3), np.float32)] for _ in range(50))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.uint8
    model = tflite_file.parse(converter.convert())
    add_postprocess(model, order)
    path.write_bytes(tflite_file.pack(model))
    return path


def anchors() -> np.ndarray:
    """float32 (BOXES, 4): y, x, height, width of centres, as the operator takes them."""
    random = np.random.default_rng(1)
    return np.concatenate([random.uniform(0.2, 0.8, (BOXES, 2)), random.uniform(0.1, 0.4, (BOXES, 2))], 1).astype(
        np.float32
    )


def add_postprocess(model: Any, order: tuple[int, ...]) -> None:
    from ai_edge_litert import schema_py_generated as schema

    graph = model.subgraphs[0]
    inputs = sorted(graph.outputs, key=lambda index: graph.tensors[index].shape[2] != 4)

    def add_tensor(name: str, shape: list[int], data: bytes = b"") -> int:
        buffer, tensor = schema.BufferT(), schema.TensorT()
        buffer.data = list(data) or None
        model.buffers.append(buffer)
        tensor.name, tensor.shape, tensor.type = name, shape, schema.TensorType.FLOAT32
        tensor.buffer = len(model.buffers) - 1
        graph.tensors.append(tensor)
        return len(graph.tensors) - 1

    options = {
        "max_detections": 5,
        "max_classes_per_detection": 1,
        "num_classes": CLASSES,
        "nms_score_threshold": 0.05,
        "nms_iou_threshold": 0.6,
        "y_scale": 10.0,
        "x_scale": 10.0,
        "h_scale": 5.0,
        "w_scale": 5.0,
        "use_regular_nms": True,
    }
    code, operator = schema.OperatorCodeT(), schema.OperatorT()
    code.builtinCode, code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM, schema.BuiltinOperator.CUSTOM
    code.customCode, code.version = "TFLite_Detection_PostProcess", 1
    model.operatorCodes.append(code)
    operator.opcodeIndex = len(model.operatorCodes) - 1
    operator.customOptions = list(flexbuffers.Dumps(options))
    operator.inputs = [*inputs, add_tensor("anchors", [BOXES, 4], anchors().tobytes())]
    shapes = {"boxes": [1, 5, 4], "classes": [1, 5], "scores": [1, 5], "count": [1]}
    operator.outputs = [add_tensor(f"post:{place}", shape) for place, shape in enumerate(shapes.values())]
    graph.operators.append(operator)
    graph.outputs = [operator.outputs[place] for place in order]
    model.signatureDefs = []


def load(path: Path, cache: Cache, **keys: Any) -> SourceModel:
    config = ModelConfig(origin=ModelOrigin.file, path=str(path), **keys)
    return models.load(config, cache, log=path.parent / "load.log")


def predict(source: SourceModel, images: np.ndarray, cache: Cache, folder: Path) -> np.ndarray:
    """What the agent reads from the model for these images."""
    np.save(folder / "images.npy", images)
    with devices.connect(DEVICE, cache, source.reader.modules) as session:
        session.open(Artifact.of(source), source.preprocessing, DEVICE, source.task, source.reader)
        session.predict(Pool(str(folder / "images.npy"), list(range(len(images)))), folder / "out.npy")
    return read_array(folder / "out.npy")


def run_litert(path: Path, images: np.ndarray) -> Iterator[list[np.ndarray]]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    (source,) = interpreter.get_input_details()
    for image in images:
        tensor = image[None] if source["dtype"] == np.uint8 else (image[None] / 255).astype(np.float32)
        interpreter.set_tensor(source["index"], tensor)
        interpreter.invoke()
        yield [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (2, 0, 3, 1)])
def test_a_tflite_detector_is_read_by_its_operator(
    quantized: bool, order: tuple[int, ...], cache: Cache, tmp_path: Path
) -> None:
    path = make_tflite_detector(tmp_path / "ssd.tflite", quantized=quantized, order=order)
    source = load(path, cache)
    assert (source.task, source.num_classes, source.label_offset) == ("detection", CLASSES, 0)
    assert source.precision == ("int8" if quantized else "fp32")
    assert source.reader.options["head"] == "ssd"
    assert source.reader.options["max_detections"] == 5
    assert source.reader.options["scores_first"] is (order == (2, 0, 3, 1))
    assert source.reader.origins["max_detections"] == "read"
    images = np.random.default_rng(2).integers(0, 256, (6, 8, 8, 3), np.uint8)
    rows = predict(source, images, cache, tmp_path)
    assert rows.shape == (6, 5, 6)
    for row, outputs in zip(rows, run_litert(path, images), strict=True):
        boxes, classes, scores, count = (outputs[order.index(place)] for place in range(4))
        found = int(count[0])
        assert found
        np.testing.assert_allclose(row[:found, :4], boxes[0, :found][:, [1, 0, 3, 2]], atol=1e-6)
        np.testing.assert_allclose(row[:found, 4], scores[0, :found], atol=1e-6)
        np.testing.assert_array_equal(row[:found, 5], classes[0, :found])
        assert (row[found:, 5] == NO_DETECTION).all()
    assert len(np.unique(rows[..., 5])) > 2


def make_raw_detector(folder: Path) -> tuple[Path, DetectionConfig]:
    """ssd.tflite in the folder without its operator, and how its outputs are decoded."""
    raw = tflite_file.parse(make_tflite_detector(folder / "ssd.tflite", quantized=False).read_bytes())
    graph = raw.subgraphs[0]
    graph.outputs = list(graph.operators.pop().inputs[:2])
    (folder / "raw.tflite").write_bytes(tflite_file.pack(raw))
    np.save(folder / "anchors.npy", anchors()[:, [1, 0, 3, 2]])
    coding = DetectionConfig(
        anchors=str(folder / "anchors.npy"), activation="none", box_order="yxhw", score_threshold=0.05
    )
    coding.iou_threshold, coding.max_detections = 0.6, 5
    return folder / "raw.tflite", coding


def test_the_operator_counts_classes_without_the_background(cache: Cache, tmp_path: Path) -> None:
    """Decoded here from the raw outputs, with the background at 0, it is the same except for the label offset."""
    path, coding = make_raw_detector(tmp_path)
    # The operator does not clip boxes, so only those inside the image are compared.
    keys = {"head": "ssd_raw", "label_offset": 1, "detection": coding}
    image = np.random.default_rng(2).integers(0, 256, (6, 8, 8, 3), np.uint8)
    by_operator = predict(load(tmp_path / "ssd.tflite", cache), image, cache, tmp_path)
    by_agent = predict(load(path, cache, **keys), image, cache, tmp_path)
    inside = ((by_operator[..., :4] >= 0) & (by_operator[..., :4] <= 1)).all(axis=2) & (by_operator[..., 5] >= 0)
    assert inside.sum() > 5
    np.testing.assert_allclose(by_agent[inside][:, :5], by_operator[inside][:, :5], atol=1e-5)
    np.testing.assert_array_equal(by_agent[inside][:, 5] - 1, by_operator[inside][:, 5])


def test_another_number_of_classes_than_the_operators_is_refused(cache: Cache, tmp_path: Path) -> None:
    path = make_tflite_detector(tmp_path / "ssd.tflite", quantized=False)
    with pytest.raises(ModelError, match="have 4 classes, not 90"):
        load(path, cache, num_classes=90)


def test_labels_in_the_file_name_the_operators_classes(cache: Cache, tmp_path: Path) -> None:
    path = make_tflite_detector(tmp_path / "ssd.tflite", quantized=False)
    labels = ("cat", "dog", "cow", "hen")
    assert load(add_metadata(path, labels=labels), cache).class_names == labels


def test_a_background_class_by_its_name_is_no_detection(cache: Cache, tmp_path: Path) -> None:
    """The model and the reader of its outputs have one label offset, whatever its source."""
    path, coding = make_raw_detector(tmp_path)
    images = np.random.default_rng(2).integers(0, 256, (6, 8, 8, 3), np.uint8)
    given = predict(load(path, cache, head="ssd_raw", label_offset=1, detection=coding), images, cache, tmp_path)
    labelled = add_metadata(path, labels=("background", "cat", "dog", "cow", "hen"))
    named = load(labelled, cache, head="ssd_raw", detection=coding)
    assert (named.label_offset, named.label_offset_origin) == (1, "read")
    np.testing.assert_array_equal(predict(named, images, cache, tmp_path), given)
    assert (given[..., 5] != 0).all()


def test_changed_anchors_are_read_again(cache: Cache, tmp_path: Path) -> None:
    path = make_tflite_detector(tmp_path / "ssd.tflite", quantized=False)
    raw = tflite_file.parse(path.read_bytes())
    raw.subgraphs[0].outputs = list(raw.subgraphs[0].operators.pop().inputs[:2])
    path.write_bytes(tflite_file.pack(raw))
    file = tmp_path / "anchors.npy"
    for value in (0.25, 0.5):
        np.save(file, np.full((BOXES, 4), value, np.float32))
        source = load(path, cache, head="ssd_raw", detection=DetectionConfig(anchors=str(file)))
        assert (np.load(source.reader.files["anchors"]) == value).all()


# ---- torchvision


def torchvision_config(arch: str, **keys: Any) -> ModelConfig:
    return ModelConfig(origin=ModelOrigin.torchvision, arch=arch, weights="random", **keys)


def plain_batched_nms(boxes: Any, scores: Any, classes: Any, threshold: float) -> Any:
    """torchvision.ops.batched_nms by its definition: this environment may not have its compiled operator."""
    import torch

    corners, numbers = boxes.numpy(), classes.numpy()
    areas = (corners[:, 2:] - corners[:, :2]).prod(axis=1)
    kept = np.empty(0, np.int64)
    for index in torch.argsort(scores, descending=True, stable=True).numpy():
        others = kept[numbers[kept] == numbers[index]]
        top_left = np.maximum(corners[others, :2], corners[index, :2])
        shared = (np.minimum(corners[others, 2:], corners[index, 2:]) - top_left).clip(0).prod(axis=1)
        if not (shared > threshold * (areas[others] + areas[index] - shared)).any():
            kept = np.append(kept, index)
    return torch.from_numpy(kept)


@pytest.mark.parametrize(("arch", "size"), [("ssdlite320_mobilenet_v3_large", 320), ("retinanet_resnet50_fpn", 128)])
def test_torchvisions_detectors_are_decoded_as_torchvision_does(
    arch: str, size: int, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    torchvision = import_torchvision()
    config = torchvision_config(arch)
    if arch.startswith("retinanet"):
        config.preprocessing.height = config.preprocessing.width = size
    source = models.load(config, cache, log=tmp_path / "load.log")
    assert (source.task, source.num_classes, source.classes, source.label_offset) == ("detection", 91, 90, 1)
    assert source.class_names[:2] == ("__background__", "person")
    options = source.reader.options
    assert options["size"] == [size, size]

    monkeypatch.setattr(torchvision.ops.boxes, "batched_nms", plain_batched_nms)
    torch.manual_seed(1)
    vision = torchvision.models.get_model(arch, weights=None, weights_backbone=None).eval()
    images = torch.zeros(1, 3, size, size)
    with torch.no_grad():
        features = list(vision.backbone(images).values())
        raw = vision.head(features)
        listed = torchvision.models.detection.image_list.ImageList(images, [(size, size)])
        anchors = vision.anchor_generator(listed, features)
    codes, logits = raw["bbox_regression"], raw["cls_logits"]
    logits = torch.randn_like(logits) * 2 - 8
    logits[..., 0] += 6 if arch.startswith("ssd") else -20  # RetinaNet's class 0 is never learnt
    codes = torch.randn_like(codes)
    limits = {"score_threshold": 0.2, "iou_threshold": 0.45, "max_candidates": 10**6, "max_detections": 200}
    vision.score_thresh, vision.nms_thresh, vision.topk_candidates, vision.detections_per_img = (
        limits["score_threshold"],
        limits["iou_threshold"],
        10**6,
        200,
    )
    heads = {"bbox_regression": codes, "cls_logits": logits}
    if arch.startswith("retinanet"):
        cells = [feature.shape[2] * feature.shape[3] for feature in features]
        levels = [count * vision.anchor_generator.num_anchors_per_location()[0] for count in cells]
        split = {name: list(value.split(levels, dim=1)) for name, value in heads.items()}
        (expected,) = vision.postprocess_detections(split, [list(anchors[0].split(levels))], [(size, size)])
    else:
        (expected,) = vision.postprocess_detections(heads, anchors, [(size, size)])

    arrays = [codes.numpy(), logits.numpy()]
    specs = [TensorSpec(str(place), array.shape, "float32", None, None) for place, array in enumerate(arrays)]
    task = Task(specs, {**options, **limits, "anchors": str(source.reader.files["anchors"])})
    rows = task.read(arrays)
    found = rows[rows[:, 5] != NO_DETECTION]
    assert len(found) == len(expected["scores"]) > 50
    np.testing.assert_allclose(found[:, 4], expected["scores"], atol=1e-5)
    np.testing.assert_array_equal(found[:, 5], expected["labels"])
    np.testing.assert_allclose(found[:, :4], expected["boxes"] / size, atol=1e-4)


def test_the_exported_graph_gives_what_the_network_gives(cache: Cache, tmp_path: Path) -> None:
    source = models.load(torchvision_config("ssdlite320_mobilenet_v3_large"), cache, log=tmp_path / "load.log")
    assert (source.preprocessing.height, source.preprocessing.resize_mode) == (320, "squash")
    assert source.preprocessing.mean == source.preprocessing.std == (0.5, 0.5, 0.5)
    images = np.random.default_rng(0).integers(0, 256, (2, 320, 320, 3), np.uint8)
    rows = predict(source, images, cache, tmp_path)
    assert rows.shape == (2, 300, 6)
    assert (rows[..., 5] != 0).all()  # nothing is of the background


def test_another_number_of_classes_takes_no_names(cache: Cache, tmp_path: Path) -> None:
    config = torchvision_config("ssdlite320_mobilenet_v3_large", arguments={"num_classes": 4})
    source = models.load(config, cache, log=tmp_path / "load.log")
    assert (source.classes, source.class_names) == (3, ())


@pytest.mark.parametrize("arch", ["fasterrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn_v2", "fcos_resnet50_fpn"])
def test_other_detectors_of_torchvision_are_refused_with_those_that_can(
    arch: str, cache: Cache, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=f"{arch} is unsupported") as caught:
        models.load(torchvision_config(arch), cache, log=tmp_path / "load.log")
    assert "ssdlite320_mobilenet_v3_large" in caught.value.hint
