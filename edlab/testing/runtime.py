"""The conformance suite of a runtime of the agent. A third party's test subclasses it:

    class TestAcmeRuntime(RuntimeConformance):
        runtime = "acme"  # the name of its entry point in edlab.runtimes

        def export(self, network, folder):
            ...
            return [folder / "net.acme"]  # the file to open first, then those next to it

The suite runs the real agent on this machine, with the runtimes of the installed packages.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from edlab import deployable, devices
from edlab.agent import messages
from edlab.agent.messages import HostWork, Latency, Opened, Pool, Setting, Throughput, Warmup
from edlab.agent.preprocess import normalise
from edlab.artifact import Artifact
from edlab.cache import Cache, sha256_files
from edlab.composition import compose_config
from edlab.config import DeviceConfig
from edlab.data import PreparedData
from edlab.devices import AgentSession, runtimes
from edlab.errors import AgentError
from edlab.record import RunRecord
from edlab.source import Layout, Preprocessing, SourceModel
from edlab.testing.sources import problems

if TYPE_CHECKING:
    import torch

PREPROCESSING = Preprocessing(height=32, width=32, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
CLASSES = 10
IMAGES = 12


def tiny_network() -> torch.nn.Module:
    """Three convolutions without padding, a mean and a linear layer: float32 (N, 3, 32, 32) -> (N, 10), seeded."""
    import torch
    from torch import nn

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        convolutions = [nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 1)]
        return nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, CLASSES)).eval()


def random_images() -> NDArray[np.uint8]:
    """uint8 (12, 32, 32, 3), seeded; each with a different colour, and so with different logits."""
    generator = np.random.default_rng(0)
    colours = generator.integers(0, 200, (IMAGES, 1, 1, 3))
    return (colours + generator.integers(0, 56, (IMAGES, 32, 32, 3))).astype(np.uint8)


def write_package(folder: Path, artifact: Artifact, device: DeviceConfig, opened: Opened, images: Path) -> None:
    """What a run records next to its model: edlab.json and the example, with the model's files."""
    rows = np.arange(len(np.load(images, mmap_mode="r")))
    data = PreparedData("random", "synthetic", images, None, [], [], rows, images, [], rows[:0], "")
    record = RunRecord(name="conformance", sweep_id="", started_at="2025-01-01T00:00:00+00:00")
    source = SourceModel(
        name="tiny",
        format="onnx",
        path=artifact.files[0],
        sha256=artifact.sha256,
        layout=artifact.layout,
        preprocessing=PREPROCESSING,
        num_classes=CLASSES,
        weights="untrained",
    )
    deployable.write(folder, record, compose_config([]), source, data, artifact, (device, opened))
    for file in artifact.files:
        shutil.copyfile(file, folder / file.name)


def best_classes(program: Path, inputs: list[Path]) -> list[int]:
    """The first line of an example program for each input: the best class."""
    command = [sys.executable, str(program), *map(str, inputs)]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=program.parent.parent, timeout=300)
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    return [int(lines[lines.index(f"{path}:") + 1].split("\t")[0]) for path in inputs]


