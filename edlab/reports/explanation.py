"""Where quantization hurts, and what it costs to leave the worst layers in floating point."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from edlab.comparison import Compared, Comparison
from edlab.metrics import catalogue
from edlab.metrics.layer_noise import LayerNoise
from edlab.record import VerdictState
from edlab.reports.comparison import change_text, comparison_sheet
from edlab.reports.sheet import Cell, Heading, Note, Sheet


def layers_sheet(layers: Sequence[LayerNoise], worst: int, images: int) -> Sheet:
    """The layers that add most noise."""
    total = sum(layer.added for layer in layers)
    headings = [
        *(Heading(text, is_number=True) for text in ("SQNR\ndB", "at\ninput", "added\nnoise", "share")),
        Heading("operator", is_spare=True),
        Heading("layer", folds=True),
    ]
    cells: list[list[Cell] | str] = [
        [
            Cell(_decibels(layer.sqnr_db)),
            Cell(_decibels(layer.input_sqnr_db)),
            Cell(f"{100 * layer.added:.2g} %"),
            Cell(f"{layer.added / total:.0%}" if total else ""),
            Cell(layer.operator),
            Cell(layer.module or layer.name),
        ]
        for layer in layers[:worst]
    ]
    title = f"the {min(worst, len(layers))} of {len(layers)} layers that add most noise, on {images} images"
    notes = [
        "SQNR: signal to quantization noise at a layer's output, against the float32 graph; it includes the noise of "
        "the layers before",
        "added noise: noise power / signal power at the output, minus that at the input",
    ]
    return Sheet(headings, cells, [layer._asdict() for layer in layers[:worst]], title, list(map(Note, notes)))


def _decibels(value: float | None) -> str:
    return "no noise" if value is None else f"{value:.1f}"


def exclude_override(names: Sequence[str]) -> str:
    """The override that leaves these layers in floating point, quoted for a shell."""
    listed = ",".join("'" + name.replace("'", "\\'") + "'" for name in names)
    override = f"quantization.exclude=[{listed}]"
    return shlex.quote(override) if set(override) & set('"$`\\!') else f'"{override}"'


def trial_sheet(comparison: Comparison, excluded: int) -> Sheet:
    """A run, and one with `excluded` more layers in floating point: the accuracy regained and the latency paid."""
    (trial,) = (row for row in comparison.rows if row.run.uuid != comparison.baseline.uuid)
    (accuracy, *_) = (name for name in comparison.metrics if name in catalogue.accuracies())
    sheet = comparison_sheet({"": comparison})
    sheet.title = f"{excluded} more layers in floating point"
    sheet.notes[:0] = [
        Note(f"accuracy regained: {_changed(comparison, trial, accuracy)}"),
        Note(f"latency paid: {_changed(comparison, trial, 'latency_ms')}"),
    ]
    return sheet


def _changed(comparison: Comparison, trial: Compared, name: str) -> str:
    """A change with half its 95 % interval; or why there is none."""
    is_accuracy = name in catalogue.accuracies()
    verdicts = {row.run.verdict.state for row in comparison.rows if row.run.verdict}
    if VerdictState.invalid in verdicts and not is_accuracy:
        return "unknown, because a run is INVALID: `edlab show RUN` states why"
    if change := trial.changes.get(name):
        return change_text(name, change) + (" points" if is_accuracy else "")
    obstacle = trial.obstacle(name)
    return f"not compared, because {obstacle.message}" if obstacle else f"unknown, because a run has no {name}"
