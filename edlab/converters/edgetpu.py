"""Google Coral: int8 TFLite -> Edge TPU compiler, which runs here, in a container, or on another machine.

The compiler exists for x86-64 Linux only: https://coral.ai/docs/edgetpu/compiler/.
"""

from __future__ import annotations

import dataclasses
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from edlab.config import ConverterConfig, Precision, QuantizationConfig
from edlab.converters import edgetpu_check, edgetpu_report
from edlab.converters.base import Capability, Step
from edlab.converters.litert import LitertConverter
from edlab.errors import ConfigError, ConversionError, MissingDependencyError
from edlab.source import SourceModel

_COMPILER = "edgetpu_compiler"
_INSTALL = (
    "on x86-64 Debian or Ubuntu install the package edgetpu-compiler (https://coral.ai/docs/edgetpu/compiler/); "
    f"elsewhere set converter.options.compiler=docker:IMAGE, an image that has {_COMPILER} in it, or "
    "converter.options.compiler=ssh:HOST, a machine that has it"
)
_ASK_TIMEOUT_S = 120.0  # a container may have to be fetched first

# The model comes on stdin and the compiled one leaves on stdout; what the compiler prints goes to stderr. So nothing is
# mounted or copied apart, and the same script serves this machine, a container and a host.
_SCRIPT = """
folder=$(mktemp -d) || exit
trap 'rm -rf "$folder"' EXIT
trap exit HUP TERM
cat >"$folder/model.tflite" || exit
{compiler} --show_operations --out_dir "$folder" {flags} "$folder/model.tflite" >&2 || exit
cat "$folder/model_edgetpu.tflite"
"""


class EdgetpuConverter(LitertConverter):
    """-> int8 TFLite -> TFLite with the operators that the Edge TPU runs gathered in custom ones.

    `converter.options.compiler` is a command ("edgetpu_compiler"), "docker:IMAGE" or "ssh:HOST". At
    `min_runtime_version` and `timeout_s`, 0 leaves the compiler its own; the latter is an option of version 16.
    """

    name = "edgetpu"
    format = "edgetpu"
    capabilities: ClassVar[Mapping[Precision, Capability]] = {
        Precision.int8: dataclasses.replace(LitertConverter.capabilities[Precision.int8], exclude=False)
    }
    default_options: ClassVar[Mapping[str, Any]] = {"compiler": _COMPILER, "min_runtime_version": 0, "timeout_s": 0}

    def __init__(self, config: ConverterConfig) -> None:
        super().__init__(config)
        _shell(self.options["compiler"], "")

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
                portable=False,
            ),
        )


def check_edgetpu(inputs: list[str], out: str, options: dict[str, Any], calibration: None) -> None:
    """The same file, if the compiler would accept it. Raises `ConversionError` with the operator that it would not."""
    edgetpu_check.check(Path(inputs[0]))
    shutil.copyfile(inputs[0], out)


def compile_edgetpu(inputs: list[str], out: str, options: dict[str, Any], calibration: None) -> None:
    """Int8 TFLite -> Edge TPU. Raises `ConversionError` where the compiler refuses it, or maps nothing."""
    script = _SCRIPT.format(compiler=_command(options["compiler"]), flags=" ".join(_flags(options)))
    with open(inputs[0], "rb") as model, open(out, "wb") as compiled:
        done = subprocess.run(
            _shell(options["compiler"], script), stdin=model, stdout=compiled, stderr=subprocess.PIPE, check=False
        )
    transcript = done.stderr.decode(errors="replace")
    print(transcript)  # noqa: T201  -- into the log of the step
    report = edgetpu_report.read_report(transcript)
    if done.returncode:
        raise ConversionError(
            f"the Edge TPU compiler ended with code {done.returncode}", hint="read what it says in the log"
        )
    report.step_report().write_beside(out)


def identity(options: Mapping[str, Any]) -> dict[str, str]:
    """The compiler's version. Raises `MissingDependencyError` where it is not found, with what to install or to set."""
    where = options["compiler"]
    try:
        done = subprocess.run(
            _shell(where, f"{_command(where)} --version"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_ASK_TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError as error:  # docker or ssh itself
        raise _missing(where, f"{error.filename} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise _missing(where, f"no answer within {_ASK_TIMEOUT_S:g} s") from error
    said = done.stdout + done.stderr
    version = said.partition("Edge TPU Compiler version ")[2].split()
    if not version:
        raise _missing(where, (said.strip().splitlines() or [f"it ended with code {done.returncode}"])[-1])
    return {_COMPILER: version[0]}


def _missing(where: str, why: str) -> MissingDependencyError:
    return MissingDependencyError(f"the Edge TPU compiler ({where}) is not found: {why}", hint=_INSTALL)


def _command(where: str) -> str:
    """How the compiler is called in the shell of `where`."""
    return _COMPILER if where.startswith(("docker:", "ssh:")) else shlex.quote(where)


def _shell(where: str, script: str) -> list[str]:
    """The command that runs a shell script where the compiler is. Raises `ConfigError` where that is no place."""
    kind, colon, name = where.partition(":")
    if not colon or "/" in kind:
        return ["sh", "-c", script]
    if kind not in ("docker", "ssh") or not name or name.startswith("-"):
        raise ConfigError(
            f"converter.options.compiler={where} names no place", hint=f"{_COMPILER}, docker:IMAGE or ssh:HOST"
        )
    if kind == "docker":
        return ["docker", "run", "--rm", "--interactive", "--network=none", "--entrypoint=sh", name, "-c", script]
    options = ["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"]
    return ["ssh", *options, "--", name, f"sh -c {shlex.quote(script)}"]


def _flags(options: Mapping[str, Any]) -> list[str]:
    given = {"--min_runtime_version": options["min_runtime_version"], "--timeout_sec": options["timeout_s"]}
    return [f"{flag} {int(value)}" for flag, value in given.items() if value]
