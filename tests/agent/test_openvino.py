"""OpenVINO by today's API and by that of 2022.3, and what a device that is not there says."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from test_runtimes import Prepared, export_onnx

from edlab import devices
from edlab.agent.messages import Opened
from edlab.artifact import Artifact
from edlab.cache import Cache
from edlab.composition import compose_config
from edlab.config import DeviceConfig
from edlab.converters.openvino import onnx_to_openvino
from edlab.errors import AgentError, ConfigError
from edlab.testing.runtime import PREPROCESSING, RuntimeConformance

OLD_PYTHON = os.environ.get("EDLAB_OPENVINO_2022_PYTHON")


class OpenVinoSuite(RuntimeConformance):
    """On the file that the converter writes."""

    runtime = "openvino"
    compress_to_fp16 = False

    def export(self, network: Any, folder: Path) -> list[Path]:
        onnx = export_onnx(network, folder / "net.onnx")
        onnx_to_openvino([str(onnx)], str(folder / "net.xml"), {"compress_to_fp16": self.compress_to_fp16}, None)
        return [folder / "net.xml", folder / "net.bin"]


class TestToday(Prepared, OpenVinoSuite):
    def test_the_precision_and_the_device_in_force_are_told(self, opened: Opened) -> None:
        assert opened.options["INFERENCE_PRECISION_HINT"] == "f32"
        assert opened.options["EXECUTION_DEVICES"] == ["CPU"]
        assert opened.options["device_name"]

    def test_another_precision_is_taken(self, session: Any, artifact: Artifact) -> None:
        opened = session.open(artifact, PREPROCESSING, self.device(inference_precision_hint="dynamic"))
        assert opened.options["INFERENCE_PRECISION_HINT"] == "dynamic"

    @pytest.mark.parametrize("target", ["GPU.7", "NPU.7", "MYRIAD", "AUTO", "HETERO:GPU,CPU"])
    def test_a_device_that_is_not_there_is_an_error_with_those_that_are(
        self, session: Any, artifact: Artifact, target: str
    ) -> None:
        with pytest.raises(AgentError, match=f"finds no device {target}") as caught:
            session.open(artifact, PREPROCESSING, self.device(device=target))
        assert "OpenVINO finds CPU" in caught.value.hint

    def test_the_mend_of_a_neural_compute_stick_is_the_last_release_that_drives_it(
        self, session: Any, artifact: Artifact
    ) -> None:
        with pytest.raises(AgentError) as caught:
            session.open(artifact, PREPROCESSING, compose_device("ncs2"))
        assert "2022.3" in caught.value.hint
        assert "device.python" in caught.value.hint


@pytest.mark.skipif(not OLD_PYTHON, reason="EDLAB_OPENVINO_2022_PYTHON names no interpreter that has OpenVINO 2022.3")
class TestOf2022(OpenVinoSuite):
    """Today's file in the release that has MYRIAD: float16 weights, as a Neural Compute Stick 2 wants."""

    compress_to_fp16 = True
    tolerance = 1e-2  # weights of 11 bits

    @classmethod
    def device(cls, **options: Any) -> DeviceConfig:
        device = super().device(**options)
        device.python = OLD_PYTHON
        return device

    def test_it_is_that_release(self, session: Any) -> None:
        assert session.available(["openvino"])["openvino"].version.startswith("2022.3")

    def test_the_precision_in_force_is_told(self, opened: Opened) -> None:
        assert opened.options["INFERENCE_PRECISION_HINT"] == "f32"

    def test_a_stick_that_is_not_there_is_an_error(self, session: Any, artifact: Artifact) -> None:
        with pytest.raises(AgentError, match=r"2022\.3.* finds no device MYRIAD"):
            session.open(artifact, PREPROCESSING, compose_device("ncs2"))


def compose_device(name: str, *words: str) -> DeviceConfig:
    """A shipped device, made to open the suite's artifact."""
    device = compose_config([f"device={name}", *words]).device
    device.runtimes = {"any": "openvino"}
    return device


def test_the_target_of_an_intel_device_is_the_runtimes_device(cache: Cache) -> None:
    for target in ("CPU", "GPU", "NPU"):
        config = compose_config(["device=intel", f"device.target={target}"])
        assert config.device.options["openvino"]["device"] == target
    hint = compose_config(["device=intel", "device.options.openvino.inference_precision_hint=bf16"])
    assert hint.device.options["openvino"]["inference_precision_hint"] == "bf16"
    with devices.connect(config.device, cache) as session:
        assert "openvino" in session.available(list(config.device.runtimes.values()))


@pytest.mark.parametrize("word", ["device.options.device=GPU", "device.options.tensorrt.dla_core=0"])
def test_options_that_are_no_runtimes_are_refused(word: str) -> None:
    with pytest.raises(ConfigError, match=r"device\.options\.(device|tensorrt)=") as caught:
        compose_config(["device=intel", word])
    assert "openvino" in caught.value.hint
