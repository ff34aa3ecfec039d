"""Models of torchvision."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from edlab.config import ModelConfig
from edlab.errors import ModelError
from edlab.models import torchvision_detection
from edlab.models.network import Network
from edlab.models.weights import cap_waiting_for_hub, choose, hub, load_state_dict, seed_torch
from edlab.registry import did_you_mean
from edlab.source import Preprocessing
from edlab.torchvision_import import import_torchvision


def build(config: ModelConfig) -> Network:
    """`torchvision.models.get_model(arch, **arguments)`; `arch` may name its weights ("resnet50.IMAGENET1K_V1").

    Classification and detection.

    Raises `ModelError` for an unknown architecture, or weights that are not available.
    """
    answers = config.weights in ("auto", "pretrained") and cap_waiting_for_hub(config.origin)
    models = import_torchvision().models
    arch, _, tag = (config.arch or "").partition(".")
    detectors = models.list_models(module=models.detection)
    names = [*models.list_models(module=models), *detectors]
    if arch not in names:
        hint = did_you_mean(arch, names, 3) or "set model.arch to one of " + ", ".join(names)
        raise ModelError(f"torchvision has no model '{arch}' for classification or detection", hint=hint.rstrip())
    published = models.get_model_weights(arch)
    if tag and tag not in published.__members__:
        raise ModelError(
            f"torchvision has no weights '{tag}' of {arch}", hint=f"its weights: {', '.join(published.__members__)}"
        )
    chosen = published[tag] if tag else published.DEFAULT

    if arch in detectors:
        return torchvision_detection.build(config, models, arch, chosen)

    def create(weights: Any) -> Any:
        seed_torch()
        return models.get_model(arch, weights=weights, **config.arguments)

    def pretrained() -> Any:
        if not answers and not _downloaded(chosen.url).exists():
            raise OSError(f"{hub(config.origin)} does not answer")
        return create(chosen)

    return Network(
        weights=choose(config, pretrained=pretrained, untrained=lambda: create(None), load_file=load_state_dict),
        preprocessing=_preprocessing(chosen.transforms()),
        license="BSD-3-Clause",
    )


def _downloaded(url: str) -> Path:
    """Where torch.hub keeps the file of this address."""
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints" / PurePosixPath(urlsplit(url).path).name


def _preprocessing(transforms: Any) -> Preprocessing:
    """The preprocessing of torchvision.transforms._presets.ImageClassification."""
    (crop,), (resize,) = transforms.crop_size, transforms.resize_size
    return Preprocessing(
        height=crop,
        width=crop,
        resize=resize,
        interpolation=transforms.interpolation.value,
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
    )
