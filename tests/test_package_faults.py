"""A fault in someone else's package is reported as that package's: with its file, its line, and what to change."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from conformance import install

from edlab import devices, listings, registry
from edlab.agent import messages
from edlab.artifact import Artifact
from edlab.benchmark import _end_early
from edlab.cache import Cache
from edlab.composition import compose_config
from edlab.config import DeviceConfig
from edlab.devices import AgentSession, Pool
from edlab.errors import AgentError, ConfigError, DeviceError
from edlab.power.meter import open_meter
from edlab.readiness import device as findings_of
from edlab.record import RunRecord
from edlab.source import Preprocessing
from edlab.testing import sources

RUNTIME = """
from __future__ import annotations

import numpy as np

from edlab.agent.runtimes import base


class Runtime(base.Runtime):
    options = {"power": "low"}

    @staticmethod
    def version():
        return "3.1"

    def load(self):
        self.network = open(self.path)

    def compile(self, in_flight, batch):
        image = base.TensorSpec("image", (None, 3, 2, 2), "float32")
        mean = base.TensorSpec("mean", (None, 3), "float32")
        return base.Compiled([Mean() for _ in range(in_flight)], [image], [mean], {})


class Mean(base.Request):
    def set_input(self, tensor):
        self.tensor = tensor

    def execute(self):
        self.result = self.tensor.mean(axis=(2, 3))

    def get_outputs(self):
        return [self.result]
"""

DEVICE = DeviceConfig(name="acme", runtimes={"any": "zeta"}, sensors=["zeta"])

Put = Callable[..., None]


@pytest.fixture
def put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Put]:
    """Install a package, as pip would: a module, and its entry points."""
    monkeypatch.syspath_prepend(str(tmp_path / "site"))

    def put(module: str, source: str, *entries: str) -> None:
        install(tmp_path / "site", module, textwrap.dedent(source).lstrip(), *entries)
        registry._installed.cache_clear()
        monkeypatch.delitem(sys.modules, module, raising=False)

    yield put
    registry._installed.cache_clear()


def opened(session: AgentSession, folder: Path) -> Pool:
    """Open a file with the runtime `zeta`, and return some images for it."""
    np.save(folder / "images.npy", np.arange(4 * 12, dtype=np.uint8).reshape(4, 2, 2, 3))
    (folder / "net.zeta").write_text("")
    artifact = Artifact(format="any", precision="fp32", layout="NCHW", files=(folder / "net.zeta",), sha256="0")
    session.open(artifact, Preprocessing(height=2, width=2, mean=(0.5,) * 3, std=(0.5,) * 3), DEVICE)
    return Pool(str(folder / "images.npy"), [0, 1, 2, 3])


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ("[self.result]", ""),
        ("[self.result[:, :2]]", "returned 'mean' with the shape (1, 2), but it declares (?, 3)"),
        ("[self.result[0]]", "returned 'mean' with the shape (3), but it declares (?, 3)"),
        ("[self.result, self.result]", "returned 2 outputs, but it declares 1"),
        ("[self.result.astype(np.float64)]", "returned 'mean' as float64, but it declares float32"),
        ("[self.result.tolist()]", "returned 'mean' as list"),
        ("[self.result * np.float32('nan')]", "outputs NaN or infinity in 'mean' for each of the first 3 images"),
    ],
)
def test_outputs_unlike_those_declared_are_refused_in_the_warm_up(
    put: Put, tmp_path: Path, wrong: str, expected: str
) -> None:
    put("zeta_rt", RUNTIME.replace("return [self.result]", f"return {wrong}"), "edlab.runtimes: zeta = zeta_rt")
    with devices.connect(DEVICE, Cache(tmp_path / "cache")) as session:
        pool = opened(session, tmp_path)
        request = messages.Warmup(pool, queries=5, seconds=0.01, tolerance=0.5, max_seconds=5)
        if not expected:
            assert session.measure(messages.WARMUP, request).queries >= 5
            return
        with pytest.raises(AgentError) as caught:
            session.measure(messages.WARMUP, request)
    assert "the runtime zeta" in caught.value.message
    assert expected in caught.value.message


@pytest.mark.parametrize(
    ("right", "wrong", "expected"),
    [
        ("    def get_outputs", "    def get_output", ("abstract", "zeta_rt.py, line ", "module of the runtime zeta")),
        ("open(self.path)", "opn(self.path)", ("NameError", "zeta_rt.py, line 16")),
        ("    def load(", "    def lod(", ("the runtime zeta does not define load", "zeta_rt")),
        ("import numpy as np\n", "import edlab.config\n", ("runtime zeta imports edlab.config", "only edlab.agent")),
        ("def load(self):", "def load(self)", ("SyntaxError", "zeta_rt.py, line 15")),
        ("import numpy as np\n", "import numpy as np\n\n{}['q7']\n", ("KeyError: 'q7'", "zeta_rt.py, line 5")),
        ("class Runtime(base.Runtime)", "class Runtime", ("no class Runtime derived from", "entry point")),
    ],
)
def test_an_error_in_the_module_of_a_runtime_names_its_place(
    put: Put, tmp_path: Path, right: str, wrong: str, expected: tuple[str, ...]
) -> None:
    put("zeta_rt", RUNTIME.replace(right, wrong), "edlab.runtimes: zeta = zeta_rt")
    with devices.connect(DEVICE, Cache(tmp_path / "cache")) as session, pytest.raises(AgentError) as caught:
        opened(session, tmp_path)
    text = f"{caught.value.message}; {caught.value.hint}"
    assert all(part in text for part in expected), text
    assert "convert it again" not in text


def test_a_file_that_a_runtime_refuses_is_still_the_files_fault(put: Put, tmp_path: Path) -> None:
    put("zeta_rt", RUNTIME.replace("open(self.path)", "int(open(self.path).read())"), "edlab.runtimes: zeta = zeta_rt")
    with devices.connect(DEVICE, Cache(tmp_path / "cache")) as session, pytest.raises(AgentError) as caught:
        opened(session, tmp_path)
    assert "convert it again" in caught.value.hint


def test_a_runtime_with_fewer_requests_than_cores_runs_every_image(put: Put, tmp_path: Path) -> None:
    refusing = RUNTIME.replace(
        "        image =", "        if in_flight > 1:\n            raise OSError('busy')\n        image ="
    )
    put("zeta_rt", refusing, "edlab.runtimes: zeta = zeta_rt")
    with devices.connect(DEVICE, Cache(tmp_path / "cache")) as session:
        pool = opened(session, tmp_path)
        report = session.predict(pool, tmp_path / "out.npy")
    assert (report.images, report.in_flight) == (4, 1)


SENSOR = """
    from edlab.agent.sensors.base import Found, PowerSensor


    class Meter(PowerSensor):
        def watts(self):
            return 2.5


    def survey():
        return Found([Meter("zeta:0", "zeta", "module")], [])
