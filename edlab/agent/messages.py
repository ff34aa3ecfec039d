"""The messages between host and agent: a NamedTuple for each request and each reply.

Both sides import this file, so the name, type and unit of a field are defined in one place. A message is sent as a JSON
object of its fields; `METHODS` pairs each request with its reply. The types are from `typing`, not strings: an agent on
Python 3.7 reads them to decode messages.
"""

from typing import Any, Callable, Dict, Generic, List, NamedTuple, Optional, Tuple, Type, TypeVar

OnProgress = Callable[[Optional[float], str], None]  # (fraction 0..1 or None if unknown, message)

NO_CHANNELS = "none"  # for arrays that are not images

Q = TypeVar("Q")
R = TypeVar("R")


class Method(Generic[Q, R]):
    """One method of the agent: its name, and the types of its request and reply."""

    def __init__(self, name: str, request: Type[Q], reply: Type[R]) -> None:
        self.name = name
        self.request = request
        self.reply = reply


# ---- parts of messages


class Activity(NamedTuple):
    """What else the machine did in a phase. Shares are 0..1 of the time of the cores that the agent may use.

    None if the system does not report it.
    """

    seconds: float  # length of the phase
    own: Optional[float]  # used by the agent's process
    others: Optional[float]  # used by other processes and the kernel
    stolen: Optional[float]  # used by the hypervisor for other machines
    involuntary_switches: int  # how often the agent's process was preempted
    clocks_mhz: List[float]  # the highest clock of the cores at each sample, in order: the clock of a busy core
    throttle_events: Optional[int]  # thermal events that the processor counted


class Pool(NamedTuple):
    """The images that the queries of a phase cycle through: rows of a uint8 npy file (N, H, W, C)."""

    images: str  # the npy file
    indices: List[int]  # of the rows


class TensorSpec(NamedTuple):
    """One input or output; None in `shape` is a free dimension; scale and zero point if it is quantized."""

    name: str  # in the file
    shape: Tuple[Optional[int], ...]  # with the batch
    dtype: str  # as numpy names it
    scale: Optional[float] = None  # real value = scale x (integer - zero point)
    zero_point: Optional[int] = None  # see `scale`


class Setting(NamedTuple):
    """A batch, and the number of requests that are kept in flight."""

    batch: int  # images of one query
    in_flight: int  # requests at the same time

    @property
    def size(self) -> Tuple[int, int]:
        """The definition of "smaller": fewer images in flight, then the smaller batch."""
        return self.batch * self.in_flight, self.batch


class Trial(NamedTuple):
    """The result of one trial of a setting: inferences per second; None and a note if the model cannot run with it."""

    batch: int  # images of one query
    in_flight: int  # requests at the same time
    ips: Optional[float]  # inferences per second
    note: str = ""  # why the model cannot run with it

    @property
    def setting(self) -> Setting:
        """The setting that was tried."""
        return Setting(self.batch, self.in_flight)


class Calibration(NamedTuple):
    """The images from which a build computes its ranges: rows of a uint8 npy file, and how they are normalised."""

    images: str
    indices: List[int]
    mean: List[float]
    std: List[float]
    channels: str


class Int8Kernels(NamedTuple):
    """Which int8 kernels of a runtime were chosen, and whether they are exact: see `edlab.agent.int8`."""

    options: Dict[str, Any]  # of the runtime, including the choice
    int8_kernels: str  # EXACT, SATURATING or UNKNOWN: the kernels that run
    int8_kernels_of_fast: str  # the runtime's default kernels
    arithmetic: str  # as text
    in_float: bool  # the int8 file is computed in floating point


# ---- the target


class Nothing(NamedTuple):
    """A request without parameters, or a reply without content."""


class Machine(NamedTuple):
    """The agent that answers, and its machine."""

    pid: int  # of the agent's process
    executable: str  # the agent's Python interpreter
    agent: str  # versions
    python: str  # version
    numpy: str  # version
    platform: str  # operating system and its release
    machine: str  # architecture of the processor
    stand_in: Optional[str]  # how a machine that stands in for a board describes itself
    board: Optional[str]  # model of the board, as the device tree states it
    cpu: Optional[str]  # model of the processor
    virtual: bool  # it is a virtual machine
    instruction_sets: Optional[str]  # that matter for inference, such as avx2
    cpus: List[int]  # the cores that the agent may use
    memory_mb: Optional[float]  # of the machine
    l4t: Optional[str] = None  # the release of Jetson Linux
    gpu: Optional[str] = None  # NVIDIA cards, in the order of nvidia-smi
    gpu_driver: Optional[str] = None  # version of NVIDIA's driver


