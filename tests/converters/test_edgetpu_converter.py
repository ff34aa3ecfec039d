"""Coral: what its compiler would refuse is refused here, its report is read, and without it the int8 file is kept.

Google's compiler is not installed by the tests: a script stands in for it, which compiles nothing.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import artifact_runner
import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from edlab import converters
from edlab.artifact import Artifact
from edlab.cache import Cache
from edlab.config import ConverterConfig, Precision
from edlab.converters.edgetpu import compile_edgetpu, identity
from edlab.converters.edgetpu_check import check
from edlab.converters.edgetpu_report import Operators, failure, read_report
from edlab.converters.inspect import weight_dtypes
from edlab.errors import ConfigError, ConversionError, DeviceError, MissingDependencyError
from edlab.openssh import CONFIG_VARIABLE
from edlab.source import SourceModel
from edlab.stages.reference import this_machine
from edlab.testing import sshd
from edlab.testing.converter import ConverterConformance, quantization, small_calibration, small_source

VERSION = "16.0.384591198"


def transcript(name: str) -> str:
    """What a real compiler printed; the file's first lines name the source."""
    path = Path(__file__).parent / "edgetpu_transcripts" / f"{name}.txt"
    return "".join(line for line in path.read_text().splitlines(keepends=True) if not line.startswith("#"))


def write_compiler(path: Path, said: str, code: int = 0) -> Path:
    """A stand-in for edgetpu_compiler: it accepts the documented options, prints `said`, and "compiles" by copying."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = path.with_suffix(".txt")
    text.write_text(said)
    path.write_text(
        f"""#!/bin/sh
