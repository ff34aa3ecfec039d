"""What a verdict rests on, and what a rule finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edlab.agent.messages import Activity
from edlab.metrics.stability import Stability
from edlab.record import VerdictState
from edlab.source import Reason

Finding = tuple[VerdictState, Reason]

_LEAST_SHARE_S = 1.0  # /proc/stat counts in ticks of 10 ms


@dataclass(frozen=True)
class OutputFacts:
    """What came out of the model, and what is known of how it was computed. Shares are 0..1."""

    precision: str = "fp32"
    converted: bool = True  # False where the source file itself runs
    drop_ci95: tuple[float, float] | None = None
    max_drop: float = 0.01  # what a conversion may cost
    scored_images: int = 0
    doubts: tuple[Reason, ...] = ()  # what the task finds: outputs unlike the source's, labels that do not fit
    nan_images: int = 0
    int8_kernels: str | None = None  # of what ran: edlab.agent.int8; None where nothing ran in int8
    arithmetic: str = ""  # which kernels those are
    fast_kernels: str | None = None  # of the runtime's own int8 kernels, whether they ran or not
    in_float: bool = False  # an int8 file was computed in floating point
    runtime: str = ""


@dataclass(frozen=True)
class PowerFacts:
    """What puts the power figures in doubt."""

    doubts: tuple[Reason, ...] = ()  # of the sensor's readings: `edlab.metrics.power`
    stand_in: str = ""  # the folder of files that was read in place of the hardware's


@dataclass(frozen=True)
class Facts:
    """All of a run that the rules judge; None where a target does not say. Shares are 0..1."""

    tier: str  # the protocol's name
    stand_in: str = ""  # what ran in the device's place
    weakened: tuple[str, ...] = ()  # settings that were set below what the tier of this name asks for
    truncated: tuple[str, ...] = ()  # phases that hit their hard limit before their minima
    warmup_settled: bool = True
    latency_ms: float | None = None
    latency_interval_ms: tuple[float, float] | None = None  # 95 %
    stability: Stability | None = None
    max_interval: float = 0.05  # of the latency's mean: how wide its interval may be
    throughput_ips: float | None = None
    search_unfinished: bool = False  # settings were left to try when its time was over
    driver_limit_ips: float | None = None  # what the driving loop itself can do at that setting; None: far above
    activities: Mapping[str, Activity] = field(default_factory=dict)  # of each phase that watched the machine
    virtual_machine: bool = False
    repeats: int = 1  # fresh processes that the timed phases ran in
    governor: str | None = None
    scaling_driver: str | None = None
    on_cpu: bool = True  # the model runs on the processor whose clocks and thermal events are watched
    sustained_ratio: float | None = None  # of the last five minutes of a long throughput window to its fastest five
    power_mode_changed: str = ""  # what of the target's power mode changed while it was measured
    trained: bool = True
    accelerated_fraction: float | None = None  # of the model's operators; the others run on the CPU
    real_inputs: bool = True  # photographs or the like, not noise that stands in for them
    images_skipped: int = 0
    assumed_preprocessing: tuple[str, ...] = ()  # keys that neither the model nor the user states
    stated: tuple[Reason, ...] = ()  # what the model and the data set themselves put in doubt
    outputs: OutputFacts = OutputFacts()
    power: PowerFacts = PowerFacts()

    @property
    def cpu_shares(self) -> Mapping[str, Activity]:
        """The activities of phases long enough for the kernel's ticks to give shares of CPU time."""
        return {name: activity for name, activity in self.activities.items() if activity.seconds >= _LEAST_SHARE_S}


def degraded(code: str, message: str, advice: str) -> Finding:
    """A reason that makes a run DEGRADED at least."""
    return VerdictState.degraded, Reason(code=code, message=message, advice=advice)


def invalid(code: str, message: str, advice: str) -> Finding:
    """A reason that makes a run INVALID."""
    return VerdictState.invalid, Reason(code=code, message=message, advice=advice)


def steadier(facts: Facts) -> str:
    """What makes latency steadier, as far as it can be done on that machine: one advice for all that disturbs it.

    A virtual machine has neighbours that nobody here can stop, and clocks that are not its own.
    """
    repeats = "protocol.repeats=5 sweep.order=random" if facts.repeats == 1 else "more repeats (protocol.repeats)"
    stolen = any(activity.stolen for activity in facts.cpu_shares.values())
    if facts.virtual_machine or stolen:
        return f"this is a virtual machine, and other machines on its host disturb it: to compare rows use {repeats}"
    return f"stop other programs on the target, lock its clocks and improve its cooling, or compare rows with {repeats}"
