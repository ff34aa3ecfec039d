"""Turns the command line's overrides into typed configurations, with Hydra; errors list the valid names."""

from __future__ import annotations

import copy
import dataclasses
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl  # `hydra.compose` has one state for the entire process
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import setup_globals
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException, ValidationError

from edlab.agent import boards
from edlab.config import (
    ConverterConfig,
    DatasetConfig,
    DeviceConfig,
    EdlabConfig,
    Execution,
    MeterConfig,
    ModelConfig,
    ModelOrigin,
    PowerConfig,
    Precision,
    ProtocolConfig,
    QuantizationConfig,
    Sensor,
)
from edlab.devices import runtimes
from edlab.errors import ConfigError, EdlabError
from edlab.registry import did_you_mean, load_target, nearest, places, plugins
from edlab.sanitize import HIDDEN
from edlab.source import USUAL_CALIBRATION_IMAGES, SourceModel

_VERSION_BASE = "1.3"  # the version of Hydra's behaviour
_composing = threading.Lock()  # Hydra's plugins, schema store and resolvers are shared by the entire process
_AUTO = "auto"
_ANY, _PROCESSOR = "*", "processor"  # in device.runtimes: all runtimes that run on any processor
_DECIDED_LATER = ("quantization.name", "quantization.precision")

# Parameters of a record that describe the loaded model and data.
_NOT_OF_THE_CONFIGURATION = ("model.format", "model.input.", "dataset.label_map")

_CHOOSE_DATASET = ("dataset", "dataset.kind")

_OF_THE_DEVICE = ("device.options.", "device.knobs.", "device.power_mode")

_MODEL_FILES = {".onnx", ".tflite", ".keras", ".pt2", ".pt", ".pth", ".h5"}

# What states which model it is, for origins other than libraries of architectures.
_KEYS_OF_ORIGIN = {ModelOrigin.file: "path", ModelOrigin.python: "target"}
# How a value of each of omegaconf's types is written.
_FORMS = {"Integer": "a whole number, e.g. 1", "Float": "a number, e.g. 0.5", "Bool": "true or false"}
_EXAMPLES = {"path": "FILE", "arch": "NAME; `edlab models` has examples"}

# Mappings that accept any key; other modules check them.
_OPEN = (
    "model.arguments.",
    "converter.options.",
    "device.env.",
    "device.knobs.",
    "meter.options.",
    "device.options.",
    "device.runtimes.",
    "device.runtimes=",
    "device.specification.peak_ops.",
)


def config_dir() -> Path:
    """The folder of yaml files: inside an installed package, next to it in a clone."""
    package = Path(__file__).parent
    return next(folder for folder in (package / "conf", package.parent / "conf") if folder.is_dir())


def config_folders() -> dict[str, Path]:
    """All folders of yaml files: edlab's own, then, by name, those that vendor packages add as `edlab.conf`."""
    added = {name: place for name, entry in plugins("conf").items() for place in places(entry.value)}
    return {"edlab": config_dir(), **added}