class State(NamedTuple):
    """What changes during a benchmark. See `edlab.agent.system.state` and `edlab.agent.boards.jetson.state`."""

    clocks_mhz: List[float]  # of each core
    governor: Optional[str]  # the clock governor of the first core
    scaling_driver: Optional[str]  # of the first core's clock
    temperatures_c: Dict[str, float]  # by thermal zone
    throttle_count: Optional[int]  # thermal events that the processor counted since it started
    load_1m: float  # load average of the last minute
    peak_memory_mb: Optional[float]  # of the agent
    free_disk_mb: float  # where the agent stores files
    power_mode: Optional[str] = None  # of a Jetson, by name
    power_mode_number: Optional[int] = None  # of a Jetson, as nvpmodel numbers it
    gpu_clock_mhz: Optional[float] = None  # of a Jetson's GPU
    jetson_clocks: Optional[bool] = None  # the clocks of a Jetson are locked to their highest


class Available(NamedTuple):
    """Which of these runtimes (None: all) can be used, with these options of each."""

    runtimes: Optional[List[str]]
    options: Dict[str, Dict[str, Any]]


class Availability(NamedTuple):
    """The version of a runtime that can be used; else why not, and how to fix it."""

    version: str = ""
    reason: str = ""
    hint: str = ""


class Runtimes(NamedTuple):
    """Availability by the name of the runtime."""

    found: Dict[str, Availability]


class SensorFound(NamedTuple):
    """A power sensor that can be read. `stand_in`: the folder read instead of /sys; empty: the real hardware."""

    name: str
    kind: str
    boundary: str
    lag_s: float  # how far back a reading may reach
    stand_in: str
    resolution_w: Optional[float] = None  # one step of a reading; None: unknown
    accuracy: Optional[float] = None  # of a reading, as a fraction of it; None: unknown
    renewed_s: Optional[float] = None  # of a counter of energy: how often it is updated; None: not a counter


class UnusableSensor(NamedTuple):
    """A sensor that exists and cannot be read: why, and how to fix it (empty if unknown)."""

    name: str
    kind: str
    reason: str
    hint: str


class Sensors(NamedTuple):
    """The readable sensors, the preferred one first, and the unusable ones."""

    sensors: List[SensorFound]
    unusable: List[UnusableSensor]


class Clock(NamedTuple):
    """The agent's clock (time.perf_counter_ns), which the phases and the sensors use."""

    t_ns: int


class RecordStart(NamedTuple):
    """Read a power sensor about every `interval_s`, in a thread, until the recording is stopped."""

    sensor: str
    interval_s: float


class RecordStop(NamedTuple):
    """Stop reading a sensor; its readings are kept until it is recorded again."""

    sensor: str


class RecordSeries(NamedTuple):
    """Write the readings from `start_ns` to `end_ns` to `out` (npy): float64 (n, 2) of t_ns and watts.

    One sample beyond either end is included, so that the power at the ends can be interpolated.
    """

    sensor: str
    start_ns: int
    end_ns: int
    out: str


class Readings(NamedTuple):
    """The number of failed readings of the sensor in a span, and the last error."""

    failed: int = 0
    error: str = ""


class Lock(NamedTuple):
    """Lock the device for this agent. See `edlab.agent.locks.acquire`."""

    name: str
    holder: str
    pid: int
    timeout_s: float


class SetKnob(NamedTuple):
    """Set a knob (`edlab.agent.boards`) to a value until the agent ends."""

    name: str
    value: str


class KnobSet(NamedTuple):
    """The previous value and the current one."""

    before: str  # the previous value
    value: str  # the current value


# ---- files on a board


class Expect(NamedTuple):
    """Ask where these files are, or where to send them. Sizes in bytes and SHA-256 (hex) by name."""

    key: str
    sizes: Dict[str, int]
    digests: Dict[str, str]
    limit_bytes: float


class Expected(NamedTuple):
    """The `folder` that contains the files, else the `part` to send them to, with the bytes `present` of each."""

    folder: Optional[str] = None
    part: Optional[str] = None
    present: Dict[str, int] = {}  # noqa: RUF012


class Accept(NamedTuple):
    """Check the files that were sent, and keep them."""

    key: str
    digests: Dict[str, str]


class Accepted(NamedTuple):
    """The `folder` of the files, else the names of the `damaged` files."""

    folder: Optional[str] = None
    damaged: List[str] = []  # noqa: RUF012


class Folder(NamedTuple):
    """A folder on the target."""

    folder: str


# ---- the model


class Identify(NamedTuple):
    """Ask what a file depends on that this toolchain builds here."""

    toolchain: str
    options: Dict[str, Any]


