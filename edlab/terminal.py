"""The output while runs are in progress: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from edlab.errors import EdlabError
from edlab.metrics import catalogue
from edlab.record import RunRecord, Status, VerdictState

T = TypeVar("T")

_LINE_S = 10.0  # between two lines of progress without a terminal
_MARKS = {
    Status.running: "[cyan]…[/]",
    Status.ok: "[green]✓[/]",
    Status.failed: "[red]✗[/]",
    Status.skipped: "[yellow]–[/]",
    Status.interrupted: "[yellow]![/]",
}


_WIDE = 1000  # columns of a file or a pipe, so that nothing is wrapped that another program reads


class PatientConsole(Console):
    """A console whose reader may go away: `edlab run | head` continues to measure, and prints no more.

    Lines are wrapped for a terminal only, or to COLUMNS.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if not self.is_terminal and "COLUMNS" not in os.environ:
            self.width = _WIDE

    def on_broken_pipe(self) -> None:
        """Stop printing; rich's default ends the program, and would leave a run half recorded."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_error(console: Console, error: EdlabError) -> None:
    """Print one error: what failed, and how to fix it."""
    console.print(f"[red]error:[/] {escape(error.message)}", highlight=False)
    if error.hint:
        console.print(f"[cyan]hint:[/]  {escape(error.hint)}", highlight=False)


def counted(count: int, noun: str) -> str:
    """A number with its noun: "1 run is", "3 runs are"."""
    return f"{count} {noun} is" if count == 1 else f"{count} {noun}s are"


def tracked(items: Sequence[T], doing: str, console: Console) -> Iterator[T]:
    """The items, with progress: a bar on a terminal, elsewhere a line every ten seconds."""
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), TimeRemainingColumn())
    printed = time.monotonic()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        for number, item in enumerate(progress.track(items, description=doing)):
            if not console.is_terminal and time.monotonic() - printed > _LINE_S:
                printed = time.monotonic()
                console.print(f"{doing}: {number} of {len(items)}", highlight=False)
            yield item


class RunDisplay:
    """The progress of one run; call it with (phase, fraction 0..1 or None, message)."""

    def __init__(self, console: Console, title: str, *, number: int, total: int | None, sweep_started: float) -> None:
        self._console = console
        self._title = title
        self._count = f"{number}/{total}" if total else str(number)
        self._remaining = _remaining(number, total, sweep_started)
        self._phase = ("", "")
        self._task: TaskID | None = None
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[message]}"),
            TimeElapsedColumn(),
            TextColumn("eta"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> RunDisplay:
        note = f"  [dim]({self._remaining} left)[/]" if self._remaining else ""
        self._console.print(f"[bold]\\[{self._count}][/] {escape(self._title)}{note}", highlight=False)
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._progress.stop()

    def __call__(self, phase: str, fraction: float | None = None, message: str = "") -> None:
        step = message if fraction is None else ""  # a phase of unknown length names its current step
        if phase != self._phase[0] or step not in ("", self._phase[1]):
            self._phase = (phase, step)
            self._start_phase(phase, step)
        if self._task is not None:
            total = None if fraction is None else 1.0
            self._progress.update(self._task, completed=fraction or 0.0, total=total, message=escape(message))

    def _start_phase(self, phase: str, step: str) -> None:
        if not self._console.is_terminal:
            self._console.print(f"      {phase} {escape(step)}".rstrip(), highlight=False)
            return
        if self._task is not None:
            ended, self._task = self._task, None  # Ctrl-C may arrive before there is a new one
            self._progress.remove_task(ended)
        self._task = self._progress.add_task(f"      {phase}", total=None, message=step)

    def warn(self, message: str) -> None:
        """Print a line that stays; the run continues."""
        self._console.print(f"      [yellow]![/] {escape(message)}", highlight=False)

    def ended(self, record: RunRecord) -> None:
        """Print one line for the finished run."""
        self._progress.stop()
        self._console.print(f"      {_mark(record)} {escape(_summary(record))}", highlight=False)


def _mark(record: RunRecord) -> str:
    invalid = record.verdict is not None and record.verdict.state is VerdictState.invalid
    return "[red]![/]" if invalid else _MARKS[record.status]


def _summary(record: RunRecord) -> str:
    if record.status is not Status.ok:
        reason = f": {record.reason}" if record.status is not Status.interrupted else ""
        where = f" at {record.stage}{reason}" if record.stage else ""
        return f"{record.status}{where} (run {record.run_id[:8]})"
    prefix, mark = ("emulated_", "≈") if "stand_in" in record.tags else ("", "")
    parts = [
        f"{column.label} {mark}{column.write(record.metrics[prefix + name])}{column.unit}"
        for name, column in catalogue.columns().items()
        if column.label and prefix + name in record.metrics
    ]
    verdict = [str(record.verdict.state)] if record.verdict else []
    scored = any(prefix + name in record.metrics for name in catalogue.accuracies())
    reasons = [record.missing[name] for name in catalogue.accuracies() if name in record.missing]
    accuracy = [] if scored else [f"no accuracy: {reasons[0]}"]
    ending = [f"{sum(record.seconds.values()):.0f} s", f"run {record.run_id[:8]}"]
    return ", ".join(parts + verdict + ending + accuracy)


def _remaining(number: int, total: int | None, sweep_started: float) -> str:
    """The estimated time for the rest of a sweep; empty for the first run."""
    if not total or number < 2:
        return ""
    seconds = (time.time() - sweep_started) / (number - 1) * (total - number + 1)
    return f"about {seconds / 60:.0f} min" if seconds >= 90 else f"about {seconds:.0f} s"
