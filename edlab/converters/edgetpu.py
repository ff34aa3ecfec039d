"""Google Coral: int8 TFLite -> Edge TPU compiler, which runs here, in a container, or on another machine.

The compiler exists for x86-64 Linux only: https://coral.ai/docs/edgetpu/compiler/.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from edlab.config import ConverterConfig, Precision, QuantizationConfig
from edlab.converters import edgetpu_check, edgetpu_report
from edlab.converters.base import Capability, Step
from edlab.converters.litert import LitertConverter
from edlab.errors import ConfigError, ConversionError, MissingDependencyError
from edlab.openssh import FAILED, Link
from edlab.source import SourceModel

_COMPILER = "edgetpu_compiler"
_SETTING = "converter.options.compiler"
_INSTALL = (
    "on x86-64 Debian or Ubuntu install the package edgetpu-compiler (https://coral.ai/docs/edgetpu/compiler/); "
    f"elsewhere set converter.options.compiler=docker:IMAGE, an image that contains {_COMPILER}, or "
    "converter.options.compiler=ssh:HOST, a machine that has it"
)
_NOT_FOUND = 127  # a shell's exit code
_ASK_TIMEOUT_S = 120.0  # a container image may be downloaded first

# The model is read from stdin and the compiled one written to stdout; the compiler's messages go to stderr. So nothing
# is mounted or copied separately, and the same script works on this machine, in a container and on a host. stdin stays
# open after the model: its end means that the process that waits for the result is gone. Neither a container nor a
# command on another machine ends with its client (docker closes stdin then: docker/cli, StdinOnce of a run with
# --interactive).
_SCRIPT = """
folder=$(mktemp -d) || exit
trap 'kill $watcher $compiler 2>/dev/null; rm -rf "$folder"' EXIT
trap exit HUP TERM
head -c {size} >"$folder/model.tflite" || exit
exec 3<&0
{{ cat <&3; kill $$; }} >/dev/null 2>&1 &
watcher=$!
{compiler} --show_operations --out_dir "$folder" {flags} "$folder/model.tflite" >&2 3<&- &
compiler=$!
wait $compiler || exit
compiler=
cat "$folder/model_edgetpu.tflite"
"""


class EdgetpuConverter(LitertConverter):
    """Converts to int8 TFLite, then groups the operators that the Edge TPU runs into custom operators.

    `converter.options.compiler` is a command ("edgetpu_compiler"), "docker:IMAGE" or "ssh:HOST". For
    `min_runtime_version` and `timeout_s`, 0 means the compiler's default; `timeout_s` needs version 16.
    """

    name = "edgetpu"
    format = "edgetpu"
    capabilities: ClassVar[Mapping[Precision, Capability]] = {
        Precision.int8: dataclasses.replace(LitertConverter.capabilities[Precision.int8], exclude=False)
    }
    default_options: ClassVar[Mapping[str, Any]] = {"compiler": _COMPILER, "min_runtime_version": 0, "timeout_s": 0}

    def __init__(self, config: ConverterConfig) -> None:
        super().__init__(config)
        _link(self.options["compiler"])

    def check_programs(self) -> None:
        identity(self.options)

    def _steps(self, source: SourceModel, quantization: QuantizationConfig) -> tuple[Step, ...]:
        chain = super()._steps(source, quantization)
        layout = chain[-1].layout if chain else source.layout
        return (
            *chain,
            Step(
                name="check_edgetpu",
                version=1,
                function=f"{__name__}:check_edgetpu",
                output="model.tflite",
                format="tflite",
                precision=Precision.int8.value,
                layout=layout,
                tools={"ai_edge_litert": "edlab[litert]"},
            ),
            Step(
                name="compile_edgetpu",
                version=1,
                function=f"{__name__}:compile_edgetpu",
                output="model_edgetpu.tflite",
                format="edgetpu",
                precision=Precision.int8.value,
                layout=layout,
                tools={},
                options=self.options,
                identity=identity,
            ),
        )


def check_edgetpu(inputs: list[str], out: str, options: dict[str, Any], calibration: None) -> None:
    """Copy the file if the compiler would accept it. Raises `ConversionError` that names the refused operators."""
    edgetpu_check.check(Path(inputs[0]))
    shutil.copyfile(inputs[0], out)


def compile_edgetpu(inputs: list[str], out: str, options: dict[str, Any], calibration: None) -> None:
    """Int8 TFLite -> Edge TPU.

    Raises `ConversionError` if the compiler refuses it or maps nothing; `DeviceError` if its machine is not reached.
    """
    where, model = options["compiler"], Path(inputs[0]).read_bytes()
    script = _SCRIPT.format(size=len(model), compiler=_command(where), flags=" ".join(_flags(options)))
    with open(out, "wb") as compiled, tempfile.TemporaryFile() as printed:
        # In the process group of this step, which is ended as a whole if the step takes too long.
        process = subprocess.Popen(_shell(where, script), stdin=subprocess.PIPE, stdout=compiled, stderr=printed)
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has already exited, and has printed why
            process.stdin.write(model)
            process.stdin.flush()
        code = process.wait()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        printed.seek(0)
        transcript = printed.read().decode(errors="replace")
    print(transcript)  # noqa: T201  -- into the log of the step
    link = _link(where)
    if link and code == FAILED and edgetpu_report.BANNER not in transcript:
        raise link.failure(transcript)
    report = edgetpu_report.read_report(transcript)
    if code:
        raise ConversionError(f"the Edge TPU compiler failed with exit code {code}", hint="read its log")
    report.step_report().write_beside(out)


def identity(options: Mapping[str, Any]) -> dict[str, str]:
    """The compiler's version.

    Raises `MissingDependencyError` if it is not found, with what to install or to set; `DeviceError` if its machine is
    not reached.
    """
    where = options["compiler"]
    script, link = f"{_command(where)} --version", _link(where)
    try:
        if link:
            done = link.run(script)
        else:
            command = _shell(where, script)
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_ASK_TIMEOUT_S)
    except FileNotFoundError as error:  # docker itself
        raise _missing(where, f"{error.filename} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise _missing(where, f"no answer within {_ASK_TIMEOUT_S:g} s") from error
    printed = (done.stdout + done.stderr).decode(errors="replace")
    version = printed.partition("Edge TPU Compiler version ")[2].split()
    if done.returncode == _NOT_FOUND:
        raise _missing(where, "the command does not exist")
    if not version:
        raise _missing(where, (printed.strip().splitlines() or [f"it failed with exit code {done.returncode}"])[-1])
    return {_COMPILER: version[0]}


def _missing(where: str, why: str) -> MissingDependencyError:
    return MissingDependencyError(f"the Edge TPU compiler ({where}) is not found: {why}", hint=_INSTALL)


def _command(where: str) -> str:
    """How the compiler is called in the shell of `where`."""
    return _COMPILER if where.startswith(("docker:", "ssh:")) else shlex.quote(where)


def _place(where: str) -> tuple[str, str]:
    """("docker", image), ("ssh", host) or ("", command). Raises `ConfigError` if it is invalid."""
    kind, colon, name = where.partition(":")
    if not colon or "/" in kind:
        return "", where
    if kind not in ("docker", "ssh") or not name or name.startswith("-"):
        raise ConfigError(f"{_SETTING}={where} is invalid", hint=f"set it to {_COMPILER}, docker:IMAGE or ssh:HOST")
    return kind, name


def _link(where: str) -> Link | None:
    """The link to the machine that has the compiler; None if that is this machine. Raises `ConfigError` for no host."""
    kind, name = _place(where)
    return Link(name, setting=_SETTING) if kind == "ssh" else None


def _shell(where: str, script: str) -> list[str]:
    """The command that runs a shell script on the machine or in the container of the compiler."""
    if link := _link(where):
        return [*link.client("no"), "--", link.host, f"sh -c {shlex.quote(script)}"]
    kind, name = _place(where)
    if kind == "docker":
        return ["docker", "run", "--rm", "--interactive", "--network=none", "--entrypoint=sh", name, "-c", script]
    return ["sh", "-c", script]


def _flags(options: Mapping[str, Any]) -> list[str]:
    given = {"--min_runtime_version": options["min_runtime_version"], "--timeout_sec": options["timeout_s"]}
    return [f"{flag} {int(value)}" for flag, value in given.items() if value]