class RuntimeConformance:
    """The requirements of every runtime. Subclasses define `runtime` and `export`."""

    runtime: ClassVar[str]
    layout: ClassVar[Layout] = "NCHW"
    tolerance: ClassVar[float] = 1e-4  # of the logits, absolute, against torch

    def export(self, network: torch.nn.Module, folder: Path) -> list[Path]:
        """Write the tiny network into `folder` as this runtime's file(s), the one to open first."""
        raise TypeError(f"{type(self).__name__} must define export")

    @pytest.fixture(scope="class")
    @classmethod
    def workspace(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """A folder with images.npy, for all tests of the class."""
        folder = tmp_path_factory.mktemp(cls.runtime)
        np.save(folder / "images.npy", random_images())
        return folder

    @pytest.fixture(scope="class")
    @classmethod
    def artifact(cls, workspace: Path) -> Artifact:
        folder = workspace / "model"
        folder.mkdir()
        return cls.artifact_of(cls().export(tiny_network(), folder))

    @pytest.fixture(scope="class")
    @classmethod
    def session(cls, workspace: Path) -> Iterator[AgentSession]:
        with devices.connect(cls.device(), Cache(workspace / "cache")) as session:
            yield session

    @pytest.fixture
    def opened(self, session: AgentSession, artifact: Artifact) -> Opened:
        return session.open(artifact, PREPROCESSING, self.device())

    @pytest.fixture
    def pool(self, workspace: Path) -> Pool:
        return Pool(str(workspace / "images.npy"), list(range(IMAGES)))

    @classmethod
    def artifact_of(cls, files: list[Path]) -> Artifact:
        return Artifact(
            format="any", precision="fp32", layout=cls.layout, files=tuple(files), sha256=sha256_files(files)
        )

    @classmethod
    def device(cls, **options: Any) -> DeviceConfig:
        return DeviceConfig(name="conformance", runtimes={"any": cls.runtime}, options={cls.runtime: options})

    def reference(self) -> NDArray[np.float32]:
        """The logits of torch for the images: float32 (12, 10)."""
        import torch

        inputs = normalise(random_images(), PREPROCESSING.mean, PREPROCESSING.std, "NCHW")
        with torch.inference_mode():
            logits: NDArray[np.float32] = tiny_network()(torch.from_numpy(inputs)).numpy()
        return logits

    def test_it_can_be_imported_and_tells_its_version(self, session: AgentSession) -> None:
        assert session.available([self.runtime])[self.runtime].version

    def test_its_sources_are_for_python_3_7_and_import_only_the_agent(self) -> None:
        """See `edlab.testing.sources.problems` for what is checked."""
        assert not problems(runtimes.module(self.runtime))

    def test_opening_tells_tensors_times_and_options(self, opened: Opened) -> None:
        assert len(opened.inputs) == 1
        assert np.prod([size or 1 for size in opened.inputs[0].shape]) == 3 * 32 * 32
        assert np.prod([size or 1 for size in opened.outputs[0].shape]) == CLASSES
        assert np.dtype(opened.inputs[0].dtype)
        assert opened.load_ms > 0
        assert opened.compile_ms is None or opened.compile_ms > 0
        assert isinstance(opened.options, dict)

    def test_logits_are_those_of_the_reference(
        self, session: AgentSession, opened: Opened, pool: Pool, tmp_path: Path
    ) -> None:
        result = session.predict(pool, tmp_path / "logits.npy")
        logits = np.load(tmp_path / "logits.npy")
        assert result.images == IMAGES
        assert logits.dtype == np.float32
        np.testing.assert_allclose(logits, self.reference(), atol=self.tolerance)

    def test_logits_are_in_the_order_asked_for(
        self, session: AgentSession, opened: Opened, pool: Pool, tmp_path: Path
    ) -> None:
        backwards = list(reversed(pool.indices))
        session.predict(pool, tmp_path / "logits.npy")
        session.predict(Pool(pool.images, backwards), tmp_path / "backwards.npy")
        forwards = np.load(tmp_path / "logits.npy")
        np.testing.assert_allclose(np.load(tmp_path / "backwards.npy"), forwards[backwards], atol=self.tolerance)

    def test_logits_do_not_depend_on_the_requests_in_flight(
        self, workspace: Path, artifact: Artifact, pool: Pool, tmp_path: Path
    ) -> None:
        indices = list(pool.indices) * 10
        for threads in (None, 1):
            device = self.device()
            device.threads = threads
            with devices.connect(device, Cache(workspace / "cache")) as session:
                session.open(artifact, PREPROCESSING, device)
                session.predict(Pool(pool.images, indices), tmp_path / f"{threads}.npy")
        np.testing.assert_allclose(np.load(tmp_path / "None.npy"), np.load(tmp_path / "1.npy"), atol=self.tolerance)

    def test_its_example_has_the_classes_of_the_run(
        self, session: AgentSession, opened: Opened, artifact: Artifact, pool: Pool, tmp_path: Path
    ) -> None:
        """The program that is recorded with a model, in a process without edlab. Skipped without a loader."""
        session.predict(pool, tmp_path / "logits.npy")
        package = tmp_path / "package"
        write_package(package, artifact, self.device(), opened, Path(pool.images))
        if not (package / "classify.py").exists():
            pytest.skip(json.loads((package / "edlab.json").read_text())["no_example"])
        pictures = [tmp_path / f"{number}.png" for number in range(4)]
        for picture, pixels in zip(pictures, random_images(), strict=False):
            Image.fromarray(pixels).save(picture)
        assert (
            best_classes(package / "classify.py", pictures) == np.load(tmp_path / "logits.npy")[:4].argmax(1).tolist()
        )

    def test_an_unknown_option_is_refused_by_name(self, session: AgentSession, artifact: Artifact) -> None:
        with pytest.raises(AgentError, match="no option 'speed_factor'") as caught:
            session.open(artifact, PREPROCESSING, self.device(speed_factor=2))
        assert "options" in caught.value.hint

    def test_a_missing_file_is_named(self, session: AgentSession, tmp_path: Path, artifact: Artifact) -> None:
        missing = artifact.model_copy(update={"files": (tmp_path / "nothing.bin",)})
        with pytest.raises(AgentError, match=r"nothing\.bin"):
            session.open(missing, PREPROCESSING, self.device())

    def test_a_truncated_file_is_an_error_with_a_mend_and_the_agent_lives_on(
        self, session: AgentSession, tmp_path: Path, artifact: Artifact
    ) -> None:
        broken = []
        for file in artifact.files:
            broken.append(tmp_path / file.name)
            broken[-1].write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        with pytest.raises(AgentError, match=f"{self.runtime} cannot open") as caught:
            session.open(self.artifact_of(broken), PREPROCESSING, self.device())
        assert caught.value.hint
        session.open(artifact, PREPROCESSING, self.device())

    def test_images_of_another_size_are_refused(self, session: AgentSession, opened: Opened, tmp_path: Path) -> None:
        np.save(tmp_path / "small.npy", np.zeros((2, 16, 16, 3), np.uint8))
        with pytest.raises(AgentError, match="16, 16"):
            session.predict(Pool(str(tmp_path / "small.npy"), [0, 1]), tmp_path / "out.npy")

    def test_warm_up_holds_both_minima(self, session: AgentSession, opened: Opened, pool: Pool) -> None:
        result = session.measure(messages.WARMUP, Warmup(pool, queries=5, seconds=0.1, tolerance=0.5, max_seconds=5))
        assert result.first_inference_ms > 0
        assert result.queries >= 5
        assert result.seconds >= 0.1

    def test_latency_gives_three_stages_of_each_query(
        self, session: AgentSession, opened: Opened, pool: Pool, tmp_path: Path
    ) -> None:
        out = str(tmp_path / "latency.npy")
        request = Latency(pool, queries=20, seconds=0.1, max_seconds=30, windows=10, max_interval=1.0, out=out)
        result = session.measure(messages.LATENCY, request)
        stages = np.load(tmp_path / "latency.npy")
        assert stages.dtype == np.int64
        assert stages.shape == (result.queries, 3)
        assert result.queries >= 20
        assert result.seconds >= 0.1
        assert not result.truncated
        assert (stages > 0).all()
        assert stages.sum() <= result.seconds * 1e9

    def test_the_work_around_the_model_is_timed(self, session: AgentSession, opened: Opened, pool: Pool) -> None:
        result = session.measure(messages.HOST_WORK, HostWork(pool))
        assert result.queries == IMAGES
        assert result.preprocess_ms > 0
        assert result.postprocess_ms > 0

    def test_a_profile_has_the_time_of_each_layer_or_a_reason(
        self, session: AgentSession, opened: Opened, pool: Pool
    ) -> None:
        report = session.measure(messages.PROFILE, messages.Profile(pool, runs=3))
        if report.layers is None:
            assert report.reason
        else:
            assert sum(layer.ms for layer in report.layers) > 0
            assert all(layer.name and layer.ms >= 0 for layer in report.layers)

    def test_throughput_counts_the_queries_of_a_window(self, session: AgentSession, opened: Opened, pool: Pool) -> None:
        request = Throughput(
            pool, seconds=0.2, max_seconds=60, max_batch=4, max_in_flight=2, gain=0.0, trial_seconds=0.1
        )
        result = session.measure(messages.THROUGHPUT, request)
        assert result.completed > 0
        assert result.seconds >= 0.2
        assert result.throughput_ips == pytest.approx(result.completed / result.seconds)
        assert (result.end_ns - result.start_ns) / 1e9 == pytest.approx(result.seconds)
        assert (result.search[0].batch, result.search[0].in_flight) == (1, 1)
        tried = {(trial.batch, trial.in_flight) for trial in result.search if trial.ips is not None}
        assert (result.batch, result.in_flight) in tried
        again = session.measure(messages.THROUGHPUT, request._replace(seconds=0.1, setting=Setting(1, 2)))
        assert (again.batch, again.in_flight, again.search) == (1, 2, [])
