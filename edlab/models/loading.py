"""From a model's configuration to a model file with everything that is needed to use it."""

from __future__ import annotations

import copy
import dataclasses
import shutil
import tempfile
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import TypeAdapter

from edlab.cache import Cache, digest, sha256_files
from edlab.config import InputKind, ModelConfig, ModelOrigin
from edlab.errors import ConversionError, ModelError
from edlab.isolation import run_isolated
from edlab.models import factories, keras_models
from edlab.models.complexity import count_keras, count_torch
from edlab.models.files import ModelFile, keras_stated
from edlab.models.files.keras import outputs_of
from edlab.models.files.keras import with_outputs as keras_with_outputs
from edlab.models.files.pt2 import named_outputs, reasons_of, with_outputs
from edlab.models.network import Network, origins, override_preprocessing
from edlab.models.origins import ORIGINS
from edlab.models.outputs import ReadOutputs, choose_outputs, shapes_of
from edlab.models.weights import NAMED_WEIGHTS, hub, settle_batch_norm, settle_keras_batch_norm, weights_files
from edlab.source import Origin, OutputReader, SourceModel

if TYPE_CHECKING:
    import torch

_VERSION = 8  # increase it when the output for the same configuration changes
_TIMEOUT_S = 1800.0  # includes the download of weights
_KIND = "models"
_SETTLING_IMAGES = 4
_SOURCE = "source.json"
_IMAGENET_CLASSES = 1000
_OF_LIBRARIES = (ModelOrigin.builtin, ModelOrigin.timm, ModelOrigin.torchvision, ModelOrigin.keras)
_BACKGROUND = ("background", "dummy", "__background__")  # what label files call the class of everything else

# Models that fell back to untrained weights: kept for this process, so that all rows of a sweep have the same
# weights and query the hub once; not in the cache, because the hub may answer the next process.
_fallbacks: dict[tuple[Path, str], SourceModel] = {}


def load(
    config: ModelConfig,
    cache: Cache,
    *,
    module: torch.nn.Module | None = None,
    log: Path,
    on_search: Callable[[str], None] = lambda place: None,
) -> SourceModel:
    """The model as a file in the cache: torch models exported, Keras models saved, files checked and copied.

    It is built in a separate process (this one imports no framework) and cached by content: configuration,
    weights file and versions. A live `module`, (1, 3, height, width) float32 to (1, classes), and a model that was
    registered in this process are exported here. What the build prints goes to `log`.
    `on_search` is called with the address of the hub before published weights are searched, which may take a minute.

    Raises `ModelError` for a model or weights that cannot be loaded, `ConfigError` for an invalid setting,
    `MissingDependencyError` for a framework that is not installed.
    """
    if module is not None or _lives_here(config):
        with tempfile.TemporaryDirectory(prefix="edlab-") as scratch:
            return _store(cache, None, _build_here(config, module, Path(scratch)))
    key = _key(config)
    if key is None:
        return _build(config, cache, None, log)
    if (folder := cache.find(_KIND, key)) is not None:
        return _read(folder)
    if (cache.root, key) in _fallbacks:
        return _fallbacks[cache.root, key]
    if config.weights in ("auto", "pretrained") and (place := hub(config.origin)):
        on_search(place)
    return _build(config, cache, key, log)


def _lives_here(config: ModelConfig) -> bool:
    return config.origin == ModelOrigin.python and not config.target


def _build_here(config: ModelConfig, module: torch.nn.Module | None, folder: Path) -> Path:
    network = factories.build(config) if module is None else factories.wrap(copy.deepcopy(module).cpu(), config)
    _write(config, network, folder)
    return folder


def _build(config: ModelConfig, cache: Cache, key: str | None, log: Path) -> SourceModel:
    with tempfile.TemporaryDirectory(prefix="edlab-") as scratch:
        try:
            run_isolated(
                "edlab.models.loading:build",
                {"config": dataclasses.asdict(config), "folder": scratch},
                log=log,
                timeout_s=_TIMEOUT_S,
            )
        except ConversionError as error:
            raise ModelError(
                f"the model {config.name} cannot be loaded: {error.message}", hint=error.hint, log=error.log
            ) from error
        source = _read(Path(scratch))
        fell_back = config.weights == "auto" and not source.trained
        stored = _store(cache, None if fell_back else key, Path(scratch))
    if fell_back and key is not None:
        _fallbacks[cache.root, key] = stored
    return stored