class VendorFolders(SearchPathPlugin):  # type: ignore[misc]
    """Makes Hydra search the folders of vendor packages too, after edlab's own."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """See `SearchPathPlugin.manipulate_search_path`."""
        for name, folder in list(config_folders().items())[1:]:
            search_path.append(name, f"file://{folder}")


def register_configs() -> None:
    """Register the typed schema with Hydra, and the yaml, models, devices, converters and data sets of packages."""
    Plugins.instance().register(VendorFolders)
    store = ConfigStore.instance()
    store.store(name="schema", node=EdlabConfig)
    for name, entry in plugins("models").items():
        store.store(group="model", name=name, node={"name": name, "origin": "python", "target": entry.value})
    for name, entry in plugins("devices").items():
        store.store(group="device", name=name, node=_device_node(name, entry.value), package="_global_")
    for name in plugins("converters").keys() - _yaml_files("converter"):  # a yaml file of that name states more
        store.store(group="converter", name=name, node={"name": name})
    for name in plugins("meters").keys() - _yaml_files("meter"):
        store.store(group="meter", name=name, node={"name": name, "kind": name})
    for name in plugins("datasets").keys() - _yaml_files("dataset"):
        store.store(group="dataset", name=name, node={"name": name, "kind": name})


def _device_node(name: str, target: str) -> Any:
    """The mapping of a vendor package; a broken package affects only users of its device."""
    try:
        node = load_target(target)
    except EdlabError as error:
        return {"device": {"name": name, "kind": f"broken: {error.message}"}}
    return (
        node if isinstance(node, Mapping) else {"device": {"name": name, "kind": f"broken: {target} is not a mapping"}}
    )


def options(group: str) -> list[str]:
    """The names that `group=` accepts, including those of vendor packages."""
    return sorted(_yaml_files(group) | set(plugins(f"{group}s")))


def _yaml_files(group: str) -> set[str]:
    return {path.stem for folder in config_folders().values() for path in (folder / group).glob("*.yaml")}


def groups() -> list[str]:
    """The groups of the configuration, in the order of their use in a run."""
    return [field.name for field in fields(EdlabConfig) if (config_dir() / field.name).is_dir()]


def to_config(config: DictConfig) -> EdlabConfig:
    """The dataclasses of a composed configuration. Raises `ConfigError` for a value that is missing."""
    try:
        _check_meter_options(config.meter)
        plain = OmegaConf.to_object(config)
    except OmegaConfBaseException as error:
        raise _explain_value(error, "") from error
    assert isinstance(plain, EdlabConfig)
    _check_origin(plain.model)
    _check_dataset(plain.dataset)
    _resolve_auto(plain)
    _check_numbers(plain)
    _check_runtime_options(plain.device)
    _check_precisions(plain.device)
    _check_target(config, plain.device)
    _check_knobs(plain.device)
    _check_converter(plain.converter)
    _check_meter(plain.meter, plain.power)
    return plain


def _resolve_auto(config: EdlabConfig) -> None:
    """Resolve `auto`, as far as possible before the model is read, and add a processor's runtimes.

    The model's format determines the converter. The precision of a model file is known once it is read: see `decide`.
    """
    file = config.model.path if config.model.origin == ModelOrigin.file else None
    if config.converter.name == _AUTO:
        config.converter.name = "litert" if (file or "").lower().endswith(".tflite") else "onnxruntime"
    if config.quantization.precision is Precision.auto and file is None:
        _set_precision(config.quantization, Precision.fp32)
    if config.device.runtimes.get(_ANY) == _PROCESSOR:
        stated = {file_format: name for file_format, name in config.device.runtimes.items() if file_format != _ANY}
        config.device.runtimes = {**runtimes.on_processors(), **stated}


def decide(config: EdlabConfig, source: SourceModel, calibration_pool: int) -> EdlabConfig:
    """The configuration with what the model and its data decide: `quantization=auto`, a file's own precision, and the
    number of calibration images, of which the data set provides `calibration_pool`.
    """
    quantization = dataclasses.replace(config.quantization)
    if quantization.precision is Precision.auto:
        _set_precision(quantization, Precision(source.precision))
    if quantization.calibration.images is None:
        images = max(1, min(USUAL_CALIBRATION_IMAGES, calibration_pool))
        quantization.calibration = dataclasses.replace(quantization.calibration, images=images)
    return dataclasses.replace(config, quantization=quantization)


def _set_precision(quantization: QuantizationConfig, precision: Precision) -> None:
    quantization.precision = precision
    if quantization.name == _AUTO:
        quantization.name = precision.value


def _check_numbers(config: EdlabConfig) -> None:
    """Raise `ConfigError` for a number outside its field's bounds, or for a useless one."""
    for key, value, bounds in _bounded("", config):
        least, most = bounds["least"], bounds["most"]
        if not value >= least:  # true for NaN
            raise ConfigError(f"{key}={value} is below {least}", hint=f"set {key} to {least} or more")
        if most is not None and value > most:
            raise ConfigError(f"{key}={value} is above {most}", hint=f"set {key} to {most} or less")
    if config.protocol.repeats == 2:
        raise ConfigError(
            "protocol.repeats=2: two processes are too few to estimate how much processes differ",
            hint="set protocol.repeats to 1, or to 3 or more (5 is usual)",
        )


