"""From a row to a program: what is recorded next to a converted model gives the results of the run, without edlab.

`RuntimeConformance` runs the example of each runtime; here are the pixels, the tasks, and the commands.
"""

from __future__ import annotations

import ast
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_inputs import export
from workplace import Workplace

from edlab import deployable
from edlab.agent.messages import Pool
from edlab.agent.tasks.detection.heads import HEADS
from edlab.artifact import Artifact
from edlab.cache import Cache
from edlab.composition import compose_config, decide
from edlab.config import EdlabConfig
from edlab.deployable.program import _program, requirement
from edlab.record import RunRecord, Status
from edlab.source import Preprocessing
from edlab.stages import record as stage
from edlab.stages.convert import convert
from edlab.stages.deploy import deploy
from edlab.stages.load import Inputs, load
from edlab.testing.runtime import best_classes

RUNTIMES = ("onnxruntime", "openvino", "litert", "edgetpu", "keras", "torch", "tensorrt", "ncnn")
CROP = ("model.preprocessing.resize=40", "model.preprocessing.resize_mode=crop")
IMAGES = 6


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty pictures of ten classes: of many sizes, modes and file formats, some rotated by EXIF, one smaller."""
    folder, generator = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for number, (label, mode) in enumerate(itertools.product(range(10), ("RGB", "other"))):
        height, width = generator.integers(30, 90, 2)
        coarse = Image.fromarray(generator.integers(0, 256, (4, 5, 3)).astype(np.uint8))
        image = coarse.resize((int(width), int(height)), Image.Resampling.BICUBIC)
        (folder / str(label)).mkdir(exist_ok=True)
        exif = Image.Exif()
        exif[0x0112] = 1 + number % 8
        if mode == "RGB":
            image.save(folder / str(label) / "a.jpg", quality=95, exif=exif)
        elif label % 2:
            image.convert("P").save(folder / str(label) / "b.png")
        else:
            Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257).save(folder / str(label) / "b.png")
    return folder


class Made:
    """A converted model that ran, its package, and the run's predictions of the first images."""

    def __init__(self, words: tuple[str, ...], cache: Path, folder: Path) -> None:
        quiet = lambda *arguments: None  # noqa: E731
        kept, config = Cache(cache), compose_config(list(words))
        self.inputs: Inputs = load(config, kept, folder, quiet)
        self.config: EdlabConfig = decide(config, self.inputs.source, len(self.inputs.data.calibration_pool))
        self.artifact: Artifact = convert(self.config, self.inputs, kept, quiet, lambda artifact: None)
        self.rows = self.inputs.data.evaluation[:IMAGES].tolist()
        self.package, data = folder / "package", self.inputs.data
        with deploy(self.config, self.inputs, self.artifact, kept, quiet) as deployed:
            deployed.session.predict(Pool(str(data.images), self.rows), folder / "outputs.npy", quiet)
            record = RunRecord(name="a run", sweep_id="", started_at="2025-01-01T00:00:00+00:00")
            opened = (deployed.device, deployed.model)
            deployable.write(self.package, record, self.config, self.inputs.source, data, self.artifact, opened)
        for file in self.artifact.files:
            shutil.copyfile(file, self.package / file.name)
        self.predictions = np.load(folder / "outputs.npy")
        self.manifest: dict[str, Any] = json.loads((self.package / "edlab.json").read_text())

    def files(self, root: Path) -> list[Path]:
        return [root / self.inputs.data.files[row] for row in self.rows]

    def pixels(self) -> Any:
        return np.load(self.inputs.data.images)[self.rows]


def as_function(package: Path, batch: Any) -> Any:
    import mlflow.pyfunc

    return mlflow.pyfunc.load_model(str(package)).predict(batch)


@pytest.mark.parametrize(
    "words",
    [
        ("converter=onnxruntime", *CROP, "model.preprocessing.interpolation=bicubic", "dataset.exif_orientation=apply"),
        (
            "converter=litert",
            "quantization=int8",
            "model.preprocessing.resize_mode=letterbox",
            "model.preprocessing.antialias=false",
        ),
    ],
)
def test_the_example_classifies_files_as_the_run_did(
    words: tuple[str, ...], photos: Path, shared_cache: Path, tmp_path: Path
) -> None:
    folder = ("dataset=image_folder", f"dataset.path={photos}", "quantization.calibration.images=4")
    made = Made((*words, *folder, "dataset.calibration_fraction=0.3"), shared_cache, tmp_path)
    assert best_classes(made.package / "classify.py", made.files(photos)) == made.predictions.argmax(1).tolist()
    np.testing.assert_array_equal(as_function(made.package, made.pixels()), made.predictions)
    assert made.manifest["labels"]["names"] == [str(label) for label in range(10)]
    spec = made.manifest["inputs"][0]
    assert (spec["scale"] is not None) == (spec["dtype"] != "float32") == ("litert" in words[0])