def build(config: dict[str, Any], folder: str) -> None:
    """Build a model in this process, and write its file and `source.json` into the folder."""
    typed = TypeAdapter(ModelConfig).validate_python(config)
    model = ORIGINS.load(typed.origin)().build(typed, Path(folder))
    if isinstance(model, ModelFile):
        _write_file(typed, model, Path(folder))
    else:
        _write(typed, model, Path(folder))


def _write_file(config: ModelConfig, file: ModelFile, folder: Path) -> None:
    _write_source(
        folder,
        config,
        format=file.format,
        path=file.path,
        layout=file.layout,
        precision=file.precision,
        preprocessing=file.preprocessing,
        preprocessing_origins=file.preprocessing_origins,
        preprocessing_note=file.preprocessing_note,
        class_names=file.class_names,
        label_offset=_label_offset(config, file.outputs.facts.label_offset, file.outputs, file.class_names),
        outputs=file.outputs,
        reasons=file.reasons,
        fixed_batch=file.fixed_batch,
        weights="file",
        weights_note=f"from the file {Path(config.path or '').name}",
        complexity=file.complexity,
    )


def _write(config: ModelConfig, network: Network, folder: Path) -> None:
    if config.input == InputKind.array:
        raise ModelError(
            f"model.input=array is unsupported for {config.name}: its factory builds a model of images",
            hint="to feed arrays, export it and set model=file model.path=...",
        )
    preprocessing = override_preprocessing(network.preprocessing, config.preprocessing)
    size = preprocessing.height, preprocessing.width
    channels = preprocessing.channel_count
    live = network.weights.network
    keras = keras_models.is_keras_model(live)
    if network.weights.origin == "untrained":
        if keras:
            settle_keras_batch_norm(live, (_SETTLING_IMAGES, *size, channels))
        else:
            settle_batch_norm(live, (_SETTLING_IMAGES, channels, *size))
    if network.task and not config.task:
        config = dataclasses.replace(config, task=network.task)
    written = (_write_keras if keras else _write_torch)(live, (channels, *size), config, network.outputs, folder)
    stated = network.label_offset
    if stated is None and config.origin in _OF_LIBRARIES:
        stated = 0  # a library's models have no classes before the first one
    _write_source(
        folder,
        config,
        **written,
        preprocessing=preprocessing,
        preprocessing_origins=origins(network.preprocessing_read, config.preprocessing),
        preprocessing_note=network.preprocessing_note,
        class_names=network.class_names,
        label_offset=_label_offset(config, stated, written["outputs"]),
        weights=network.weights.origin,
        weights_note=network.weights.note,
        claimed_top1=network.claimed_top1,
        claimed_source=network.claimed_source,
        license=network.license,
    )


def _write_torch(
    module: torch.nn.Module, image: tuple[int, int, int], config: ModelConfig, stated: Mapping[str, Any], folder: Path
) -> dict[str, Any]:
    import torch

    if not isinstance(module, torch.nn.Module):
        raise ModelError(
            f"{config.target or config.name} returned a {type(module).__name__}",
            hint="the factory must return a torch.nn.Module or a keras.Model",
        )
    module = module.float().eval()
    size = image[1], image[2]
    example = torch.rand((1, *image), generator=torch.Generator().manual_seed(0))
    try:
        with torch.no_grad():
            logits = module(example)
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = str(error).splitlines()[0][:200]
        raise ModelError(
            f"{config.name} does not accept an image of {size[0]} x {size[1]} pixels with {image[0]} channels: "
            f"{reason}",
            hint="fix model.preprocessing.height, width and channels, or model.arguments",
        ) from error
    outputs = named_outputs(logits)
    chosen = choose_outputs(config, config.name, shapes_of(outputs), size)
    if not isinstance(logits, torch.Tensor):
        module = with_outputs(module, chosen.positions)
    read = chosen.read(size, stated)
    complexity = count_torch(module, example)
    path = folder / "source.pt2"
    try:
        program = torch.export.export(module, (example,))
        torch.export.save(program, path)
    except Exception as error:  # torch.export raises the exceptions of all its parts
        raise ModelError(
            f"torch.export cannot export {config.name}: {str(error).strip().splitlines()[0][:300]}",
            hint="see docs.pytorch.org/docs/stable/export.html, or export to ONNX yourself: model=file model.path=...",
        ) from error
    return {
        "format": "pt2",
        "path": path,
        "layout": "NCHW",
        "complexity": complexity,
        "reasons": reasons_of(program),
        "outputs": read,
    }