def _bounded(prefix: str, config: Any) -> Iterator[tuple[str, float, Mapping[str, Any]]]:
    """Key, value and bounds of each number of a configuration, including nested ones."""
    for each in fields(config):
        key, value = f"{prefix}{each.name}", getattr(config, each.name)
        if is_dataclass(value):
            yield from _bounded(f"{key}.", value)
        elif "least" in each.metadata and value is not None:
            yield key, value, each.metadata


def _check_runtime_options(device: DeviceConfig) -> None:
    """Raise `ConfigError` if `device.options` is not a mapping from the device's runtimes to options that they have."""
    names = sorted(set(device.runtimes.values()))
    for name, values in device.options.items():
        if name not in names or not isinstance(values, dict):
            raise ConfigError(
                f"device.options.{name}={values!r} is invalid: '{name}' is not a runtime of {device.name}, or its "
                "value is not a mapping",
                hint=f"set device.options.<runtime>.<option>=...; runtimes: {', '.join(names)}",
            )
        try:
            known = sorted(runtimes.load(name).options)
        except ConfigError:  # unknown, or of a broken package: only its runs fail
            continue
        for option in values:
            if option not in known:
                raise ConfigError(
                    f"device.options.{name}.{option}: the runtime {name} has no option '{option}'",
                    hint=_suggest(option, known, f"device.options.{name}") or "it has no options",
                )


def _check_precisions(device: DeviceConfig) -> None:
    """Raise `ConfigError` for a precision that does not exist."""
    known = [precision.value for precision in Precision if precision is not Precision.auto]
    for precision in device.precisions:
        if precision not in known:
            raise ConfigError(
                f"device.precisions of {device.name} has the unknown precision '{precision}'",
                hint=_suggest(precision, known, "precisions"),
            )


def _check_target(config: DictConfig, device: DeviceConfig) -> None:
    """Raise `ConfigError` for a `device.target` of a device whose configuration does not use it."""
    unresolved = str(OmegaConf.to_container(config.device, resolve=False))
    if device.target is not None and "${device.target}" not in unresolved:
        raise ConfigError(f"device.target is unsupported for {device.name}", hint="remove device.target")


def _check_origin(model: ModelConfig) -> None:
    """Raise `ConfigError` for an unknown source of models, and for keys that it needs or does not read."""
    known = [*ModelOrigin, *plugins("model_origins")]
    if model.origin not in known:
        raise ConfigError(f"unknown model.origin '{model.origin}'", hint=_suggest(model.origin, known, "model.origin"))
    if model.origin not in [*ModelOrigin]:
        return
    needed = _KEYS_OF_ORIGIN.get(ModelOrigin(model.origin), "arch")
    for key in ("path", "target", "arch"):
        value = getattr(model, key)
        if key == needed and not value and model.origin != ModelOrigin.python:  # a live module has no target
            raise ConfigError(f"model={model.origin} needs model.{key}", hint=f"set model.{key}={_EXAMPLES[key]}")
        if key != needed and value:
            able = next((name for name, of_it in _KEYS_OF_ORIGIN.items() if of_it == key), "timm")
            raise ConfigError(
                f"model.{key}={value} is set, and model={model.name or model.origin} does not use it",
                hint=f"set model={able} as well",
            )


def _check_dataset(dataset: DatasetConfig) -> None:
    """Raise `ConfigError` for an option that this kind of data set does not read."""
    if dataset != DatasetConfig(dataset.name, dataset.kind):
        from edlab import data  # with numpy, which `--help` does not need

        data.check_options(dataset)


def _check_path(dataset: DatasetConfig) -> None:
    """Raise `ConfigError` if the data set that the user chose needs a path and has none.

    The data set of a model that the user chose may have none: its metrics are then withheld.
    """
    if not dataset.path:
        from edlab import data  # with numpy, which `--help` does not need

        data.check_path(dataset)


def _check_knobs(device: DeviceConfig) -> None:
    """Raise `ConfigError` for an unknown knob, or two different power modes."""
    known = sorted({*boards.BUILT_IN, *plugins("knobs")})
    for name in device.knobs:
        if name not in known:
            raise ConfigError(f"unknown knob 'device.knobs.{name}'", hint=_suggest(name, known, "device.knobs"))
    if device.power_mode is not None and device.settings["power_mode"] != device.power_mode:
        raise ConfigError("device.power_mode and device.knobs.power_mode differ", hint="set one of them")


