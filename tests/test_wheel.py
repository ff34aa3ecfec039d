"""What is installed from a wheel works outside the clone: the yaml files are in it, and the weights."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the contents of the wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", str(folder), str(ROOT)], check=True, capture_output=True)
    (wheel,) = folder.glob("edlab-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_the_configuration_composes_from_the_wheel(site: Path, tmp_path: Path) -> None:
    code = "import edlab.composition as c; print(c.config_dir()); print(c.compose_config(['model=mnasnet']).model.arch)"
    environment = {**os.environ, "PYTHONPATH": str(site)}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    folder, arch = result.stdout.split()
    assert Path(folder) == site / "edlab" / "conf"
    assert arch.startswith("semnasnet_100")


def test_weights_classes_and_types_are_in_the_wheel(site: Path) -> None:
    names = {path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()}
    assert {"edlab/models/weights/digits_cnn.safetensors", "edlab/data/imagenet_wnids.txt", "edlab/py.typed"} <= names


def test_help_imports_no_framework(tmp_path: Path) -> None:
    code = (
        "import sys; from edlab.cli import main; main(['run', '--help']); "
        "print('loaded:', [name for name in ('torch', 'tensorflow', 'mlflow', 'scipy.stats') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "loaded: []" in result.stdout
