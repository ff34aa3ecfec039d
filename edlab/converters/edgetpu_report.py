"""Parses the Edge TPU compiler's output: where each operator runs and why, and the memory of the weights.

The format is that of versions 15 and 16, called with `--show_operations`; the transcripts in the tests name their
sources. The compiler is described at https://coral.ai/docs/edgetpu/compiler/.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass

from edlab.artifact import StepReport
from edlab.errors import ConversionError

BANNER = "Edge TPU Compiler version"
_MAPPED = "Mapped to Edge TPU"
_ROW = re.compile(r"^([A-Z][A-Z0-9_]*) +(\d+) +(\S.*?) *$", re.MULTILINE)
_BYTES = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}

# Lines of a failed compilation that do not state a reason.
_NO_REASON = re.compile(
    rf"{BANNER}|Started a compilation timeout timer|Compilation child process completed"
    r"|Compilation failed! *$|Invalid model: |ERROR: Registration failed"
)


@dataclass(frozen=True)
class Operators:
    """The number of operators of one type with the same status."""

    type: str  # TFLite's name: "CONV_2D"
    count: int
    status: str  # the compiler's words: "Mapped to Edge TPU", or why not


@dataclass(frozen=True)
class Report:
    """A successful compilation; sizes in bytes."""

    compiler: str  # its version
    operators_on_edgetpu: int
    operators_on_cpu: int
    subgraphs: int  # parts that the Edge TPU runs; the CPU runs what is between them
    onchip_bytes: int  # of weights that stay on the Edge TPU
    streamed_bytes: int  # of weights that are sent to it for each inference
    operators: tuple[Operators, ...]

    @property
    def mapped_fraction(self) -> float:
        """Share of the model's operators that the Edge TPU runs, 0..1."""
        return self.operators_on_edgetpu / (self.operators_on_edgetpu + self.operators_on_cpu)

    def step_report(self) -> StepReport:
        """The report as it is stored in the record of a run; MB are 10^6 bytes."""
        return StepReport(
            figures={
                "edgetpu_ops_mapped_fraction": self.mapped_fraction,
                "edgetpu_onchip_mb": self.onchip_bytes / 1e6,
                "edgetpu_streamed_mb": self.streamed_bytes / 1e6,
            },
            accelerated_fraction=self.mapped_fraction,
            details=asdict(self),
        )


def read_report(transcript: str) -> Report:
    """Parse what the compiler printed for one model.

    If all operators are mapped it prints only their total. Raises `ConversionError` with the compiler's own reason
    if it did not compile, mapped nothing, or has another output format.
    """
    if BANNER not in transcript:
        raise ConversionError(f"the Edge TPU compiler did not run: {failure(transcript)}", hint="read its log")
    if not re.search(r"^Model compiled successfully in", transcript, re.MULTILINE):
        raise ConversionError(
            f"the Edge TPU compiler refused the model: {failure(transcript)}",
            hint="supported operators: https://coral.ai/docs/edgetpu/models-intro/#supported-operations; if it "
            "timed out, set converter.options.timeout_s=600",
        )
    total = int(_field(transcript, "Total number of operations", r"\d+"))
    stated = re.search(r"^Number of operations that will run on Edge TPU: (\d+)", transcript, re.MULTILINE)
    mapped = int(stated[1]) if stated else total
    report = Report(
        compiler=_field(transcript, BANNER, r"[\d.]+", separator=" "),
        operators_on_edgetpu=mapped,
        operators_on_cpu=total - mapped,
        subgraphs=int(_field(transcript, "Number of Edge TPU subgraphs", r"\d+")),
        onchip_bytes=_size(transcript, "On-chip memory used for caching model parameters"),
        streamed_bytes=_size(transcript, "Off-chip memory used for streaming uncached model parameters"),
        operators=tuple(Operators(name, int(count), status) for name, count, status in _ROW.findall(transcript)),
    )
    _check(report)
    if not report.operators_on_edgetpu:
        raise ConversionError(
            f"the Edge TPU compiler mapped none of the {total} operators: the model would run on the CPU"
            + _first_reason(report),
            hint="supported operators: https://coral.ai/docs/edgetpu/models-intro/#supported-operations",
        )
    return report


def _check(report: Report) -> None:
    """Raise `ConversionError` if the table of operators, which may be cut off, contradicts the totals."""
    on_edgetpu = sum(row.count for row in report.operators if row.status == _MAPPED)
    on_cpu = sum(row.count for row in report.operators) - on_edgetpu
    if on_edgetpu > report.operators_on_edgetpu or on_cpu > report.operators_on_cpu:
        raise _unreadable(
            f"its totals are {report.operators_on_edgetpu} operators on the Edge TPU and {report.operators_on_cpu} on "
            f"the CPU, its table has {on_edgetpu} and {on_cpu}"
        )


def failure(transcript: str) -> str:
    """Why the compiler refused a model, in its own words on one line."""
    lines = [line.strip() for line in transcript.splitlines()]
    reasons = [
        re.sub(r"^(ERROR|Compilation failed): ", "", line) for line in lines if line and not _NO_REASON.match(line)
    ]
    return "; ".join(reasons).rstrip(" !.") or "no reason is given"


def _first_reason(report: Report) -> str:
    refused = [row for row in report.operators if row.status != _MAPPED]
    return f" ({refused[0].type}: {refused[0].status})" if refused else ""


def _field(transcript: str, name: str, value: str, separator: str = ": ") -> str:
    found = re.search(f"^{re.escape(name)}{separator}({value})", transcript, re.MULTILINE)
    if not found:
        raise _unreadable(f"'{name}' is missing")
    return found[1]


def _unreadable(why: str) -> ConversionError:
    return ConversionError(
        f"cannot read the Edge TPU compiler's report: {why}",
        hint="edlab supports the reports of versions 15 and 16: check `edgetpu_compiler --version`",
    )


def _size(transcript: str, name: str) -> int:
    """Bytes of a size that the compiler prints as "6.08MiB"."""
    number, unit = re.split(r"(?<=[\d.])(?=[A-Z])", _field(transcript, name, rf"[\d.]+(?:{'|'.join(_BYTES)})"))
    return round(float(number) * _BYTES[unit])
