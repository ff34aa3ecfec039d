"""Which weights a network gets: `model.weights` is auto, pretrained, random, or the path of a file."""

from __future__ import annotations

import json
import os
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edlab.agent.errors import takes_no_more
from edlab.config import ModelConfig, ModelOrigin
from edlab.errors import ModelError
from edlab.models.network import Weights

if TYPE_CHECKING:
    import torch

NAMED_WEIGHTS = ("auto", "pretrained", "random")
_SEED = 0
_PROBE_S = 3.0
_STALL_S = 10.0
_HUBS: dict[str, str] = {
    ModelOrigin.timm: "https://huggingface.co",
    ModelOrigin.torchvision: "https://download.pytorch.org",
    ModelOrigin.keras: "https://storage.googleapis.com",
}


class NoPretrainedWeightsError(Exception):
    """The architecture exists, but has no published weights."""


def choose(
    config: ModelConfig,
    *,
    pretrained: Callable[[], Any],
    untrained: Callable[[], Any],
    load_file: Callable[[Any, Path], None],
) -> Weights:
    """The network with the weights that `config.weights` requests; `auto` falls back to untrained and notes why.

    `pretrained()` raises `OSError` if the hub cannot be reached, or `NoPretrainedWeightsError`.
    Raises `ModelError` if the requested weights are not available, `OSError` if the disk is full.
    """
    if config.weights == "random":
        return Weights(untrained(), "untrained", f"random weights, as requested (seed {_SEED})")
    if config.weights not in NAMED_WEIGHTS:
        network = untrained()
        load_file(network, weights_file(config.weights))
        return Weights(network, "file", f"from the file {Path(config.weights).name}")
    try:
        return Weights(pretrained(), "pretrained", "the source's own pretrained weights")
    except (OSError, NoPretrainedWeightsError) as error:
        if takes_no_more(error):
            raise
        reason = str(error).strip().splitlines()[0]
        if config.weights == "pretrained":
            raise ModelError(
                f"the pretrained weights of {config.arch} are not available: {reason}",
                hint="check the network, or set model.weights=FILE, a state dict",
            ) from error
        return Weights(
            untrained(), "untrained", f"UNTRAINED (seed {_SEED}): neither in the local cache nor on the hub ({reason})"
        )