def test_the_example_of_arrays_has_the_classes_of_the_run(shared_cache: Path, tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(40, 64)).astype(np.float32)
    np.savez(tmp_path / "data.npz", inputs=values, labels=np.arange(40) % 10)
    model = ("model=file", f"model.path={export(tmp_path / 'linear.pt2', 64)}", "dataset=arrays")
    made = Made((*model, f"dataset.path={tmp_path / 'data.npz'}", "converter=onnxruntime"), shared_cache, tmp_path)
    paths = [tmp_path / f"{number}.npy" for number in range(IMAGES)]
    for path, array in zip(paths, made.pixels(), strict=True):
        np.save(path, array)
    assert best_classes(made.package / "classify.py", paths) == made.predictions.argmax(1).tolist()
    np.testing.assert_array_equal(as_function(made.package, made.pixels()), made.predictions)


@pytest.mark.parametrize("words", [("converter=onnxruntime",), ("converter=openvino", "quantization=int8")])
def test_the_example_finds_the_objects_that_the_run_found(
    words: tuple[str, ...], shared_cache: Path, tmp_path: Path
) -> None:
    made = Made(("model=digits_detector", "dataset=digit_scenes", *words), shared_cache, tmp_path)
    height, width = made.pixels().shape[1:3]
    for pixels, wanted in zip(made.pixels()[:2], made.predictions[:2], strict=True):
        Image.fromarray(pixels).save(tmp_path / "scene.png")
        command = [sys.executable, str(made.package / "detect.py"), str(tmp_path / "scene.png"), "--min-score", "0"]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        found = np.array([[float(cell) for cell in line.split("\t")] for line in printed])
        wanted = wanted[wanted[:, 5] >= 0]
        np.testing.assert_array_equal(found[:, 0], wanted[:, 5])
        np.testing.assert_allclose(found[:, 2], wanted[:, 4], atol=1e-4)
        corners = wanted[:, :4] * [width, height, width, height]
        np.testing.assert_allclose(found[:, 3:], corners, atol=0.1)
    np.testing.assert_array_equal(as_function(made.package, made.pixels()), made.predictions)


