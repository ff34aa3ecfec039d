"""docs/adding-a-device.md to the letter: its files become a package that is installed next to edlab's wheel, and run.

The environment is outside the checkout. Its edlab is the wheel's; the libraries are those of the tests' own.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from workplace import FAST

from edlab.engine.command import read_records
from edlab.record import RunRecord

ROOT = Path(__file__).parent.parent
GUIDE = ROOT / "docs" / "adding-a-device.md"
SDK = Path(__file__).parent / "standins" / "acme_sdk"


def files_of(guide: str) -> dict[str, str]:
    """The code blocks that begin with the name of a file in a comment, by that name; Hydra wants its own line first."""
    blocks = re.findall(r"^```\w+\n((?:# @package .*?\n)?# (\S+\.\w+)\n.*?)^```$", guide, re.MULTILINE | re.DOTALL)
    assert len({name for _, name in blocks}) == len(blocks)
    return {name: text for text, name in blocks}


def state_of(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of the sources in the checkout."""
    names = ("edlab", "conf", "docs", "tests", "scripts")
    paths = [path for name in names for path in (folder / name).rglob("*") if "__pycache__" not in path.parts]
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in paths if path.is_file()}


class Outside:
    """An environment with edlab's wheel and the guide's package, and a folder to use edlab in."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.project, self.folder = folder / "acme-edlab", folder / "work"
        self.folder.mkdir()
        for name, text in files_of(GUIDE.read_text()).items():
            path = self.project / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        venv.create(folder / "venv", symlinks=True)
        self.python = folder / "venv" / "bin" / "python"
        self.site = Path(self._output("import sysconfig; print(sysconfig.get_paths()['purelib'])"))
        kept = [name for name in os.environ if not name.startswith(("EDLAB_", "MLFLOW_", "PYTHON"))]
        self.environment = {
            **{name: os.environ[name] for name in kept},
            "EDLAB_CACHE": str(cache),
            "EDLAB_LOCK_DIR": str(folder),
            "COLUMNS": "200",
        }
        self._install(ROOT, SDK, self.project)
        own = sysconfig.get_paths()
        # After the environment's own packages; .pth files in these folders, such as an editable edlab's, are not read.
        (self.site / "libraries.pth").write_text("\n".join(dict.fromkeys([own["purelib"], own["platlib"]])) + "\n")

    def _output(self, code: str) -> str:
        return subprocess.run([self.python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()

    def _install(self, *projects: Path) -> None:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
        command = [*pip, "--no-compile", "--ignore-installed", "--target", str(self.site), *map(str, projects)]
        subprocess.run(command, check=True, capture_output=True, env=self.environment)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`python -m WORDS` in the environment."""
        command = [str(self.python), "-m", *words]
        return subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True)

    def records(self) -> list[RunRecord]:
        """The records of the latest sweep."""
        return read_records(sorted((self.folder / "mlruns" / "sweeps").iterdir())[-1])


@pytest.fixture(scope="module")
def before() -> dict[str, tuple[int, int]]:
    return state_of(ROOT)


@pytest.fixture(scope="module")
def outside(
    before: object, tmp_path_factory: pytest.TempPathFactory, shared_cache: Path, empty_database: Path
) -> Outside:
    made = Outside(tmp_path_factory.mktemp("outside"), shared_cache)
    (made.folder / "mlruns").mkdir()
    shutil.copyfile(empty_database, made.folder / "mlruns" / "mlflow.db")
    return made


def passed(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_edlab_is_the_wheels(outside: Outside) -> None:
    code = "import edlab; print(edlab.__file__)"
    found = subprocess.run(
        [outside.python, "-c", code], cwd=outside.folder, env=outside.environment, capture_output=True, text=True
    )
    assert Path(passed(found).strip()).is_relative_to(outside.site)


def test_its_parts_are_known(outside: Outside) -> None:
    rows = [line.split() for line in passed(outside.run("edlab", "devices")).splitlines() if line.startswith("acme")]
    assert ["acme", "local", "acme", "by", "acme", "int8,", "fp16"] in rows
    assert ["acme_board", "ssh", "onnx", "by", "onnxruntime", "fp32,", "int8"] in rows
    report = passed(outside.run("edlab", "doctor", "device=acme"))
    assert "3.2 runs acme" in report
    assert "acme:0" in report


def test_the_device_runs_a_model_with_what_the_package_brings(outside: Outside) -> None:
    words = [*FAST, "power.idle_seconds=0.5", "power.active_seconds=0.5", "power.active_samples=2"]
    passed(outside.run("edlab", "run", "device=acme", *words))
    (record,) = outside.records()
    assert record.status == "ok"
    assert (record.params["converter.name"], record.params["quantization.precision"]) == ("acme", "int8")
    assert record.details["runtime"]["runtime"] == "acme"
    assert record.details["runtime"]["options"] == {"profile": "performance"}
    assert record.metrics["accuracy_top1"] > 0.95
    assert record.metrics["latency_ms"] > 0  # its own figure, not an emulated one
    assert record.details["weights"].keys() == {"int8"}
    assert (record.tags["power_source"], record.tags["power_boundary"]) == ("acme:0", "module")


def test_its_suites_pass(outside: Outside) -> None:
    summary = passed(outside.run("pytest", "-q", "-p", "no:cacheprovider", str(outside.project / "tests")))
    assert re.search(r"\b3[0-9] passed", summary)
    assert "3 skipped" in summary  # Acme has no int8_dynamic, excludes no nodes, and has no example program


def test_a_package_of_only_yaml_files_can_be_installed_editable(outside: Outside, tmp_path: Path) -> None:
    """What the guide tells: pyproject.toml with one entry point, an empty __init__.py, and the yaml file."""
    pytest.importorskip("editables")  # hatchling's
    files = files_of(GUIDE.read_text())
    head, *entries = files["pyproject.toml"].split("[project.entry-points.")
    (conf,) = [entry for entry in entries if "edlab.conf" in entry]
    texts = {
        "pyproject.toml": f"{head}[project.entry-points.{conf}".replace("acme", "bcme"),
        "bcme_edlab/__init__.py": "",
        "bcme_edlab/conf/device/bcme_board.yaml": files["acme_edlab/conf/device/acme_board.yaml"].replace(
            "name: acme_board", "name: bcme_board"
        ),
    }
    for name, text in texts.items():
        path = tmp_path / "bcme-edlab" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    pip = [sys.executable, "-m", "pip", "--python", str(outside.python), "install", "--no-deps", "--no-build-isolation"]
    install = [*pip, "--no-index", "--editable", str(tmp_path / "bcme-edlab")]
    subprocess.run(install, check=True, capture_output=True, env=outside.environment)
    rows = [line.split()[:2] for line in passed(outside.run("edlab", "devices")).splitlines()]
    assert ["bcme_board", "ssh"] in rows


def test_no_file_of_the_checkout_has_changed(outside: Outside, before: dict[str, tuple[int, int]]) -> None:
    assert state_of(ROOT) == before
