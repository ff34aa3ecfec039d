"""The typed configuration behind every Hydra group: one dataclass a group, units in the names.

The yaml files in conf/ fill these; a key or value that is not here is refused. Only dataclasses: nothing is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import PurePath
from typing import Any, Dict, List, Optional

from omegaconf import MISSING


def number(default: Any, least: float, most: float | None = None) -> Any:
    """A number's field with its bounds, both of them allowed; what is not set (None) has none."""
    return field(default=default, metadata={"least": least, "most": most})


class ModelOrigin(StrEnum):
    """The built-in sources of models (edlab/models/origins.py)."""

    builtin = "builtin"
    timm = "timm"
    torchvision = "torchvision"
    keras = "keras"
    file = "file"
    python = "python"


class Precision(StrEnum):
    """Of the weights and activations; what exactly an artifact holds is read back from it."""

    fp32 = "fp32"
    fp16 = "fp16"
    int8 = "int8"  # weights and activations, static, calibrated
    int8_dynamic = "int8_dynamic"  # weights ahead of time, activations at run time; no calibration
    auto = "auto"  # a model file's own, known once it is read; fp32 of anything else


class Granularity(StrEnum):
    """One scale per output channel of a weight, or one for the whole tensor."""

    per_channel = "per_channel"
    per_tensor = "per_tensor"


class Symmetry(StrEnum):
    """Whether activations have a zero point."""

    symmetric = "symmetric"
    asymmetric = "asymmetric"


class CalibrationMethod(StrEnum):
    """How activation ranges are taken from the calibration images."""

    minmax = "minmax"
    entropy = "entropy"
    percentile = "percentile"


class Sensor(StrEnum):
    """Where power comes from: the first that exists, one by name, the specification, or nowhere."""

    auto = "auto"
    rapl = "rapl"
    nvml = "nvml"
    hwmon = "hwmon"
    estimated = "estimated"
    none = "none"


class Execution(StrEnum):
    """What runs the artifact: the device, or this machine's CPU in its place (figures are then `emulated_*`)."""

    native = "native"
    emulated = "emulated"


class ClassOrder(StrEnum):
    """Which class a folder named by an integer is: that integer, or its place among the names sorted as text.

    With `numeric`, folders 1 to N of a model of N classes are its classes 0 to N - 1.
    """

    numeric = "numeric"
    text = "text"


class ResizeMode(StrEnum):
    """How an image comes to the input's size; see `edlab.source.Preprocessing`."""

    crop = "crop"
    squash = "squash"
    letterbox = "letterbox"


class InputKind(StrEnum):
    """What a model takes: images, which are resized and normalised, or arrays, which are fed as they are."""

    image = "image"
    array = "array"


class Interpolation(StrEnum):
    """Of the resize; the names are Pillow's."""

    nearest = "nearest"
    bilinear = "bilinear"
    bicubic = "bicubic"
    lanczos = "lanczos"


class Channels(StrEnum):
    """Those that a model takes, in their order."""

    rgb = "rgb"
    bgr = "bgr"
    gray = "gray"


class ExifOrientation(StrEnum):
    """Whether an image is turned as its EXIF tag says: viewers and OpenCV do, torchvision and Keras do not."""

    ignore = "ignore"
    apply = "apply"


@dataclass
class PreprocessingConfig:
    """Overrides of the source's own preprocessing; None keeps it. See `edlab.source.Preprocessing`.

    `height` and `width` are the input's in pixels; `resize` is the shorter side before a crop; `resize_mode`,
    `interpolation`, `antialias` and `border` say how an image comes to that size; `channels`, `mean` and `std` (of
    values in 0..1, one a channel) what the network is fed.
    """

    height: Optional[int] = number(None, 1)
    width: Optional[int] = number(None, 1)
    resize: Optional[int] = number(None, 1)
    resize_mode: Optional[ResizeMode] = None
    interpolation: Optional[Interpolation] = None
    antialias: Optional[bool] = None
    border: Optional[List[int]] = None  # letterbox, and crop where the image is smaller: R, G, B of 0..255
    channels: Optional[Channels] = None
    mean: Optional[List[float]] = None
    std: Optional[List[float]] = None