def weights_file(path: str) -> Path:
    """The file of `model.weights=PATH`. Raises `ModelError` if it does not exist."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise ModelError(
            f"model.weights={path} is neither one of {', '.join(NAMED_WEIGHTS)} nor a file",
            hint="set model.weights=auto, or set it to the path of a state dict",
        )
    return file


def weights_files(path: str) -> list[Path]:
    """Every file of `model.weights=PATH`: the file itself, and the shards that an index names.

    Raises `ModelError` if one is missing.
    """
    file = weights_file(path)
    return [file, *_shards(file)]


def _shards(index: Path) -> list[Path]:
    """The files that an index of a sharded state dict names (`weight_map`, as transformers writes it)."""
    if index.suffix != ".json":
        return []
    try:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{index} is not the index of a state dict: {error}", hint="set model.weights to *.safetensors.index.json"
        ) from error
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise ModelError(f"{index.name} names {missing[0]}, which is missing", hint=f"copy it to {index.parent}")
    return [index.parent / name for name in names]


def seed_torch() -> None:
    """Make the random weights of the next network identical every time."""
    import torch

    torch.manual_seed(_SEED)


def settle_batch_norm(network: Any, shape: tuple[int, int, int, int]) -> None:
    """Set the batch norms of an untrained network to the statistics of one batch of seeded noise of this shape.

    With the initial statistics of a new network, a deep one shrinks every image to the same output, and conversions
    cannot be compared.
    """
    import torch

    norms = [module for module in network.modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        network.train()(torch.randn(shape, generator=torch.Generator().manual_seed(_SEED)))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()


def settle_keras_batch_norm(network: Any, shape: tuple[int, int, int, int]) -> None:
    """The same for a Keras model; `shape` is (N, height, width, 3)."""
    import keras
    import numpy as np

    norms = [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0  # Keras keeps this share of the old statistics; PyTorch drops it
    network(np.random.default_rng(_SEED).standard_normal(shape, np.float32), training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def hub(origin: str) -> str:
    """The address of the published weights of models of this origin; empty if it has none."""
    if origin == ModelOrigin.timm:
        return os.environ.get("HF_ENDPOINT", _HUBS[origin])
    return _HUBS.get(origin, "")


def cap_waiting_for_hub(origin: str) -> bool:
    """Whether the hub of this origin answers; if not, make later look-ups of its weights fail within seconds.

    huggingface_hub retries each file for 23 s (version 2.4) unless its offline mode is set before its import;
    torch.hub has no timeout. Call this only in a process that loads one model: it changes the process.
    """
    socket.setdefaulttimeout(_STALL_S)
    if _answers(hub(origin)):
        return True
    socket.setdefaulttimeout(_PROBE_S)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    return False


def _answers(address: str) -> bool:
    """In a thread, because the look-up of a name and several addresses of one host have a time limit each."""
    answered = threading.Event()

    def probe() -> None:
        try:
            urllib.request.urlopen(address, timeout=_PROBE_S).close()
        except urllib.error.HTTPError:
            pass  # the hub answered
        except OSError:
            return
        answered.set()

    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    thread.join(_PROBE_S)
    return answered.is_set()


def load_state_dict(module: torch.nn.Module, path: Path) -> None:
    """Load a PyTorch or safetensors state dict into the module, all of it.

    Raises `ModelError` that names missing and unexpected entries, wrong shapes, or the two numbers of classes.
    """
    state = _read_state_dict(path)
    own = module.state_dict()
    counters = {name for name in own if name.endswith("num_batches_tracked")}  # absent from old files; unused here
    missing = sorted(own.keys() - state.keys() - counters)
    unexpected = sorted(state.keys() - own.keys())
    if missing or unexpected:
        raise ModelError(
            f"{path.name} does not fit the architecture: {_some('missing', missing)}{_some('unexpected', unexpected)}",
            hint="set model.arch and model.arguments to the architecture of these weights",
        )
    misshapen = [name for name, value in state.items() if value.shape != own[name].shape]
    if misshapen:
        _refuse_shapes(path, [(name, tuple(state[name].shape), tuple(own[name].shape)) for name in misshapen])
    module.load_state_dict(state, strict=False)


def _read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    if shards := _shards(path):
        return {name: value for shard in shards for name, value in _read_state_dict(shard).items()}
    import torch
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # the unpickler raises any exception for damaged bytes
        first = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ModelError(
            f"{path} is not a readable state dict: {first[:200]}",
            hint="save one with torch.save(model.state_dict(), FILE)",
        ) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ModelError(f"{path} is not a state dict", hint="save one with torch.save(model.state_dict(), FILE)")
    return {name.removeprefix("module."): value for name, value in state.items()}


def _refuse_shapes(path: Path, misshapen: list[tuple[str, tuple[int, ...], tuple[int, ...]]]) -> None:
    name, theirs, ours = misshapen[-1]
    if all(a[1:] == b[1:] and (a[0], b[0]) == (theirs[0], ours[0]) for _, a, b in misshapen):
        raise ModelError(
            f"class-count mismatch: {path.name} has {theirs[0]} classes and the model has {ours[0]} ({name})",
            hint=f"set model.arguments.num_classes={theirs[0]}",
        )
    raise ModelError(
        f"{path.name} does not fit the architecture: {name} is {theirs} there and {ours} in the model",
        hint="set model.arch and model.arguments to the architecture of these weights",
    )


def _some(title: str, names: list[str], most: int = 3) -> str:
    if not names:
        return ""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{title} {', '.join(names[:most])}{more}; "
