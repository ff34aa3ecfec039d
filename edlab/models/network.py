"""What an origin gives before it is a file: a live network with what must be known to use it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from edlab.config import ModelConfig, PreprocessingConfig
from edlab.errors import ConfigError, ModelError
from edlab.source import Preprocessing, WeightsOrigin

_HINT = (
    "resize_mode: crop, squash, letterbox; interpolation: nearest, bilinear, bicubic, lanczos; channels: rgb, bgr; "
    "mean, std: three numbers each, in the order of channels"
)


@dataclass(frozen=True)
class Weights:
    """A network (a torch.nn.Module or a keras.Model), and where its weights really come from."""

    network: Any
    origin: WeightsOrigin
    note: str


@dataclass(frozen=True)
class Network:
    """A network with its source's own preprocessing and claims."""

    weights: Weights
    preprocessing: Preprocessing
    preprocessing_note: str = ""
    label_offset: int = 0
    claimed_top1: float | None = None
    claimed_source: str = ""
    license: str = ""


def override_preprocessing(own: Preprocessing, overrides: PreprocessingConfig) -> Preprocessing:
    """The source's own preprocessing with the configured keys in its place.

    A new input size without a new `resize` keeps the ratio of the two, as a crop fraction would. A new `resize` of a
    model that has none crops; a new `resize_mode` without a `resize` starts from none.
    Raises `ConfigError` for a value that is not possible.
    """
    given = {key: value for key, value in vars(overrides).items() if value is not None}
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
            f"image are had by model.preprocessing.resize_mode={merged.resize_mode}",
        )
    return merged


def preprocessing_of_size(height: int | None, width: int | None, config: ModelConfig) -> tuple[Preprocessing, str]:
    """Preprocessing for a model that tells no more than its input size, and a note of what is assumed.

    Raises `ModelError` where the size is not known either.
    """
    keys = config.preprocessing
    height, width = keys.height or height, keys.width or width
    if not height or not width:
        raise ModelError(
            f"the input size of {config.name} is not known",
            hint="give model.preprocessing.height=... and model.preprocessing.width=..., or preprocessing= in the API",
        )
    assumed = [
        text
        for key, text in (
            ("mean", "values scaled to 0..1 (mean 0)"),
            ("std", "std 1"),
            ("resize", "images resized straight to the input size"),
        )
        if getattr(keys, key) is None
    ]
    note = f"assumed: {', '.join(assumed)}; set model.preprocessing.*" if assumed else ""
    return override_preprocessing(Preprocessing(height=height, width=width), keys), note
