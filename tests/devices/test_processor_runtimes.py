"""Which runtimes device=cpu has: those that state formats, of edlab and of vendor packages."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from edlab.composition import compose_config
from edlab.devices import runtimes
from edlab.errors import ConfigError

_RUNTIME = "from edlab.agent.runtimes import base\nclass Runtime(base.Runtime):\n    formats = ('onnx', 'acme')\n"


@pytest.fixture
def vendors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runtime for processors of an outside package, and one that cannot be imported."""
    (tmp_path / "processor_runtime.py").write_text(_RUNTIME)
    (tmp_path / "ruined_runtime.py").write_text("raise RuntimeError('no licence file')")
    monkeypatch.syspath_prepend(tmp_path)
    names = {"acme": "processor_runtime", "ruins": "ruined_runtime"}
    added = {name: EntryPoint(name, module, "edlab.runtimes") for name, module in names.items()}
    monkeypatch.setattr(runtimes, "plugins", lambda group: added)


def test_a_format_that_a_vendors_runtime_states_runs_on_the_cpu(vendors: None) -> None:
    found = compose_config(["device=cpu"]).device.runtimes
    assert found["acme"] == "acme"
    assert found["onnx"] == "onnxruntime"  # a vendor's does not take a built-in one's place by being installed


def test_it_takes_that_place_where_it_is_asked_for(vendors: None) -> None:
    found = compose_config(["device=cpu", "device.runtimes.onnx=acme"]).device.runtimes
    assert (found["onnx"], found["pt2"]) == ("acme", "torch")


def test_what_needs_an_accelerator_is_not_among_them() -> None:
    assert not {"edgetpu", "tensorrt"} & set(compose_config(["device=cpu"]).device.runtimes)


def test_one_that_cannot_be_imported_says_so_where_it_is_asked_for(vendors: None) -> None:
    with pytest.raises(ConfigError, match="no licence file"):
        runtimes.load("ruins")
