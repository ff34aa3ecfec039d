"""The facts for a verdict, and the findings of a rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edlab.agent.messages import Activity
from edlab.metrics.stability import Stability
from edlab.record import VerdictState
from edlab.source import Reason

Finding = tuple[VerdictState, Reason]

_LOADED = 0.05  # other programs that took this share of the cores' time are the first thing to stop
STOP_OTHERS = "stop other programs on the target"

_NOTABLE = 0.01  # load of this share of the cores' time is named as a likely cause
_CLOCKS = 0.05  # and clocks that differ by this

_UNTIMED = "accuracy"  # what runs during this phase changes none of its metrics
_LEAST_SHARE_S = 1.0  # /proc/stat counts in ticks of 10 ms


@dataclass(frozen=True)
class OutputFacts:
    """The outputs of the model, and how they were computed. Shares are 0..1."""

    precision: str = "fp32"
    converted: bool = True  # False if the source file itself runs
    drop_ci95: tuple[float, float] | None = None
    max_drop: float = 0.01  # the allowed accuracy drop of a conversion
    scored_images: int = 0
    calibration_images: int | None = None  # from which the ranges of an int8 file were computed
    calibration_pool: int = 0  # images that the data set provides for it
    doubts: tuple[Reason, ...] = ()  # of the task: outputs that differ from the source's, labels that do not match
    nan_images: int = 0
    int8_kernels: str | None = None  # of the kernels that ran: edlab.agent.int8; None if nothing ran in int8
    arithmetic: str = ""  # which kernels those are
    fast_kernels: str | None = None  # of the runtime's default int8 kernels, whether they ran or not
    in_float: bool = False  # an int8 file was computed in floating point
    runtime: str = ""


@dataclass(frozen=True)
class PowerFacts:
    """Why the power metrics are doubtful."""

    doubts: tuple[Reason, ...] = ()  # about the sensor's readings: `edlab.metrics.power`
    stand_in: str = ""  # the folder of files that was read instead of the hardware


@dataclass(frozen=True)
class Facts:
    """All facts of a run for the rules; None if a target does not report it. Shares are 0..1."""

    tier: str  # the protocol's name
    stand_in: str = ""  # what ran instead of the device
    weaker_settings: tuple[str, ...] = ()  # settings that are weaker than the tier of this name
    truncated: tuple[str, ...] = ()  # phases that reached their time limit before their minima
    warmup_settled: bool = True
    latency_ms: float | None = None
    latency_interval_ms: tuple[float, float] | None = None  # 95 %
    stability: Stability | None = None
    max_interval: float = 0.05  # maximum width of the latency's interval, as a fraction of the mean
    throughput_ips: float | None = None
    throughput_interval_ips: tuple[float, float] | None = None  # 95 %
    searched_ips: float | None = None  # in the search, at the setting that was then measured
    search_unfinished: bool = False  # untried settings were left at its time limit
    driver_limit_ips: float | None = None  # the limit of the driving loop itself at that setting; None: far above
    activities: Mapping[str, Activity] = field(default_factory=dict)  # of each phase that observed the machine
    virtual_machine: bool = False
    repeats: int = 1  # number of new processes in which the timed phases ran
    governor: str | None = None
    scaling_driver: str | None = None
    on_cpu: bool = True  # the model runs on the processor whose clocks and thermal events are monitored
    sustained_ratio: float | None = None  # rate of the last five minutes of a long throughput window / its fastest five
    power_mode_changed: str = ""  # changes of the target's power mode during the measurement
    trained: bool = True
    accelerated_fraction: float | None = None  # of the model's operators; the others run on the CPU
    real_inputs: bool = True  # real images or samples, not noise
    images_skipped: int = 0
    assumed_preprocessing: tuple[str, ...] = ()  # keys that neither the model nor the user states
    stated: tuple[Reason, ...] = ()  # doubts about the model and the data set themselves
    outputs: OutputFacts = OutputFacts()
    power: PowerFacts = PowerFacts()

    @property
    def cpu_shares(self) -> Mapping[str, Activity]:
        """The activities of phases that are long enough to measure CPU time in the kernel's ticks."""
        return {name: activity for name, activity in self.activities.items() if activity.seconds >= _LEAST_SHARE_S}

    @property
    def timed_shares(self) -> Mapping[str, Activity]:
        """Those of the phases in which load would change a metric."""
        return {name: activity for name, activity in self.cpu_shares.items() if not name.startswith(_UNTIMED)}

    @property
    def busy_shares(self) -> Mapping[str, Activity]:
        """Those of the phases in which the model runs."""
        return {name: activity for name, activity in self.timed_shares.items() if not name.startswith("idle")}


def degraded(code: str, message: str, advice: str) -> Finding:
    """A reason that makes a run DEGRADED at least."""
    return VerdictState.degraded, Reason(code=code, message=message, advice=advice)


def invalid(code: str, message: str, advice: str) -> Finding:
    """A reason that makes a run INVALID."""
    return VerdictState.invalid, Reason(code=code, message=message, advice=advice)


def graded(code: str, message: str, advice: str, *, severe: bool) -> Finding:
    """A reason that makes a run INVALID if it is severe, else DEGRADED."""
    return (invalid if severe else degraded)(code, message, advice)


def meanwhile(facts: Facts, phase: str) -> str:
    """Other load in the phase, with numbers; empty if there was none."""
    runs = [_causes(activity) for name, activity in facts.cpu_shares.items() if name.startswith(phase)]
    seen = max(runs, key=len, default=[])  # the repeat with the most findings
    return f"; meanwhile {', '.join(seen)}" if seen else ""


def _causes(activity: Activity) -> list[str]:
    causes = []
    if activity.stolen is not None and activity.stolen >= _NOTABLE:
        causes.append(f"the hypervisor stole {activity.stolen:.1%} of the CPU")
    if activity.others is not None and activity.others >= _NOTABLE:
        causes.append(f"other programs took {activity.others:.1%} of the cores")
    clocks = activity.clocks_mhz
    if clocks and max(clocks) > (1 + _CLOCKS) * min(clocks):
        causes.append(f"the clocks ranged from {min(clocks):.0f} to {max(clocks):.0f} MHz")
    return causes


def avoid_neighbors(facts: Facts) -> str:
    """What to do about CPU time that other virtual machines take: they cannot be stopped from this one."""
    return f"other virtual machines on the host take CPU time: use another machine, or {_repeated(facts)}"


def _repeated(facts: Facts) -> str:
    return "protocol.repeats=5 sweep.order=random" if facts.repeats == 1 else "more repeats (protocol.repeats)"


def steadier(facts: Facts) -> str:
    """How to make the latency steadier, as far as that is possible on the machine: one advice for all that disturbs it.

    Load of the machine itself comes first, because it can be stopped. A virtual machine also has neighbors, and clocks
    that it does not control.
    """
    others = max((activity.others or 0 for activity in facts.busy_shares.values()), default=0)
    stolen = max((activity.stolen or 0 for activity in facts.busy_shares.values()), default=0)
    if others >= max(_LOADED, stolen):
        return STOP_OTHERS
    if stolen:
        return avoid_neighbors(facts)
    repeats = _repeated(facts)
    if facts.virtual_machine:
        return f"this is a virtual machine, and other machines on its host disturb it: to compare rows, set {repeats}"
    return f"{STOP_OTHERS}, lock its clocks and improve its cooling, or compare rows with {repeats}"
