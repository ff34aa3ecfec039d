"""A converter whose vendor's tool is a wheel for another Python: the environment is created, used, and kept.

The wheel is created here, pip and the environment are real; numpy comes from the package index, as for a user.
"""

from __future__ import annotations

import sys
import textwrap
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray
from python_discovery import get_interpreter
from workplace import FAST, Workplace

from edlab import toolenvs
from edlab.artifact import Artifact
from edlab.cache import Cache
from edlab.errors import ConversionError, MissingDependencyError
from edlab.testing.converter import ConverterConformance
from edlab.toolenvs import ToolEnv

_TOOL = """
    import sys

    __version__ = "1.0"


    def pack(data):
        assert sys.version_info[:2] == {version}, "the tool runs in another Python than its own"
        if data[:1] != b"\\x08":
            raise ValueError("not an ONNX file")
        return data
"""
_CONVERTER = """
    from typing import ClassVar

    from edlab.config import Precision
    from edlab.converters import TOOLENV, Capability, Converter, Step, ToolEnv
    from edlab.converters.onnx_export import export_steps


    class AcmeConverter(Converter):
        name = "acme"
        format = "onnx"
        takes = ("pt2",)
        capabilities: ClassVar = {{Precision.fp32: Capability()}}
        requirements: ClassVar = {{}}
        toolenv = ToolEnv(requirements=({wheel!r},), python={python!r})

        def _steps(self, source, quantization):
            pack = Step(
                name="pack",
                version=1,
                function="",
                output="model.onnx",
                format="onnx",
                precision="fp32",
                layout="NCHW",
                tools={{}},
                workshop=TOOLENV,
                toolchain="acme",
            )
            return (*export_steps(source), pack)
"""
_TOOLCHAIN = """
    from edlab.agent.toolchains import base


    class Toolchain(base.Toolchain):
        packages = "acme-tool"

        @staticmethod
        def version():
            import acme_tool

            return acme_tool.__version__

        @staticmethod
        def identity(options):
            return {"acme_tool": Toolchain.version()}

        @staticmethod
        def build(files, out, options, calibration, report):
            import acme_tool

            with open(files[0], "rb") as source, open(out, "wb") as packed:
                packed.write(acme_tool.pack(source.read()))
"""
_ENTRY_POINTS = """
    [edlab.converters]
    acme = acme_edlab.converter:AcmeConverter

    [edlab.toolchains]
    acme = acme_edlab.toolchain

    [edlab.conf]
    acme = acme_edlab.conf
"""


def _other_python() -> str:
    """The version of a Python on the PATH that is not this one, and that the agent runs in; else this one's."""
    mine = f"3.{sys.version_info.minor}"
    versions = [f"3.{minor}" for minor in range(8, 15)]
    return next((other for other in versions if other != mine and get_interpreter(other)), mine)


def _write(folder: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(content))


def _wheel(folder: Path, python: str) -> Path:
    """A pure Python wheel of the tool, as the specification of binary distributions has it."""
    path = folder / "acme_tool-1.0-py3-none-any.whl"
    version = tuple(int(part) for part in python.split("."))
    members = {
        "acme_tool.py": textwrap.dedent(_TOOL.format(version=version)),
        "acme_tool-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: acme-tool\nVersion: 1.0\n",
        "acme_tool-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in [*members, "acme_tool-1.0.dist-info/RECORD"])
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**members, "acme_tool-1.0.dist-info/RECORD": record}.items():
            archive.writestr(name, content)
    return path


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a vendor's package, to be put on the path."""
    folder = tmp_path_factory.mktemp("acme")
    python = _other_python()
    wheel = _wheel(folder, python)
    _write(
        folder,
        {
            "acme_edlab/__init__.py": "",
            "acme_edlab/converter.py": _CONVERTER.format(wheel=str(wheel), python=python),
            "acme_edlab/toolchain.py": _TOOLCHAIN,
            "acme_edlab/conf/converter/acme.yaml": "name: acme",
            "acme_edlab-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: acme-edlab\nVersion: 1.0\n",
            "acme_edlab-1.0.dist-info/entry_points.txt": _ENTRY_POINTS,
        },
    )
    return folder


@pytest.fixture(scope="module")
def recipe(package: Path) -> ToolEnv:
    return ToolEnv((str(package / "acme_tool-1.0-py3-none-any.whl"),), _other_python())


@pytest.fixture(scope="module")
def environments(tmp_path_factory: pytest.TempPathFactory, recipe: ToolEnv) -> Cache:
    """A cache in which the tool environment exists."""
    cache = Cache(tmp_path_factory.mktemp("environments"))
    toolenvs.get_or_make(recipe, cache)
    return cache