class Identity(NamedTuple):
    """Versions, the processor, the board: see `Toolchain.identity`."""

    versions: Dict[str, str]


class Build(NamedTuple):
    """Write `out` from the files of a conversion: see `Toolchain.build`."""

    toolchain: str
    files: List[str]
    out: str
    options: Dict[str, Any]
    calibration: Optional[Calibration]


class Built(NamedTuple):
    """How long the build took."""

    seconds: float


class Open(NamedTuple):
    """Load and compile a model file. `int8_probe` is a file of `edlab.agent.int8`, to try the int8 kernels first.

    `task` reads its outputs, with `task_options`; `task_files` are options too, those that are files, as paths.
    """

    runtime: str
    files: List[str]
    options: Dict[str, Any]
    threads: int
    mean: List[float]
    std: List[float]
    layout: str
    channels: str = "rgb"
    int8_probe: Optional[str] = None
    int8_probe_layout: str = ""
    task: str = "classification"
    task_options: Dict[str, Any] = {}  # noqa: RUF012
    task_files: Dict[str, str] = {}  # noqa: RUF012


class Opened(NamedTuple):
    """The model as the runtime has opened it.

    `load_ms` is the time to read it into the runtime's own form, `compile_ms` the time to prepare it to run; None if
    the runtime does both in one step. Importing the runtime is in neither.
    """

    runtime: str  # that opened it
    version: str  # of the runtime
    load_ms: float  # see above
    compile_ms: Optional[float]  # see above
    inputs: List[TensorSpec]  # of the opened model
    outputs: List[TensorSpec]  # of the opened model
    options: Dict[str, Any]  # that are used
    on_cpu: bool  # it runs on the processor whose clocks the agent monitors
    int8: Optional[Int8Kernels]  # which int8 kernels run; null without int8 layers


# ---- phases


class Predict(NamedTuple):
    """Run every image of the pool once, and write the results to `out` (npy)."""

    pool: Pool
    out: str


class PredictReport(NamedTuple):
    """The report of the accuracy pass."""

    images: int  # that were run
    seconds: float  # length of the phase
    in_flight: int  # requests at the same time
    options: Dict[str, Any]  # that are used
    activity: Activity  # what else the machine did


class Idle(NamedTuple):
    """Do nothing for a while."""

    seconds: float


class IdleReport(NamedTuple):
    """A period without inference, on the agent's clock."""

    start_ns: int  # on the agent's clock
    end_ns: int  # on the agent's clock
    activity: Activity  # what else the machine did


class Warmup(NamedTuple):
    """Run until both minima are reached and the latency has settled within `tolerance`, or for `max_seconds`."""

    pool: Pool
    queries: int
    seconds: float
    tolerance: float
    max_seconds: float


class WarmupReport(NamedTuple):
    """The warm-up."""

    first_inference_ms: float  # of the first query
    queries: int  # that were run
    seconds: float  # length of the phase
    settled: bool  # the latency had settled when it ended
    activity: Activity  # what else the machine did


class Latency(NamedTuple):
    """One query in flight, until both minima are reached and the mean's interval is narrow; at most `max_seconds`.

    Writes int64 ns (N, 3) to `out` (npy): input copy, execute, output copy.
    """

    pool: Pool
    queries: int
    seconds: float
    max_seconds: float
    windows: int  # for the interval
    max_interval: float  # the widest interval, as a fraction of the mean
    out: str


class LatencyReport(NamedTuple):
    """The report of the latency phase."""

    queries: int  # that were timed
    start_ns: int  # of the first of them, on the agent's clock
    end_ns: int  # of the last one
    seconds: float  # length of the phase
    truncated: bool  # `max_seconds` was reached before the two minima
    activity: Activity  # what else the machine did
    peak_memory_mb: Optional[float]  # peak of the agent so far


class HostWork(NamedTuple):
    """Time the work around the model: preprocessing and postprocessing."""

    pool: Pool


class HostWorkReport(NamedTuple):
    """Means over `queries`."""

    preprocess_ms: float  # to normalise one image
    postprocess_ms: float  # to read the outputs of one image
    queries: int  # that were timed
    activity: Activity  # what else the machine did


class Throughput(NamedTuple):
    """Search for the best setting, and measure it over one saturated window; both within `max_seconds`.

    With `setting`, that setting is measured without a search.
    """

    pool: Pool
    seconds: float
    max_seconds: float
    max_batch: int
    max_in_flight: int
    gain: float  # minimum gain (a fraction) for which a larger setting is used
    trial_seconds: float
    setting: Optional[Setting] = None


