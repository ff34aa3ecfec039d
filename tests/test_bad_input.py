"""Bad input: one clear error that names the mend, no traceback, nothing half-written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from workplace import FAST, Workplace

from edlab.record import RunRecord, Status


def photos(folder: Path, classes: int, each: int = 4) -> Path:
    """An ImageFolder of noise with `classes` classes."""
    random = np.random.default_rng(0)
    for label in range(classes):
        for number in range(each):
            path = folder / f"class{label:02}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(path)
    return folder


def the_record(workplace: Workplace, *words: str) -> RunRecord:
    result = workplace.run(*words)
    assert "Traceback" not in result.stdout + result.stderr
    (record,) = workplace.records()
    if record.status is not Status.ok:
        assert result.returncode == 1
        assert record.hint
        assert " ".join(record.reason.split()[:3]) in " ".join(result.stdout.split())
    return record


@pytest.mark.parametrize("word", ["model=nope", "model.wieghts=random", "quantization.precision=int9", "protocol=fast"])
def test_a_misspelt_word(workplace: Workplace, word: str) -> None:
    result = workplace.edlab("run", word)
    assert result.returncode == 2
    assert result.stderr.startswith("error:")
    assert "hint:" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (workplace.folder / "mlruns" / "sweeps").exists()


def test_a_misspelt_flag(workplace: Workplace) -> None:
    result = workplace.edlab("run", "--multrun", "quantization=fp32,int8")
    assert result.returncode == 2
    assert result.stderr.splitlines()[0] == "error: unknown option '--multrun'"
    assert "did you mean '--multirun'?" in result.stderr


def test_a_truncated_onnx_file(workplace: Workplace) -> None:
    (workplace.folder / "net.onnx").write_bytes(os.urandom(2000))
    record = the_record(workplace, "model=file", "model.path=net.onnx")
    assert (record.status, record.stage) == (Status.failed, "load")
    assert "net.onnx" in record.reason


def test_a_model_file_that_is_not_there(workplace: Workplace) -> None:
    result = workplace.run("model=file", "model.path=there is none.onnx")
    assert result.returncode == 2
    assert "there is none.onnx does not exist" in result.stderr


def test_a_class_count_mismatch(workplace: Workplace) -> None:
    record = the_record(
        workplace, "dataset=image_folder", f"dataset.path={photos(workplace.folder / 'photos of mine', 3)}"
    )
    assert (record.status, record.stage) == (Status.failed, "load")
    assert "3 classes" in record.reason
    assert "10" in record.reason


def test_a_data_set_without_images(workplace: Workplace) -> None:
    (workplace.folder / "empty").mkdir()
    record = the_record(workplace, "dataset=image_folder", "dataset.path=empty")
    assert "empty" in record.reason


def test_a_corrupt_image_among_many_is_skipped_counted_and_said(workplace: Workplace) -> None:
    folder = photos(workplace.folder / "photos", 10)
    (folder / "class03" / "0.png").write_bytes(b"not an image")
    record = the_record(workplace, "dataset=image_folder", f"dataset.path={folder}")
    assert record.status is Status.ok
    assert len(record.details["dataset"]["skipped"]) == 1
    assert record.verdict is not None
    assert "images_skipped" in [reason.code for reason in record.verdict.reasons]


def test_more_calibration_images_than_there_are(workplace: Workplace) -> None:
    record = the_record(workplace, "quantization=int8", "quantization.calibration.images=100000")
    assert "100000 calibration images" in record.reason
    assert "quantization.calibration.images" in record.hint


def test_an_option_that_the_converter_does_not_have(workplace: Workplace) -> None:
    result = workplace.run("converter.options.percentle=99")
    assert result.returncode == 2
    assert "did you mean 'percentile'" in result.stderr


def test_a_state_dict_of_another_model(workplace: Workplace) -> None:
    import torch

    torch.save({"stem.weight": torch.zeros(3)}, workplace.folder / "other.pt")
    record = the_record(workplace, "model.weights=other.pt")
    assert (record.status, record.stage) == (Status.failed, "load")
    assert "other.pt" in record.reason


def test_a_full_disk_fails_the_row_and_leaves_nothing_half_written(workplace: Workplace) -> None:
    disk = workplace.folder / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount a small tmpfs")
    try:
        workplace.environment["EDLAB_CACHE"] = str(disk)
        record = the_record(workplace)
        assert record.status is Status.failed
        assert "space" in record.reason.lower()
        assert not list(disk.rglob("*.onnx"))
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_debug_shows_the_traceback(workplace: Workplace) -> None:
    result = workplace.edlab("run", "--debug", *FAST, "model=nope")
    assert "Traceback" in result.stderr


def test_an_unknown_command_is_answered_with_the_nearest(workplace: Workplace) -> None:
    result = workplace.edlab("doctr")
    assert result.returncode == 2
    assert "unknown command 'doctr'" in result.stderr
    assert "did you mean 'doctor'?" in result.stderr


@pytest.mark.parametrize("command", [("runs",), ("show", "x"), ("pull", "x")])
def test_a_command_that_reads_makes_no_database(tmp_path: Path, shared_cache: Path, command: tuple[str, ...]) -> None:
    place = Workplace(tmp_path, shared_cache)
    place.environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{tmp_path}/typo/mlflow.db"
    result = place.edlab(*command)
    assert result.returncode == 2
    assert "typo/mlflow.db does not exist" in " ".join(result.stderr.split())
    assert not (tmp_path / "typo").exists()


@pytest.mark.parametrize("module", ["edlab", "edlab.main"])
def test_python_m_takes_commands_too(workplace: Workplace, module: str) -> None:
    words = [sys.executable, "-m", module, "runs", "--last", "1"]
    result = subprocess.run(words, cwd=workplace.folder, env=workplace.environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