@pytest.mark.slow
class TestInAToolEnvironment(ConverterConformance):
    converter = "acme"

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def installed(cls, package: Path, environments: Cache) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(package)
            patch.setenv("EDLAB_CACHE", str(environments.root))
            yield

    def predict(self, artifact: Artifact, images: NDArray[np.float32]) -> NDArray[np.float32]:
        import onnxruntime

        session = onnxruntime.InferenceSession(artifact.files[0], providers=["CPUExecutionProvider"])
        (name,) = (each.name for each in session.get_inputs())
        return np.concatenate([session.run(None, {name: image[None]})[0] for image in images])


class TestOnTheCommandLine:
    @pytest.fixture(autouse=True)
    def place(self, workplace: Workplace, package: Path, environments: Cache) -> None:
        workplace.environment["PYTHONPATH"] = f"{package}:{workplace.environment.get('PYTHONPATH', '')}"
        workplace.environment["EDLAB_CACHE"] = str(environments.root)

    row: ClassVar = [*FAST, "model=digits_cnn", "converter=acme"]

    @pytest.mark.slow
    def test_a_run_converts_with_it(self, workplace: Workplace) -> None:
        result = workplace.run(*self.row)
        assert result.returncode == 0, result.stdout + result.stderr
        (record,) = workplace.records()
        step = record.details["artifact"]["steps"][-1]
        assert (step["name"], step["tools"]) == ("pack", {"acme_tool": "1.0"})
        assert record.metrics["accuracy_top1"] > 0.95

    @pytest.mark.slow
    def test_an_environment_of_the_users_own_serves_as_well(
        self, workplace: Workplace, recipe: ToolEnv, environments: Cache, tmp_path: Path
    ) -> None:
        python = toolenvs.find(recipe, environments)
        workplace.environment["EDLAB_CACHE"] = str(tmp_path / "cache")
        result = workplace.run(*self.row, f"converter.python={python}")
        assert result.returncode == 0, result.stdout + result.stderr
        assert not (tmp_path / "cache" / "toolenvs").exists()

    def test_an_interpreter_that_is_not_there_fails_the_conversion(self, workplace: Workplace, tmp_path: Path) -> None:
        result = workplace.run(*self.row, f"converter.python={tmp_path}/bin/python")
        assert result.returncode == 1
        assert "set converter.python" in result.stdout
        (record,) = workplace.records()
        assert (record.status, record.stage) == ("failed", "convert")

    def test_it_is_refused_where_there_is_none(self, workplace: Workplace) -> None:
        result = workplace.run(*FAST, "model=digits_cnn", f"converter.python={sys.executable}")
        assert result.returncode == 2
        assert "no tool environment" in result.stderr

    def test_the_list_says_where_the_tools_are(self, workplace: Workplace, environments: Cache) -> None:
        result = workplace.edlab("doctor", "converter=acme")
        assert str(environments.root) in result.stdout.replace("\n", "")


def test_one_that_exists_is_not_made_again(recipe: ToolEnv, environments: Cache) -> None:
    python = toolenvs.get_or_make(recipe, environments, lambda: pytest.fail("it is installed again"))
    assert python == toolenvs.find(recipe, environments)
    assert [entry.kind for entry in environments.entries() if entry.folder in python.parents] == ["toolenvs"]
    assert not [damage for entry, damage in environments.verify() if damage]


def test_it_is_made_again_where_its_making_was_cut(recipe: ToolEnv, environments: Cache, tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    found = toolenvs.find(recipe, environments)
    assert found is not None
    half = cache.root / "toolenvs" / found.parents[1].name
    (half / "bin").mkdir(parents=True)
    (half / "bin" / "python").write_text("")
    assert toolenvs.find(recipe, cache) is None
    assert toolenvs.get_or_make(recipe, cache).stat().st_size > 0


def test_what_cannot_be_installed_is_said_in_the_words_of_pip(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    (tmp_path / "ruined-1.0-py3-none-any.whl").write_text("no wheel")
    recipe = ToolEnv((str(tmp_path / "ruined-1.0-py3-none-any.whl"),))
    with pytest.raises(ConversionError, match=r"cannot install .*ruined") as caught:
        toolenvs.get_or_make(recipe, cache)
    assert "ruined" in caught.value.log
    assert "converter.python" in caught.value.hint
    assert toolenvs.find(recipe, cache) is None
    assert not list(cache.entries())


def test_a_python_that_is_not_there_is_named() -> None:
    with pytest.raises(MissingDependencyError, match=r"Python 3\.0 is not found") as caught:
        toolenvs.base_python(ToolEnv(("acme-tool==1.0",), "3.0"))
    assert "install" in caught.value.hint