def _check_converter(config: ConverterConfig) -> None:
    """Raise `ConfigError` for an option that the toolchain does not have."""
    from edlab import converters  # with numpy, which `--help` does not need

    try:
        kind = converters.load(config.name)
    except EdlabError:  # unknown, or of a broken package: only its runs fail
        return
    kind(config)


def _check_meter_options(meter: DictConfig) -> None:
    """Raise `ConfigError` for options that the meter does not have, and then for required ones that are not set.

    omegaconf would name the first required one only, which may be the one that is misspelled.
    """
    if meter.kind is None:
        return
    from edlab import power  # with numpy, which `--help` does not need

    power.check_options(meter.name, meter.kind, list(meter.options))
    missing = [key for key in meter.options if OmegaConf.is_missing(meter.options, key)]
    if missing:
        boundaries = f"; boundary is one of: {', '.join(power.BOUNDARIES)}" if "boundary" in missing else ""
        raise ConfigError(
            f"meter={meter.name} needs {', '.join(f'meter.options.{key}' for key in missing)}",
            hint=f"set {' '.join(f'meter.options.{key}=...' for key in missing)}{boundaries}; "
            "docs/reference/meters.md describes the options",
        )


def _check_meter(config: MeterConfig, power_config: PowerConfig) -> None:
    """Raise `ConfigError` for an unknown meter, options that it does not have, or one that must not measure.

    Nothing is connected to.
    """
    if config.kind is not None and power_config.sensor in (Sensor.none, Sensor.estimated):
        raise ConfigError(
            f"meter={config.name} measures power, and power={power_config.name} requests that it is not measured",
            hint=f"remove meter={config.name} or power={power_config.name}",
        )
    if config.kind is not None or config.options:
        from edlab import power  # with numpy, which `--help` does not need

        power.open_meter(config)


class Composer:
    """Composes configurations; the same groups with other values take a tenth of the time of the first.

    Several threads can have one each, also within another Hydra application: GlobalHydra is not changed. Hydra's node
    store and its version base, which are shared by the process, are changed.
    """

    def __init__(self) -> None:
        with _composing:
            version.setbase(_VERSION_BASE)
            setup_globals()
            register_configs()
            self._loader = ConfigLoaderImpl(create_config_search_path(str(config_dir())))
        self._of_groups: dict[tuple[str, ...], DictConfig] = {}

    def compose(self, overrides: Sequence[str]) -> EdlabConfig:
        """The configuration of one run. Raises `ConfigError` naming the valid overrides."""
        parsed = parse(overrides)
        for override in parsed:
            if override.is_sweep_override():
                raise ConfigError(
                    f"'{as_typed(override.input_line)}' names several values", hint="add -m to sweep over them"
                )
        values = [override for override in parsed if _is_value(override)]
        groups = tuple(override.input_line for override in parsed if not _is_value(override))
        try:
            with _composing:
                config = copy.deepcopy(self._composed(groups))
                self._loader._apply_overrides_to_config(values, config)
                composed = to_config(config)
        except (HydraException, OmegaConfBaseException, yaml.YAMLError, OSError, ValueError) as error:
            raise explain(error) from error
        except TypeError as error:  # Hydra's own, for a group that is set to a list that contains null
            raise ConfigError(f"Hydra cannot read {' '.join(overrides)}: {error}", hint="fix these values") from error
        if any(override.key_or_group in _CHOOSE_DATASET for override in parsed):
            _check_path(composed.dataset)
        return composed

    def accepts(self, overrides: Sequence[str]) -> bool:
        """Whether `compose` accepts these overrides."""
        with suppress(ConfigError):
            self.compose(overrides)
            return True
        return False

    def _composed(self, groups: tuple[str, ...]) -> DictConfig:
        """What Hydra composes from the overrides of groups alone; values of keys are added afterwards, as in Hydra."""
        if groups not in self._of_groups:
            config = self._loader.load_configuration("config", list(groups), run_mode=RunMode.RUN, from_shell=False)
            with open_dict(config):
                del config["hydra"]
            self._of_groups[groups] = config
        return self._of_groups[groups]


def compose_config(overrides: Sequence[str]) -> EdlabConfig:
    """The configuration of one run. Raises `ConfigError` naming the valid overrides."""
    return Composer().compose(overrides)


