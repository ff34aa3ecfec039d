"""A network gets the requested weights, or the difference is reported."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from edlab.config import ModelConfig, ModelOrigin
from edlab.durable import storage_error
from edlab.errors import ModelError, StorageError
from edlab.models import builtin, torchvision_models, weights
from edlab.models.weights import NoPretrainedWeightsError, choose, load_state_dict, settle_batch_norm


def net(classes: int = 5) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes)
    )


def named(weights: str) -> ModelConfig:
    return ModelConfig(origin=ModelOrigin.timm, arch="net", weights=weights)


def unreachable() -> nn.Module:
    raise OSError("Name or service not known")


@pytest.fixture
def default_timeout() -> Iterator[None]:
    before = socket.getdefaulttimeout()
    yield
    socket.setdefaulttimeout(before)


@pytest.mark.usefixtures("default_timeout")
def test_a_hub_that_does_not_answer_is_given_up_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """As behind a firewall that drops everything: a connection, and then nothing."""
    monkeypatch.setattr(weights, "_PROBE_S", 0.3)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        assert not weights.cap_waiting_for_hub("timm")
    assert time.monotonic() - started < 3
    assert os.environ["HF_HUB_OFFLINE"] == "1"


@pytest.mark.usefixtures("default_timeout")
def test_torchvision_downloads_nothing_from_a_hub_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torchvision_models, "cap_waiting_for_hub", lambda origin: False)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", pytest.fail)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    network = torchvision_models.build(ModelConfig(origin=ModelOrigin.torchvision, arch="mobilenet_v2"))
    assert network.weights.origin == "untrained"
    assert "download.pytorch.org does not answer" in network.weights.note


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_disk_that_takes_no_more_is_no_missing_hub(code: int) -> None:
    def full() -> nn.Module:
        raise OSError(code, "the disk's reason", "weights.part")

    with pytest.raises(OSError, match="the disk's reason") as caught:
        choose(named("auto"), pretrained=full, untrained=net, load_file=load_state_dict)
    assert isinstance(storage_error(caught.value, "the cache"), StorageError)


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"state_dict": state, "epoch": 3}])
def test_a_state_dict_is_loaded_also_from_a_checkpoint(tmp_path: Path, wrap) -> None:  # type: ignore[no-untyped-def]
    trained, fresh = net(), net()
    path = tmp_path / "net.pt"
    torch.save(wrap({f"module.{name}": value for name, value in trained.state_dict().items()}), path)
    load_state_dict(fresh, path)
    assert all(
        torch.equal(a, b) for a, b in zip(trained.state_dict().values(), fresh.state_dict().values(), strict=True)
    )


def test_safetensors_are_read(tmp_path: Path) -> None:
    trained, fresh = net(), net()
    save_file(trained.state_dict(), tmp_path / "net.safetensors")
    load_state_dict(fresh, tmp_path / "net.safetensors")
    assert torch.equal(trained[0].weight, fresh[0].weight)  # type: ignore[index]


def test_missing_and_unexpected_entries_are_named(tmp_path: Path) -> None:
    state = net().state_dict()
    state["extra.bias"] = state.pop("4.bias")
    torch.save(state, tmp_path / "net.pt")
    with pytest.raises(ModelError, match=r"missing 4\.bias; unexpected extra\.bias"):
        load_state_dict(net(), tmp_path / "net.pt")


def test_another_number_of_classes_is_named(tmp_path: Path) -> None:
    torch.save(net(classes=7).state_dict(), tmp_path / "net.pt")
    with pytest.raises(ModelError, match=r"has 7 classes and the model has 5") as caught:
        load_state_dict(net(classes=5), tmp_path / "net.pt")
    assert caught.value.hint == "set model.arguments.num_classes=7"


@pytest.mark.parametrize("name", ["net.pt", "net.safetensors"])
def test_a_file_of_something_else_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"no weights" * 20)
    with pytest.raises(ModelError, match="is not a readable state dict"):
        load_state_dict(net(), tmp_path / name)


def test_code_in_a_file_of_weights_does_not_run(tmp_path: Path) -> None:
    torch.save(net(), tmp_path / "whole.pt")  # a pickled module: loading it would run its class's code
    with pytest.raises(ModelError, match="is not a readable state dict"):
        load_state_dict(net(), tmp_path / "whole.pt")


@pytest.mark.parametrize("reason", [OSError("no network"), NoPretrainedWeightsError("no weights of it")])
def test_auto_falls_back_to_untrained_and_says_why(reason: Exception) -> None:
    def pretrained() -> nn.Module:
        raise reason

    weights = choose(named("auto"), pretrained=pretrained, untrained=net, load_file=load_state_dict)
    assert weights.origin == "untrained"
    assert str(reason) in weights.note


def test_pretrained_does_not_fall_back() -> None:
    with pytest.raises(ModelError, match="pretrained weights of net are not available") as caught:
        choose(named("pretrained"), pretrained=unreachable, untrained=net, load_file=load_state_dict)
    assert "model.weights=FILE" in caught.value.hint


def test_a_path_that_is_no_file_is_refused_with_the_words() -> None:
    with pytest.raises(ModelError, match="neither one of auto, pretrained, random nor a file"):
        choose(named("pretained"), pretrained=net, untrained=net, load_file=load_state_dict)


def test_random_weights_are_the_same_every_time() -> None:
    def build() -> nn.Module:
        config = ModelConfig(origin=ModelOrigin.builtin, arch="digits_cnn", weights="random")
        weights = builtin.build(config).weights
        assert weights.origin == "untrained"
        return weights.network  # type: ignore[no-any-return]

    first, second = build().state_dict(), build().state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["0.0.weight"], builtin_pretrained()["0.0.weight"])


def builtin_pretrained() -> dict[str, torch.Tensor]:
    config = ModelConfig(origin=ModelOrigin.builtin, arch="digits_cnn")
    return builtin.build(config).weights.network.state_dict()  # type: ignore[no-any-return]


def test_a_settled_untrained_network_tells_images_apart() -> None:
    config = ModelConfig(
        origin=ModelOrigin.torchvision, arch="mobilenet_v2", weights="random", arguments={"num_classes": 10}
    )
    network = torchvision_models.build(config).weights.network
    settle_batch_norm(network, (4, 3, 64, 64))
    assert not network.training
    with torch.no_grad():
        logits = network(torch.randn((4, 3, 64, 64)))
    assert logits.std(dim=0).mean() > 0.01
