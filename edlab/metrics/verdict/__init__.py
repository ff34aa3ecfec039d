"""Whether a run's metrics are reliable: from plain facts to VALID, DEGRADED or INVALID with reasons.

docs/metrics.md lists the codes. A missing metric is not a reason: a metric that could not be measured is missing with
its cause, and estimated power has another name. The other metrics are as good without it. Implausible readings of a
sensor are a reason: something is wrong and can be fixed.
"""

from __future__ import annotations

from edlab.metrics.verdict.facts import Facts, OutputFacts, PowerFacts
from edlab.metrics.verdict.inputs import input_rules
from edlab.metrics.verdict.outputs import loss_fix, output_rules
from edlab.metrics.verdict.power import power_rules
from edlab.metrics.verdict.system import system_rules
from edlab.metrics.verdict.throttling import throttled
from edlab.metrics.verdict.throughput import throughput_rules
from edlab.metrics.verdict.timing import protocol_rules, stability_rules
from edlab.record import Reason, Verdict, VerdictState

__all__ = ["Facts", "OutputFacts", "PowerFacts", "judge", "loss_fix", "throttled"]

_RULES = (protocol_rules, stability_rules, throughput_rules, system_rules, output_rules, input_rules, power_rules)


def judge(facts: Facts) -> Verdict:
    """The worst state that the rules find, with every reason; VALID if they find nothing."""
    found = [finding for rules in _RULES for finding in rules(facts)]
    invalid = any(state is VerdictState.invalid for state, _ in found)
    state = VerdictState.invalid if invalid else VerdictState.degraded if found else VerdictState.valid
    return Verdict(state=state, reasons=[_stated(*finding) for finding in found])


def _stated(state: VerdictState, reason: Reason) -> Reason:
    """The reason, with what it makes of the run."""
    return reason.model_copy(update={"invalid": state is VerdictState.invalid})
