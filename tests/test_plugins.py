"""A package of someone else's adds a model, a runtime, devices and yaml files, by entry points only."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from workplace import Workplace

FILES = {
    "pyproject.toml": """
        [build-system]
        requires = ["setuptools"]
        build-backend = "setuptools.build_meta"

        [project]
        name = "acme-edlab"
        version = "1.0"

        [tool.setuptools]
        packages = ["acme_edlab", "acme_ruins", "acme_ruins.conf"]

        [tool.setuptools.package-data]
        acme_edlab = ["*.txt"]
        "acme_ruins.conf" = ["*/*.yaml"]

        [project.entry-points."edlab.models"]
        acme_net = "acme_edlab.models:acme_net"

        [project.entry-points."edlab.runtimes"]
        acme = "acme_edlab.runtime"
        acme_ruins = "acme_ruins.runtime"
        acme_lost = "acme_edlab.no_such_runtime"

        [project.entry-points."edlab.conf"]
        acme = "acme_ruins.conf"
        acme_lost = "acme_edlab.no_such_folder"

        [project.entry-points."edlab.converters"]
        acme_broken = "acme_edlab.broken:Converter"
        acme = "acme_edlab.convert:AcmeConverter"
        acme_fails = "acme_edlab.convert:Failing"
        acme_bug = "acme_edlab.convert:Buggy"

        [project.entry-points."edlab.devices"]
        acme_npu = "acme_edlab.device:DEVICE"
    """,
    "acme_edlab/broken.py": "raise RuntimeError('no licence file')",
    "acme_ruins/__init__.py": "raise RuntimeError('no licence file')",
    "acme_ruins/runtime.py": "",
    "acme_ruins/conf/device/acme_board.yaml": """
        # @package _global_
        defaults:
          - override /converter: onnxruntime
        device:
          name: acme_board
          runtimes: {onnx: acme}
          precisions: [fp32]
    """,
    "acme_ruins/conf/device/acme_typo.yaml": """
        # @package _global_
        device:
          name: acme_typo
          runtime: {onnx: acme}
    """,
    "acme_ruins/conf/model/acme_resnet.yaml": """
        name: acme_resnet
        origin: timm
        arch: resnet18
    """,
    "acme_ruins/conf/converter/acme_ort.yaml": "name: onnxruntime",
    "acme_edlab/__init__.py": "",
    "acme_edlab/convert.py": """
        import dataclasses
        import shutil

        from edlab.converters.onnxruntime import OnnxruntimeConverter


        class AcmeConverter(OnnxruntimeConverter):
            name = "acme"
            format = "acme"

            def _steps(self, source, quantization):
                steps = super()._steps(source, quantization)
                wrapped = dataclasses.replace(
                    steps[-1],
                    name="wrap",
                    function="acme_edlab.convert:wrap",
                    output="model.acme",
                    format="acme",
                    options={},
                    calibrates=False,
                )
                return (*steps, wrapped)


        def wrap(inputs, out, options, calibration):
            shutil.copyfile(inputs[0], out)


        class Failing(AcmeConverter):
            name = "acme_fails"

            def _steps(self, source, quantization):
                *others, last = super()._steps(source, quantization)
                return (*others, dataclasses.replace(last, function="acme_edlab.convert:fail"))


        def fail(inputs, out, options, calibration):
            raise KeyError("q7")


        class Buggy(AcmeConverter):
            name = "acme_bug"

            def _steps(self, source, quantization):
                return {}["fp99"]
    """,
    "acme_edlab/models.py": """
        import edlab


        @edlab.register_model("acme_net", height=16, width=16, mean=(0.5,) * 3, std=(0.5,) * 3)
        def acme_net():
            from torch import nn

            body = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
            return nn.Sequential(body, nn.Linear(8, 10))
    """,
    "acme_edlab/runtime.py": """
        import pkgutil

        from acme_edlab.helper import prefix
        from edlab.agent.runtimes import onnxruntime


        class Runtime(onnxruntime.Runtime):
            packages = "acme-runtime"
            options = dict(onnxruntime.Runtime.options, swapped=False)

            def compile(self, in_flight, batch):
                compiled = super().compile(in_flight, batch)
                if self.options["swapped"]:
                    for request in compiled.requests:
                        request.get_outputs = lambda right=request.get_outputs: [right()[0][:, ::-1]]
                return compiled

            @staticmethod
            def version():
                revision = pkgutil.get_data("acme_edlab", "revision.txt").decode()
                return prefix() + revision + onnxruntime.Runtime.version()
    """,
    "acme_edlab/helper.py": """
        def prefix():
            return "acme "
    """,
    "acme_edlab/revision.txt": "r7 on ",
    "acme_edlab/device.py": """
        DEVICE = {
            "defaults": [{"override /converter": "onnxruntime"}, {"override /quantization": "int8"}],
            "device": {
                "name": "acme_npu",
                "runtimes": {"onnx": "acme", "acme": "acme"},
                "precisions": ["int8"],
                "specification": {"typical_watts": 2.0, "source": "Acme data sheet"},
            },
        }
    """,
}


@pytest.fixture
def acme(tmp_path: Path, workplace: Workplace) -> Workplace:
    """A workplace whose Python also has the outside package, installed by pip."""
    project, site = tmp_path / "acme", tmp_path / "site"
    for name, text in FILES.items():
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip())
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(site), str(project)], check=True, capture_output=True)
    workplace.environment["PYTHONPATH"] = os.pathsep.join([str(site), workplace.environment.get("PYTHONPATH", "")])
    return workplace


def test_they_are_listed(acme: Workplace) -> None:
    assert "acme_net" in acme.edlab("models").stdout
    assert "acme_npu" in acme.edlab("devices").stdout
    assert "acme_npu" in acme.edlab("run", "--help").stdout


def test_yaml_files_are_found_in_a_package_that_cannot_be_imported(acme: Workplace) -> None:
    rows = [line.split() for line in acme.edlab("devices").stdout.splitlines()]
    assert ["acme_board", "local", "onnx", "by", "acme", "fp32"] in rows
    assert next(row for row in rows if row[0] == "acme_typo")[1:] != []
    assert ["cpu", "local"] in [row[:2] for row in rows]  # the broken ones do not stop the list
    assert "acme_resnet" in acme.edlab("models").stdout
    assert "acme_board" in acme.edlab("run", "--help").stdout
    mistyped = acme.edlab("run", "device=acme_bord")
    assert "did you mean 'acme_board'" in mistyped.stderr
    assert "acme_edlab.no_such_folder is not found" in mistyped.stderr
    assert "has no key 'runtime'" in acme.edlab("run", "device=acme_typo").stderr


def test_a_sweep_takes_what_yaml_files_of_a_package_add(acme: Workplace) -> None:
    result = acme.run(
        "-m", "device=glob(acme_b*)", "converter=acme_ort,onnxruntime", "model=acme_net", "dataset=synthetic"
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert [record.details["runtime"]["runtime"] for record in acme.records()] == ["acme", "acme"]


def test_they_run_with_the_defaults_that_the_device_brings(acme: Workplace) -> None:
    result = acme.run("model=acme_net", "device=acme_npu", "dataset=synthetic")
    assert result.returncode == 0, result.stdout + result.stderr
    (record,) = acme.records()
    assert record.params["quantization.precision"] == "int8"
    assert record.details["runtime"]["runtime"] == "acme"
    assert record.details["runtime"]["version"].startswith("acme r7 on ")
    assert record.details["source"]["preprocessing"]["height"] == 16
    assert record.metrics["estimated_power_w"] == 2.0


def test_a_format_that_only_their_device_opens_is_checked_and_emulated_in_the_form_before(acme: Workplace) -> None:
    words = "model=acme_net", "device=acme_npu", "converter=acme", "dataset=synthetic"
    for execution, format, runtime in (("native", "acme", "acme"), ("emulated", "onnx", "onnxruntime")):
        result = acme.run(*words, f"device.execution={execution}")
        assert result.returncode == 0, result.stdout + result.stderr
        (record,) = acme.records()
        assert record.details["artifact"]["format"] == format
        assert record.details["runtime"]["runtime"] == runtime
        assert record.details["weights"]["int8"] > 0  # of the ONNX file


def test_wrong_outputs_of_a_format_that_only_the_device_opens_may_be_the_converters_fault(acme: Workplace) -> None:
    words = "model=acme_net", "device=acme_npu", "converter=acme", "dataset=synthetic"
    acme.run(*words, "device.options.acme.swapped=true")
    (record,) = acme.records()
    assert "while the onnx file that it was converted from is correct on this machine" in record.reason
    assert "or the converter (acme) wrote a wrong file" in record.hint


def test_a_converter_that_fails_leaves_an_intermediate_file_and_a_bug_is_its_packages(acme: Workplace) -> None:
    words = "model=acme_net", "device=acme_npu", "dataset=synthetic"
    result = acme.run("-m", "converter=acme_fails,acme_bug", *words)
    fails, bug = acme.records()
    assert (fails.stage, fails.details["intermediate"]) == ("convert", "model.onnx")
    assert "the intermediate file model.onnx is saved: edlab pull" in result.stdout
    assert "the converted model is saved" not in result.stdout
    assert "this is a bug in the package acme-edlab (" in bug.hint
    assert "convert.py, line " in bug.hint


def test_what_the_device_cannot_run_is_refused_with_the_nearest(acme: Workplace) -> None:
    result = acme.run("model=acme_net", "device=acme_npu", "dataset=synthetic", "quantization=fp32")
    assert result.returncode == 1
    (record,) = acme.records()
    assert record.status == "skipped"
    assert record.hint == "set quantization to one of: int8"


def test_one_that_cannot_be_imported_costs_the_rows_that_use_it_and_nothing_else(acme: Workplace) -> None:
    result = acme.run("-m", "converter=acme_broken,onnxruntime", "quantization=fp32")
    assert result.returncode == 1
    assert "Traceback" not in result.stdout + result.stderr
    broken, good = acme.records()
    assert broken.status == "failed"
    assert "acme_edlab.broken" in broken.reason
    assert "no licence file" in broken.reason
    assert "bug in edlab" not in broken.hint
    assert good.status == "ok"
    assert "no licence file" in acme.edlab("converters").stdout


def test_a_runtime_that_is_not_found_costs_the_run_that_uses_it_and_doctor_warns(acme: Workplace) -> None:
    result = acme.run("model=acme_net", "dataset=synthetic", "device.runtimes.onnx=acme_lost")
    assert result.returncode == 1
    (record,) = acme.records()  # the runs of the other tests, which do not use it, end well
    assert (record.status, record.stage) == ("failed", "convert")
    assert "the runtime 'acme_lost' needs the module 'acme_edlab.no_such_runtime', which is not found" in record.reason
    assert "entry point" in record.hint
    needed = acme.edlab("doctor", "device=cpu", "device.runtimes.onnx=acme_lost")
    assert needed.returncode == 1
    assert "acme_edlab.no_such_runtime" in needed.stdout
    everything = acme.edlab("doctor")
    assert "–  runtime 'acme_lost'" in everything.stdout
    assert "–  device=acme_typo" in everything.stdout  # a yaml file that is wrong is a line, and not the end
