"""Why is it slow, and why did the accuracy drop: `edlab profile` and `edlab explain-accuracy`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from edlab.cache import Cache
from edlab.comparison import compare, names
from edlab.composition import decide
from edlab.config import EdlabConfig
from edlab.engine.again import config_again, run_again
from edlab.errors import ConfigError, UnsupportedError
from edlab.predictions_file import Right
from edlab.record import RunRecord, Status
from edlab.reports.explanation import exclude_override, layers_sheet, trial_sheet
from edlab.reports.profile import profile_of, profile_sheet
from edlab.reports.sheet import Sheet

if TYPE_CHECKING:
    from edlab.stages.explain import Explanation
    from edlab.stages.load import OnProgress

Show = Callable[[Sheet], object]  # prints the result of a command in the form that was requested

_EXCLUDE = "quantization.exclude"
_LEAST_SHARE = 0.01  # of the added noise: a layer with less is not worth a change
_ONCE = {"protocol.profile": True, "protocol.repeats": 1}


def profile(record: RunRecord, overrides: Sequence[str], top: int, console: Console, show: Show) -> int:
    """Show the profile of a run; without one, or with overrides, the run is measured again as a new run.

    The console is for messages. Returns the exit code: 1 if there is none, or if the new run failed. Raises
    `UnsupportedError` before anything is measured if the runtime has no profiler.
    """
    _check_count("--top", top)
    if overrides or not profile_of(record):
        config = config_again(record, overrides, _ONCE)
        _check_profiler(config, record)
        console.print(f"{_named(record)} is measured again, with a profile")
        record = run_again(config, console)
        if record.status is not Status.ok:
            return _ended(record, console)
    console.print(_named(record))
    show(profile_sheet(record, top))
    return 0 if (profile_of(record) or {}).get("rows") else 1


def accuracy(
    record: RunRecord,
    overrides: Sequence[str],
    worst: int,
    console: Console,
    show: Show,
    *,
    try_with: Right | None = None,
) -> int:
    """Show the layers of a quantized run that add most noise, and the override that leaves them in floating point.

    With `try_with`, a new run has that override, and the comparison of both is the result. The console is for messages.
    Returns the exit code: 1 if that run failed. Raises `UnsupportedError` with the reason if the layers cannot be
    compared.
    """
    _check_count("--worst", worst)
    before: list[str] = record.params.get(_EXCLUDE, [])
    config = config_again(record, overrides, {})
    console.print(_named(record))
    with console.status("loading") as status:
        found = _explained(config, lambda phase, fraction, message: status.update(f"{phase} {escape(message)}"))
    if found.sha256 != record.tags.get("artifact_sha256"):
        console.print(
            "this file is not the one of the run: the tools' versions have changed, or the overrides change it"
        )
    layers = layers_sheet(found.layers, worst, found.images)
    if try_with:
        console.print(layers)
    else:
        show(layers)
    if not found.can_exclude:
        raise UnsupportedError(
            f"converter={config.converter.name} cannot leave single layers in floating point",
            hint="set another converter; `edlab converters` lists them",
        )
    least = _LEAST_SHARE * sum(layer.added for layer in found.layers)
    noisy = [layer.name for layer in found.layers if layer.added > least and layer.name not in before]
    noisy = noisy[: min(worst, max(1, sum(layer.product for layer in found.layers) // 2))]
    excluded = [*before, *noisy]
    if not noisy:
        console.print("no layer adds noise")
        return 0
    already = f", with the {len(before)} of this run," if before else ""
    console.print(
        f"\nthe worst {len(noisy)}{already} in floating point (at most half of the products), as an override:"
    )
    console.print(exclude_override(excluded), markup=False, highlight=False, soft_wrap=True)
    if not try_with:
        console.print(f"[dim]`edlab explain-accuracy {record.run_id[:8]} --try` measures that[/]", highlight=False)
        return 0
    after = run_again(config_again(record, overrides, {_EXCLUDE: excluded}), console)
    if after.status is not Status.ok:
        return _ended(after, console)
    both = [record, after]
    show(trial_sheet(compare(both, record, names.compared(both), try_with), len(noisy)))
    return 0


def _check_profiler(config: EdlabConfig, record: RunRecord) -> None:
    """Raise `UnsupportedError` if the runtime of this configuration, a repeat of the record, has no profiler."""
    from edlab.devices import runtimes
    from edlab.stages.deploy import running_device, runtime_of

    if name := runtime_of(config) or record.details.get("runtime", {}).get("runtime", ""):
        runtimes.check_profiler(name, running_device(config.device).options.get(name, {}))


def _explained(config: EdlabConfig, on_progress: OnProgress) -> Explanation:
    """Load the model and the data, and compare the layers."""
    from edlab.stages.explain import explain
    from edlab.stages.load import load

    cache = Cache()
    with tempfile.TemporaryDirectory() as folder, cache.in_use():
        inputs = load(config, cache, Path(folder), on_progress)
        decided = decide(config, inputs.source, len(inputs.data.calibration_pool))
        return explain(decided, inputs, cache, on_progress)


def _named(record: RunRecord) -> str:
    return f"[bold]{escape(record.name)}[/] (run {record.run_id[:8]})"


def _ended(record: RunRecord, console: Console) -> int:
    """Print how to fix a run that failed, whose reason was printed as it ended."""
    if record.hint:
        console.print(f"[cyan]hint:[/]  {escape(record.hint)}", highlight=False)
    return 1


def _check_count(option: str, count: int) -> None:
    if count < 1:
        raise ConfigError(f"{option} {count} is below 1", hint=f"set {option} to 1 or more")
