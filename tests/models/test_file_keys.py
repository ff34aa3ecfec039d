"""Everything that a model is read from is in its key: each input in turn is changed, and another key is expected."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import torch
from file_makers import make_onnx
from onnx import helper, numpy_helper
from onnx.external_data_helper import set_external_data
from safetensors.torch import save_file
from torch import nn

from edlab.cache import Cache
from edlab.config import ModelConfig, ModelOrigin, PreprocessingConfig
from edlab.models import load
from edlab.models.files import inputs_of
from edlab.models.loading import _key
from edlab.models.weights import load_state_dict, weights_files


def scattered(folder: Path) -> tuple[Path, list[Path]]:
    """An ONNX file with tensors outside it in all places: initializers, an attribute, a branch of If, a function."""
    model = onnx.load(make_onnx(folder / "net.onnx"))
    files: list[Path] = []

    def put_outside(tensor: onnx.TensorProto, location: str) -> None:
        file = folder / location
        file.parent.mkdir(parents=True, exist_ok=True)
        data = numpy_helper.to_array(tensor).tobytes()
        tensor.raw_data = data
        set_external_data(tensor, location, length=len(data))
        file.write_bytes(data)
        tensor.ClearField("raw_data")
        files.append(file)

    def constant_node(name: str, location: str) -> onnx.NodeProto:
        node = helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.zeros(4, np.float32)))
        put_outside(node.attribute[0].t, location)
        return node

    for number, weight in enumerate(model.graph.initializer):
        put_outside(weight, f"weights/{number}/any name.bin")
    output = helper.make_tensor_value_info("branch", onnx.TensorProto.FLOAT, [4])
    branches = [
        helper.make_graph([constant_node("branch", f"{name}.dat")], name, [], [output]) for name in ("then", "else")
    ]
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "condition"))
    model.graph.node.append(constant_node("unused", "attribute.raw"))
    model.graph.node.append(
        helper.make_node("If", ["condition"], ["chosen"], then_branch=branches[0], else_branch=branches[1])
    )
    nodes, imports = [constant_node("zeros", "function")], [helper.make_opsetid("", 13)]
    model.functions.append(helper.make_function("local", "Zeros", [], ["zeros"], nodes, imports))
    (folder / "net.onnx").write_bytes(model.SerializeToString())
    return folder / "net.onnx", files


def test_every_file_that_an_onnx_model_is_read_from_is_in_its_key(tmp_path: Path) -> None:
    path, files = scattered(tmp_path)
    config = ModelConfig(origin=ModelOrigin.file, path=str(path))
    assert {file.resolve() for file in inputs_of(config)} == {path.resolve(), *(file.resolve() for file in files)}
    keys = [_key(config)]
    for file in files:
        file.write_bytes(file.read_bytes()[:-1] + b"\x01")
        keys.append(_key(config))
    (tmp_path / "net.onnx.unrelated").write_text("not read")
    assert _key(config) == keys[-1]
    keys.append(_key(ModelConfig(origin=ModelOrigin.file, path=str(path), output="logits")))
    given = PreprocessingConfig(mean=[0.5] * 3)
    keys.append(_key(ModelConfig(origin=ModelOrigin.file, path=str(path), preprocessing=given)))
    assert len(set(keys)) == len(keys) == len(files) + 3


def test_retrained_weights_outside_the_file_are_another_model(tmp_path: Path) -> None:
    model = onnx.load(make_onnx(tmp_path / "net.onnx"))
    onnx.save(model, tmp_path / "net.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    config, cache = ModelConfig(origin=ModelOrigin.file, path=str(tmp_path / "net.onnx")), Cache(tmp_path / "cache")
    before = load(config, cache, log=tmp_path / "load.log")
    (tmp_path / "weights.bin").write_bytes(bytes((tmp_path / "weights.bin").stat().st_size))
    after = load(config, cache, log=tmp_path / "load.log")
    assert after.sha256 != before.sha256
    assert not np.any(numpy_helper.to_array(onnx.load(after.path).graph.initializer[0]))


def test_shards_of_a_state_dict(tmp_path: Path) -> None:
    net = nn.Linear(3, 2)
    save_file({"weight": net.weight.detach()}, tmp_path / "a.safetensors")
    save_file({"bias": net.bias.detach()}, tmp_path / "b.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"weight": "a.safetensors", "bias": "b.safetensors"}}))
    assert [file.name for file in weights_files(str(index))] == [index.name, "a.safetensors", "b.safetensors"]
    other = nn.Linear(3, 2)
    load_state_dict(other, index)
    assert torch.equal(other.weight, net.weight)
    config = ModelConfig(origin=ModelOrigin.timm, arch="resnet18", weights=str(index))
    before = _key(config)
    save_file({"bias": torch.zeros(2)}, tmp_path / "b.safetensors")
    assert _key(config) != before