if [ "$1" = --version ]; then echo "Edge TPU Compiler version {VERSION}"; exit; fi
while [ $# -gt 1 ]; do
    if [ "$1" = --out_dir ]; then out=$2; fi
    shift
done
cat {shlex.quote(str(text))}
if [ {code} != 0 ]; then exit {code}; fi
cat "$1" >"$out/model_edgetpu.tflite"
printf edgetpu-custom-op >>"$out/model_edgetpu.tflite"
"""
    )
    path.chmod(0o755)
    return path


@pytest.mark.slow
class TestConformance(ConverterConformance):
    """With the stand-in on PATH; numbers and weights are those of the last portable form, the int8 TFLite."""

    converter = "edgetpu"

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _compiler(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        pytest.importorskip("litert_torch")
        folder = tmp_path_factory.mktemp("bin")
        write_compiler(folder / "edgetpu_compiler", transcript("v16_partial"))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
            yield

    def predict(self, artifact: Artifact, images: NDArray[np.float32]) -> NDArray[np.float32]:
        return artifact_runner.run(artifact.on_host.format, artifact.on_host.files[0], images)

    @pytest.mark.parametrize("precision", [Precision.int8])
    def test_int8_means_that_the_files_weights_are_int8(
        self, convert: Callable[..., Artifact], precision: Precision
    ) -> None:
        artifact = convert(quantization(precision))
        assert set(weight_dtypes(artifact.on_host.files[0], artifact.on_host.format)) == {"int8"}

    def test_the_report_is_in_the_record_of_the_step(self, convert: Callable[..., Artifact]) -> None:
        artifact = convert(quantization(Precision.int8))
        assert [path.name for path in artifact.files] == ["model_edgetpu.tflite"]
        compiled = artifact.steps[-1]
        assert compiled.tools == {"edgetpu_compiler": VERSION}
        assert compiled.report.figures["edgetpu_ops_mapped_fraction"] == artifact.accelerated_fraction == 289 / 294
        assert compiled.report.details["operators_on_cpu"] == 5
        assert "Mapped to Edge TPU" in compiled.log.read_text()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> SourceModel:
    pytest.importorskip("litert_torch")
    return small_source(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def steps_cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def convert(source: SourceModel, steps_cache: Cache, tmp_path: Path) -> Callable[..., tuple[Artifact, ...]]:
    """`convert(made, compiler, only_portable=False)`: what each step wrote, even if a later one fails."""

    def run(made: list[Artifact], compiler: str, **options: Any) -> Artifact:
        return converters.convert(
            source,
            quantization(Precision.int8),
            ConverterConfig(name="edgetpu", options={"compiler": compiler}),
            calibration=lambda: small_calibration(tmp_path, 16),
            cache=steps_cache,
            portable=this_machine().runtimes,
            on_made=made.append,
            **options,
        )

    return run


def test_without_a_compiler_the_int8_file_is_kept_and_the_error_says_what_to_do(convert: Any) -> None:
    made: list[Artifact] = []
    with pytest.raises(MissingDependencyError, match="no-such-compiler") as caught:
        convert(made, "no-such-compiler")
    assert "edgetpu-compiler" in caught.value.hint
    assert "docker:IMAGE" in caught.value.hint
    assert (made[-1].format, made[-1].precision, made[-1].portable) == ("tflite", "int8", None)
    assert made[-1].files[0].exists()


def test_in_place_of_the_device_no_compiler_is_needed(convert: Any) -> None:
    artifact = convert([], "no-such-compiler", only_portable=True)
    assert (artifact.format, artifact.steps[-1].name) == ("tflite", "check_edgetpu")


def test_a_model_that_is_mapped_nowhere_fails(convert: Any, tmp_path: Path) -> None:
    compiler = write_compiler(tmp_path / "a folder's" / "compiler", transcript("v15_none_mapped"))
    with pytest.raises(ConversionError, match="mapped none of the 69 operators"):
        convert([], str(compiler))


def test_the_compilers_refusal_reaches_the_user(convert: Any, tmp_path: Path) -> None:
    compiler = write_compiler(tmp_path / "compiler", transcript("v16_large_activations"), code=1)
    with pytest.raises(ConversionError, match="large activation tensors") as caught:
        convert([], str(compiler))
    assert "Compilation failed!" in caught.value.log


@pytest.mark.parametrize("place", ["docker", "ssh"])
def test_a_container_or_another_machine_compiles_as_well(
    convert: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Scripts stand in for docker and ssh: they run here what they would run there."""
    here, there = tmp_path / "here", tmp_path / "there"
    write_compiler(there / "edgetpu_compiler", transcript("v16_partial"))
    here.mkdir()
    told = {
        # ... --entrypoint=sh IMAGE -c SCRIPT; ... -- HOST COMMAND, which the login shell there reads
        "docker": '[ "$*" != "${*#*--entrypoint=sh the-one }" ] && while [ "$1" != -c ]; do shift; done; exec sh "$@"',
        "ssh": 'while [ "$1" != -- ]; do shift; done; [ "$2" = the-one ] && exec sh -c "$3"',
    }
    program = here / place
    program.write_text(f"#!/bin/sh\nPATH={shlex.quote(str(there))}:$PATH\n{told[place]}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{here}{os.pathsep}{os.environ['PATH']}")
    artifact = convert([], f"{place}:the-one")
    assert artifact.steps[-1].tools == {"edgetpu_compiler": VERSION}
    assert artifact.files[0].read_bytes() == artifact.on_host.files[0].read_bytes() + b"edgetpu-custom-op"


@pytest.mark.parametrize("compiler", ["docker:", "ssh:-oProxyCommand=x", "podman:image"])
def test_a_place_that_is_none_is_refused_by_name(compiler: str) -> None:
    with pytest.raises(ConfigError, match=compiler) as caught:
        converters.get(ConverterConfig(name="edgetpu", options={"compiler": compiler}))
    assert "docker:IMAGE" in caught.value.hint


def test_a_host_that_ssh_or_a_shell_would_misread_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"converter\.options\.compiler='a b;c' is not a valid host name"):
        converters.get(ConverterConfig(name="edgetpu", options={"compiler": "ssh:a b;c"}))


