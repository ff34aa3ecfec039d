"""What the host asks of an agent and what the agent answers: a NamedTuple for each request and each reply.

Both ends import this file, so a field has its name, its type and its unit in one place. A message travels as a JSON
object of its fields; `METHODS` pairs each request with its reply. The types are those of `typing`, not strings: an
agent on Python 3.7 reads them to decode what it is sent.
"""

from typing import Any, Callable, Dict, Generic, List, NamedTuple, Optional, Tuple, Type, TypeVar

OnProgress = Callable[[Optional[float], str], None]  # (fraction 0..1 or None where unknown, message)

NO_CHANNELS = "none"  # of arrays that are no images

Q = TypeVar("Q")
R = TypeVar("R")


class Method(Generic[Q, R]):
    """One thing that an agent can do: its name, and the types of what it takes and gives."""

    def __init__(self, name: str, request: Type[Q], reply: Type[R]) -> None:
        self.name = name
        self.request = request
        self.reply = reply


# ---- parts of messages


class Activity(NamedTuple):
    """What else the machine did in a phase. Shares are 0..1 of the time of the cores that the agent may use.

    None where the system does not tell.
    """

    seconds: float
    own: Optional[float]  # taken by the agent's process
    others: Optional[float]  # taken by other processes and the kernel
    stolen: Optional[float]  # taken by the hypervisor for other machines
    involuntary_switches: int  # how often the agent's process was put off a core that it still wanted
    clocks_mhz: List[float]  # the highest clock among the cores at each look, in order: that of a busy one
    throttle_events: Optional[int]  # thermal events that the processor counted


class Pool(NamedTuple):
    """The images that the queries of a phase rotate over: rows of a uint8 npy file (N, H, W, C)."""

    images: str
    indices: List[int]


class TensorSpec(NamedTuple):
    """One input or output; None in `shape` is a free dimension; scale and zero point if it is quantized."""

    name: str
    shape: Tuple[Optional[int], ...]
    dtype: str  # numpy's name
    scale: Optional[float] = None
    zero_point: Optional[int] = None


class Setting(NamedTuple):
    """A batch, and how many requests of it are kept in flight."""

    batch: int
    in_flight: int

    @property
    def size(self) -> Tuple[int, int]:
        """What "smaller" means: fewer images in flight, then the smaller batch."""
        return self.batch * self.in_flight, self.batch


class Trial(NamedTuple):
    """What one trial of a setting gave: inferences per second; None and a note if the model cannot run so."""

    batch: int
    in_flight: int
    ips: Optional[float]
    note: str = ""

    @property
    def setting(self) -> Setting:
        """What was tried."""
        return Setting(self.batch, self.in_flight)


class Calibration(NamedTuple):
    """The images that a build takes its ranges from: rows of a uint8 npy file, and how they are normalised."""

    images: str
    indices: List[int]
    mean: List[float]
    std: List[float]
    channels: str


class Int8Kernels(NamedTuple):
    """Which int8 kernels of a runtime were chosen, and whether they are exact: see `edlab.agent.int8`."""

    options: Dict[str, Any]  # of the runtime, with the choice in them
    int8_kernels: str  # EXACT, SATURATING or UNKNOWN: those that run
    int8_kernels_of_fast: str  # the runtime's own
    arithmetic: str  # in words
    in_float: bool


# ---- the target


class Nothing(NamedTuple):
    """A request without parameters, or a reply without content."""


class Machine(NamedTuple):
    """Who answers, and on what."""

    pid: int
    executable: str
    agent: str  # versions
    python: str
    numpy: str
    platform: str
    machine: str
    stand_in: Optional[str]  # what a machine that stands in for a board says of itself
    board: Optional[str]
    cpu: Optional[str]
    virtual: bool
    instruction_sets: Optional[str]
    cpus: List[int]  # the cores that the agent may use
    memory_mb: Optional[float]
    l4t: Optional[str] = None  # the release of Jetson Linux
    gpu: Optional[str] = None  # NVIDIA cards, in nvidia-smi's order
    gpu_driver: Optional[str] = None


