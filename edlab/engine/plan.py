"""The runs that a command line names: every combination of the values of its overrides. Nothing is composed here."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hydra.core.override_parser.types import Glob, IntervalSweep, Override

from edlab.composition import options, parse
from edlab.errors import ConfigError

_CROSSED = ("device", "converter")


@dataclass(frozen=True)
class Job:
    """One run of a command: its number, from 0, in the order of the command line, and its overrides."""

    number: int
    overrides: tuple[str, ...]
    swept: tuple[str, ...] = ()  # those of them that other runs have otherwise, groups aside


@dataclass(frozen=True)
class Plan:
    """What a command line names: of each key, in its order, the overrides that its runs have one of."""

    choices: dict[str, tuple[str, ...]]
    by_hydra: bool = False  # it has overrides of Hydra itself, whose sweeper then decides on the runs

    def __len__(self) -> int:
        """How many runs there are."""
        return math.prod(len(overrides) for overrides in self.choices.values())

    def jobs(self) -> list[Job]:
        """The runs; of the values of two keys those of the later one change faster, as Hydra has it."""
        return [self.job(number, combined) for number, combined in enumerate(itertools.product(*self.choices.values()))]

    def job(self, number: int, overrides: Sequence[str]) -> Job:
        """The run of these overrides, which are among the choices."""
        swept = {key for key, values in self.choices.items() if len(values) > 1 and "." in key}
        plain = [override.lstrip("+") for override in overrides]
        return Job(number, tuple(overrides), tuple(each for each in plain if each.partition("=")[0] in swept))

    def samples(self) -> list[tuple[str, ...]]:
        """The overrides of as few of the runs as have every override, and every device with every converter.

        The first run is the first of them.
        """
        values = list(self.choices.values())
        longest = max(map(len, values), default=1)
        abreast = [tuple(each[min(number, len(each) - 1)] for each in values) for number in range(longest)]
        crossed = itertools.product(*(each if key in _CROSSED else each[:1] for key, each in self.choices.items()))
        return list(dict.fromkeys([*abreast, *crossed]))

    def around(self, override: str) -> Iterator[tuple[str, ...]]:
        """The overrides of runs that have this one: the first of each other key, and one of them otherwise."""
        own = next(key for key, overrides in self.choices.items() if override in overrides)
        first = {key: overrides[0] for key, overrides in self.choices.items()} | {own: override}
        for key, overrides in self.choices.items():
            if key != own:
                yield from (tuple((first | {key: other}).values()) for other in overrides)


def plan(arguments: Sequence[str], multirun: bool) -> Plan:
    """What these overrides of a command line name, those of Hydra itself aside; without `multirun` one run.

    Raises `ConfigError` for one that cannot be read, and for values that cannot be listed.
    """
    parsed = parse(arguments)
    overrides = [override for override in parsed if not override.is_hydra_override()]
    by_hydra = len(overrides) < len(parsed)
    choices: dict[str, tuple[str, ...]] = {}
    for override in overrides:
        if isinstance(override.value(), IntervalSweep) and multirun and not by_hydra:
            raise ConfigError(
                f"'{override.input_line}' is an interval, and the default sweeper needs a list of values",
                hint="list the values, or choose a sweeper that samples intervals with hydra/sweeper=...",
            )
        key = override.get_key_element().lstrip("+")
        choices[key] = _choices(override) if multirun else (override.input_line,)  # given twice, the last counts
    return Plan(choices, by_hydra)


def _choices(override: Override) -> tuple[str, ...]:
    """The overrides that a sweep makes of one; an interval, which only some sweepers take, gives its start."""
    if not override.is_sweep_override():
        return (override.input_line,)
    key, value = override.get_key_element(), override.value()
    if isinstance(value, Glob):
        names = value.filter(options(key))
        if not names:
            raise ConfigError(
                f"'{override.input_line}' matches nothing", hint=f"valid for {key}: {', '.join(options(key))}"
            )
        return tuple(f"{key}={name}" for name in names)
    if isinstance(value, IntervalSweep):
        return (f"{key}={value.start}",)
    return tuple(f"{key}={choice}" for choice in override.sweep_string_iterator())
