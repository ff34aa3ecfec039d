"""Models of timm (huggingface/pytorch-image-models)."""

from __future__ import annotations

import math
from typing import Any

from pydantic import ValidationError

from edlab.config import ModelConfig
from edlab.errors import ModelError
from edlab.models.network import Network
from edlab.models.weights import NoPretrainedWeightsError, cap_waiting_for_hub, choose, load_state_dict, seed_torch
from edlab.registry import did_you_mean
from edlab.source import Preprocessing
from edlab.torchvision_import import import_torchvision


def build(config: ModelConfig) -> Network:
    """`timm.create_model(arch, **arguments)`; `arch` may include a tag of its weights ("resnet18.a1_in1k").

    Raises `ModelError` for an unknown architecture, or weights that are not available.
    """
    if config.weights in ("auto", "pretrained"):
        cap_waiting_for_hub(config.origin)
    import_torchvision()
    import timm

    arch = config.arch or ""
    if not timm.is_model(arch):
        hint = (
            did_you_mean(arch, timm.list_models(), 3)
            or "timm.list_models() lists them: for example model.arch=resnet18"
        )
        raise ModelError(f"timm has no model '{arch}'", hint=hint.rstrip())

    def create(pretrained: bool) -> Any:
        seed_torch()
        return timm.create_model(arch, pretrained=pretrained, **config.arguments)

    def pretrained() -> Any:
        declared = timm.models.get_pretrained_cfg(arch)
        if declared is None or not declared.has_weights:
            raise NoPretrainedWeightsError(f"timm has no pretrained weights of {arch}")
        return create(pretrained=True)

    weights = choose(
        config, pretrained=pretrained, untrained=lambda: create(pretrained=False), load_file=load_state_dict
    )
    return Network(
        weights=weights,
        preprocessing=_own_preprocessing(timm.data.resolve_data_config({}, model=weights.network), config),
        license=weights.network.pretrained_cfg.get("license") or "",
    )


def _preprocessing(data: dict[str, Any]) -> Preprocessing:
    """The preprocessing of timm's own evaluation (timm.data.transforms_factory.transforms_imagenet_eval).

    Raises `ModelError` for anything that edlab cannot do in the same way.
    """
    mode, crop_pct = data["crop_mode"], data["crop_pct"]
    _, height, width = data["input_size"]
    size: dict[str, Any] = {"resize_mode": mode, "resize": math.floor(min(height, width) / crop_pct)}
    if mode == "border" and crop_pct == 1.0:
        size = {"resize_mode": "letterbox", "border": tuple(round(255 * value) for value in data["mean"])}
    elif mode == "squash" and crop_pct == 1.0:
        size = {"resize_mode": "squash"}
    elif mode == "center" and height == width:
        size["resize_mode"] = "crop"
    elif mode != "squash" or height != width:
        raise ModelError(
            f"timm's crop_mode '{mode}' with crop_pct {crop_pct} to {height} x {width} pixels is not supported",
            hint="set model.preprocessing.resize_mode=crop, squash or letterbox (and resize, for crop) to use another",
        )
    return _with_size(data, size)


def _with_size(data: dict[str, Any], size: dict[str, Any]) -> Preprocessing:
    _, height, width = data["input_size"]
    normalisation = {key: data[key] for key in ("interpolation", "mean", "std")}
    try:
        return Preprocessing(height=height, width=width, **size, **normalisation)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise ModelError(
            f"timm's {key} '{first['input']}' of this model is not supported: {first['msg']}",
            hint="use another model; timm.data.resolve_data_config shows its preprocessing",
        ) from error


def _own_preprocessing(data: dict[str, Any], config: ModelConfig) -> Preprocessing:
    """timm's configuration; if a mode that edlab does not support is overridden, the rest of it."""
    try:
        return _preprocessing(data)
    except ModelError:
        if config.preprocessing.resize_mode is None:
            raise
        return _with_size(data, {})