def parse(overrides: Sequence[str]) -> list[Override]:
    """The overrides of a command line, parsed by Hydra. Raises `ConfigError` for one that it cannot parse."""
    try:
        parsed: list[Override] = OverridesParser.create().parse_overrides(with_new_keys(overrides))
    except OverrideParseException as error:
        override = as_typed(error.override or "")
        raise ConfigError(
            f"cannot read '{override}'",
            hint=_option_of_name(override)
            + "an argument has the form key=value, or key=a,b with -m; quote a value with brackets or spaces: "
            + (_quoted(override) or "'key=\"a (b)\"'"),
        ) from error
    return parsed


def _quoted(override: str) -> str:
    """How to write this override in a shell, with quotes for Hydra too; empty if that is not enough."""
    key, _, value = override.partition("=")
    if not value or re.search(r'["$`\\!]', value):
        return ""
    try:
        OverridesParser.create().parse_override(f'{key}="{value}"')
    except OverrideParseException:
        return ""
    return f'{key}="\\"{value}\\""'


def quotes_for_program(arguments: Sequence[str], flag: str) -> str:
    """The beginning of a hint for an unknown `flag`, which may belong to the program of a meter; empty without one."""
    key = "meter.options.command"
    programs = [as_typed(each).removeprefix(f"{key}=") for each in arguments if as_typed(each).startswith(f"{key}=")]
    return f"if it belongs to the meter's program: {key}=\"'{programs[0]} {flag}'\"; " if programs else ""


def _option_of_name(name: str) -> str:
    """The beginning of a hint for a name without its group: "did you mean model=mobilenet_v2? "; empty for others."""
    if Path(name).suffix in _MODEL_FILES:
        return f"did you mean model=file model.path={name}? "
    known = {option: f"{group}={option}" for group in reversed(groups()) for option in options(group)}
    near = nearest(name, known)
    return f"did you mean {known[near[0]]}? " if near else ""


def recorded(params: Mapping[str, Any], overrides: Sequence[str] = ()) -> EdlabConfig:
    """The configuration of a recorded run from its parameters, with other values of some keys.

    Raises `ConfigError` for parameters that are not a complete configuration, and for an invalid override.
    """
    config = OmegaConf.structured(EdlabConfig)
    given = [override.get_key_element().lstrip("+") for override in parse(overrides)]
    # `describe` omits what is empty; only this key has a default that is not.
    values = {"quantization.granularity": None} | {
        key: value for key, value in params.items() if not key.startswith(_NOT_OF_THE_CONFIGURATION)
    }
    if hidden := [key for key, value in values.items() if HIDDEN in str(value) and key not in given]:
        raise ConfigError(f"{hidden[0]} was not recorded, because it is secret", hint=f"add {hidden[0]}=...")
    if values.get("model.origin") == ModelOrigin.python and "model.target" not in values:
        raise ConfigError(
            "the model of this run was a live module, which exists only in the process that ran it",
            hint="call edlab.run(...) there again",
        )
    try:
        nested: dict[str, Any] = {}
        for key, value in values.items():
            *groups, last = key.split(".")
            node = nested
            for group in groups:
                node = node.setdefault(group, {})
            node[last] = value
        config = OmegaConf.merge(config, nested)
        for override in parse(overrides):
            key = override.get_key_element().lstrip("+")
            if "." not in key or override.is_sweep_override():
                raise ConfigError(
                    f"'{override.input_line}' cannot be changed in a recorded run",
                    hint="set single keys, such as protocol.seconds=10; for other choices use `edlab run`",
                )
            OmegaConf.update(config, key, override.value(), force_add=key.startswith(_OPEN))
        plain = OmegaConf.to_object(config)
    except OmegaConfBaseException as error:
        raise _explain_value(error, "") from error
    assert isinstance(plain, EdlabConfig)
    _check_numbers(plain)
    return plain


def _is_value(override: Override) -> bool:
    """Whether it sets a key in a group, instead of choosing one of the yaml files."""
    return "." in override.key_or_group and override.package is None and not override.is_hydra_override()


