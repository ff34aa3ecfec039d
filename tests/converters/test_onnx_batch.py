"""Freeing the batch of exported ONNX files: the same outputs for each image, or the file stays unchanged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edlab import converters
from edlab.artifact import Artifact
from edlab.cache import Cache
from edlab.config import ConverterConfig, Granularity, Precision, QuantizationConfig
from edlab.converters.onnx_batch import free_batch
from edlab.converters.onnx_export import export_steps, torch_to_onnx
from edlab.source import Reason
from edlab.stages.reference import this_machine
from edlab.testing.converter import quantization, small_calibration, small_source

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")


class Flat(torch.nn.Module):
    """Reshapes by its input's shape, which an export turns into constants."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 4, 3)
        self.head = torch.nn.Linear(4 * 36, 5)

    def forward(self, images: Any) -> Any:
        features = self.layer(images).relu()
        return self.head(features.view(features.shape[0], -1))


class Token(Flat):
    """Joins a token for each image, whose number the export keeps as 1."""

    def __init__(self) -> None:
        super().__init__()
        self.token = torch.nn.Parameter(torch.zeros(1, 1, 36))
        self.head = torch.nn.Linear(5 * 36, 5)

    def forward(self, images: Any) -> Any:
        features = self.layer(images).flatten(2)
        joined = torch.cat([self.token.expand(features.shape[0], -1, -1), features], dim=1)
        return self.head(joined.flatten(1))


class Mixing(Flat):
    """Subtracts the mean over the batch: each image affects the others' outputs."""

    def forward(self, images: Any) -> Any:
        return super().forward(images - images.mean(dim=0, keepdim=True))


def export(module: Any, folder: Path, **options: Any) -> Path:
    program = torch.export.export(module.eval(), (torch.rand(1, 3, 8, 8),))
    torch.export.save(program, folder / "net.pt2")
    torch_to_onnx([str(folder / "net.pt2")], str(folder / "net.onnx"), {"opset": 17, **options}, None)
    return folder / "net.onnx"


def run(path: Path, images: Any) -> Any:
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"input": images})[0]


def operators(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


def test_each_image_of_a_batch_gives_what_it_gives_alone(tmp_path: Path) -> None:
    module = Flat()
    static = export(module, tmp_path)
    before = operators(static)
    free = export(module, tmp_path, free_batch=True)
    assert operators(free) == before  # the same graph: batch 1 costs the same
    images = np.random.default_rng(1).random((6, 3, 8, 8), np.float32)
    with torch.no_grad():
        expected = np.concatenate([module(torch.from_numpy(image[None])).numpy() for image in images])
    for batch in (1, 2, 6):
        assert np.allclose(run(free, images[:batch]), expected[:batch], atol=1e-5)


@pytest.mark.parametrize("module", [Token(), Mixing()], ids=["token", "mixing"])
def test_a_graph_that_holds_one_image_stays_as_it_is_and_says_why(module: Any, tmp_path: Path) -> None:
    path = export(module, tmp_path)
    before = path.read_bytes()
    assert "batch" in free_batch(path)
    assert path.read_bytes() == before


def test_the_reason_is_in_the_steps_report(tmp_path: Path) -> None:
    from edlab.artifact import StepReport

    export(Token(), tmp_path, free_batch=True)
    assert "batch of 1" in StepReport.read(tmp_path).details["batch_one_only"]


def test_only_tools_that_take_a_free_batch_get_one(tmp_path: Path) -> None:
    source = small_source(tmp_path)

    def first_options(name: str) -> Any:
        return (
            converters.get(ConverterConfig(name=name))
            .plan(source, QuantizationConfig(precision=Precision.fp32))[0]
            .options
        )

    assert first_options("onnxruntime")["free_batch"]
    for name in ("openvino", "tensorrt", "ncnn"):
        assert "free_batch" not in first_options(name)
    reason = Reason(code="training_mode", message="normalises by the batch", advice="export it for inference")
    mixing = source.model_copy(update={"reasons": (reason,)})
    assert not mixing.batchable
    assert "free_batch" not in export_steps(mixing, batches=True)[0].options


def test_ranges_taken_at_run_time_keep_batch_1_and_say_why(tmp_path: Path) -> None:
    artifact = convert(Precision.int8_dynamic, tmp_path)
    assert ort.InferenceSession(artifact.files[0]).get_inputs()[0].shape[0] == 1
    assert "whole batch" in artifact.steps[-1].report.details["batch_one_only"]


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_other_precisions_keep_the_free_batch(precision: str, tmp_path: Path) -> None:
    artifact = convert(Precision(precision), tmp_path)
    images = np.random.default_rng(0).normal(size=(3, 3, 32, 32)).astype(np.float32)
    together = run(artifact.files[0], images)
    assert len(together) == 3
    alone = np.concatenate([run(artifact.files[0], image[None]) for image in images])
    assert np.allclose(together, alone, atol=2e-2 * np.abs(alone).max())


def convert(precision: Precision, folder: Path) -> Artifact:
    dynamic = precision is Precision.int8_dynamic
    wanted = quantization(precision, granularity=Granularity.per_tensor if dynamic else Granularity.per_channel)
    return converters.convert(
        small_source(folder),
        wanted,
        ConverterConfig(name="onnxruntime"),
        calibration=lambda: small_calibration(folder, wanted.calibration.images),
        cache=Cache(folder / "cache"),
        portable=this_machine().runtimes,
    )