def test_every_program_is_complete_and_for_python_3_7(tmp_path: Path) -> None:
    """Of every runtime, also those whose hardware is not here, with every head of a detector."""
    tasks = [("classification", "", False), ("classification", "", True)] + [
        ("detection", head, False) for head in HEADS
    ]
    for runtime, (task, head, is_array) in itertools.product(RUNTIMES, tasks):
        text = _program(task, head, is_array, runtime, f"{runtime}==1.0").text
        ast.parse(text, feature_version=(3, 7))
        assert "edlab." not in re.sub(r"edlab\.json", "", "\n".join(re.findall(r"^\s*(?:import|from) .*", text, re.M)))
        (tmp_path / f"{runtime}_{task}{head}{is_array}.py").write_text(text)
    rules = ["--isolated", "--no-cache", "--select", "F", "--target-version", "py37"]
    checked = subprocess.run(
        [sys.executable, "-m", "ruff", "check", *rules, str(tmp_path)], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout


def test_the_command_of_a_model_installs_the_version_that_ran_it() -> None:
    for runtime, version, wanted in (
        ("keras", "3.15.1 on tensorflow 2.21.0", "tensorflow==2.21.0"),
        ("edgetpu", "tflite_runtime 2.5.0, libedgetpu RuntimeVersion(14)", "tflite-runtime==2.5.0"),
        ("torch", "2.13.0+cpu", "torch==2.13.0"),
        ("openvino", "2026.4.1-20000-abcdef", "openvino==2026.4.1"),
    ):
        assert requirement(runtime, version, {}) == wanted
    on_gpu = {"providers": ["CUDAExecutionProvider", "CPUExecutionProvider"]}
    assert requirement("onnxruntime", "1.32.0", on_gpu) == "onnxruntime-gpu==1.32.0"


def test_a_run_that_ended_before_a_runtime_has_the_facts_without_an_example(shared_cache: Path, tmp_path: Path) -> None:
    made = load(compose_config([]), Cache(shared_cache), tmp_path, lambda *arguments: None)
    record = RunRecord(name="a", sweep_id="", started_at="2025-01-01T00:00:00+00:00", status=Status.failed)
    deployable.write(tmp_path, record, compose_config([]), made.source, made.data, Artifact.of(made.source), None)
    manifest = json.loads((tmp_path / "edlab.json").read_text())
    assert manifest["example"] is None
    assert "no runtime has opened this file" in manifest["no_example"]
    assert Preprocessing.model_validate({**manifest["preprocessing"]}) == made.source.preprocessing
    with pytest.raises(Exception, match="no runtime has opened"):
        as_function(tmp_path, np.zeros((1, 32, 32, 3), np.uint8))


def test_a_package_that_cannot_be_made_costs_no_row(
    shared_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(deployable, "write", fail)
    inputs = load(compose_config([]), Cache(shared_cache), tmp_path, lambda *arguments: None)
    outcome = stage.Outcome(inputs=inputs, artifact=Artifact.of(inputs.source))
    record = RunRecord(name="a", sweep_id="", started_at="2025-01-01T00:00:00+00:00")
    files = stage.run_files(record, outcome, compose_config([]), tmp_path)
    assert files.converted == (inputs.source.path,)
    assert record.details["no_package"] == "OSError: No space left on device"


def test_a_row_is_promoted_pulled_and_run(workplace: Workplace, shared_cache: Path, tmp_path: Path) -> None:
    assert workplace.run("converter=onnxruntime", "quantization=int8").returncode == 0
    (record,) = workplace.records()
    promoted = workplace.edlab("promote", record.run_id[:8], "--as", "digits", "--alias", "champion")
    assert promoted.returncode == 0, promoted.stderr
    assert "digits version 1 (alias champion)" in promoted.stdout
    assert "edlab pull 'models:/digits@champion'" in promoted.stdout

    pulled = workplace.edlab("pull", "models:/digits@champion", "--to", "here")
    assert pulled.returncode == 0, pulled.stderr
    assert "python here/classify.py image.jpg" in pulled.stdout
    here = workplace.folder / "here"
    data = load(compose_config([]), Cache(shared_cache), tmp_path, lambda *arguments: None).data
    pictures = [tmp_path / f"{number}.png" for number in range(IMAGES)]
    for picture, row in zip(pictures, data.evaluation, strict=False):
        Image.fromarray(np.load(data.images, mmap_mode="r")[row]).save(picture)
    (folder,) = workplace.folder.glob("mlruns/sweeps/*/0")
    wanted = np.load(folder / "predictions.npz")["predictions"][:IMAGES, 0].tolist()  # the run's own
    assert best_classes(here / "classify.py", pictures) == wanted

    code = (
        "import mlflow, numpy, sys; from PIL import Image\n"
        "batch = numpy.stack([numpy.asarray(Image.open(path)) for path in sys.argv[1:]])\n"
        "model = mlflow.pyfunc.load_model('models:/digits/1')\n"
        "print(*model.predict(batch).argmax(1), model.predict(batch[:1]).shape)"
    )
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{workplace.folder}/mlruns/mlflow.db"}
    command = [sys.executable, "-c", code, *map(str, pictures)]
    loaded = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **store})
    assert loaded.stdout == " ".join(map(str, wanted)) + " (1, 10)\n", loaded.stderr

    again = workplace.edlab("pull", record.run_id, "--to", "here")
    assert again.returncode == 2
    assert "--force" in again.stderr
    assert workplace.edlab("pull", record.run_id, "--to", "here", "--force").returncode == 0
    (stored,) = workplace.folder.glob(f"mlruns/artifacts/{record.run_id}/artifacts/converted/model.onnx")
    content = stored.read_bytes()
    stored.unlink()  # the registered model has a hard link to it
    stored.write_bytes(content[:-1] + b"?")
    damaged = workplace.edlab("pull", record.run_id, "--to", "there")
    assert damaged.returncode == 2
    assert "is damaged: model.onnx is not the recorded file" in damaged.stderr
    assert not (workplace.folder / "there").exists()
