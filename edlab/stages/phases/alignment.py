"""Alignment: a load pattern, by which the readings of a meter with an unknown clock are aligned with the phases."""

from __future__ import annotations

from typing import NamedTuple

from edlab import power
from edlab.agent import messages
from edlab.agent.messages import Activity
from edlab.metrics import Figures
from edlab.power import Series, Source
from edlab.source import Reason
from edlab.stages.phases.base import Bench, Phase
from edlab.stages.phases.queries import run_queries

_STEP_S = 1.5  # of the pattern


class PatternReport(NamedTuple):
    """The load that was played: the spans with inference, (start, end) in ns of the agent's clock.

    The report's own span is longer, since the readings' times may be wrong.
    """

    start_ns: int
    end_ns: int
    on: list[tuple[int, int]]
    activity: Activity


class Alignment(Phase[PatternReport]):
    """Plays the pattern before the other phases, and corrects the times of the source's readings."""

    name = "alignment"
    samples_file = "alignment_samples.csv"

    def applies(self, bench: Bench) -> bool:
        return bench.source is not None and bench.source.search_s is not None

    def run(self, bench: Bench) -> PatternReport:
        on: list[tuple[int, int]] = []
        for number, loaded in enumerate(power.PATTERN):
            bench.on_progress(self.name, number / len(power.PATTERN), "load pattern")
            if loaded:
                report = run_queries(bench, _STEP_S)
                on.append((report.start_ns, report.end_ns))
            else:
                bench.session.measure(messages.IDLE, messages.Idle(_STEP_S))
        search_s = bench.source.search_s if bench.source else None
        late = bench.session.measure(messages.IDLE, messages.Idle(_STEP_S + bench.lag_s + (search_s or 0.0)))
        margin_ns = late.end_ns - late.start_ns
        return PatternReport(on[0][0] - margin_ns, on[-1][1] + margin_ns, on, late.activity)

    def figures(self, bench: Bench, report: PatternReport, series: Series | None) -> Figures:
        """A doubt if the pattern is not found in the readings: then the source is not used."""
        assert bench.source is not None
        assert series is not None
        found = _found(bench.source, series, report)
        if isinstance(found, Reason):
            bench.measurement.power = power.Estimate(f"{found.code}: {found.message}")
            return Figures(doubts=(found,))
        bench.source.shift(found)
        return Figures()


class FinalAlignment(Alignment):
    """Plays the pattern again, after the other phases: the meter's clock may have drifted."""

    name = "final_alignment"
    samples_file = "final_alignment_samples.csv"

    def figures(self, bench: Bench, report: PatternReport, series: Series | None) -> Figures:
        """A doubt if the pattern is not found, or if the times moved by more than the alignment is uncertain."""
        assert bench.source is not None
        assert series is not None
        found = _found(bench.source, series, report)
        if isinstance(found, Reason):
            return Figures(doubts=(found,))
        if abs(found.shift_ns) <= 2 * found.error_ns:
            return Figures()
        moved = Reason(
            code="power_clock_drift",
            message=f"the clock of {bench.source.name} moved by {found.shift_ns / 1e9:+.2f} s during the measurement",
            advice="measure for a shorter time, or let the instrument's clock follow this machine's (NTP)",
        )
        return Figures(doubts=(moved,))


def _found(source: Source, series: Series, report: PatternReport) -> power.Alignment | Reason:
    """The alignment, or why there is none."""
    assert source.search_s is not None
    try:
        return power.align(series.t_ns, series.watts, report.on, source.search_s)
    except ValueError as error:
        return Reason(
            code="power_unaligned",
            message=f"the readings of {source.name} cannot be aligned with the measurement: {error}",
            advice="check that it measures the device and that it is logging; raise meter.options.flush_s if its "
            "program writes rows later than that",
        )
