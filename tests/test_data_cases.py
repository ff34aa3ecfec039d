"""Data sets as people have them, from the command line to the accuracy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from workplace import Workplace

SIZE = 16


def write_model(path: Path, weight: np.ndarray) -> Path:
    """Means of the three input channels, times `weight` (3, classes)."""
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["x"], ["p"]),
            helper.make_node("Flatten", ["p"], ["f"]),
            helper.make_node("Gemm", ["f", "w"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, weight.shape[1]])],
        [numpy_helper.from_array(weight.astype(np.float32), "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


@pytest.fixture
def words(workplace: Workplace) -> list[str]:
    """A model of B, G, R (as of Caffe and OpenCV): blue, green and red are its classes; and 20 images of each."""
    random = np.random.default_rng(0)
    for index, name in enumerate(("a_blue", "b_green", "c_red")):
        folder = workplace.folder / "data" / "val" / name
        folder.mkdir(parents=True)
        for number in range(20):
            pixels = random.integers(0, 120, (SIZE, SIZE, 3), dtype=np.uint8)
            pixels[..., 2 - index] += 120
            Image.fromarray(pixels).save(folder / f"{number}.png")
    model = write_model(workplace.folder / "bgr.onnx", np.eye(3))
    return ["model=file", f"model.path={model}", "dataset=image_folder", f"dataset.path={workplace.folder}/data/val"]


def test_a_model_of_bgr_is_fed_bgr_on_every_path(workplace: Workplace, words: list[str]) -> None:
    """Calibration among them: the ranges of the channels differ."""
    bgr = ["model.preprocessing.channels=bgr", "model.preprocessing.mean=[0.1,0.2,0.3]", "power=none"]
    done = workplace.run(
        "-m", *words, *bgr, "converter=onnxruntime", "quantization=fp32,int8", "quantization.calibration.images=6"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for record in workplace.records():
        assert record.metrics["accuracy_top1"] == 1.0
        assert record.details["source"]["preprocessing"]["channels"] == "bgr"


def test_a_folder_one_level_too_high_is_refused_with_the_right_one(workplace: Workplace, words: list[str]) -> None:
    done = workplace.run(*words[:-1], f"dataset.path={workplace.folder}/data", "converter=onnxruntime", "power=none")
    assert done.returncode != 0
    (record,) = workplace.records()
    assert "are parts of a data set" in record.reason or "is a part of a data set" in record.reason
    assert record.hint == f"set dataset.path={workplace.folder}/data/val"
