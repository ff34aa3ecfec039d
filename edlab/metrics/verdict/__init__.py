"""Whether a run's figures can be defended: from plain facts to VALID, DEGRADED or INVALID with reasons.

docs/metrics.md lists the codes. What is only missing is no reason: a metric that could not be measured is absent and
says why, and a power that was estimated says so in its name. The other figures are as good without it. A sensor that
was read and is not believed is one: something is wrong that can be put right.
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
from edlab.record import Verdict, VerdictState

__all__ = ["Facts", "OutputFacts", "PowerFacts", "judge", "loss_fix", "throttled"]

_RULES = (protocol_rules, stability_rules, throughput_rules, system_rules, output_rules, input_rules, power_rules)


def judge(facts: Facts) -> Verdict:
    """The worst of what the rules find, with every reason; VALID where they find nothing."""
    found = [finding for rules in _RULES for finding in rules(facts)]
    invalid = any(state is VerdictState.invalid for state, _ in found)
    state = VerdictState.invalid if invalid else VerdictState.degraded if found else VerdictState.valid
    return Verdict(state=state, reasons=[reason for _, reason in found])