@pytest.fixture
def builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[sshd.LoopbackBoard]:
    """Another machine that has the compiler."""
    if sshd.missing():
        pytest.skip(f"not installed: {sshd.missing()}")
    write_compiler(tmp_path / "bin" / "edgetpu_compiler", transcript("v16_partial"))
    with sshd.LoopbackBoard(tmp_path / "builder") as board:
        board.write_shell(path=f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setenv(CONFIG_VARIABLE, str(board.config))
        yield board


def test_another_machine_is_reached_as_boards_are(builder: sshd.LoopbackBoard, tmp_path: Path) -> None:
    (tmp_path / "model.tflite").write_bytes(b"a model")
    out = tmp_path / "model_edgetpu.tflite"
    options = {"compiler": "ssh:board", "min_runtime_version": 0, "timeout_s": 0}
    assert identity(options) == {"edgetpu_compiler": VERSION}
    compile_edgetpu([str(tmp_path / "model.tflite")], str(out), options, None)
    assert out.read_bytes() == b"a modeledgetpu-custom-op"


@pytest.mark.parametrize("ask", [identity, lambda options: compile_edgetpu([__file__], os.devnull, options, None)])
def test_a_machine_that_is_not_reached_says_why(builder: sshd.LoopbackBoard, ask: Callable[[Any], object]) -> None:
    builder.known_hosts.write_text("")
    with pytest.raises(DeviceError, match="host key of board is unknown") as caught:
        ask({"compiler": "ssh:board", "min_runtime_version": 0, "timeout_s": 0})
    assert f"`ssh -F {builder.config} board`" in caught.value.hint


# As `docker run --interactive`: what runs in the container is no child of the client, and outlives it; the client's
# end is the end of its stdin (docker/cli, StdinOnce).
DOCKER = """#!{python}
import os, subprocess, sys, threading
script = sys.argv[sys.argv.index("-c") + 1]
container = subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE, start_new_session=True)
def attach():
    while data := os.read(0, 65536):
        container.stdin.write(data)
        container.stdin.flush()
    container.stdin.close()
threading.Thread(target=attach, daemon=True).start()
os._exit(container.wait())
"""


@pytest.mark.parametrize("place", ["docker:image", "ssh:board"])
def test_a_compilation_elsewhere_ends_with_the_step_that_waits_for_it(
    place: str, builder: sshd.LoopbackBoard, tmp_path: Path
) -> None:
    compiler, pid_file = tmp_path / "bin" / "edgetpu_compiler", tmp_path / "pid"
    compiler.write_text(f"#!/bin/sh\necho $$ >{shlex.quote(str(pid_file))}\nexec sleep 600\n")
    docker = tmp_path / "bin" / "docker"
    docker.write_text(DOCKER.format(python=sys.executable))
    docker.chmod(0o755)
    options = {"compiler": place, "min_runtime_version": 0, "timeout_s": 0}
    arguments = ([__file__], os.devnull, options, None)
    step = f"from edlab.converters.edgetpu import compile_edgetpu as step; step(*{arguments})"
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    process = subprocess.Popen([sys.executable, "-c", step], env=environment, start_new_session=True)
    wait_until(lambda: pid_file.exists() and bool(pid_file.read_text()))
    os.killpg(process.pid, signal.SIGKILL)  # as `edlab.isolation` ends a step
    process.wait()
    wait_until(lambda: not psutil.pid_exists(int(pid_file.read_text())))


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_docker_that_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependencyError, match="docker is not installed"):
        identity({"compiler": "docker:some/image"})


# The report, from what real compilers printed.


def test_a_partial_mapping_of_version_16() -> None:
    report = read_report(transcript("v16_partial"))
    assert report.compiler == VERSION
    assert (report.operators_on_edgetpu, report.operators_on_cpu, report.subgraphs) == (289, 5, 2)
    assert report.mapped_fraction == 289 / 294
    assert report.onchip_bytes == round(6.08 * 2**20)
    assert report.streamed_bytes == round(1.70 * 2**20)
    assert Operators("CONV_2D", 62, "Mapped to Edge TPU") in report.operators
    assert sum(row.count for row in report.operators) == 294
    limitation = "Operation is otherwise supported, but not mapped due to some unspecified limitation"
    assert {row.type for row in report.operators if row.status == limitation} == {
        "CONCATENATION",
        "TRANSPOSE",
        "QUANTIZE",
        "RESHAPE",
    }
    assert report.step_report().figures == {
        "edgetpu_ops_mapped_fraction": 289 / 294,
        "edgetpu_onchip_mb": pytest.approx(6.375, abs=0.001),
        "edgetpu_streamed_mb": pytest.approx(1.783, abs=0.001),
    }


def test_a_partial_mapping_of_version_15() -> None:
    report = read_report(transcript("v15_partial"))
    assert report.compiler == "15.0.340273435"
    assert (report.operators_on_edgetpu, report.operators_on_cpu, report.subgraphs) == (2, 34, 1)
    assert (report.onchip_bytes, report.streamed_bytes) == (3072, 0)
    assert Operators("LEAKY_RELU", 11, "Operation not supported") in report.operators
    assert sum(row.count for row in report.operators if row.status == "Mapped to Edge TPU") == 2