"""


@pytest.mark.parametrize(
    ("right", "wrong", "entry", "expected"),
    [
        ('"module"', '"module"', "zeta_power", ""),
        ('"module"', '"chip"', "zeta_power", "its boundary 'chip' is not one of rail, module,"),
        ("Found([Meter", "list([Meter", "zeta_power", "TypeError"),
        ('return Found([Meter("zeta:0", "zeta", "module")], [])', "return []", "zeta_power", "survey() returned list"),
        ("x", "x", "zeta_pwer", "needs the module 'zeta_pwer', which is not found"),
        ("x", "x", "zeta_power:Meter", "must be a module"),
    ],
)
def test_doctor_says_why_a_sensor_cannot_be_used(
    put: Put, tmp_path: Path, right: str, wrong: str, entry: str, expected: str
) -> None:
    put("zeta_power", SENSOR.replace(right, wrong), f"edlab.sensors: zeta = {entry}")
    found = list(findings_of(DeviceConfig(name="acme", sensors=["zeta"]), Cache(tmp_path / "cache")))
    (power, *unusable) = [finding for finding in found if finding.part == "acme: power"]
    if not expected:
        assert "zeta:0 (module)" in power.details
        assert not unusable
        return
    assert "zeta:0 (" not in power.details
    assert expected in unusable[0].details


def test_what_is_sent_to_a_target_is_read_as_python_3_7(put: Put, tmp_path: Path) -> None:
    package = tmp_path / "site" / "zeta_pkg"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "converter.py").write_text("import edlab.config\nif (x := 1): pass\n")  # not imported on a target
    cases = {
        "": [],
        "def f(a):\n    if (b := a): pass\n": ["line 2: Assignment expressions"],
        "match 1:\n    case 1: pass\n": ["Pattern matching"],
        "from edlab.agent.runtimes import base\nfrom edlab import agent\nimport edlab.agent.errors\n": [],
        "def f():\n    import edlab.config\n": ["line 2: imports edlab.config"],
        "from edlab import config\n": ["line 1: imports edlab.config"],
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import edlab.config\n": [],
        "def f(a: list[int]) -> int | None: pass\n": ["int | None needs", "list[int] needs"],
        "from __future__ import annotations\ndef f(a: list[int]) -> int | None: pass\n": [],
        "from .converter import x\n": ["converter.py, line 2: Assignment"],
        "from . import converter\n": ["converter.py, line 2: Assignment"],
        "import zeta_pkg.converter\n": ["converter.py, line 2: Assignment"],
    }
    put("zeta_other", "")
    for text, expected in cases.items():
        (package / "runtime.py").write_text(text)
        found = sources.problems("zeta_pkg.runtime")
        assert len(found) == len(expected), (text, found)
        assert all(any(part in line for line in found) for part in expected), found


def test_a_bug_in_a_package_is_not_called_one_of_edlab(put: Put) -> None:
    put("zeta_part", "import os\n\n\ndef raises():\n    os.listdir(3.5)\n", "edlab.converters: zeta = zeta_part:Part")
    import zeta_part

    def hint_for(function: Callable[[], object]) -> str:
        record = RunRecord(name="x", sweep_id="x", started_at="x", params={})
        with pytest.raises(TypeError) as caught:
            function()
        _end_early(record, caught.value)
        return record.hint

    assert "a bug in the package zeta_part (" in hint_for(zeta_part.raises)
    assert "zeta_part.py, line 5)" in hint_for(zeta_part.raises)
    assert "this is a bug in edlab" in hint_for(lambda: compose_config(None))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "# @package _global_\ndevice:\n  name: zeta\n  precisions: [fp16, fp32\n  env: {}\n",
            "zeta.yaml, line 4: expec",
        ),
        ("defaults:\n  - override /converter: onnxruntime\ndevice:\n  name: zeta\n", "no line '# @package _global_'"),
        ("device:\n  name: zeta\n", "no line '# @package _global_'"),
        ("# @package _global_\ndevice:\n  nme: zeta\n", "zeta.yaml: 'device' has no key 'nme'"),
        ("# @package _global_\ndevice:\n  name: zeta\n  precisions: [float32]\n", "unknown precision 'float32'"),
    ],
)
def test_a_fault_in_a_yaml_file_names_the_file_and_costs_one_device(
    put: Put, tmp_path: Path, text: str, expected: str
) -> None:
    folder = tmp_path / "site" / "zeta_conf" / "device"
    folder.mkdir(parents=True)
    (folder / "zeta.yaml").write_text(text)
    put("zeta_names", "", "edlab.conf: zeta = zeta_conf")
    with pytest.raises(ConfigError) as caught:
        compose_config(["device=zeta"])
    assert expected in caught.value.message
    cells = [row[1] for row in listings.devices().rows]
    assert [cell.text for cell in cells if cell.style == "yellow"] == [caught.value.message]
    assert "local" in [cell.text for cell in cells]


def test_an_option_that_a_runtime_does_not_have_is_refused_with_the_full_key(put: Put) -> None:
    put("zeta_rt", RUNTIME, "edlab.runtimes: zeta = zeta_rt")
    words = ["device=cpu", "device.runtimes.onnx=zeta"]
    assert compose_config([*words, "device.options.zeta.power=high"]).device.options == {"zeta": {"power": "high"}}
    with pytest.raises(ConfigError, match=r"device\.options\.zeta\.powr: .* no option 'powr'") as caught:
        compose_config([*words, "device.options.zeta.powr=high"])
    assert "did you mean 'power'?" in caught.value.hint


def test_the_meter_of_the_docs_is_chosen_by_its_name(put: Put, tmp_path: Path) -> None:
    page = (Path(__file__).parent.parent / "docs" / "plugins.md").read_text()
    (meter,) = re.findall(r"```python\n# acme_edlab/meter.py\n(.*?)```", page, re.DOTALL)
    (yaml,) = re.findall(r"```yaml\n# acme_edlab/conf/(\S+)\n(.*?)```", page, re.DOTALL)
    put("acme_meter", meter, "edlab.meters: acme_usb = acme_meter:AcmeMeter", "edlab.conf: acme = acme_conf")
    path = tmp_path / "site" / "acme_conf" / yaml[0]
    path.parent.mkdir(parents=True)
    path.write_text(yaml[1])
    opened = open_meter(compose_config(["meter=acme_usb"]).meter)
    assert opened is not None
    assert opened.name == "acme at /dev/ttyUSB0"
    (tmp_path / "port").write_text("2.5\n")
    read = open_meter(compose_config(["meter=acme_usb", f"meter.options.port={tmp_path}/port"]).meter)
    assert read is not None
    sample = read.read()
    assert sample is not None
    assert sample.watts == 2.5


def test_a_python_of_this_machine_without_numpy_is_named(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')  # no site-packages
    python.chmod(0o755)
    config = DeviceConfig(name="cpu", python=str(python))
    with devices.connect(config, Cache(tmp_path / "cache")) as session, pytest.raises(DeviceError) as caught:
        session.hello()
    assert caught.value.message == f"numpy is missing in {python}"
    assert caught.value.hint == f"{python} -m pip install numpy"
