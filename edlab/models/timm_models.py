"""Models of timm (huggingface/pytorch-image-models)."""

from __future__ import annotations

import difflib
import math
from typing import Any

from edlab.config import ModelConfig
from edlab.errors import ModelError
from edlab.models.network import Network
from edlab.models.torchvision_import import import_torchvision
from edlab.models.weights import NoPretrainedWeightsError, cap_waiting_for_hub, choose, load_state_dict, seed_torch
from edlab.source import Preprocessing


def build(config: ModelConfig) -> Network:
    """`timm.create_model(arch, **arguments)`; `arch` may carry a tag of its weights ("resnet18.a1_in1k").

    Raises `ModelError` for an unknown architecture, or weights that cannot be had.
    """
    if config.weights in ("auto", "pretrained"):
        cap_waiting_for_hub()
    import_torchvision()
    import timm

    arch = config.arch or ""
    if not timm.is_model(arch):
        close = difflib.get_close_matches(arch, timm.list_models(), n=3)
        raise ModelError(
            f"timm has no model '{arch}'",
            hint=f"did you mean {', '.join(close)}?" if close else "timm.list_models() names them: model.arch=resnet18",
        )

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
        preprocessing=_preprocessing(timm.data.resolve_data_config({}, model=weights.network)),
        license=weights.network.pretrained_cfg.get("license") or "",
    )


def _preprocessing(data: dict[str, Any]) -> Preprocessing:
    """Of timm's evaluation: the shorter side to floor(size / crop_pct), or straight to the size ("squash")."""
    _, height, width = data["input_size"]
    squash = data["crop_mode"] == "squash" and data["crop_pct"] == 1.0
    return Preprocessing(
        height=height,
        width=width,
        resize=None if squash else math.floor(min(height, width) / data["crop_pct"]),
        interpolation=data["interpolation"],
        mean=data["mean"],
        std=data["std"],
    )