@dataclass
class DetectionConfig:
    """How a detection model's outputs become boxes; None: what its head usually has. See docs/detection.md."""

    anchors: Optional[str] = None  # ssd_raw: an npy file, float32 (A, 4) of centre x, centre y, width, height in 0..1
    activation: Optional[str] = None  # ssd_raw: of the class scores: sigmoid, softmax or none
    box_weights: Optional[List[float]] = None  # ssd_raw: that the coded x, y, width, height are divided by
    box_order: Optional[str] = None  # ssd_raw: of the codes: xywh or yxhw
    score_threshold: Optional[float] = number(None, 0, 1)
    iou_threshold: Optional[float] = number(None, 0, 1)  # of the non-maximum suppression
    max_candidates: Optional[int] = number(None, 1)  # that enter the suppression
    max_detections: Optional[int] = number(None, 1)  # of an image


@dataclass
class ModelConfig:
    """Which model, where it comes from, and what it does not say of itself.

    `origin` with `arch`, `path` or `target` builds it, `weights` fills it. The keys after that answer what a file or a
    network leaves open: its inputs, its outputs and their task, its classes. `label_offset` is subtracted from its
    classes (1 where class 0 is a background); `claimed_top1` of `claimed_source` is what it is compared with.
    """

    name: str = ""  # "": the architecture's, file's or factory's
    origin: str = MISSING  # where it comes from: one of ModelOrigin, or a plugin's name
    arch: Optional[str] = None  # builtin, timm, torchvision, keras: the architecture's name there
    path: Optional[str] = None  # file: the model file
    target: Optional[str] = None  # python: "package.module:factory"
    arguments: Dict[str, Any] = field(default_factory=dict)  # keyword arguments of the architecture or factory
    weights: str = "auto"  # auto | pretrained | random | path of a state dict
    input: Optional[InputKind] = None  # None: images, or arrays if the data set holds arrays
    input_shape: Optional[List[int]] = None  # array: of one input without the batch, where the model does not say
    layout: Optional[str] = None  # file: NCHW or NHWC, where the file does not tell
    task: Optional[str] = None  # classification, detection, or a plugin's; None: that of the outputs or the data set
    head: Optional[str] = None  # detection: the form of the outputs, where they do not tell, or package.module:function
    detection: DetectionConfig = field(default_factory=DetectionConfig)
    output: Optional[str] = None  # the output to score, by its name, where the model has several
    num_classes: Optional[int] = number(None, 1)  # where the model does not say
    preprocessing: PreprocessingConfig = field(default_factory=PreprocessingConfig)
    label_offset: Optional[int] = number(None, 0)
    claimed_top1: Optional[float] = number(None, 0, 1)  # 0..1
    claimed_source: str = ""

    def __post_init__(self) -> None:
        stem = PurePath(self.path).stem if self.path else None
        self.name = self.name or stem or (self.target or "").rpartition(":")[2] or self.arch or self.origin


@dataclass
class CalibrationConfig:
    """The images that the ranges of activations are taken from: how many, drawn with which seed, read how."""

    images: int = number(64, 1)
    method: CalibrationMethod = CalibrationMethod.minmax
    seed: int = number(0, 0)


@dataclass
class QuantizationConfig:
    """The precision that is asked for, and how it is reached. What a converter cannot do is refused by name.

    `precision` is of weights and activations, `granularity` of the weights' scales, `activations` of the zero points;
    `exclude` keeps nodes out, and `calibration` chooses the images of a static int8.
    """

    name: str = MISSING
    precision: Precision = MISSING
    granularity: Optional[Granularity] = Granularity.per_channel  # None: the first that the toolchain has
    activations: Symmetry = Symmetry.asymmetric
    exclude: List[str] = field(default_factory=list)  # names of nodes left in floating point
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)


@dataclass
class ConverterConfig:
    """Which toolchain (`name`) converts, with its `options`, and the limits of each of its steps."""

    name: str = MISSING
    python: Optional[str] = None  # interpreter that has the vendor's tool, of a converter with a tool environment
    timeout_s: float = number(1800.0, 1)  # of each step
    memory_limit_gb: Optional[float] = number(None, 0.01)  # of each step; None: 90 % of what is free when it starts
    log_limit_mb: float = number(500.0, 0.001)  # of what each step prints
    options: Dict[str, Any] = field(default_factory=dict)  # of this toolchain; unknown ones are refused