def test_a_whole_mapping_is_told_by_what_is_not_printed() -> None:
    report = read_report(transcript("v16_all_mapped"))
    assert (report.operators_on_edgetpu, report.operators_on_cpu) == (246, 0)
    assert report.mapped_fraction == 1
    assert report.streamed_bytes == round(41.75 * 1024)


def test_a_total_that_is_missing_is_not_taken_for_a_whole_mapping() -> None:
    said = transcript("v16_partial")
    cut = "".join(line for line in said.splitlines(keepends=True) if "operations that will run on" not in line)
    with pytest.raises(ConversionError, match="cannot read the Edge TPU compiler's report") as caught:
        read_report(cut)
    assert "0 on the CPU, its table has 289 and 5" in caught.value.message


def test_no_operator_on_the_edge_tpu_is_a_failure() -> None:
    with pytest.raises(ConversionError, match="none of the 69 operators"):
        read_report(transcript("v15_none_mapped"))
    table = "\n\nOperator   Count   Status\n\nCONV_2D   69   Operation version not supported\n"
    with pytest.raises(ConversionError, match=r"\(CONV_2D: Operation version not supported\)"):
        read_report(transcript("v15_none_mapped") + table)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("v15_internal_error", "Internal compiler error. Aborting"),
        ("v16_dynamic_shape", "only supports static-sized tensors"),
        ("v16_operator_version", "'TRANSPOSE_CONV' version '4'"),
        ("v16_large_activations", "large activation tensors in model"),
        ("v16_without_reason", "no reason is given"),
    ],
)
def test_a_refusal_has_the_compilers_own_words(name: str, reason: str) -> None:
    assert reason in failure(transcript(name))
    with pytest.raises(ConversionError, match="refused the model") as caught:
        read_report(transcript(name))
    assert reason in caught.value.message


def test_a_compiler_that_never_ran_is_not_said_to_have_refused() -> None:
    with pytest.raises(ConversionError, match="did not run: ssh: connect to host"):
        read_report("ssh: connect to host builder port 22: Connection refused\n")


# What the compiler would refuse, in files made by the tools that edlab uses.


