"""A user's own models: a live module, a factory by name, or a factory registered by the decorator."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from edlab.config import ModelConfig
from edlab.errors import ModelError
from edlab.models.files import keras_stated
from edlab.models.files.stated import Stated
from edlab.models.keras_models import is_keras_model
from edlab.models.network import Network, Weights, preprocessing_of_size
from edlab.models.weights import seed_torch
from edlab.registry import load_target
from edlab.source import Preprocessing

Factory = TypeVar("Factory", bound=Callable[..., Any])


@dataclass(frozen=True)
class RegisteredModel:
    """A factory with what its author states about its models."""

    name: str
    factory: Callable[..., Any]
    preprocessing: Preprocessing
    label_offset: int
    claimed_top1: float | None
    claimed_source: str
    license: str


_registered: dict[str, RegisteredModel] = {}
_ATTRIBUTE = "edlab_model"


def register_model(
    name: str,
    *,
    height: int,
    width: int,
    resize: int | None = None,
    interpolation: str = "bilinear",
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0),
    std: tuple[float, float, float] = (1.0, 1.0, 1.0),
    label_offset: int = 0,
    claimed_top1: float | None = None,
    claimed_source: str = "",
    license: str = "",
) -> Callable[[Factory], Factory]:
    """Name a factory of a torch.nn.Module (or keras.Model) that maps images to logits; returns the factory unchanged.

        @edlab.register_model("my_net", height=96, width=96, mean=(0.5,) * 3, std=(0.5,) * 3)
        def my_net() -> torch.nn.Module: ...

    `edlab.run("my_net")` then finds it in this process. A package adds it for all processes with an entry point of the
    group `edlab.models`: `my_net = "my_package.nets:my_net"`. Sizes in pixels; `mean` and `std` on 0..1, see
    `edlab.Preprocessing`; `claimed_top1` 0..1. An existing factory of the same name is replaced.
    """
    preprocessing = Preprocessing.model_validate(
        {"height": height, "width": width, "resize": resize, "interpolation": interpolation, "mean": mean, "std": std}
    )

    def register(factory: Factory) -> Factory:
        model = RegisteredModel(name, factory, preprocessing, label_offset, claimed_top1, claimed_source, license)
        _registered[name] = model
        setattr(factory, _ATTRIBUTE, model)
        return factory

    return register


def registered() -> dict[str, RegisteredModel]:
    """The models registered in this process, by name."""
    return dict(_registered)


def build(config: ModelConfig) -> Network:
    """The model that the factory `config.target`, or the one registered as `config.name`, returns.

    It is called with `config.arguments`. Raises `ConfigError` or `ModelError` if the factory does not exist.
    """
    if config.target:
        factory = load_target(config.target)
    elif config.name in _registered:
        factory = _registered[config.name].factory
    else:
        raise ModelError(
            f"no model is registered as '{config.name}'",
            hint="set model.target=package.module:factory, or register it with @edlab.register_model",
        )
    _seed()
    return wrap(factory(**config.arguments), config, getattr(factory, _ATTRIBUTE, None))


def _seed() -> None:
    """Each row of a sweep builds the model again: random weights must be the same every time.

    torch is imported to seed it, because a factory may import it only when it is called.
    """
    seed_torch()
    if "keras" in sys.modules:
        sys.modules["keras"].utils.set_random_seed(0)


def wrap(network: Any, config: ModelConfig, model: RegisteredModel | None = None) -> Network:
    """A live network as the caller built it, with the preprocessing that its factory was registered with."""
    _check_weights(config)
    weights = Weights(network, "given", f"as {config.target or config.name} returns them")
    if model is None:
        stated = keras_stated.stated(network) if is_keras_model(network) and network.inputs else Stated()
        preprocessing, origins = preprocessing_of_size(*_input_size(network), config, stated.values)
        read = [key for key, origin in origins.items() if origin == "read"]
        return Network(weights, preprocessing, read, stated.note)
    return Network(
        weights,
        model.preprocessing,
        label_offset=model.label_offset,
        claimed_top1=model.claimed_top1,
        claimed_source=model.claimed_source,
        license=model.license,
    )


def _check_weights(config: ModelConfig) -> None:
    """A factory chooses its weights: any other setting would have no effect, so it is refused."""
    if config.weights != "auto":
        raise ModelError(
            f"model.weights={config.weights} is unsupported for {config.name}: its factory chooses the weights",
            hint="set model.weights=auto, and pass keyword arguments with model.arguments",
        )


def _input_size(network: Any) -> tuple[int | None, int | None]:
    """Height and width that a Keras model (NHWC) states; a torch module does not state them."""
    shape = getattr(network, "input_shape", None)
    return shape[1:3] if isinstance(shape, tuple) and len(shape) == 4 else (None, None)
