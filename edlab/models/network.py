"""A live network from a model origin, before it becomes a file, with everything that is needed to use it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from edlab.config import ModelConfig, PreprocessingConfig
from edlab.errors import ConfigError, ModelError
from edlab.source import Origin, Preprocessing, WeightsOrigin

_HINT = (
    "resize_mode: crop, squash, letterbox; interpolation: nearest, bilinear, bicubic, lanczos; channels: rgb, bgr; "
    "mean, std: three numbers each, in the order of channels"
)


@dataclass(frozen=True)
class Weights:
    """A network (a torch.nn.Module or a keras.Model), and the real source of its weights."""

    network: Any
    origin: WeightsOrigin
    note: str


@dataclass(frozen=True)
class Network:
    """A network with its source's own preprocessing and claims."""

    weights: Weights
    preprocessing: Preprocessing
    preprocessing_read: Collection[str] = tuple(Preprocessing.model_fields)  # the keys that the source states
    preprocessing_note: str = ""
    label_offset: int | None = None  # None: the source does not state it
    class_names: tuple[str, ...] = ()  # of the classes in order, including those before the data set's first class
    task: str | None = None  # None: what the outputs state
    outputs: Mapping[str, Any] = field(default_factory=dict)  # what the source states about them: `Task.read_outputs`
    claimed_top1: float | None = None
    claimed_source: str = ""
    license: str = ""


def override_preprocessing(own: Preprocessing, overrides: PreprocessingConfig) -> Preprocessing:
    """The source's own preprocessing, overridden by the configured keys.

    A new input size without a new `resize` keeps the ratio of the two, like a crop fraction. A new `resize` for a
    model without one crops; a new `resize_mode` without a `resize` starts without one.
    Raises `ConfigError` for an invalid value.
    """
    given = {key: getattr(value, "value", value) for key, value in vars(overrides).items() if value is not None}
    if given.get("resize_mode", own.resize_mode) != own.resize_mode:
        own = own.model_copy(update={"resize": None})
    elif own.resize is None and own.resize_mode == "squash" and "resize" in given and "resize_mode" not in given:
        given["resize_mode"] = "crop"
    if own.resize is not None and "resize" not in given and {"height", "width"} & given.keys():
        crop = min(own.height, own.width)
        given["resize"] = round(own.resize * min(given.get("height", crop), given.get("width", crop)) / crop)
    try:
        merged = Preprocessing(**{**own.model_dump(), **given})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(("model.preprocessing", *map(str, first["loc"])))
        raise ConfigError(f"{where}: {first['msg'].removeprefix('Value error, ')}", hint=_HINT) from error
    borders = merged.resize is not None and merged.resize < max(merged.height, merged.width)
    if borders and overrides.resize is not None and overrides.resize_mode is None:
        raise ConfigError(
            f"model.preprocessing.resize={merged.resize} is smaller than the crop of {merged.height} x {merged.width}",
            hint=f"set model.preprocessing.resize={max(merged.height, merged.width)} or more; borders around a smaller "
            f"image need model.preprocessing.resize_mode={merged.resize_mode}",
        )
    return merged


def preprocessing_of_size(
    height: int | None, width: int | None, config: ModelConfig, stated: Mapping[str, Any] | None = None
) -> tuple[Preprocessing, dict[str, Origin]]:
    """Preprocessing for a model of this input size that states only the keys in `stated`; the rest is assumed.

    Raises `ModelError` if the size is unknown too.
    """
    keys = config.preprocessing
    read = {**{key: size for key, size in (("height", height), ("width", width)) if size}, **(stated or {})}
    height, width = keys.height or height, keys.width or width
    if not height or not width:
        raise ModelError(
            f"the input size of {config.name} is missing",
            hint="set model.preprocessing.height=... and model.preprocessing.width=..., or preprocessing= in the API",
        )
    own = Preprocessing.model_validate({**read, "height": height, "width": width})
    return override_preprocessing(own, keys), origins(read, keys)


def origins(read: Collection[str], keys: PreprocessingConfig) -> dict[str, Origin]:
    """The source of each key of a preprocessing: set in `keys`, else read from the source, else assumed."""
    given = {key for key, value in vars(keys).items() if value is not None}
    if given & {"resize", "resize_mode"}:
        given |= {"resize", "resize_mode"}  # one determines whether and how the other is used
    found: dict[str, Origin] = {}
    for key in Preprocessing.model_fields:
        found[key] = "given" if key in given else "read" if key in read else "assumed"
    return found