class ThroughputReport(NamedTuple):
    """The throughput window, on the agent's clock, and the search before it."""

    throughput_ips: float  # inferences per second in the window
    batch1_ips: Optional[float]  # None if it was not measured: `batch1_note` states why
    batch1_note: str  # why `batch1_ips` is missing
    driver_limit_ips: Optional[float]  # None if the rate is too low for it to matter
    batch: int  # images of one query
    in_flight: int  # requests at the same time
    completed: float  # images
    ips_by_second: List[float]  # inferences per second in each second of the window
    seconds: float  # length of the window
    truncated: bool  # `max_seconds` cut the window short
    search_truncated: bool  # it ended the search, or cut one of its trials short
    activity: Activity  # of the window
    search_activity: Optional[Activity]  # None if nothing was searched
    start_ns: int  # of the window, on the agent's clock
    end_ns: int  # of the window, on the agent's clock
    search: List[Trial]  # settings that were tried
    options: Dict[str, Any]  # that are used


class LayerTime(NamedTuple):
    """One unit of work as a runtime timed it: a layer of the model, or several that the runtime fused."""

    name: str  # the runtime's own
    operator: str  # as the runtime names it
    ms: float  # of one query: the median
    mean_ms: float  # of one query: the mean, which includes interruptions by other programs
    place: str = ""  # device or execution provider; empty: unknown
    kernel: str = ""  # implementation, as the runtime names it; empty: unknown
    precision: str = ""  # of the arithmetic; empty: unknown
    sources: List[str] = []  # noqa: RUF012  -- nodes or tensors of the model file that it computes, if they are known


class Profile(NamedTuple):
    """Time each layer with the runtime's own profiler, over `runs` queries of a model compiled for that alone."""

    pool: Pool
    runs: int


class ProfileReport(NamedTuple):
    """The layers in the order of execution; None if they are not available, for a `reason`."""

    layers: Optional[List[LayerTime]]
    reason: str  # why there are no layers; empty if there are
    query_ms: float  # mean of as many queries right before, without the profiler
    activity: Activity  # what else the machine did


HELLO = Method("hello", Nothing, Machine)
STATE = Method("state", Nothing, State)
AVAILABLE = Method("available", Available, Runtimes)
SENSORS = Method("sensors", Nothing, Sensors)
CLOCK = Method("clock", Nothing, Clock)
RECORD_START = Method("record_start", RecordStart, Nothing)
RECORD_STOP = Method("record_stop", RecordStop, Nothing)
RECORD_SERIES = Method("record_series", RecordSeries, Readings)
LOCK = Method("lock", Lock, Nothing)
SET_KNOB = Method("set_knob", SetKnob, KnobSet)
EXPECT = Method("expect", Expect, Expected)
ACCEPT = Method("accept", Accept, Accepted)
SCRATCH = Method("scratch", Nothing, Folder)
IDENTIFY = Method("identify", Identify, Identity)
BUILD = Method("build", Build, Built)
OPEN = Method("open", Open, Opened)
PREDICT = Method("predict", Predict, PredictReport)
IDLE = Method("idle", Idle, IdleReport)
WARMUP = Method("warmup", Warmup, WarmupReport)
LATENCY = Method("latency", Latency, LatencyReport)
HOST_WORK = Method("host_work", HostWork, HostWorkReport)
THROUGHPUT = Method("throughput", Throughput, ThroughputReport)
PROFILE = Method("profile", Profile, ProfileReport)
CLOSE = Method("close", Nothing, Nothing)

METHODS: Dict[str, Method[Any, Any]] = {
    method.name: method for method in globals().copy().values() if isinstance(method, Method)
}


def encode(message: Any) -> Any:
    """A message, and the messages in it, as JSON's own types."""
    if hasattr(message, "_asdict"):
        return {name: encode(value) for name, value in message._asdict().items()}
    if isinstance(message, (list, tuple)):
        return [encode(value) for value in message]
    if isinstance(message, dict):
        return {name: encode(value) for name, value in message.items()}
    return message


def decode(kind: Type[Q], value: Dict[str, Any]) -> Q:
    """The request from the output of `encode`. Raises `TypeError` for an unknown or missing field."""
    fields: Dict[str, Any] = getattr(kind, "__annotations__", {})
    return kind(**{name: _decoded(fields.get(name), field) for name, field in value.items()})


def _decoded(kind: Any, value: Any) -> Any:
    """A field; one that is itself a message (also an optional one) arrives as a dict."""
    if isinstance(value, dict):
        for each in (kind, *getattr(kind, "__args__", ())):
            if hasattr(each, "_fields"):
                return decode(each, value)
    return value