class State(NamedTuple):
    """What changes while a benchmark runs. See `edlab.agent.system.state` and `edlab.agent.boards.jetson.state`."""

    clocks_mhz: List[float]
    governor: Optional[str]
    scaling_driver: Optional[str]
    temperatures_c: Dict[str, float]
    throttle_count: Optional[int]
    load_1m: float
    peak_memory_mb: Optional[float]
    free_disk_mb: float
    power_mode: Optional[str] = None
    power_mode_number: Optional[int] = None
    gpu_clock_mhz: Optional[float] = None
    jetson_clocks: Optional[bool] = None


class Available(NamedTuple):
    """Which of these runtimes (None: all) can be used, with these options of each."""

    runtimes: Optional[List[str]]
    options: Dict[str, Dict[str, Any]]


class Availability(NamedTuple):
    """The version of a runtime that can be used; else why not, and what to do."""

    version: str = ""
    reason: str = ""
    hint: str = ""


class Runtimes(NamedTuple):
    """Availability by the name of the runtime."""

    found: Dict[str, Availability]


class SensorFound(NamedTuple):
    """A power sensor that can be read. `stand_in`: the folder read in place of /sys; empty: the hardware's own."""

    name: str
    kind: str
    boundary: str
    lag_s: float  # how far back a reading may reach
    stand_in: str


class UnusableSensor(NamedTuple):
    """A sensor that is there and cannot be read: why, and what to do about it (empty where that is not known)."""

    name: str
    kind: str
    reason: str
    hint: str


class Sensors(NamedTuple):
    """The sensors that can be read, the one to prefer first, and those that cannot."""

    sensors: List[SensorFound]
    unusable: List[UnusableSensor]


class Clock(NamedTuple):
    """The agent's clock (time.perf_counter_ns): that of the phases and of the sensors."""

    t_ns: int


class RecordStart(NamedTuple):
    """Read a power sensor about each `interval_s`, in a thread, until the recording is stopped."""

    sensor: str
    interval_s: float


class RecordStop(NamedTuple):
    """Stop reading a sensor; what was recorded of it stays until it is recorded anew."""

    sensor: str


class RecordSeries(NamedTuple):
    """Write what was recorded from `start_ns` to `end_ns` to `out` (npy): float64 (n, 2) of t_ns and watts.

    One sample beyond either end is with them, so that the power at the ends can be interpolated.
    """

    sensor: str
    start_ns: int
    end_ns: int
    out: str


class Readings(NamedTuple):
    """How many readings of the sensor failed in a span, and the last error."""

    failed: int = 0
    error: str = ""


class Lock(NamedTuple):
    """Hold the device for this agent alone. See `edlab.agent.locks.acquire`."""

    name: str
    holder: str
    pid: int
    timeout_s: float


class SetKnob(NamedTuple):
    """Set a knob (`edlab.agent.boards`) to a value until the agent ends."""

    name: str
    value: str


class KnobSet(NamedTuple):
    """The value that was in force, and the one that is now."""

    before: str
    value: str


# ---- files on a board


class Expect(NamedTuple):
    """Where are these files, or where are they to be sent? Sizes in bytes and SHA-256 (hex) by name."""

    key: str
    sizes: Dict[str, int]
    digests: Dict[str, str]
    limit_bytes: float


class Expected(NamedTuple):
    """The `folder` that holds the files, else the `part` to send them to, with the bytes `present` of each."""

    folder: Optional[str] = None
    part: Optional[str] = None
    present: Dict[str, int] = {}  # noqa: RUF012


class Accept(NamedTuple):
    """Check what was sent, and keep it."""

    key: str
    digests: Dict[str, str]


class Accepted(NamedTuple):
    """The `folder` of the files, else the names of those that arrived `damaged`."""

    folder: Optional[str] = None
    damaged: List[str] = []  # noqa: RUF012


class Folder(NamedTuple):
    """A folder on the target."""

    folder: str


# ---- the model


