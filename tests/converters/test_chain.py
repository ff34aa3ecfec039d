"""Chains of steps: isolated, cached by content, shared by parallel runs, and clear when a vendor's tool fails."""

from __future__ import annotations

from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from edlab import converters
from edlab.artifact import Artifact
from edlab.cache import Cache, sha256_files
from edlab.config import CalibrationMethod, ConverterConfig, Precision, QuantizationConfig
from edlab.converters import HOST, CalibrationData, HostProcess, Step, run_steps
from edlab.errors import ConfigError, ConversionError, MissingDependencyError, UnsupportedError
from edlab.packages import install
from edlab.source import SourceModel
from edlab.stages.reference import this_machine
from edlab.testing.converter import PREPROCESSING, quantization, small_calibration, small_source


def step(function: str, **changes: Any) -> Step:
    given = {
        "name": function,
        "version": 1,
        "function": f"chain_tools:{function}",
        "output": "out.text",
        "format": "text",
        "precision": "fp32",
        "layout": "NCHW",
        "tools": {"numpy": "edlab"},
    }
    return Step(**{**given, **changes})


@pytest.fixture
def source(tmp_path: Path) -> SourceModel:
    path = tmp_path / "net.onnx"
    path.write_text("abc")
    return SourceModel(
        name="text",
        format="onnx",
        path=path,
        sha256=sha256_files([path]),
        layout="NCHW",
        preprocessing=PREPROCESSING,
        num_classes=2,
        weights="untrained",
    )


def run(
    source: SourceModel,
    cache: Cache,
    *steps: Step,
    images: int = 2,
    calibration: Callable[[], CalibrationData] | None = None,
    portable: Collection[str] = ("text",),
    on_progress: Callable[[str], None] = lambda step: None,
    **config: Any,
) -> Artifact:
    return run_steps(
        steps,
        Artifact.of(source),
        {HOST: HostProcess()},
        ConverterConfig(name="plan", **config),
        calibration=calibration or (lambda: small_calibration(source.path.parent, images)),
        cache=cache,
        portable=portable,
        on_progress=on_progress,
    )


def cached_steps(cache: Cache) -> list[Path]:
    return [path for path in cache.root.glob("steps/*") if path.suffix != ".lock"]


def test_a_step_leaves_its_files_its_log_and_what_it_was(source: SourceModel, cache: Cache) -> None:
    artifact = run(source, cache, step("upper", options={"suffix": "!"}))
    assert artifact.files[0].read_text() == "ABC!"
    assert [file.name for file in artifact.files] == ["out.text", "out.extra"]
    assert artifact.sha256 == sha256_files(artifact.files)
    (done,) = artifact.steps
    assert "upper was here" in done.log.read_text()
    assert done.options == {"suffix": "!"}
    assert set(done.tools) == {"numpy"}
    assert not done.cached
    assert done.seconds > 0


def test_steps_feed_one_another_and_the_common_ones_run_once(source: SourceModel, cache: Cache) -> None:
    begun: list[str] = []
    first, second = step("upper"), step("upper", name="again", options={"suffix": "?"})
    run(source, cache, first)
    artifact = run(source, cache, first, second, calibration=pytest.fail, on_progress=begun.append)
    assert artifact.files[0].read_text() == "ABC?"
    assert [done.cached for done in artifact.steps] == [True, False]
    assert begun == ["upper", "again"]


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"options": {"suffix": "!"}},
        {"name": "other"},
        {"tools": {"onnx": "edlab"}},
        {"calibrates": True},
    ],
)
def test_whatever_a_step_hangs_on_makes_it_run_again(
    source: SourceModel, cache: Cache, changes: dict[str, Any]
) -> None:
    run(source, cache, step("upper"))
    assert not run(source, cache, step("upper", **changes)).steps[0].cached


def test_another_version_of_a_program_makes_the_step_run_again(source: SourceModel, cache: Cache) -> None:
    for version in ("1.0", "2.0"):
        (done,) = run(source, cache, step("upper", identity=lambda options, version=version: {"tool": version})).steps
        assert not done.cached
        assert done.tools["tool"] == version


