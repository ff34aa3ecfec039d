"""Models of keras.applications."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from pathlib import Path
from typing import Any

import numpy as np

from edlab.config import ModelConfig
from edlab.errors import MissingDependencyError, ModelError
from edlab.models.network import Network
from edlab.models.weights import cap_waiting_for_hub, choose
from edlab.packages import install
from edlab.registry import did_you_mean
from edlab.source import Preprocessing

_CROP_FRACTION = 0.875  # keras.applications does not state one; this is the usual one for ImageNet


def require_keras() -> Any:
    """The keras package with the TensorFlow backend. Raises `MissingDependencyError`."""
    if importlib.util.find_spec("tensorflow") is None or importlib.util.find_spec("keras") is None:
        raise MissingDependencyError("Keras models need TensorFlow", hint=install(["edlab[tensorflow]"]))
    import keras

    return keras


def is_keras_model(network: Any) -> bool:
    """Whether the object is a keras.Model, without importing keras."""
    keras = sys.modules.get("keras")
    return keras is not None and isinstance(network, keras.Model)


def build(config: ModelConfig) -> Network:
    """`keras.applications.<arch>(**arguments)`, with logits unless `classifier_activation` is among the arguments.

    Raises `ModelError` for an unknown architecture, or weights that are not available.
    """
    keras = require_keras()
    names = [name for name, value in vars(keras.applications).items() if inspect.isfunction(value)]
    arch = config.arch or ""
    if arch not in names:
        hint = did_you_mean(arch, names, 3) or "set model.arch to one of " + ", ".join(names)
        raise ModelError(f"keras.applications has no model '{arch}'", hint=hint.rstrip())
    create = getattr(keras.applications, arch)
    arguments = {"classifier_activation": None, **config.arguments}

    def pretrained() -> Any:
        cap_waiting_for_hub(config.origin)
        try:
            return create(weights="imagenet", **arguments)
        except Exception as error:  # keras.utils.get_file raises no narrower type
            if "URL fetch failure" not in str(error):
                raise
            raise OSError(str(error)) from error

    def untrained() -> Any:
        keras.utils.set_random_seed(0)
        return create(weights=None, **arguments)

    weights = choose(config, pretrained=pretrained, untrained=untrained, load_file=_load_weights)
    preprocess = sys.modules[create.__module__].preprocess_input
    _, height, width, _ = weights.network.input_shape
    mean, std, reversed_channels = affine(preprocess)
    if reversed_channels:
        swap_input_channels(weights.network)
    preprocessing = Preprocessing(
        height=height, width=width, resize=round(min(height, width) / _CROP_FRACTION), mean=mean, std=std
    )
    return Network(weights=weights, preprocessing=preprocessing, license="Apache-2.0")


def affine(preprocess: Any) -> tuple[tuple[float, float, float], tuple[float, float, float], bool]:
    """The (mean, std) per RGB channel that a Keras `preprocess_input` applies to 0..1, and whether it returns BGR.

    Keras defines them in code; they are inferred from its results for black, white and red.
    """

    def respond(*pixel: float) -> np.ndarray[Any, np.dtype[np.float64]]:
        image = np.array([[[pixel]]], dtype=np.float32)  # Keras may write into it
        return np.asarray(preprocess(image), dtype=np.float64).ravel()

    black, white, red = respond(0, 0, 0), respond(255, 255, 255), respond(255, 0, 0)
    reversed_channels = bool(red[0] == black[0])
    if reversed_channels:
        black, white = black[::-1], white[::-1]
    std = 1 / (white - black)
    mean = -black * std
    return tuple(mean.tolist()), tuple(std.tolist()), reversed_channels


def swap_input_channels(network: Any) -> None:
    """Make a network that expects BGR accept RGB, exactly: the first convolution's input channels are swapped."""
    keras = require_keras()
    first = next(layer for layer in network.layers if isinstance(layer, keras.layers.Conv2D))
    kernel, *bias = first.get_weights()
    first.set_weights([kernel[:, :, ::-1, :], *bias])


def _load_weights(network: Any, path: Path) -> None:
    try:
        network.load_weights(path)
    except (ValueError, OSError) as error:
        raise ModelError(
            f"{path.name} does not fit the architecture: {str(error).strip().splitlines()[0][:200]}",
            hint="set model.weights to a .weights.h5 or .keras file of this architecture (model.arch, model.arguments)",
        ) from error