def _write_keras(
    network: Any, image: tuple[int, int, int], config: ModelConfig, stated: Mapping[str, Any], folder: Path
) -> dict[str, Any]:
    if len(getattr(network, "inputs", None) or ()) != 1:
        raise ModelError(f"{config.name} does not have one input tensor", hint="build a functional or sequential model")
    size = image[1], image[2]
    expected, wanted = tuple(network.inputs[0].shape[1:]), (*size, image[0])
    if expected != wanted:
        raise ModelError(
            f"{config.name} needs an input of {expected}, not images of {wanted}",
            hint=f"set model.arguments.input_shape={list(wanted)}, or other model.preprocessing sizes and channels",
        )
    outputs = outputs_of(network)
    chosen = choose_outputs(config, config.name, shapes_of(outputs), size)
    if not chosen.all:
        network = keras_with_outputs(network, chosen.positions)
    path = folder / "source.keras"
    network.save(path)
    return {
        "format": "keras",
        "path": path,
        "layout": "NHWC",
        "complexity": count_keras(network),
        "reasons": keras_stated.reasons(network),
        "outputs": chosen.read(size, stated),
    }


def _write_source(
    folder: Path,
    config: ModelConfig,
    *,
    path: Path,
    outputs: ReadOutputs,
    label_offset: tuple[int, Origin],
    **facts: Any,
) -> None:
    """`source.json`, with a relative path; the configuration's claims override the source's."""
    if config.claimed_top1 is not None:
        facts |= {"claimed_top1": config.claimed_top1, "claimed_source": config.claimed_source}
    read = outputs.facts
    for name, array in read.arrays.items():
        np.save(folder / f"{name}.npy", array)
    facts |= {
        "task": outputs.task,
        "num_classes": read.num_classes,
        "label_offset": label_offset[0],
        "label_offset_origin": label_offset[1],
        "output": ", ".join(outputs.names),
        "outputs": outputs.all_names,
        "reader": OutputReader(
            options={**read.options, "label_offset": label_offset[0]},
            origins=read.origins,
            files={name: Path(f"{name}.npy") for name in read.arrays},
            modules=read.modules,
        ),
    }
    source = SourceModel(name=config.name, path=Path(path.name), sha256=sha256_files([path]), **facts)
    (folder / _SOURCE).write_text(source.model_dump_json(indent=2))


def _label_offset(
    config: ModelConfig, stated: int | None, outputs: ReadOutputs, class_names: tuple[str, ...] = ()
) -> tuple[int, Origin]:
    """The number of classes before the data set's first one, and where it is stated.

    1,001 classes without names are ImageNet's with a first one for the background, as in TensorFlow's models.
    """
    if config.label_offset is not None:
        return config.label_offset, "given"
    if stated is not None:
        return stated, "read"
    if class_names:
        return int(class_names[0].strip().lower() in _BACKGROUND), "read"
    return int(outputs.facts.num_classes == _IMAGENET_CLASSES + 1), "assumed"


def _read(folder: Path) -> SourceModel:
    source = SourceModel.model_validate_json((folder / _SOURCE).read_text())
    files = {name: folder / file for name, file in source.reader.files.items()}
    reader = source.reader.model_copy(update={"files": files})
    return source.model_copy(update={"path": folder / source.path, "reader": reader})


def _store(cache: Cache, key: str | None, built: Path) -> SourceModel:
    """Copy the built files into the cache: under the key, or without a key under their content."""

    def make(folder: Path) -> None:
        for file in built.iterdir():
            shutil.copyfile(file, folder / file.name)

    return _read(cache.get_or_make(_KIND, key or digest((built / _SOURCE).read_text()), make))


def _key(config: ModelConfig) -> str | None:
    """The digest of everything that determines the model; None for a factory, whose code cannot be tracked."""
    origin = ORIGINS.load(config.origin)()
    if not origin.cached:
        return None
    paths = list(origin.files(config))
    if config.weights not in NAMED_WEIGHTS:
        paths += weights_files(config.weights)
    if config.detection.anchors is not None and Path(config.detection.anchors).expanduser().is_file():
        paths.append(Path(config.detection.anchors).expanduser())
    described = dataclasses.asdict(config) | {"path": config.path and Path(config.path).name}
    contents = [[path.name, sha256_files([path])] for path in paths]
    return digest([_VERSION, described, contents, {name: _version(name) for name in origin.libraries}])


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
