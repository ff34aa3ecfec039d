"""The conformance suites of runtimes, kinds of device and converters fail parts that break their rules.

Each part is one that works, with several faults put in; the other suites are tested beside their built-in parts.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from conformance import install, outcomes


def of_suite(site: Path, suite: str) -> dict[str, str]:
    """The outcome of each test by its name."""
    (site / "test_part.py").write_text(suite)
    return {node.rpartition("::")[2]: outcome for node, outcome in outcomes(site, "test_part.py").items()}


RUNTIME = """
from edlab.agent.runtimes import onnxruntime


class Runtime(onnxruntime.Runtime):
    @classmethod
    def complete(cls, options, /):  # not in Python 3.7
        return dict(cls.options)

    def compile(self, in_flight, batch):
        compiled = super().compile(in_flight, batch)
        for request in compiled.requests:
            request.get_outputs = lambda honest=request.get_outputs: [2 * output for output in honest()]
        return compiled
"""

RUNTIME_SUITE = """
import torch

from edlab.testing.runtime import RuntimeConformance


class TestRuntime(RuntimeConformance):
    runtime = "acme"

    def export(self, network, folder):
        image = (torch.zeros(1, 3, 32, 32),)
        torch.onnx.export(network, image, folder / "net.onnx", dynamo=False, opset_version=17)
        return [folder / "net.onnx"]
"""


@pytest.mark.slow
def test_a_runtime_of_other_numbers_that_takes_any_option(tmp_path: Path) -> None:
    site = install(tmp_path, "acme_runtime", RUNTIME, "edlab.runtimes: acme = acme_runtime")
    found = of_suite(site, RUNTIME_SUITE)
    assert found["test_logits_are_those_of_the_reference"] == "failed"
    assert found["test_an_unknown_option_is_refused_by_name"] == "failed"
    assert found["test_its_sources_are_for_python_3_7_and_import_only_the_agent"] == "failed"
    assert found["test_it_can_be_imported_and_tells_its_version"] == "passed"


DEVICE = """
import contextlib

from edlab.devices.local import LocalDevice


class Kind(LocalDevice):
    def connect(self):
        session = super().connect()
        session.put = lambda files: ["/nowhere/" + file.name for file in files]
        return contextlib.nullcontext(session)
"""

DEVICE_SUITE = """
from edlab.config import DeviceConfig
from edlab.testing.device import DeviceConformance


class TestKind(DeviceConformance):
    def config(self):
        return DeviceConfig(name="acme", kind="acme")
"""


@pytest.mark.slow
def test_a_device_that_loses_files_and_leaves_agents_behind(tmp_path: Path) -> None:
    site = install(tmp_path, "acme_link", DEVICE, "edlab.device_kinds: acme = acme_link:Kind")
    found = of_suite(site, DEVICE_SUITE)
    assert found["test_files_go_there_and_come_back"] == "failed"
    assert found["test_the_agent_ends_with_its_context"] == "failed"
    assert found["test_the_agent_ends_with_a_context_that_an_error_leaves"] == "failed"
    assert found["test_an_agent_says_who_answers"] == "passed"


CONVERTER = """
import dataclasses
import uuid

from edlab.converters.onnxruntime import OnnxruntimeConverter


class Converter(OnnxruntimeConverter):
    name = "acme"
    default_options = {**OnnxruntimeConverter.default_options, "no_effect": 1}

    def __init__(self, config):
        self.options = {**self.default_options, **config.options}

    def _steps(self, source, quantization):
        steps = super()._steps(source, quantization)
        stamp = dataclasses.replace(
            steps[-1], name="stamp", function="acme_convert:stamp", options={}, calibrates=False
        )
        return (*steps, stamp)


def stamp(inputs, out, options, calibration):
    import onnx

    model = onnx.load(inputs[0])
    onnx.helper.set_model_props(model, {"made": uuid.uuid4().hex})
    onnx.save(model, out)
"""

CONVERTER_SUITE = """
from edlab.testing.converter import ConverterConformance


class TestConverter(ConverterConformance):
    converter = "acme"
"""


@pytest.mark.slow
def test_a_converter_that_ignores_options_and_never_makes_the_same_file(tmp_path: Path) -> None:
    site = install(tmp_path, "acme_convert", CONVERTER, "edlab.converters: acme = acme_convert:Converter")
    found = of_suite(site, CONVERTER_SUITE)
    assert found["test_the_same_conversion_gives_the_same_bytes"] == "failed"
    assert found["test_an_option_that_does_not_exist_is_refused"] == "failed"
    assert found["test_the_options_declared_reach_the_plan"] == "failed"
    assert found["test_a_precision_that_is_not_declared_is_refused_by_name"] == "passed"
