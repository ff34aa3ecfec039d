"""The runs of a command line: every combination of the values of its overrides. Nothing is composed here."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hydra.core.override_parser.types import Glob, IntervalSweep, Override

from edlab.composition import as_typed, options, parse
from edlab.errors import ConfigError

_CROSSED = ("device", "converter")


@dataclass(frozen=True)
class Job:
    """One run of a command: its number, from 0, in the order of the command line, and its overrides."""

    number: int
    overrides: tuple[str, ...]
    swept: tuple[str, ...] = ()  # the overrides that differ between runs, except groups


@dataclass(frozen=True)
class Plan:
    """The plan of a command line: for each key, in order, the overrides of which each run has one."""

    choices: dict[str, tuple[str, ...]]
    by_hydra: bool = False  # it has overrides of Hydra itself, whose sweeper then chooses the runs

    def __len__(self) -> int:
        """The number of runs."""
        return math.prod(len(overrides) for overrides in self.choices.values())

    def jobs(self) -> list[Job]:
        """The runs; the values of a later key change faster, as in Hydra."""
        return [self.job(number, combined) for number, combined in enumerate(itertools.product(*self.choices.values()))]

    def job(self, number: int, overrides: Sequence[str]) -> Job:
        """The run with these overrides, which are among the choices."""
        swept = {key for key, values in self.choices.items() if len(values) > 1 and "." in key}
        plain = [override.lstrip("+") for override in overrides]
        return Job(number, tuple(overrides), tuple(each for each in plain if each.partition("=")[0] in swept))

    def samples(self) -> list[tuple[str, ...]]:
        """The overrides of few runs that contain every override, and every device with every converter.

        The first of them is the first run.
        """
        values = list(self.choices.values())
        longest = max(map(len, values), default=1)
        side_by_side = [tuple(each[min(number, len(each) - 1)] for each in values) for number in range(longest)]
        crossed = itertools.product(*(each if key in _CROSSED else each[:1] for key, each in self.choices.items()))
        return list(dict.fromkeys([*side_by_side, *crossed]))

    def around(self, override: str) -> Iterator[tuple[str, ...]]:
        """The overrides of runs with this one: the first of each other key, then other values of one key at a time."""
        own = next(key for key, overrides in self.choices.items() if override in overrides)
        first = {key: overrides[0] for key, overrides in self.choices.items()} | {own: override}
        for key, overrides in self.choices.items():
            if key != own:
                yield from (tuple((first | {key: other}).values()) for other in overrides)


def plan(arguments: Sequence[str], multirun: bool) -> Plan:
    """The plan of these overrides of a command line, without those of Hydra itself; without `multirun`, one run.

    Raises `ConfigError` for one that cannot be read, and for values that cannot be listed.
    """
    parsed = parse(arguments)
    overrides = [override for override in parsed if not override.is_hydra_override()]
    by_hydra = len(overrides) < len(parsed)
    choices: dict[str, tuple[str, ...]] = {}
    for override in overrides:
        if isinstance(override.value(), IntervalSweep) and multirun and not by_hydra:
            raise ConfigError(
                f"'{as_typed(override.input_line)}' is an interval, and the default sweeper needs a list of values",
                hint="list the values, or choose a sweeper that samples intervals with hydra/sweeper=...",
            )
        key = override.get_key_element().lstrip("+")
        choices[key] = _choices(override) if multirun else (override.input_line,)  # if given twice, the last one counts
    return Plan(choices, by_hydra)


def _choices(override: Override) -> tuple[str, ...]:
    """The overrides of a sweep from one override; an interval, which only some sweepers support, yields its start."""
    if not override.is_sweep_override():
        return (override.input_line,)
    key, value = override.get_key_element(), override.value()
    if isinstance(value, Glob):
        names = value.filter(options(key))
        if not names:
            raise ConfigError(
                f"'{as_typed(override.input_line)}' matches nothing", hint=f"valid for {key}: {', '.join(options(key))}"
            )
        return tuple(f"{key}={name}" for name in names)
    if isinstance(value, IntervalSweep):
        return (f"{key}={value.start}",)
    return tuple(f"{key}={choice}" for choice in override.sweep_string_iterator())