@pytest.fixture(scope="module")
def int8_file(source: SourceModel, steps_cache: Cache, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The int8 TFLite file that edlab makes from the small network."""
    artifact = converters.convert(
        source,
        quantization(Precision.int8),
        ConverterConfig(name="litert"),
        calibration=lambda: small_calibration(tmp_path_factory.mktemp("images"), 16),
        cache=steps_cache,
        portable=this_machine().runtimes,
    )
    return artifact.files[0]


def edit(path: Path, out: Path, change: Callable[[Any, Any], None]) -> Path:
    """A TFLite file with its flatbuffer changed by `change(model, schema)`."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    change(model, schema)
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    out.write_bytes(builder.Output())
    return out


def code_of(model: Any, operator: int) -> Any:
    return next(code for code in model.operatorCodes if max(code.builtinCode, code.deprecatedBuiltinCode) == operator)


def test_edlabs_own_int8_file_is_accepted(int8_file: Path) -> None:
    check(int8_file)


@pytest.mark.parametrize(
    "name",
    ["mobilenet_v2", *(pytest.param(name, marks=pytest.mark.slow) for name in ("semnasnet_100", "inception_v3"))],
)
def test_the_networks_of_the_table_are_accepted(name: str, tmp_path: Path) -> None:
    """Random weights and small images: what the compiler accepts depends on the operators."""
    pytest.importorskip("litert_torch")
    import torch

    from edlab.converters.litert import quantize_tflite, torch_to_tflite
    from edlab.source import Preprocessing

    size = 107 if name == "inception_v3" else 96
    network = _network(name).eval()
    exported = tmp_path / "net.pt2"
    torch.export.save(torch.export.export(network, (torch.zeros(1, 3, size, size),)), exported)
    torch_to_tflite([str(exported)], str(tmp_path / "float.tflite"), {}, None)
    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(0, 255, (2, size, size, 3), np.uint8))
    images = converters.CalibrationData(
        tmp_path / "images.npy",
        (0, 1),
        Preprocessing(height=size, width=size, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        "",
    )
    options = {"precision": "int8", "per_channel": True, "symmetric": False, "exclude": [], "layout": "NHWC"}
    quantize_tflite([str(tmp_path / "float.tflite")], str(tmp_path / "int8.tflite"), options, images.describe())
    check(tmp_path / "int8.tflite")


def _network(name: str) -> Any:
    if name == "semnasnet_100":
        import timm

        return timm.create_model(name)
    from edlab.torchvision_import import import_torchvision

    options = {"transform_input": False, "init_weights": False} if name == "inception_v3" else {}
    return getattr(import_torchvision().models, name)(weights=None, **options)


def test_a_float_file_is_refused_with_its_operator(source: SourceModel, steps_cache: Cache) -> None:
    floats = converters.convert(
        source,
        quantization(Precision.fp32),
        ConverterConfig(name="litert"),
        calibration=pytest.fail,
        cache=steps_cache,
        portable=this_machine().runtimes,
    )
    with pytest.raises(ConversionError, match=r"CONV_2D '.*' works on float32") as caught:
        check(floats.files[0])
    assert caught.value.hint


def test_a_dynamic_shape_is_refused(int8_file: Path, tmp_path: Path) -> None:
    def free_the_batch(model: Any, schema: Any) -> None:
        graph = model.subgraphs[0]
        graph.tensors[graph.inputs[0]].shapeSignature = [-1, 32, 32, 3]

    with pytest.raises(ConversionError, match="has a dynamic shape"):
        check(edit(int8_file, tmp_path / "dynamic.tflite", free_the_batch))


def test_a_version_that_is_too_new_is_refused(int8_file: Path, tmp_path: Path) -> None:
    def renew(model: Any, schema: Any) -> None:
        code_of(model, schema.BuiltinOperator.CONV_2D).version = 6

    with pytest.raises(ConversionError, match=r"CONV_2D '.*' has version 6; the newest supported is 5"):
        check(edit(int8_file, tmp_path / "new.tflite", renew))


def test_an_operator_of_later_years_is_refused(int8_file: Path, tmp_path: Path) -> None:
    def replace(model: Any, schema: Any) -> None:
        code_of(model, schema.BuiltinOperator.ADD).builtinCode = schema.BuiltinOperator.GELU

    with pytest.raises(ConversionError, match=r"GELU '.*' is an operator that the compiler does not have"):
        check(edit(int8_file, tmp_path / "gelu.tflite", replace))


def test_a_fully_connected_layer_with_a_scale_per_channel_is_refused(
    source: SourceModel, steps_cache: Cache, tmp_path: Path
) -> None:
    """The default of ai-edge-quantizer."""
    from ai_edge_quantizer import qtyping
    from ai_edge_quantizer.quantizer import Quantizer
    from ai_edge_quantizer.recipe_manager import RecipeManager

    floats = converters.convert(
        source,
        quantization(Precision.fp32),
        ConverterConfig(name="litert"),
        calibration=pytest.fail,
        cache=steps_cache,
        portable=this_machine().runtimes,
    )
    recipe = RecipeManager()
    recipe.add_quantization_config(
        ".*",
        qtyping.TFLOperationName.ALL_SUPPORTED,
        qtyping.OpQuantizationConfig(
            activation_tensor_config=qtyping.TensorQuantizationConfig(num_bits=8, symmetric=False),
            weight_tensor_config=qtyping.TensorQuantizationConfig(
                num_bits=8, symmetric=True, granularity=qtyping.QuantGranularity.CHANNELWISE
            ),
            compute_precision=qtyping.ComputePrecision.INTEGER,
        ),
    )
    quantizer = Quantizer(str(floats.files[0]), recipe.get_quantization_recipe())
    images = np.random.default_rng(0).normal(size=(1, 32, 32, 3)).astype(np.float32)
    ranges = quantizer.calibrate({"serving_default": [{"args_0": images}]})
    quantizer.quantize(ranges).export_model(str(tmp_path / "channels.tflite"))
    with pytest.raises(ConversionError, match=r"FULLY_CONNECTED '.*' has one scale per channel"):
        check(tmp_path / "channels.tflite")
