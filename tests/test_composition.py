"""The command line's words become typed configurations, and wrong words are answered with the valid ones."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import Field, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl

from edlab import composition, data
from edlab.agent.statistics import LEAST_WINDOWS, MOST_WINDOWS
from edlab.composition import Composer, compose_config, config_dir, decide, describe, groups, options, weaker_settings
from edlab.config import CalibrationMethod, EdlabConfig, Precision
from edlab.engine import hydra_app
from edlab.errors import ConfigError, MissingDependencyError
from edlab.source import Preprocessing, SourceModel


def source(precision: str) -> SourceModel:
    return SourceModel(
        name="net", format="tflite", path=Path("net.tflite"), sha256="", layout="NHWC", precision=precision,
        preprocessing=Preprocessing(height=8, width=8), num_classes=4, weights="file",
    )  # fmt: skip


def test_default_run_is_the_embedded_model_on_this_machine() -> None:
    config = compose_config([])
    assert (config.model.name, config.dataset.name, config.device.name) == ("digits_cnn", "digits", "cpu")


def test_a_model_brings_its_data_set_and_the_command_line_wins() -> None:
    assert compose_config(["model=mobilenet_v2"]).dataset.name == "imagenet"
    assert compose_config(["model=mobilenet_v2", "dataset=synthetic"]).dataset.name == "synthetic"


def test_a_device_brings_its_converter_and_the_command_line_wins() -> None:
    assert compose_config(["device=cpu"]).converter.name == "onnxruntime"
    assert compose_config(["device=cpu", "converter=litert"]).converter.name == "litert"


@pytest.mark.parametrize("group", groups())
def test_every_shipped_config_composes(group: str) -> None:
    names = sorted(path.stem for path in (config_dir() / group).glob("*.yaml"))
    assert names
    for name in names:
        overrides = [f"{group}={name}"]
        if (group, name) == ("model", "file"):
            overrides.append("model.path=net.onnx")
        if group == "model" and name in ("timm", "torchvision", "keras"):
            overrides.append("model.arch=resnet18")
        if group == "dataset" and data.DATASETS.load(name).needs_path:
            overrides.append("dataset.path=photos")
        if (group, name) == ("model", "python"):
            overrides.append("model.target=package.module:factory")
        if group == "meter":  # what has no default
            yaml = (config_dir() / group / f"{name}.yaml").read_text()
            values = {"command": "ls", "max_amperes": "0.5", "mode": "source", "voltage_mv": "5000", "boundary": "usb"}
            keys = re.findall(r"^  (\w+): \?\?\?", yaml, re.MULTILINE)
            overrides += [f"meter.options.{key}={values.get(key, 'name')}" for key in keys]
        with contextlib.suppress(MissingDependencyError):  # of a meter, whose message names the package
            assert getattr(compose_config(overrides), group).name


def test_values_are_typed() -> None:
    config = compose_config(["quantization=int8", "quantization.calibration.method=percentile"])
    assert config.quantization.precision is Precision.int8
    assert config.quantization.calibration.method is CalibrationMethod.percentile


@pytest.mark.parametrize(
    ("override", "message", "hint"),
    [
        ("model=mobilenet_v3", "unknown model 'mobilenet_v3'", "did you mean 'mobilenet_v2'?"),
        ("quantization=int9", "unknown quantization 'int9'", "int8"),
        ("model.wieghts=random", "'model' has no key 'wieghts'", "did you mean 'weights'?"),
        ("devices=cpu", "no key 'devices'", "did you mean 'device'?"),
        ("quantization.calibration.method=best", "Invalid value 'best'", "quantization.calibration.method"),
        ("protocol.queries=many", "'many'", "protocol.queries"),
        ("quantization=fp32,int8", "several values", "add -m"),
        ("nonsense", "cannot read 'nonsense'", "key=value"),
        ("mobilenet_v2", "cannot read 'mobilenet_v2'", "did you mean model=mobilenet_v2?"),
        ("net.onnx", "cannot read 'net.onnx'", "did you mean model=file model.path=net.onnx?"),
        ("batch=1", "no key 'batch'", "did you mean protocol.throughput.max_batch?"),
        ("threads=2", "no key 'threads'", "did you mean device.threads?"),
        ("device.threads=abc", "'abc'", "set device.threads to a whole number, e.g. 1"),
        ("protocol.seconds=x", "'x'", "set protocol.seconds to a number, e.g. 0.5"),
        ("=3", "", ""),
        ("device.threads=0", "device.threads=0", "1 or more"),
        ("protocol.windows=4", "protocol.windows=4", "5 or more"),
        ("protocol.windows=40", "above 31", "31 or less"),
        ("protocol.repeats=2", "protocol.repeats=2", "3 or more"),
        ("protocol.throughput.seconds=0", "protocol.throughput.seconds=0", "0.1 or more"),
        ("device.specification.typical_watts=-5", "typical_watts=-5", "0.001 or more"),
        ("quantization.calibration.images=-3", "images=-3", "1 or more"),
    ],
)
def test_bad_overrides_are_named_with_the_fix(override: str, message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose_config([override])
    assert message in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("overrides", "message", "hint"),
    [
        ("meter=scpi meter.options.hst=x", "has no option 'hst'", "did you mean 'host'?"),
        ("meter=csv", "meter=csv needs meter.options.path, meter.options.boundary", "rail, module, package"),
        ("meter=um25c meter.options.port=a,b", "'meter.options.port=a,b' names", "add -m"),
        ("meter.options.command=x'|'y", "cannot read 'meter.options.command=x'|'y'", 'command="\\"x\'|\'y\\""'),
    ],
)
def test_the_options_of_a_meter_are_named_as_the_user_typed_them(overrides: str, message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose_config(overrides.split())
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_a_flag_of_a_meters_program_needs_quotes() -> None:
    with pytest.raises(ConfigError, match="unknown option '--watts'") as caught:
        hydra_app.read_flags(["++meter.options.command=acme-meter", "--watts"])
    assert "meter.options.command=\"'acme-meter --watts'\"" in caught.value.hint


def test_options_and_arguments_take_keys_that_no_yaml_names() -> None:
    words = ["converter.options.percentile=99.9", "model.arguments.num_classes=7", "device.env.LOG=1"]
    config = compose_config(words)
    assert config.converter.options == {"percentile": 99.9}
    assert config.model.arguments == {"num_classes": 7}
    assert config.device.env == {"LOG": "1"}


def test_a_device_without_units_takes_no_target() -> None:
    assert compose_config(["device=intel", "device.target=NPU"]).device.options["openvino"]["device"] == "NPU"
    with pytest.raises(ConfigError, match=r"device\.target is unsupported"):
        compose_config(["device=cpu", "device.target=GPU"])
    with pytest.raises(ConfigError, match=r"device\.target is unsupported"):
        compose_config(["device=cpu", "device.target=1", "device.env.COUNT=1"])  # a 1 among its settings


def test_many_values_of_a_key_read_the_yaml_files_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[object] = []

    class Counting(ConfigLoaderImpl):
        def load_configuration(self, *arguments: Any, **named: Any) -> Any:
            read.append(arguments)
            return super().load_configuration(*arguments, **named)

    monkeypatch.setattr(composition, "ConfigLoaderImpl", Counting)
    composer = Composer()
    seeds = [composer.compose([f"dataset.seed={seed}", "protocol=smoke"]).dataset.seed for seed in range(50)]
    assert seeds == list(range(50))
    assert len(read) == 1
    assert composer.compose(["protocol=smoke"]) == compose_config(["protocol=smoke"])  # nothing of the others is left
    with pytest.raises(ConfigError, match=r"protocol\.seed=-1"):
        composer.compose(["protocol=smoke", "protocol.seed=-1"])


def test_another_hydra_application_of_the_process_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "theirs.yaml").write_text("mine: 1")
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda seed: compose_config([f"dataset.seed={seed}"]).dataset.seed, range(8)))
        assert found == list(range(8))
        assert compose("theirs") == {"mine": 1}


def test_parameters_are_flat_and_dotted() -> None:
    flat = describe(compose_config(["quantization=int8"]))
    assert flat["model.name"] == "digits_cnn"
    assert "quantization.calibration.images" not in flat  # decided once the data set is known
    assert flat["quantization.precision"] == "int8"


def test_options_list_what_a_group_takes() -> None:
    assert {"mobilenet_v2", "mnasnet", "inception_v3", "digits_cnn"} <= set(options("model"))


class TestAuto:
    """converter=auto and quantization=auto: the defaults of device=cpu."""

    @pytest.mark.parametrize(("file", "converter"), [("net.tflite", "litert"), ("net.onnx", "onnxruntime")])
    def test_a_model_file_brings_its_converter_and_precision(self, file: str, converter: str) -> None:
        config = compose_config(["model=file", f"model.path={file}"])
        assert config.converter.name == converter
        assert config.quantization.precision is Precision.auto
        assert not {"quantization.name", "quantization.precision"} & describe(config).keys()
        decided = decide(config, source("int8"), 100)
        assert (decided.quantization.name, decided.quantization.precision) == ("int8", Precision.int8)
        assert describe(decided)["quantization.precision"] == "int8"
        assert decide(decided, source("fp32"), 10) == decided

    @pytest.mark.parametrize(("stated", "pool", "used"), [("", 100, 64), ("", 4, 4), ("7", 4, 7)])
    def test_calibration_uses_64_images_or_all_that_there_are(self, stated: str, pool: int, used: int) -> None:
        words = [f"quantization.calibration.images={stated}"] if stated else []
        decided = decide(compose_config(["quantization=int8", *words]), source("fp32"), pool)
        assert describe(decided)["quantization.calibration.images"] == used

    def test_other_models_are_measured_in_fp32(self) -> None:
        config = compose_config([])
        assert (config.converter.name, config.quantization.name) == ("onnxruntime", "fp32")
        assert config.quantization.precision is Precision.fp32
        assert describe(config)["quantization.precision"] == "fp32"

    def test_what_is_asked_for_stays(self) -> None:
        config = compose_config(["model=file", "model.path=net.tflite", "quantization=fp32", "converter=edgetpu"])
        assert (config.converter.name, config.quantization.precision) == ("edgetpu", Precision.fp32)
        assert compose_config(["device=jetson"]).quantization.precision is Precision.fp16


@pytest.mark.parametrize(
    ("words", "weaker"),
    [
        (["protocol=strict", "protocol.throughput.seconds=1"], "protocol.throughput.seconds"),
        (["protocol=sustained", "protocol.throughput.seconds=null"], "protocol.throughput.seconds"),
        (["protocol=normal", "protocol.windows=20"], "protocol.windows"),
        (["protocol=normal", "protocol.max_interval=0.2"], "protocol.max_interval"),
        (["protocol=normal", "protocol.throughput.gain=1"], "protocol.throughput.gain"),
        (["protocol=normal", "power.active_seconds=1"], "power.active_seconds"),
        (["protocol=normal", "power.active_samples=10"], "power.active_samples"),
        (["protocol=smoke", "protocol.name=mine"], "protocol.seconds"),  # of no tier: less than the least
    ],
)
def test_what_is_weaker_than_its_tier_is_named(words: list[str], weaker: str) -> None:
    assert weaker in weaker_settings(compose_config(words))


def test_only_what_differs_from_the_tier_is_named() -> None:
    """The window is as long as protocol.seconds, unless its own length is set."""
    assert weaker_settings(compose_config(["protocol=smoke", "protocol.seconds=1"])) == ("protocol.seconds",)
    window = ["protocol=smoke", "protocol.throughput.seconds=1"]
    assert weaker_settings(compose_config(window)) == ("protocol.throughput.seconds",)


def test_what_is_stronger_than_its_tier_is_not() -> None:
    stronger = ["protocol=quick", "protocol.throughput.seconds=60", "protocol.max_interval=0.02", "protocol.repeats=3"]
    assert weaker_settings(compose_config(stronger)) == ()


def numbers(kind: type, prefix: str = "") -> Iterator[tuple[str, Field[Any]]]:
    """The fields of a configuration that hold a number, by their keys."""
    hints = get_type_hints(kind)
    for each in fields(kind):
        hint = hints[each.name]
        if is_dataclass(hint):
            yield from numbers(hint, f"{prefix}{each.name}.")
        elif {int, float} & {hint, *get_args(hint)} and get_origin(hint) not in (dict, list):
            yield f"{prefix}{each.name}", each


def test_every_number_has_bounds() -> None:
    found = dict(numbers(EdlabConfig))
    assert len(found) > 30
    assert [key for key, each in found.items() if "least" not in each.metadata] == []


def test_the_windows_allowed_are_those_that_an_interval_is_known_for() -> None:
    bounds = dict(numbers(EdlabConfig))["protocol.windows"].metadata
    assert (bounds["least"], bounds["most"]) == (LEAST_WINDOWS, MOST_WINDOWS)


@pytest.mark.parametrize("word", ["protocol.warmup.seconds=-1", "model.claimed_top1=2", "power.interval_s=nan"])
def test_a_number_out_of_bounds_is_refused_with_them(word: str) -> None:
    with pytest.raises(ConfigError, match=r"is (above|below)") as caught:
        compose_config([word])
    assert "set " in caught.value.hint


def test_the_old_name_of_the_address_is_understood() -> None:
    assert compose_config(["device=jetson_nano", "device.host=nano"]).device.address == "nano"
    assert "device.host" not in describe(compose_config(["device=jetson_nano", "device.host=nano"]))
