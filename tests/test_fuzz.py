"""Rubbish where a file, a message or a word is expected ends in an error of edlab's own tree, whatever the rubbish.

Some hundred cases here; `scripts/fuzz CASES` makes as many of each kind as there is time for.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from onnx import TensorProto, helper, numpy_helper

from edlab import checksums
from edlab.cache import Cache
from edlab.composition import compose_config
from edlab.config import ModelConfig, ModelOrigin
from edlab.converters.edgetpu_report import BANNER, read_report
from edlab.devices import read_array
from edlab.devices.session import _message
from edlab.errors import ConversionError, DeviceError, EdlabError, ModelError, StorageError
from edlab.models.files import load_file
from edlab.record import RunRecord
from edlab.sanitize import sanitized
from edlab.tracking.spool import Spool

CASES = int(os.environ.get("EDLAB_FUZZ_CASES", "50"))
MANY = settings(
    max_examples=CASES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)

JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def damaged(whole: bytes) -> st.SearchStrategy[bytes]:
    """A file with some bytes changed, cut off, or put in between; or anything at all."""
    places = st.integers(0, len(whole) - 1)

    def change(edits: list[tuple[int, int]], end: int, inserted: bytes, at: int) -> bytes:
        content = bytearray(whole)
        for place, value in edits:
            content[place] = value
        return bytes(content[:at] + inserted + content[at:end])

    edits = st.lists(st.tuples(places, st.integers(0, 255)), max_size=6)
    ends = st.just(len(whole)) | places
    changed = st.builds(change, edits, ends, st.binary(max_size=12), places)
    return changed | st.binary(max_size=300)


def onnx_file() -> bytes:
    weights = numpy_helper.from_array(np.ones((5, 3 * 8 * 8), np.float32), "weights")
    nodes = [
        helper.make_node("Flatten", ["images"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weights"], ["logits"], transB=1),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 8, 8])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 5])
    graph = helper.make_graph(nodes, "net", [images], [logits], [weights])
    content: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()
    return content


def tflite_file() -> bytes:
    """A table of nothing but what a reader looks at first: real ones are damaged in tests/models."""
    flatbuffers = pytest.importorskip("flatbuffers")
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT()
    model.version, model.buffers = 3, [schema.BufferT(), schema.BufferT()]
    model.buffers[1].data = np.ones(15 * 8 * 8 * 4, np.uint8)
    code, operator, graph = schema.OperatorCodeT(), schema.OperatorT(), schema.SubGraphT()
    code.builtinCode = schema.BuiltinOperator.FULLY_CONNECTED
    operator.inputs, operator.outputs = [0, 1, -1], [2]
    for number, shape in enumerate(([1, 8, 8, 3], [5, 192], [1, 5])):
        tensor = schema.TensorT()
        tensor.shape, tensor.type, tensor.name = shape, schema.TensorType.FLOAT32, f"tensor{number}"
        tensor.buffer = 1 if number == 1 else 0
        graph.tensors = [*(graph.tensors or []), tensor]
    graph.inputs, graph.outputs, graph.operators = [0], [2], [operator]
    model.operatorCodes, model.subgraphs = [code], [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
@example(b'{"event": "progress", "id": 1}')
@example(b'{"error": "no mapping"}')
@MANY
def test_a_line_of_the_agents_output_is_a_message_or_none(line: bytes) -> None:
    message = _message(line)
    if message is None:
        return
    if "event" in message:
        assert message.keys() >= {"fraction", "message"} or isinstance(message["pid"], int)
    elif "error" in message:
        assert message["error"].keys() >= {"type", "message", "hint", "traceback"}
    else:
        assert isinstance(message["result"], dict)


@given(JSON)
@MANY
def test_whatever_a_record_holds_can_be_written_and_read(value: object) -> None:
    text = json.dumps(sanitized({"value": value}))
    text.encode()
    json.loads(text)


@given(st.binary(max_size=300))
@MANY
def test_checksums_of_rubbish_are_a_damaged_entry(tmp_path: Path, content: bytes) -> None:
    def make(folder: Path) -> None:
        (folder / "out").write_text("x")

    cache = Cache(tmp_path)
    folder = cache.get_or_make("steps", "k", make)
    (folder / checksums.FILE).write_bytes(content)
    again = cache.get_or_make("steps", "k", make)
    assert (again / "out").read_text() == "x"
    assert checksums.find_damage(again) == ""


@given(st.binary(max_size=400) | JSON.map(lambda value: json.dumps(value).encode()))
@MANY
def test_a_result_of_rubbish_is_said_to_be_damaged(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "result.json").write_bytes(content)
    with pytest.raises(StorageError, match="is damaged"):
        RunRecord.read(tmp_path / "result.json")


@given(st.binary(max_size=400) | JSON.map(lambda value: json.dumps(value).encode()))
@MANY
def test_an_entry_of_rubbish_waits_for_nobody(tmp_path: Path, content: bytes) -> None:
    folder = tmp_path / "spool" / "1"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "entry.json").write_bytes(content)
    spool = Spool(tmp_path / "spool")
    assert spool.entries() == []
    assert spool.damaged() == [folder]


@given(st.data())
@MANY
def test_an_array_of_rubbish_is_the_agents_fault(tmp_path: Path, data: st.DataObject) -> None:
    np.save(tmp_path / "whole.npy", np.zeros((4, 3)))
    content = data.draw(damaged((tmp_path / "whole.npy").read_bytes()))
    (tmp_path / "a.npy").write_bytes(content)
    with suppress(DeviceError):
        assert read_array(tmp_path / "a.npy", 2).ndim == 2


READERS: dict[str, Callable[[], bytes]] = {"onnx": onnx_file, "tflite": tflite_file}


@pytest.mark.parametrize("kind", READERS)
def test_the_undamaged_files_are_read(tmp_path: Path, kind: str) -> None:
    (tmp_path / f"net.{kind}").write_bytes(READERS[kind]())
    config = ModelConfig(name="net", origin=ModelOrigin.file, path=str(tmp_path / f"net.{kind}"))
    assert load_file(config, tmp_path).num_classes == 5


@pytest.mark.parametrize("kind", READERS)
@given(data=st.data())
@MANY
def test_a_damaged_model_file_is_read_or_refused(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    folder = tmp_path / "out"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    path = tmp_path / f"net.{kind}"
    path.write_bytes(data.draw(damaged(READERS[kind]())))
    with suppress(EdlabError):
        load_file(ModelConfig(name="net", origin=ModelOrigin.file, path=str(path)), folder)


@pytest.mark.parametrize(("kind", "place"), [("onnx", 34), ("tflite", 4068)])  # in the name of an input, an output
def test_a_name_that_is_not_utf_8_is_damage(tmp_path: Path, kind: str, place: int) -> None:
    path, content = tmp_path / f"net.{kind}", bytearray(READERS[kind]())
    content[place] = 0x80
    path.write_bytes(content)
    folder = tmp_path / "out"
    folder.mkdir()
    with pytest.raises(ModelError, match="cannot be read as"):
        load_file(ModelConfig(name="net", origin=ModelOrigin.file, path=str(path)), folder)


TRANSCRIPT = Path(__file__).parent / "converters" / "edgetpu_transcripts"


@given(st.data())
@MANY
def test_whatever_a_compiler_prints_is_a_report_or_a_refusal(data: st.DataObject) -> None:
    whole = data.draw(st.sampled_from(sorted(TRANSCRIPT.iterdir()))).read_bytes()
    text = data.draw(damaged(whole).map(lambda content: content.decode(errors="replace")) | st.text())
    with suppress(ConversionError):
        read_report(data.draw(st.sampled_from(["", BANNER])) + text)


@given(
    st.sampled_from(["device.threads", "protocol.seconds", "dataset.images", "model", "device.options", "nothing"]),
    st.text(max_size=20) | JSON.map(json.dumps),
)
@example("model", "[NULL]")
@MANY
def test_whatever_is_typed_is_a_configuration_or_refused(key: str, value: str) -> None:
    with suppress(EdlabError):
        compose_config([f"{key}={value}"])


class CacheMachine(RuleBasedStateMachine):
    """A cache beside what it must hold: no order of makings, damages and removals makes it give a wrong file."""

    keys = st.sampled_from(["one", "two", "three"])
    folder: Path

    def __init__(self) -> None:
        super().__init__()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.cache = Cache(self.folder)

    @rule(key=keys)
    def make(self, key: str) -> None:
        made = self.cache.get_or_make("steps", key, lambda folder: self._fill(folder, key))
        assert (made / "out").read_text() == key

    @rule(key=keys)
    def fail(self, key: str) -> None:
        def broken(folder: Path) -> None:
            (folder / "out").write_text("half")
            raise OSError(28, "No space left on device")

        with suppress(StorageError):
            self.cache.get_or_make("steps", key, broken)

    @rule(key=keys, content=st.binary(max_size=5))
    def damage(self, key: str, content: bytes) -> None:
        path = self.folder / "steps" / key / "out"
        if path.exists():
            path.write_bytes(content)

    @rule(key=keys)
    def delete(self, key: str) -> None:
        (self.folder / "steps" / key / "out").unlink(missing_ok=True)

    @rule()
    def clear(self) -> None:
        for entry in list(self.cache.entries()):
            self.cache.remove(entry)

    @rule()
    def tidy(self) -> None:
        self.cache.tidy(max_gb=0)

    @invariant()
    def nothing_half_made_is_found(self) -> None:
        for key in ("one", "two", "three"):
            found = self.cache.find("steps", key)
            assert found is None or (found / "out").read_text() == key

    @staticmethod
    def _fill(folder: Path, key: str) -> None:
        (folder / "out").write_text(key)


@pytest.fixture
def machine(tmp_path: Path) -> type[CacheMachine]:
    CacheMachine.folder = tmp_path / "cache"
    return CacheMachine


def test_no_order_of_makings_and_damages_gives_a_wrong_file(machine: type[CacheMachine]) -> None:
    run_state_machine_as_test(
        machine, settings=settings(MANY, max_examples=max(CASES // 5, 10), stateful_step_count=15)
    )
