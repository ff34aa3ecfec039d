"""Rules on the measured machine, and on its other load."""

from __future__ import annotations

from collections.abc import Iterator

from edlab.metrics.verdict.facts import STOP_OTHERS, Facts, Finding, avoid_neighbors, degraded, graded, invalid
from edlab.metrics.verdict.throttling import throttling_rules

_BUSY = 0.10
_MOSTLY_BUSY = 0.50  # other programs took more of the processor than was left for the model
_STOLEN = 0.02
_SLOW_GOVERNORS = ("powersave", "conservative")
# Their "powersave" is the usual policy, which follows the load: Linux, admin-guide/pm/intel_pstate.rst, amd-pstate.rst.
_OWN_GOVERNORS = ("intel_pstate", "amd-pstate-epp")


def system_rules(facts: Facts) -> Iterator[Finding]:
    """The machine, its other load, and its clocks and power modes."""
    if facts.stand_in:
        yield degraded(
            "emulated",
            f"measured on {facts.stand_in} instead of the device: all metrics are emulated_*",
            "measure on the device: set device.execution=native, and device.address for a board",
        )
    yield from throttling_rules(facts)
    yield from _load_rules(facts)
    if facts.power_mode_changed:
        yield invalid(
            "power_mode_changed",
            f"the power mode changed during the measurement: {facts.power_mode_changed}",
            "make sure that no one else uses the board, then run again",
        )
    if facts.governor in _SLOW_GOVERNORS and facts.scaling_driver not in _OWN_GOVERNORS:
        yield degraded(
            "slow_governor",
            f"the clock governor is '{facts.governor}'",
            "set the governor: sudo cpupower frequency-set --governor performance",
        )
    if facts.accelerated_fraction is not None and facts.accelerated_fraction < 1:
        yield degraded(
            "partly_on_cpu",
            f"{1 - facts.accelerated_fraction:.1%} of the operators run on the CPU, not on the accelerator",
            "change or remove these operators: result.json lists them, with the reason for each, in the report of the "
            "artifact's last step",
        )


def _load_rules(facts: Facts) -> Iterator[Finding]:
    """Only the worst phase is reported: one name and one number are clearer than four."""
    busy = facts.busy_shares
    others = {name: activity.others for name, activity in facts.timed_shares.items() if activity.others is not None}
    if others and others[worst := max(others, key=others.__getitem__)] > _BUSY:
        yield graded(
            "background_load",
            f"other programs took {others[worst]:.0%} of the cores in the {worst} phase",
            STOP_OTHERS,
            severe=facts.on_cpu and any((activity.others or 0) > _MOSTLY_BUSY for activity in busy.values()),
        )
    stolen = {name: activity.stolen for name, activity in busy.items() if activity.stolen is not None}
    if stolen and stolen[worst := max(stolen, key=stolen.__getitem__)] > _STOLEN:
        yield degraded(
            "cpu_stolen",
            f"the hypervisor stole {stolen[worst]:.1%} of the CPU in the {worst} phase",
            avoid_neighbors(facts),
        )
