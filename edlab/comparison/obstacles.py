"""What makes metrics of two runs incomparable, each with a code; the other metrics are still compared."""

from __future__ import annotations

from typing import NamedTuple

from edlab.comparison.estimates import EMULATED
from edlab.metrics.catalogue import Section
from edlab.record import RunRecord, as_text

#: The metrics that depend on the machine and its load.
SPEED = (Section.latency, Section.throughput, Section.power)

_MACHINE = ("board", "cpu", "gpu")  # tags

#: Settings of the protocol that do not change what a metric means.
_HARMLESS = {
    "protocol.name",
    "protocol.repeats",
    "protocol.decompose_drop",
    "protocol.max_accuracy_drop",
    "protocol.profile",
}


class Obstacle(NamedTuple):
    """Why metrics of these sections are not compared."""

    code: str
    message: str
    sections: tuple[Section, ...]


def obstacles(run: RunRecord, baseline: RunRecord) -> list[Obstacle]:
    """All of them, of a run against its baseline."""
    found = [
        _tags("other_task", "the tasks differ", "task", (Section.accuracy,), run, baseline),
        _tags(
            "other_data",
            "they were scored on other images or labels",
            "scored_digest",
            (Section.accuracy,),
            run,
            baseline,
        ),
        _tags("other_boundary", "the watts include different parts", "power_boundary", (Section.power,), run, baseline),
        _protocol(run, baseline),
        _stand_in(run, baseline),
        _target(run, baseline),
    ]
    return [each for each in found if each]


def _tags(
    code: str, message: str, tag: str, sections: tuple[Section, ...], run: RunRecord, baseline: RunRecord
) -> Obstacle | None:
    """An obstacle if both have this tag, with different values."""
    values = run.tags.get(tag), baseline.tags.get(tag)
    if None in values or values[0] == values[1]:
        return None
    return Obstacle(code, f"{message} ({values[0]} and {values[1]})", sections)


def _protocol(run: RunRecord, baseline: RunRecord) -> Obstacle | None:
    keys = {key for record in (run, baseline) for key in record.params if key.startswith("protocol.")} - _HARMLESS
    values = {key: [as_text(record.params.get(key)) for record in (run, baseline)] for key in sorted(keys)}
    differing = [f"{key} {one} and {other}" for key, (one, other) in values.items() if one != other]
    if not differing:
        return None
    names = [as_text(record.params.get("protocol.name")) for record in (run, baseline)]
    what = ", ".join(differing) if names[0] == names[1] else " and ".join(names)
    return Obstacle("other_protocol", f"the protocols differ ({what})", SPEED)


def _stand_in(run: RunRecord, baseline: RunRecord) -> Obstacle | None:
    """One was measured on the device, the other on a stand-in for it, or on another stand-in."""
    places = [record.tags.get("stand_in", "the device") for record in (run, baseline)]
    emulated = [any(name.startswith(EMULATED) for name in record.metrics) for record in (run, baseline)]
    if not any(emulated) or (all(emulated) and places[0] == places[1]):
        return None
    return Obstacle("stand_in", f"measured on {places[0]} and on {places[1]}", SPEED)


def _target(run: RunRecord, baseline: RunRecord) -> Obstacle | None:
    """The same device by its name, but another machine."""
    one, other = machine(run), machine(baseline)
    same_name = run.params.get("device.name") == baseline.params.get("device.name")
    if not same_name or one == other or not (one and other):
        return None
    return Obstacle("other_machine", f"two machines have the same device name ({one} and {other})", SPEED)


def machine(record: RunRecord) -> str:
    """The board, the CPU and the GPU that a run was measured on, as far as they are known."""
    return ", ".join(filter(None, map(record.tags.get, _MACHINE)))
