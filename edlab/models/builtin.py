"""The model in the package: trained, small, and in need of no download."""

from __future__ import annotations

from pathlib import Path

from edlab.config import ModelConfig
from edlab.errors import ModelError
from edlab.models.network import Network
from edlab.models.weights import choose, load_state_dict, seed_torch
from edlab.source import Preprocessing

WEIGHTS = Path(__file__).with_name("weights") / "digits_cnn.safetensors"  # made by scripts/train_digits
PREPROCESSING = Preprocessing(height=32, width=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def build(config: ModelConfig) -> Network:
    """`digits_cnn`. Raises `ModelError` for another name."""
    if config.arch != "digits_cnn":
        raise ModelError(f"there is no builtin model '{config.arch}'", hint="model.arch=digits_cnn")
    from edlab.models.digits_cnn import DigitsCNN

    def untrained() -> DigitsCNN:
        seed_torch()
        return DigitsCNN()

    def pretrained() -> DigitsCNN:
        network = untrained()
        load_state_dict(network, WEIGHTS)
        return network

    return Network(
        weights=choose(config, pretrained=pretrained, untrained=untrained, load_file=load_state_dict),
        preprocessing=PREPROCESSING,
        license="Apache-2.0",
    )