@dataclass
class SpecificationConfig:
    """What the vendor says of the device, and where (`source`); never a measurement.

    `typical_watts`, under load, gives the estimate of a device without a sensor.
    """

    typical_watts: Optional[float] = number(None, 0.001)
    max_watts: Optional[float] = number(None, 0.001)
    peak_ops: Dict[str, float] = field(default_factory=dict)  # precision -> operations per second
    source: str = ""


@dataclass
class DeviceConfig:
    """What runs the artifact, how its agent is reached, what it can run, and what of it is set for the run.

    Reached: `kind`, `address`, `workdir`, `python`, `env`. Able: `machines`, `runtimes`, `precisions`, `sensors`,
    `specification`. Set for a run: `target`, `power_mode`, `knobs`, `threads`, `options`. In its place or in turn:
    `execution`, `stand_in`, `lock_timeout`. Limits: `memory_limit_gb`, `workdir_limit_gb`.
    """

    name: str = MISSING
    kind: str = "local"  # how its agent is reached: local (a subprocess), ssh, or a plugin's name
    address: Optional[str] = None  # any name that ~/.ssh/config knows; a local device that has one is reached by ssh
    host: Optional[str] = None  # the old name of `address`, understood for one release
    workdir: str = ".cache/edlab-agent"  # ssh: on the target, from the home there: model files, images
    workdir_limit_gb: float = number(8.0, 0)  # ssh: the oldest files beyond it are removed
    env: Dict[str, str] = field(default_factory=dict)  # environment variables of the agent
    execution: Execution = Execution.native
    machines: List[str] = field(default_factory=list)  # processors that it can be, as `uname -m` says; none: any
    stand_in: str = ""  # what this really is, where it is not the device itself: its figures are `emulated_*`
    lock_timeout: float = number(3600.0, 0)  # seconds to wait for another's run on the same machine to end
    memory_limit_gb: Optional[float] = number(None, 0.01)  # of an agent on this machine; None: 90 % of what is free
    target: Optional[str] = None  # which unit of it, where its runtime has several (intel: CPU, GPU, NPU)
    power_mode: Optional[str] = None  # jetson: short for knobs.power_mode; None: left alone
    knobs: Dict[str, str] = field(default_factory=dict)  # set for the run by name, and put back after it
    runtimes: Dict[str, str] = field(default_factory=dict)  # artifact format -> runtime; {'*': processor}: all of one
    precisions: List[str] = field(default_factory=list)
    sensors: List[str] = field(default_factory=list)  # that see it, best first: kinds, or beginnings of names
    threads: Optional[int] = number(None, 1)  # cores that the agent may use and is pinned to; None: all
    python: Optional[str] = None  # interpreter on the target; None: this one
    options: Dict[str, Any] = field(default_factory=dict)  # by runtime: {openvino: {device: GPU}}
    specification: SpecificationConfig = field(default_factory=SpecificationConfig)

    @property
    def settings(self) -> Dict[str, str]:
        """The knobs to set, the power mode among them."""
        power_mode = {} if self.power_mode is None else {"power_mode": self.power_mode}
        return {**power_mode, **self.knobs}

    def __post_init__(self) -> None:
        if self.host is not None:
            self.address, self.host = self.host, None


@dataclass
class DatasetConfig:
    """The images or arrays with their labels, and which of them are scored and which calibrate.

    `kind` says how `path` is read (a folder, or an npz file of arrays), `annotations`, `labels` and `class_order` how
    its classes are numbered; `images` and `seed` choose what is scored, the last two keys what calibrates.
    """

    name: str = MISSING
    kind: str = MISSING  # one of edlab/data/datasets.py, or a plugin's name
    path: Optional[str] = None
    annotations: Optional[str] = None  # coco: the "instances" json; None: the one near the images, if there is one
    labels: Optional[str] = None  # image_folder, yolo: a text file, one folder or class a line, in the classes' order
    class_order: Optional[ClassOrder] = None  # image_folder: how folders named by integers are numbered
    exif_orientation: ExifOrientation = ExifOrientation.ignore
    images: Optional[int] = number(None, 1)  # score only so many, drawn with the seed; None: all
    seed: int = number(0, 0)
    calibration_fraction: float = number(0.1, 0, 1)  # set aside for calibration, never scored
    calibration_path: Optional[str] = None  # calibrate on this folder instead, and score all of `path`