def with_new_keys(overrides: Sequence[str]) -> list[str]:
    """The overrides of a command line, with Hydra's `++` for keys of mappings that accept any key."""
    return [f"++{override}" if override.startswith(_OPEN) else override for override in overrides]


def as_typed(override: str) -> str:
    """An override as the user typed it, without what `with_new_keys` adds."""
    return override.removeprefix("++") if override.startswith(tuple(f"++{key}" for key in _OPEN)) else override


def explain(error: Exception) -> ConfigError:
    """The edlab error for an error of Hydra or omegaconf: the wrong name, the nearest valid one, and the others."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = error.missing_cfg_file.rpartition("/")
        lost = [
            f"; the yaml folder {entry.value} is not found (is there an {entry.module.split('.')[0]}/__init__.py? pip "
            "install -e installs nothing of a package without Python files)"
            for entry in plugins("conf").values()
            if not places(entry.value)
        ]
        hint = _suggest(name, error.options or [], group) + "".join(lost)
        if group == "model" and Path(name).suffix in _MODEL_FILES:
            hint = f"for a model file, set model=file model.path={name}"
        elif group == "model":
            hint += f"; for another model, set model=timm or model=torchvision with model.arch={name}, or model=file"
        return ConfigError(f"unknown {group} '{name}'", hint=hint)
    if isinstance(error, yaml.YAMLError):
        return _explain_yaml(error)
    if file := _yaml_file(str(error)):
        return _explain_file(error, file)
    return _explain_composition(error)


def _explain_yaml(error: yaml.YAMLError) -> ConfigError:
    """The error of a file that is not valid yaml."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.context_mark or error.problem_mark  # of brackets that are not closed, the first
        return ConfigError(f"{mark.name}, line {mark.line + 1}: {error.problem}", hint="fix the yaml file")
    return ConfigError(" ".join(str(error).split()), hint="fix the yaml file")


def _yaml_file(text: str) -> Path | None:
    """The file of a vendor package that Hydra's error is about: "In 'device/acme': ...". None: another error."""
    named = re.match(r"In '([^']+)'", text)
    if named is None:
        return None
    files = [folder / f"{named.group(1)}.yaml" for folder in list(config_folders().values())[1:]]
    return next((file for file in files if file.is_file()), None)


def _explain_file(error: Exception, file: Path) -> ConfigError:
    """The error of a yaml file of a vendor package, with its path."""
    group = file.parent.name
    text = file.read_text()
    if re.search(rf"^({group}|defaults):", text, re.MULTILINE) and not re.search(r"^# *@package", text, re.MULTILINE):
        return ConfigError(
            f"{file} has no line '# @package _global_': its keys are taken as keys of '{group}'",
            hint="make '# @package _global_' the first line of the file",
        )
    found = _explain_composition(error)
    return ConfigError(f"{file}: {found.message}", hint=found.hint)


def _explain_composition(error: Exception) -> ConfigError:
    cause = error.__cause__ or error.__context__  # for a wrong key in a yaml file Hydra keeps only the context
    if isinstance(cause, OmegaConfBaseException):
        return _explain_value(cause, str(error))
    if isinstance(error, OmegaConfBaseException):
        return _explain_value(error, str(error))
    first_line = str(error).strip().splitlines()[0]
    return ConfigError(first_line, hint="run with --help for the groups and their options")


def _explain_value(error: OmegaConfBaseException, context: str) -> ConfigError:
    full_key = error.full_key or ""
    if isinstance(error, ConfigAttributeError | ConfigKeyError):
        parent, _, wrong = full_key.rpartition(".")
        kind = error.object_type
        valid = [field.name for field in fields(kind)] if is_dataclass(kind) else []
        where = f"'{parent}'" if parent else "the configuration"
        keys = [] if parent or nearest(wrong, valid) else _keys_like(wrong)
        meant = f"did you mean {' or '.join(keys)}? " if keys else ""
        return ConfigError(f"{where} has no key '{wrong}'", hint=meant + _suggest(wrong, valid, parent))
    message = re.sub(r"\s+", " ", str(error).splitlines()[0])
    if isinstance(error, ValidationError):
        wanted = next((form for kind, form in _FORMS.items() if f"to {kind}" in message), "")
        fix = f"set {full_key} to {wanted}" if wanted else f"fix the value of {full_key}"
        return ConfigError(f"{full_key or context}: {message}", hint=fix)
    return ConfigError(f"{full_key}: {message}" if full_key else message, hint=f"set {full_key}=...")


