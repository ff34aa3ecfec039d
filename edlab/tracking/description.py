"""The descriptions that MLflow's pages show, in Markdown: of the experiment, and of one run."""

from __future__ import annotations

from collections.abc import Iterator

from edlab.metrics import catalogue
from edlab.record import RunRecord, Status, VerdictState
from edlab.wording import escape_markdown

_MARKS = {VerdictState.valid: "", VerdictState.degraded: "⚠ ", VerdictState.invalid: "✗ "}
_SKIPPED = "– "
_MEANING = {
    VerdictState.valid: "the figures are reliable",
    VerdictState.degraded: "use the figures with the reservations below",
    VerdictState.invalid: "do not use the figures",
}
_ORIGINS = {"": "", "estimated_": " (estimated, not measured)", "emulated_": " (on a stand-in for the device)"}

EXPERIMENT = f"""\
Benchmarks of deep learning models on edge accelerators, recorded by **edlab**.

- **A sweep is a parent run.** Its description names the best row by each metric; its artifacts are the table and
  charts. Its child runs are the rows: model, quantization, converter and device. A command with one row has no parent.
- **Marks in front of a name:** `{_MARKS[VerdictState.invalid].strip()}` the verdict is INVALID: do not use the figures;
  `{_MARKS[VerdictState.degraded].strip()}` DEGRADED: see the reasons in the run's description;
  `{_SKIPPED.strip()}` skipped: the combination is unsupported. No mark: VALID, or the status states how it ended.
- **Six metrics of every run:** `accuracy_top1` (or `accuracy_map`), `latency_ms`, `throughput_ips`, `flops_per_s`,
  `power_w`, `efficiency_ips_per_w`. Units are in the names. `estimated_…` was not measured; `emulated_…` was measured
  on a stand-in for the device. If one is missing, the tag `edlab.missing.NAME` states why.
- **Filter** with tags, for example ``tags.`edlab.verdict` = 'VALID'`` or ``tags.`edlab.sweep_id` = '…'``.
- `edlab ui` opens the latest sweep; `edlab show RUN` has all details; `edlab pull RUN` copies the converted model.
"""


def mark(record: RunRecord) -> str:
    """What stands before a run's name in MLflow, where each run that ended has the same green tick."""
    if record.status is Status.skipped:
        return _SKIPPED
    return _MARKS[record.verdict.state] if record.verdict else ""


def without_mark(name: str) -> str:
    """A run's own name."""
    for prefix in (*_MARKS.values(), _SKIPPED):
        if prefix and name.startswith(prefix):
            return name.removeprefix(prefix)
    return name


def of_run(record: RunRecord) -> str:
    """How the run ended, its six metrics, what they are worth, and how to get its model."""
    return "\n\n".join(_parts(record)) + "\n"


def _parts(record: RunRecord) -> Iterator[str]:
    if record.status is not Status.ok:
        where = f" at {record.stage}" if record.stage else ""
        reason, hint = escape_markdown(record.reason), _one_line(record.hint)
        yield f"**{record.status.upper()}{where}**: {reason}" + (f"\n\n{hint}" if hint else "")
    elif record.verdict:
        codes = ", ".join(
            f"`{each.code}`" for each in sorted(record.verdict.reasons, key=lambda each: not each.invalid)
        )
        yield f"**{record.verdict.state}**: {_MEANING[record.verdict.state]}." + (f" {codes}" if codes else "")
    if rows := list(_metrics(record)):
        yield "\n".join(["| metric | value |", "|---|---|", *rows])
    if record.verdict and record.status is Status.ok:
        if reasons := record.verdict.reasons:
            yield "\n".join(
                f"- `{each.code}`{' (INVALID)' if each.invalid else ''}: {escape_markdown(each.message)}"
                for each in reasons
            )
            advice = dict.fromkeys(_one_line(each.advice) for each in reasons)
            yield "\n".join(["What to do:", "", *(f"- {each}" for each in advice)])
        yield "Accuracy and latency were measured on the device at batch 1, throughput at the best batch found."
    run = record.run_id[:8]
    if "artifact_sha256" in record.tags:
        yield f"Copy the model: `edlab pull {run}`. All details: `edlab show {run}`, or `result.json` in the artifacts."
    else:
        yield f"All details: `edlab show {run}`, or `result.json` in the artifacts."


def _one_line(text: str) -> str:
    """An advice, whose commands are in backticks."""
    return " ".join(text.split())


def _metrics(record: RunRecord) -> Iterator[str]:
    """The rows of a table of the six metrics; a missing one with its reason."""
    columns = catalogue.columns()
    for name in headlines(record):
        column = columns[name]
        for prefix, origin in _ORIGINS.items():
            if (value := record.metrics.get(prefix + name)) is not None:
                yield f"| `{prefix}{name}` ({column.title}) | {column.write(value)}{origin} |"
                break
        else:
            if reason := record.missing.get(name):
                yield f"| `{name}` ({column.title}) | missing: {escape_markdown(reason)} |"


def headlines(record: RunRecord) -> tuple[str, ...]:
    """The six metrics of this run's task, in order."""
    recorded = {*record.metrics, *record.missing}
    found = (name for name in catalogue.accuracies() if any(prefix + name in recorded for prefix in _ORIGINS))
    return catalogue.headlines(next(found, "accuracy_top1"))
