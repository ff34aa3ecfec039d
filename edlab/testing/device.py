"""The requirements of every kind of device, as tests that a third party's test class inherits.

    class TestAcmeLink(DeviceConformance):
        def config(self):
            return DeviceConfig(name="acme", kind="acme_link", address="board-1")

The suite starts real agents on the device. They need onnxruntime for the test of the files, which is skipped otherwise.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edlab import devices
from edlab.artifact import Artifact
from edlab.cache import Cache, sha256_files
from edlab.config import DeviceConfig
from edlab.devices import AgentSession, Pool
from edlab.errors import DeviceError, EdlabError
from edlab.source import Preprocessing

_SIZE = 2  # pixels of the images, each way


class DeviceConformance:
    """Subclass with `config`."""

    def config(self) -> DeviceConfig:
        """The device to connect to. Override it."""
        raise TypeError(f"{type(self).__name__} must define config")

    @pytest.fixture
    def session(self, tmp_path: Path) -> Iterator[AgentSession]:
        with devices.connect(self.config(), Cache(tmp_path / "cache")) as session:
            yield session

    def test_an_agent_says_who_answers(self, session: AgentSession) -> None:
        machine = session.hello()
        assert machine.pid > 0
        assert machine.python
        assert machine.cpus

    def test_a_runtime_is_there_or_the_reason_is(self, session: AgentSession) -> None:
        found = session.available()
        assert found
        assert all(each.version or each.reason for each in found.values())
        assert "no runtime 'no_such_runtime'" in session.available(["no_such_runtime"])["no_such_runtime"].reason

    def test_state_and_sensors_can_be_asked_for(self, session: AgentSession) -> None:
        session.state()
        session.sensors()

    def test_files_go_there_and_come_back(self, session: AgentSession, tmp_path: Path) -> None:
        if not session.available(["onnxruntime"])["onnxruntime"].version:
            pytest.skip("the device has no onnxruntime")
        images = np.arange(5 * _SIZE * _SIZE * 3, dtype=np.uint8).reshape(5, _SIZE, _SIZE, 3)
        np.save(tmp_path / "images.npy", images)
        file = mean_network(tmp_path / "mean.onnx")
        artifact = Artifact(format="onnx", precision="fp32", layout="NCHW", files=(file,), sha256=sha256_files([file]))
        device = DeviceConfig(name="conformance", runtimes={"onnx": "onnxruntime"})
        plain = Preprocessing(height=_SIZE, width=_SIZE, mean=(0, 0, 0), std=(1, 1, 1))
        session.open(artifact, plain, device)
        session.predict(Pool(str(tmp_path / "images.npy"), [4, 0, 2]), tmp_path / "means.npy")
        expected = images[[4, 0, 2]].mean(axis=(1, 2)) / 255
        np.testing.assert_allclose(np.load(tmp_path / "means.npy"), expected, atol=1e-5)

    def test_the_agent_ends_with_its_context(self, tmp_path: Path) -> None:
        with devices.connect(self.config(), Cache(tmp_path)) as session:
            session.hello()
        assert session.process.poll() is not None

    def test_the_agent_ends_with_a_context_that_an_error_leaves(self, tmp_path: Path) -> None:
        connection = devices.connect(self.config(), Cache(tmp_path))
        with contextlib.suppress(KeyError), connection as session:
            session.hello()
            raise KeyError
        assert session.process.poll() is not None

    def test_an_agent_that_is_lost_is_an_error_with_a_hint(self, session: AgentSession) -> None:
        session.hello()
        session.process.kill()
        session.process.wait()
        with pytest.raises(DeviceError) as caught:
            session.hello()
        assert isinstance(caught.value, EdlabError)
        assert caught.value.hint


def mean_network(path: Path) -> Path:
    """An ONNX file that computes the mean of each channel: float32 (1, 3, 2, 2) -> (1, 3)."""
    import onnx
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["mean"]),
        ],
        "mean",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, _SIZE, _SIZE])],
        [helper.make_tensor_value_info("mean", TensorProto.FLOAT, [1, 3])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path
