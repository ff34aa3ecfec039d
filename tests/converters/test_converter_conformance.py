"""The built-in toolchains pass the suite that third parties subclass."""

from __future__ import annotations

import artifact_runner
import numpy as np
import pytest
from numpy.typing import NDArray

from edlab.artifact import Artifact
from edlab.testing.converter import ConverterConformance


class _OnThisMachine(ConverterConformance):
    def predict(self, artifact: Artifact, images: NDArray[np.float32]) -> NDArray[np.float32]:
        return artifact_runner.run(artifact.format, artifact.files[0], images)


class TestOnnxruntime(_OnThisMachine):
    converter = "onnxruntime"


class TestOpenvino(_OnThisMachine):
    converter = "openvino"

    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        pytest.importorskip("nncf")


class TestLitert(_OnThisMachine):
    converter = "litert"

    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        pytest.importorskip("litert_torch")


class TestNcnn(_OnThisMachine):
    converter = "ncnn"

    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        pytest.importorskip("ncnn")
        pytest.importorskip("pnnx")