class Identify(NamedTuple):
    """What would a file depend on that this toolchain builds here?"""

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
    """The model as the runtime has it.

    `load_ms` is reading it into the runtime's own form, `compile_ms` making it ready to run; None if the runtime does
    both at once. Importing the runtime is in neither.
    """

    runtime: str
    version: str
    load_ms: float
    compile_ms: Optional[float]
    inputs: List[TensorSpec]
    outputs: List[TensorSpec]
    options: Dict[str, Any]  # in force
    on_cpu: bool  # it runs on the processor whose clocks the agent watches
    int8: Optional[Int8Kernels]


# ---- phases


class Predict(NamedTuple):
    """Run every image of the pool once; what comes out goes to `out` (npy)."""

    pool: Pool
    out: str


class PredictReport(NamedTuple):
    """The accuracy pass."""

    images: int
    seconds: float
    in_flight: int
    options: Dict[str, Any]  # in force
    activity: Activity


class Idle(NamedTuple):
    """Do nothing for a while."""

    seconds: float


class IdleReport(NamedTuple):
    """A time without inference, on the agent's clock."""

    start_ns: int
    end_ns: int
    activity: Activity


class Warmup(NamedTuple):
    """Run until both minima hold and the latency has settled within `tolerance`, or for `max_seconds`."""

    pool: Pool
    queries: int
    seconds: float
    tolerance: float
    max_seconds: float


class WarmupReport(NamedTuple):
    """The warm-up."""

    first_inference_ms: float
    queries: int
    seconds: float
    settled: bool
    activity: Activity


class Latency(NamedTuple):
    """One query in flight, until both minima hold and the mean's interval is narrow; at most `max_seconds`.

    Writes int64 ns (N, 3) to `out` (npy): input copy, execute, output copy.
    """

    pool: Pool
    queries: int
    seconds: float
    max_seconds: float
    windows: int  # that the interval is taken over
    max_interval: float  # the widest interval, as a fraction of the mean
    out: str


class LatencyReport(NamedTuple):
    """The latency phase."""

    queries: int
    seconds: float
    truncated: bool  # `max_seconds` came before the two minima
    activity: Activity
    peak_memory_mb: Optional[float]  # of the agent so far


class HostWork(NamedTuple):
    """Time what surrounds the model: preprocessing and postprocessing."""

    pool: Pool


class HostWorkReport(NamedTuple):
    """Means over `queries`."""

    preprocess_ms: float
    postprocess_ms: float
    queries: int
    activity: Activity


class Throughput(NamedTuple):
    """Search for the best setting, and measure it over one saturated window; both within `max_seconds`.

    With `setting` that one is measured, and nothing is searched.
    """

    pool: Pool
    seconds: float
    max_seconds: float
    max_batch: int
    max_in_flight: int
    gain: float  # the least (a fraction) that a larger setting is worth
    trial_seconds: float
    setting: Optional[Setting] = None


class ThroughputReport(NamedTuple):
    """The throughput window, on the agent's clock, and the search before it."""

    throughput_ips: float
    batch1_ips: Optional[float]  # None if it was not measured: `batch1_note` says why
    batch1_note: str
    driver_limit_ips: Optional[float]  # None if completions are too few for it to matter
    batch: int
    in_flight: int
    completed: float  # images
    ips_by_second: List[float]
    seconds: float
    truncated: bool  # `max_seconds` cut the window short
    search_truncated: bool  # it ended the search, or cut a trial short
    activity: Activity  # of the window
    search_activity: Optional[Activity]  # None if nothing was searched
    start_ns: int
    end_ns: int
    search: List[Trial]
    options: Dict[str, Any]  # in force


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
    """The request that `encode` took apart. Raises `TypeError` for a field that is unknown or missing."""
    fields: Dict[str, Any] = getattr(kind, "__annotations__", {})
    return kind(**{name: _decoded(fields.get(name), field) for name, field in value.items()})


def _decoded(kind: Any, value: Any) -> Any:
    """A field; one that is a message itself (an optional one too) comes as a dict."""
    if isinstance(value, dict):
        for each in (kind, *getattr(kind, "__args__", ())):
            if hasattr(each, "_fields"):
                return decode(each, value)
    return value