def _keys_like(name: str) -> list[str]:
    """The keys whose last part is this name, or else has it as one of its words, or else is near it; three at most."""
    keys = list(_keys(EdlabConfig))
    last = {key: key.rpartition(".")[2] for key in keys}
    same = [key for key in keys if last[key] == name] or [key for key in keys if name in last[key].split("_")]
    near = nearest(name, last.values())
    return (same or [key for key in keys if last[key] in near])[:3]


def _keys(kind: type, prefix: str = "") -> Iterator[str]:
    hints = get_type_hints(kind)
    for each in fields(kind):
        nested = hints[each.name]
        if is_dataclass(nested):
            yield from _keys(nested, f"{prefix}{each.name}.")  # type: ignore[arg-type]
        else:
            yield f"{prefix}{each.name}"


def _suggest(wrong: str, valid: Sequence[str], place: str) -> str:
    listing = f"{place or 'valid'}: {', '.join(valid)}" if valid else ""
    return (did_you_mean(wrong, valid) + listing).rstrip()


def weaker_settings(config: EdlabConfig) -> tuple[str, ...]:
    """The settings of protocol and power that are weaker than the named tier; without a tier, weaker than `quick`.

    The user may freely choose the largest batch and the most requests in flight to try, and the allowed accuracy drop.
    """
    protocol, power, usual = config.protocol, config.power, PowerConfig()
    path = config_dir() / "protocol" / f"{protocol.name}.yaml"
    if not path.exists():
        path = path.with_name("quick.yaml")
    tier = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(ProtocolConfig), OmegaConf.load(path)))
    assert isinstance(tier, ProtocolConfig)
    below = {
        "protocol.queries": protocol.queries < tier.queries,
        "protocol.seconds": protocol.seconds < tier.seconds,
        "protocol.max_interval": protocol.max_interval > tier.max_interval,
        "protocol.pool": protocol.pool < tier.pool,
        "protocol.warmup.queries": protocol.warmup.queries < tier.warmup.queries,
        "protocol.warmup.seconds": protocol.warmup.seconds < tier.warmup.seconds,
        "protocol.warmup.tolerance": protocol.warmup.tolerance > tier.warmup.tolerance,
        "protocol.windows": protocol.windows > tier.windows,  # too narrow to be reliable
        "protocol.throughput.seconds": protocol.window_seconds < tier.window_seconds
        and protocol.throughput.seconds != tier.throughput.seconds,  # else it is that of protocol.seconds
        "protocol.throughput.trial_seconds": protocol.throughput.trial_seconds < tier.throughput.trial_seconds,
        "protocol.throughput.gain": protocol.throughput.gain > tier.throughput.gain,
        "power.idle_seconds": power.idle_seconds < usual.idle_seconds,
        "power.active_seconds": power.active_seconds < usual.active_seconds,
        "power.active_samples": power.active_samples < usual.active_samples,
    }
    return tuple(name for name, is_below in below.items() if is_below)


def describe(config: EdlabConfig, source: SourceModel | None = None) -> dict[str, Any]:
    """The configuration as flat, dotted parameters ("quantization.calibration.images").

    Empty values are omitted, and so are settings of the quantization that have no effect: before the precision is
    decided, and if `source`, a model file, is already quantized.
    """
    parameters = dict(_flatten("", OmegaConf.to_container(OmegaConf.structured(config), enum_to_str=True)))
    undecided = config.quantization.precision is Precision.auto
    if undecided or (source and source.precision != Precision.fp32):
        kept = () if undecided else _DECIDED_LATER
        parameters = {
            key: value for key, value in parameters.items() if not key.startswith("quantization.") or key in kept
        }
    if config.device.execution is Execution.emulated:  # this machine's CPU stands in, with its own settings
        parameters = {key: value for key, value in parameters.items() if not key.startswith(_OF_THE_DEVICE)}
    return parameters


def _flatten(prefix: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [pair for key, item in value.items() for pair in _flatten(f"{prefix}.{key}" if prefix else key, item)]
    return [] if value in (None, "", []) else [(prefix, value)]
