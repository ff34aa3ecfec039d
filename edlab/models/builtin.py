"""The models in the package: trained and small, without a download."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edlab.config import ModelConfig
from edlab.errors import ModelError
from edlab.models.network import Network
from edlab.models.weights import choose, load_state_dict, seed_torch
from edlab.source import Preprocessing

WEIGHTS = Path(__file__).with_name("weights")


def _preprocessing(side: int) -> Preprocessing:
    return Preprocessing(height=side, width=side, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


@dataclass(frozen=True)
class BuiltinModel:
    """A model of the package: its class as "module:class", and its weights file in WEIGHTS, written by a script."""

    network: str
    file: str
    preprocessing: Preprocessing
    task: str
    outputs: Callable[[], Mapping[str, Any]] = field(default=dict)


def _detector_outputs() -> Mapping[str, Any]:
    from edlab.models import digits_detector

    return {
        "head": "ssd_raw",
        "activation": "sigmoid",
        "label_offset": 0,
        "box_weights": list(digits_detector.BOX_WEIGHTS),
        "box_order": "xywh",
        "score_threshold": 0.01,
        "iou_threshold": 0.5,
        "max_detections": 20,
        "anchors": digits_detector.anchors(),
    }


CLASSIFIER = BuiltinModel("digits_cnn:DigitsCNN", "digits_cnn.safetensors", _preprocessing(32), "classification")
DETECTOR = BuiltinModel(
    "digits_detector:DigitsDetector",
    "digits_detector.safetensors",
    _preprocessing(128),
    "detection",
    _detector_outputs,
)
MODELS = {"digits_cnn": CLASSIFIER, "digits_detector": DETECTOR}


def build(config: ModelConfig) -> Network:
    """One of `MODELS` by its name. Raises `ModelError` for any other name."""
    found = MODELS.get(config.arch or "")
    if found is None:
        raise ModelError(
            f"unknown built-in model '{config.arch}'",
            hint=f"set model.arch to {' or '.join(MODELS)}, or set model=timm or model=torchvision as well",
        )
    module, _, name = found.network.partition(":")
    create = getattr(importlib.import_module(f"edlab.models.{module}"), name)

    def untrained() -> Any:
        seed_torch()
        return create()

    def pretrained() -> Any:
        network = untrained()
        load_state_dict(network, WEIGHTS / found.file)
        return network

    return Network(
        weights=choose(config, pretrained=pretrained, untrained=untrained, load_file=load_state_dict),
        preprocessing=found.preprocessing,
        task=found.task,
        outputs=found.outputs(),
        license="Apache-2.0",
    )
