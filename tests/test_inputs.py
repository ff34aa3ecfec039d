"""Models of one-channel images, and of arrays that are no images, measured from end to end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from workplace import Workplace


def trained() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights (10, 64) and biases (10,) of a linear classifier of scikit-learn's digits, pixels in 0..1."""
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression

    digits = load_digits()
    fitted = LogisticRegression(max_iter=1000).fit(digits.data / 16, digits.target)
    return fitted.coef_.astype(np.float32), fitted.intercept_.astype(np.float32)


def export(path: Path, *shape: int) -> Path:
    """The classifier as an exported program that takes one input of this shape."""
    import torch

    weights, biases = (torch.from_numpy(each) for each in trained())
    linear = torch.nn.Linear(64, 10)
    linear.weight, linear.bias = torch.nn.Parameter(weights), torch.nn.Parameter(biases)
    module = torch.nn.Sequential(torch.nn.Flatten(), linear).eval()
    torch.export.save(torch.export.export(module, (torch.zeros(1, *shape),)), path)
    return path


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from sklearn.datasets import load_digits

    digits = load_digits()
    path = tmp_path_factory.mktemp("arrays") / "digits.npz"
    np.savez(path, inputs=(digits.data / 16).astype(np.float32), labels=digits.target)
    return path


def test_arrays_are_fed_as_they_are(workplace: Workplace, arrays: Path, tmp_path: Path) -> None:
    model = export(tmp_path / "linear.pt2", 64)
    words = ["model=file", f"model.path={model}", "dataset=arrays", f"dataset.path={arrays}"]
    result = workplace.run("-m", *words, "converter=onnxruntime,litert", "quantization=fp32,int8")
    assert result.returncode == 0, result.stdout + result.stderr
    records = workplace.records()
    assert [record.metrics["accuracy_top1"] > 0.95 for record in records] == [True] * 4
    assert all(record.details["source"]["preprocessing"] == {"shape": [64]} for record in records)
    assert [record.metrics["agreement_top1"] > 0.98 for record in records] == [True] * 4


@pytest.mark.slow
def test_a_model_of_one_channel_takes_gray_images(workplace: Workplace, tmp_path: Path) -> None:
    model = export(tmp_path / "gray.pt2", 1, 8, 8)
    result = workplace.run("-m", "model=file", f"model.path={model}", "dataset=digits", "converter=onnxruntime,litert")
    assert result.returncode == 0, result.stdout + result.stderr
    for record in workplace.records():
        assert record.details["source"]["preprocessing"]["channels"] == "gray"
        assert record.metrics["accuracy_top1"] > 0.95


def test_what_does_not_fit_the_model_is_an_error(workplace: Workplace, arrays: Path, tmp_path: Path) -> None:
    vector, image = export(tmp_path / "linear.pt2", 64), export(tmp_path / "gray.pt2", 1, 8, 8)
    np.savez(tmp_path / "short.npz", inputs=np.zeros((4, 63), np.float32))
    (tmp_path / "damaged.npz").write_bytes(b"PK\3\4")
    for model, words, said in [
        (vector, ["dataset=digits"], "set model.input=array dataset=arrays"),
        (vector, ["dataset=arrays", f"dataset.path={tmp_path / 'short.npz'}"], "have the shape (63,) each"),
        (vector, ["dataset=arrays", f"dataset.path={tmp_path / 'damaged.npz'}"], "cannot read"),
        (vector, ["dataset=arrays", f"dataset.path={tmp_path}"], "is not found"),
        (image, ["model.input=array", "dataset=digits"], "contains images, and the model needs arrays"),
        (image, ["model.preprocessing.channels=rgb", "dataset=digits"], "needs images with 1 channels"),
    ]:
        result = workplace.run("model=file", f"model.path={model}", *words)
        assert result.returncode == 1
        assert said in result.stdout + result.stderr, result.stdout + result.stderr


def test_arrays_without_labels_or_data_still_measure_speed(workplace: Workplace, tmp_path: Path) -> None:
    model = export(tmp_path / "linear.pt2", 64)
    words = ["model=file", f"model.path={model}", "model.input=array", "dataset=synthetic"]
    result = workplace.run(*words)
    assert result.returncode == 0, result.stdout + result.stderr
    (record,) = workplace.records()
    assert record.metrics["latency_ms"] > 0
    assert "no labels" in record.missing["accuracy_top1"]


def test_the_batch_of_an_onnx_file_is_searched_if_it_is_free(workplace: Workplace) -> None:
    """As docs/tutorials/my-own-model.md exports it; for a fixed one there is a note."""
    import torch

    from edlab.models.digits_cnn import SIZE, DigitsCNN

    example = (torch.zeros(1, 3, SIZE, SIZE),)
    for name, free in (("free", {"image": {0: "batch"}}), ("fixed", None)):
        path = str(workplace.folder / f"{name}.onnx")
        torch.onnx.export(DigitsCNN().eval(), example, path, input_names=["image"], dynamic_axes=free, dynamo=False)
    result = workplace.run("-m", "model=file", "model.path=free.onnx,fixed.onnx", "dataset=synthetic")
    assert result.returncode == 0, result.stdout + result.stderr
    free, fixed = workplace.records()
    tried = {trial["batch"] for trial in free.details["phases"]["throughput"]["search"] if trial["ips"]}
    assert max(tried) > 1
    assert "batch_one_only" not in free.tags
    assert fixed.metrics["throughput_batch"] == 1
    assert "batch 1 only (#2): the ONNX file's batch is fixed; export it with a free batch" in result.stdout