def test_what_a_tool_says_of_its_work_is_recorded_and_is_no_file_of_the_artifact(
    source: SourceModel, cache: Cache
) -> None:
    for _ in range(2):  # made, and from the cache
        artifact = run(source, cache, step("reported"), step("upper", name="after"))
        assert [file.name for file in artifact.files] == ["out.text", "out.extra"]
        assert [done.report.figures for done in artifact.steps] == [{"mapped_fraction": 0.5}, {}]
        assert artifact.accelerated_fraction == 0.5


def test_what_no_cpu_opens_keeps_the_last_form_that_one_does(source: SourceModel, cache: Cache) -> None:
    chain = [step("upper"), step("upper", name="compile", format="sealed"), step("upper", name="sign", format="sealed")]
    text, compiled, signed = (run(source, cache, *chain[:count]) for count in (1, 2, 3))
    assert text.on_host is text
    for artifact in (compiled, signed):
        assert artifact.format == "sealed"
        assert (artifact.on_host.format, artifact.on_host.sha256) == ("text", text.sha256)
    assert run(source, cache, *chain, portable=("text", "sealed")).portable is None


def test_other_calibration_images_make_only_calibrating_steps_run_again(source: SourceModel, cache: Cache) -> None:
    steps = step("upper"), step("upper", name="quantize", calibrates=True)
    assert "'indices': [0, 1]" in run(source, cache, *steps, images=2).files[1].read_text()
    assert [done.cached for done in run(source, cache, *steps, images=3).steps] == [True, False]


def test_other_source_content_makes_the_chain_run_again(source: SourceModel, cache: Cache) -> None:
    run(source, cache, step("upper"))
    other = source.model_copy(update={"sha256": "0" * 64})
    assert not run(other, cache, step("upper")).steps[0].cached


@pytest.mark.parametrize(
    ("function", "config", "message", "hint", "log"),
    [
        ("crash", {}, "SIGABRT", "log", "about to crash"),
        ("gorge", {"memory_limit_gb": 0.5}, "memory", "calibration.images", ""),
        ("half_written", {}, "the vendor's tool said no", "log", "half_written"),
        ("write_nothing", {}, "its output out.text is missing", "chain_tools must write", ""),
        ("write_a_folder", {}, "wrote out.text, which is not a file", "chain_tools must write", ""),
        ("leave_a_folder", {}, "wrote scratch, which is not a file", "chain_tools must write", ""),
        ("leave_a_link", {}, "its output out.text is missing", "chain_tools must write", ""),
    ],
)
def test_a_tool_that_fails_is_one_clear_error_and_leaves_nothing_in_the_cache(
    source: SourceModel, cache: Cache, function: str, config: dict[str, Any], message: str, hint: str, log: str
) -> None:
    with pytest.raises(ConversionError, match=message) as caught:
        run(source, cache, step(function), **config)
    assert hint in caught.value.hint
    assert log in caught.value.log
    assert cached_steps(cache) == []


def test_a_tool_that_hangs_is_ended_at_its_limit_and_what_it_said_is_kept(source: SourceModel, cache: Cache) -> None:
    for limit in (3.0, 10.0, 60.0):  # the first in which this machine starts the tool's process
        with pytest.raises(ConversionError, match=f"timed out after {limit:g} s") as caught:
            run(source, cache, step("hang"), timeout_s=limit)
        assert "converter.timeout_s" in caught.value.hint
        assert cached_steps(cache) == []
        if caught.value.log:
            break
    assert "about to hang" in caught.value.log


def test_the_log_that_an_error_names_is_there_to_read(source: SourceModel, cache: Cache) -> None:
    with pytest.raises(ConversionError) as caught:
        run(source, cache, step("half_written"))
    assert "Traceback" in Path(caught.value.hint.rpartition(": ")[2]).read_text()


def test_a_step_that_failed_is_tried_again(source: SourceModel, cache: Cache) -> None:
    for _ in range(2):
        with pytest.raises(ConversionError, match="said no"):
            run(source, cache, step("half_written"))