@dataclass
class WarmupConfig:
    """Queries before anything is timed: both minima hold, and then it goes on until the latency has settled.

    `queries` and `seconds` are the minima, `max_seconds` is the limit, `tolerance` a fraction of the latency.
    """

    queries: int = number(10, 1)
    seconds: float = number(2.0, 0)
    tolerance: float = number(0.02, 0)  # two half-windows agree within this on the median
    max_seconds: float = number(30.0, 0)


@dataclass
class ThroughputConfig:
    """The search for the batch and the queries in flight that give the highest throughput.

    It tries batches up to `max_batch` and up to `max_in_flight` queries at once, each for `trial_seconds`.
    """

    max_batch: int = number(64, 1)
    max_in_flight: int = number(16, 1)
    gain: float = number(0.03, 0)  # a larger setting is chosen where it gives more than this
    trial_seconds: float = number(1.0, 0.01)
    seconds: Optional[float] = number(None, 0.1)  # least length of the window; null: protocol.seconds


@dataclass
class ProtocolConfig:
    """How long and how often each phase measures, and what the verdict accepts. See docs/metrics.md.

    `queries`, `seconds`, `max_seconds`, `max_interval` and `windows` decide when the latency phase ends; `pool` and
    `seed` which images it feeds; `repeats` how many processes it is measured in.
    """

    name: str = MISSING
    queries: int = number(MISSING, 1)  # both minima hold for the latency phase; `seconds` also for throughput
    seconds: float = number(MISSING, 0)
    max_seconds: float = number(MISSING, 0)  # hard limit of each phase
    pool: int = number(64, 1)  # real images that the queries rotate over
    seed: int = number(0, 0)
    windows: int = number(10, 5, 31)  # equal in time, over which the mean's interval is taken
    max_interval: float = number(0.05, 0)  # the latency phase goes on until the interval is at most this / the mean
    repeats: int = number(1, 1)  # the timed phases run in so many fresh processes of the agent, one after another
    max_accuracy_drop: float = number(0.01, 0)  # 0..1: what a conversion may cost before the verdict says so
    decompose_drop: bool = False  # also score the converted fp32 file, and the quantized file in floating point
    warmup: WarmupConfig = field(default_factory=WarmupConfig)
    throughput: ThroughputConfig = field(default_factory=ThroughputConfig)

    @property
    def window_seconds(self) -> float:
        """The least length of the throughput window."""
        return self.seconds if self.throughput.seconds is None else self.throughput.seconds


@dataclass
class PowerConfig:
    """Which sensor is read, and how long.

    One sample is taken each `interval_s`, for `idle_seconds` while nothing runs and during the throughput phase, for
    `active_seconds` and `active_samples` at least.
    """

    name: str = MISSING
    sensor: Sensor = Sensor.auto
    meter: Optional[str] = None  # a package's power meter, which this machine reads in place of the target's sensors
    meter_options: Dict[str, Any] = field(default_factory=dict)
    interval_s: float = number(0.05, 0.001)
    idle_seconds: float = number(5.0, 0.1)
    active_seconds: float = number(10.0, 0)  # least length of the throughput phase where a sensor is read
    active_samples: int = number(100, 1)


class SweepOrder(StrEnum):
    """In which order the runs of a sweep are made."""

    given = "given"  # that of the command line
    random = "random"  # so that what wanders on the machine does not favour some rows


@dataclass
class SweepConfig:
    """What holds for all runs of one command: the `order` in which they are made."""

    order: SweepOrder = SweepOrder.given


@dataclass
class CacheConfig:
    """What is kept for later runs, below EDLAB_CACHE."""

    max_gb: Optional[float] = number(None, 0)  # above it, the least recently used goes as a command starts


@dataclass
class TrackingConfig:
    """The MLflow server or database that runs are sent to (`uri`), and the `experiment` there."""

    name: str = MISSING
    uri: str = MISSING
    experiment: str = MISSING


@dataclass
class EdlabConfig:
    """All that one run is made of: a group for each part of it, and what its command does around it."""

    task: Optional[str] = None  # what is measured: classification, detection, or a plugin's; None: the model's
    model: ModelConfig = MISSING
    quantization: QuantizationConfig = MISSING
    converter: ConverterConfig = MISSING
    device: DeviceConfig = MISSING
    dataset: DatasetConfig = MISSING
    protocol: ProtocolConfig = MISSING
    power: PowerConfig = MISSING
    tracking: TrackingConfig = MISSING
    sweep: SweepConfig = field(default_factory=SweepConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