def test_parallel_runs_share_one_conversion(source: SourceModel, cache: Cache) -> None:
    with ThreadPoolExecutor() as pool:
        artifacts = list(pool.map(lambda _: run(source, cache, step("upper")), range(3)))
    assert sum(not artifact.steps[0].cached for artifact in artifacts) == 1
    assert len(cached_steps(cache)) == 1


def test_a_tool_that_is_not_installed_is_named_with_the_command(source: SourceModel, cache: Cache) -> None:
    with pytest.raises(MissingDependencyError, match="no_such_sdk") as caught:
        run(source, cache, step("upper", tools={"no_such_sdk": "edlab[openvino]"}))
    assert caught.value.hint == install(["edlab[openvino]"])


def test_an_unknown_converter_is_answered_with_the_near_ones() -> None:
    with pytest.raises(ConfigError, match="'openvin'") as caught:
        converters.get(ConverterConfig(name="openvin"))
    assert "did you mean 'openvino'?" in caught.value.hint


def test_an_option_of_another_type_is_refused() -> None:
    with pytest.raises(ConfigError, match="percentile='all'"):
        converters.get(ConverterConfig(name="onnxruntime", options={"percentile": "all"}))


@pytest.mark.parametrize("name", list(converters.available()))
def test_every_converter_says_what_it_lacks_and_what_it_makes(name: str, tmp_path: Path) -> None:
    kind = converters.load(name)
    assert kind.name == name
    assert set(kind.missing()) <= set(kind.requirements)
    source = small_source(tmp_path)
    assert converters.targets(name, source) == (kind.format if "pt2" in kind.takes else None)


@pytest.mark.parametrize(
    ("converter", "wanted", "message", "hint"),
    [
        (
            "litert",
            quantization(Precision.int8, method=CalibrationMethod.entropy),
            "converter=litert does not support quantization.calibration.method=entropy",
            "quantization.calibration.method=minmax",
        ),
        (
            "openvino",
            quantization(Precision.int8, method=CalibrationMethod.entropy),
            "converter=openvino does not support quantization.calibration.method=entropy",
            "minmax, percentile",
        ),
        (
            "openvino",
            quantization(Precision.int8_dynamic),
            "converter=openvino does not support quantization=int8_dynamic",
            "int8",
        ),
        (
            "onnxruntime",
            quantization(Precision.int8_dynamic),
            "converter=onnxruntime does not support quantization.granularity=per_channel",
            "quantization.granularity=per_tensor",
        ),
        (
            "torch",
            quantization(Precision.int8),
            "converter=torch does not support quantization=int8",
            "quantization=fp32",
        ),
        ("keras", quantization(Precision.fp32), "converter=keras does not support pt2 models", "keras"),
    ],
)
def test_what_a_toolchain_cannot_do_is_refused_by_name(
    tmp_path: Path, converter: str, wanted: QuantizationConfig, message: str, hint: str
) -> None:
    with pytest.raises(UnsupportedError) as caught:
        converters.get(ConverterConfig(name=converter)).plan(small_source(tmp_path), wanted)
    assert caught.value.message == message
    assert hint in caught.value.hint


def test_settings_of_a_precision_that_does_not_use_them_are_no_obstacle(tmp_path: Path) -> None:
    wanted = quantization(Precision.fp32, method=CalibrationMethod.entropy, exclude=("any",))
    assert converters.get(ConverterConfig(name="litert")).plan(small_source(tmp_path), wanted)


def test_torch_is_the_source_itself(tmp_path: Path, cache: Cache) -> None:
    source = small_source(tmp_path)
    artifact = converters.convert(
        source,
        quantization(Precision.fp32),
        ConverterConfig(name="torch"),
        calibration=pytest.fail,
        cache=cache,
        portable=this_machine().runtimes,
    )
    assert artifact.files == (source.path,)
    assert artifact.sha256 == source.sha256
    assert artifact.steps == ()
