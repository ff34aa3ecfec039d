"""The typed configuration behind every Hydra group: one dataclass per group, units in the names.

The yaml files in conf/ fill these; any other key or value is refused. Only dataclasses: no heavy imports.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import PurePath
from typing import Any, Dict, List, Optional

from omegaconf import MISSING


def number(default: Any, least: float, most: float | None = None) -> Any:
    """A numeric field with its bounds, both inclusive; a value that is not set (None) is not checked."""
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
    """Of the weights and activations; what an artifact really contains is read back from it."""

    fp32 = "fp32"
    fp16 = "fp16"
    int8 = "int8"  # weights and activations, static, calibrated
    int8_dynamic = "int8_dynamic"  # weights quantized ahead of time, activations at run time; no calibration
    auto = "auto"  # a model file's own precision, known once it is read; otherwise fp32


class Granularity(StrEnum):
    """One scale per output channel of a weight, or one for the whole tensor."""

    per_channel = "per_channel"
    per_tensor = "per_tensor"


class Symmetry(StrEnum):
    """Whether activations have a zero point."""

    symmetric = "symmetric"
    asymmetric = "asymmetric"


class CalibrationMethod(StrEnum):
    """How the ranges of activations are computed from the calibration images."""

    minmax = "minmax"  # from the smallest value to the largest
    entropy = "entropy"  # the range that loses the least information (Kullback-Leibler)
    percentile = "percentile"  # the range without the rarest values


class Sensor(StrEnum):
    """The source of power values: the first sensor that exists, one by name, the specification, or none."""

    auto = "auto"  # the first of device.sensors that exists, else an estimate
    all = "all"  # all of device.sensors that exist; the first one is the source of the power metrics
    rapl = "rapl"  # energy counters of Intel and AMD processors
    nvml = "nvml"  # NVIDIA graphics cards
    ina3221 = "ina3221"  # rails of Jetson boards
    hwmon = "hwmon"  # power meters with a Linux kernel driver
    pmic = "pmic"  # power chip of the Raspberry Pi 5
    battery = "battery"  # of a laptop or board, while it discharges
    estimated = "estimated"  # device.specification.typical_watts
    none = "none"  # no power


class Execution(StrEnum):
    """What runs the artifact: the device, or this machine's CPU instead (metrics are then `emulated_*`)."""

    native = "native"  # the device
    emulated = "emulated"  # this machine's CPU


class ClassOrder(StrEnum):
    """The class of a folder that is named by an integer: that integer, or its position among the names sorted as text.

    With `numeric`, the folders 1 to N are the classes 0 to N - 1 of a model with N classes.
    """

    numeric = "numeric"
    text = "text"


class ResizeMode(StrEnum):
    """How an image is resized to the input's size; see `edlab.source.Preprocessing`."""

    crop = "crop"  # the shorter side becomes `resize` pixels, then the centre is cropped
    squash = "squash"  # the whole image, whatever its aspect ratio
    letterbox = "letterbox"  # the whole image with its aspect ratio, and borders


class InputKind(StrEnum):
    """The input of a model: images, which are resized and normalised, or arrays, which are fed unchanged."""

    image = "image"
    array = "array"


class Interpolation(StrEnum):
    """Interpolation of the resize, named as in Pillow."""

    nearest = "nearest"
    bilinear = "bilinear"
    bicubic = "bicubic"
    lanczos = "lanczos"


class Channels(StrEnum):
    """The channels of a model's input, in order."""

    rgb = "rgb"
    bgr = "bgr"
    gray = "gray"


class ExifOrientation(StrEnum):
    """Whether an image is rotated by its EXIF tag: viewers and OpenCV do this, torchvision and Keras do not."""

    ignore = "ignore"
    apply = "apply"


@dataclass
class PreprocessingConfig:
    """Overrides of the source's own preprocessing; None keeps it. See `edlab.source.Preprocessing`.

    `height` and `width` are the input's size in pixels; `resize` is the shorter side before a crop; `resize_mode`,
    `interpolation`, `antialias` and `border` define how an image is resized; `channels`, `mean` and `std` (for values
    in 0..1, one per channel) define how its pixels are normalised.
    """

    height: Optional[int] = number(None, 1)  # of the model's input, in pixels
    width: Optional[int] = number(None, 1)  # of the model's input, in pixels
    resize: Optional[int] = number(None, 1)  # the shorter side before the crop, in pixels
    resize_mode: Optional[ResizeMode] = None  # how an image is resized to the input's size
    interpolation: Optional[Interpolation] = None  # of the resize
    antialias: Optional[bool] = None  # whether the resize filters an image before it shrinks it
    border: Optional[List[int]] = None  # colour of borders: R, G, B, each 0..255
    channels: Optional[Channels] = None  # channels of the model's input, in order
    mean: Optional[List[float]] = None  # subtracted from values of 0..1, one for each channel
    std: Optional[List[float]] = None  # divisor of the values after that, one for each channel


@dataclass
class DetectionConfig:
    """How a detection model's outputs become boxes; None: the usual value for its head. See docs/detection.md."""

    anchors: Optional[str] = None  # ssd_raw: an npy file, float32 (A, 4) of centre x, centre y, width, height in 0..1
    activation: Optional[str] = None  # ssd_raw: activation of the class scores: sigmoid, softmax or none
    box_weights: Optional[List[float]] = None  # ssd_raw: divisors of the coded x, y, width, height
    box_order: Optional[str] = None  # ssd_raw: order of the codes: xywh or yxhw
    score_threshold: Optional[float] = number(None, 0, 1)  # boxes with a lower score are dropped
    iou_threshold: Optional[float] = number(None, 0, 1)  # of the non-maximum suppression (NMS)
    max_candidates: Optional[int] = number(None, 1)  # maximum number of boxes that enter the NMS
    max_detections: Optional[int] = number(None, 1)  # maximum number of boxes to keep per image


@dataclass
class ModelConfig:
    """Which model, its source, and what it does not state itself.

    `origin` with `arch`, `path` or `target` builds it, `weights` fills it. The keys after that define what a file or a
    network does not state: its inputs, its outputs and their task, its classes. `label_offset` is subtracted from its
    classes (1 if class 0 is a background); its accuracy is compared with `claimed_top1` of `claimed_source`.
    """

    name: str = ""  # name in tables; empty: name of the architecture, file or factory
    origin: str = MISSING  # source of the model: a value of ModelOrigin, or a plugin's name
    arch: Optional[str] = None  # builtin, timm, torchvision, keras: the architecture's name there
    path: Optional[str] = None  # file: the model file
    target: Optional[str] = None  # python: "package.module:factory"
    arguments: Dict[str, Any] = field(default_factory=dict)  # keyword arguments of the architecture or factory
    weights: str = "auto"  # auto, pretrained, random, or the path of a state dict
    input: Optional[InputKind] = None  # None: images, or arrays if the data set contains arrays
    input_shape: Optional[List[int]] = None  # array: shape without the batch, if the model does not state it
    layout: Optional[str] = None  # file: NCHW or NHWC, if the file does not state it
    task: Optional[str] = None  # classification, detection, or a plugin's; None: from the outputs or the data set
    head: Optional[str] = None  # detection: form of the outputs if unclear, or package.module:function
    detection: DetectionConfig = field(default_factory=DetectionConfig)
    output: Optional[str] = None  # name of the output to score, if the model has several
    num_classes: Optional[int] = number(None, 1)  # number of classes, if the model does not state it
    preprocessing: PreprocessingConfig = field(default_factory=PreprocessingConfig)
    label_offset: Optional[int] = number(None, 0)  # subtracted from the model's classes: 1 if class 0 is a background
    claimed_top1: Optional[float] = number(None, 0, 1)  # published top-1 accuracy, to compare with
    claimed_source: str = ""  # where claimed_top1 is published

    def __post_init__(self) -> None:
        stem = PurePath(self.path).stem if self.path else None
        self.name = self.name or stem or (self.target or "").rpartition(":")[2] or self.arch or self.origin


@dataclass
class CalibrationConfig:
    """The images from which the ranges of activations are computed: their number and seed, and the method."""

    images: Optional[int] = number(None, 1)  # number of calibration images; None: 64, or all if there are fewer
    method: CalibrationMethod = CalibrationMethod.minmax  # how ranges are computed from the images
    seed: int = number(0, 0)  # of the random choice of the images


@dataclass
class QuantizationConfig:
    """The requested precision and how to quantize. Settings that a converter does not support are refused by name.

    `precision` is for weights and activations, `granularity` for the weights' scales, `activations` for the zero
    points; `exclude` lists nodes that stay in floating point, and `calibration` chooses the images for static int8.
    """

    name: str = MISSING  # name in tables
    precision: Precision = MISSING  # of weights and activations
    granularity: Optional[Granularity] = Granularity.per_channel  # of the scales; None: the toolchain's default
    activations: Symmetry = Symmetry.asymmetric  # whether activations have a zero point
    exclude: List[str] = field(default_factory=list)  # names of nodes left in floating point
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)


@dataclass
class ConverterConfig:
    """The toolchain (`name`) that converts, its `options`, and the limits of each of its steps."""

    name: str = MISSING  # the toolchain; auto: chosen by the model's format
    python: Optional[str] = None  # Python interpreter with the vendor's tool, for a converter with a tool environment
    timeout_s: float = number(1800.0, 1)  # time limit of each step, in seconds
    memory_limit_gb: Optional[float] = number(None, 0.01)  # of each step; None: 90 % of the free memory
    log_limit_mb: float = number(500.0, 0.001)  # of each step's output
    options: Dict[str, Any] = field(default_factory=dict)  # options of this toolchain


@dataclass
class SpecificationConfig:
    """What the vendor states about the device, and where (`source`); never a measurement.

    `typical_watts`, under load, is the estimate for a device without a sensor.
    """

    typical_watts: Optional[float] = number(None, 0.001)  # under load; the estimate if there is no sensor
    max_watts: Optional[float] = number(None, 0.001)  # maximum power; readings far above it are dropped
    peak_ops: Dict[str, float] = field(default_factory=dict)  # operations per second, by precision
    source: str = ""  # document that states these values


@dataclass
class DeviceConfig:
    """What runs the artifact, how its agent is reached, what it can run, and its settings for the run.

    Access: `kind`, `address`, `workdir`, `python`, `env`. Capabilities: `machines`, `runtimes`, `precisions`,
    `sensors`, `specification`. Settings for a run: `target`, `power_mode`, `knobs`, `threads`, `options`. Stand-ins and
    waiting: `execution`, `stand_in`, `lock_timeout`. Limits: `memory_limit_gb`, `workdir_limit_gb`.
    """

    name: str = MISSING  # name in tables
    kind: str = "local"  # how its agent is reached: local (a subprocess), ssh, or a plugin's name
    address: Optional[str] = None  # host name for ssh, or a Host of ~/.ssh/config; with it a local device uses ssh
    host: Optional[str] = None  # old name of `address`, valid for one more release
    workdir: str = ".cache/edlab-agent"  # ssh: folder on the target for files, relative to the home folder
    workdir_limit_gb: float = number(8.0, 0)  # ssh: limit of workdir; the oldest files above it are removed
    env: Dict[str, str] = field(default_factory=dict)  # environment variables of the agent
    execution: Execution = Execution.native  # emulated: run on this machine's CPU instead
    machines: List[str] = field(default_factory=list)  # valid outputs of `uname -m` on the target; empty: any
    stand_in: str = ""  # what runs instead of the device itself, if anything; metrics are then `emulated_*`
    lock_timeout: float = number(3600.0, 0)  # seconds to wait for another run on the same machine
    memory_limit_gb: Optional[float] = number(None, 0.01)  # of an agent on this machine; None: 90 % of the free memory
    target: Optional[str] = None  # unit of the device, if its runtime has several (intel: CPU, GPU, NPU)
    power_mode: Optional[str] = None  # jetson: same as knobs.power_mode; None: not changed
    knobs: Dict[str, str] = field(default_factory=dict)  # set on the device for the run, by name; restored after it
    runtimes: Dict[str, str] = field(default_factory=dict)  # by file format; {'*': processor}: all for processors
    precisions: List[str] = field(default_factory=list)  # precisions that it supports
    sensors: List[str] = field(default_factory=list)  # power sensors, best first: kinds, or prefixes of names
    threads: Optional[int] = number(None, 1)  # number of cores to use and to pin threads to; None: all
    python: Optional[str] = None  # Python interpreter on the target; None: this one
    options: Dict[str, Any] = field(default_factory=dict)  # options by runtime: {openvino: {device: GPU}}
    specification: SpecificationConfig = field(default_factory=SpecificationConfig)

    @property
    def settings(self) -> Dict[str, str]:
        """The knobs to set, including the power mode."""
        power_mode = {} if self.power_mode is None else {"power_mode": self.power_mode}
        return {**power_mode, **self.knobs}

    def __post_init__(self) -> None:
        if self.host is not None:
            self.address, self.host = self.host, None


@dataclass
class DatasetConfig:
    """The images or arrays with their labels, and which of them are for scoring and for calibration.

    `kind` defines how `path` is read (a folder, or an npz file of arrays); `annotations`, `labels` and `class_order`
    define how its classes are numbered; `images` and `seed` choose the images to score, the last two keys the images
    for calibration.
    """

    name: str = MISSING  # name in tables
    kind: str = MISSING  # how the data set is read: the name of an option, or a plugin's name
    path: Optional[str] = None  # folder of images, or an npz file of arrays
    annotations: Optional[str] = None  # coco: the "instances" json file; None: the one near the images
    labels: Optional[str] = None  # image_folder, yolo: text file, one folder or class per line, in order
    class_order: Optional[ClassOrder] = None  # image_folder: how folders named by integers are numbered
    exif_orientation: ExifOrientation = ExifOrientation.ignore  # whether images are rotated by their EXIF tag
    images: Optional[int] = number(None, 1)  # number of images to score, drawn at random; None: all
    seed: int = number(0, 0)  # of the random choice of the images
    calibration_fraction: float = number(0.1, 0, 1)  # share that is reserved for calibration, never scored; below 1
    calibration_path: Optional[str] = None  # folder to calibrate on instead; all of `path` is then scored


@dataclass
class WarmupConfig:
    """Queries before anything is timed: at least both minima, then until the latency has settled.

    `queries` and `seconds` are the minima, `max_seconds` is the limit, `tolerance` a fraction of the latency.
    """

    queries: int = number(10, 1)  # minimum number of queries
    seconds: float = number(2.0, 0)  # minimum length
    tolerance: float = number(0.02, 0)  # settled: the medians of two half-windows differ by at most this fraction
    max_seconds: float = number(30.0, 0)  # time limit


@dataclass
class ThroughputConfig:
    """The search for the batch and the number of queries in flight with the highest throughput.

    It tries batches up to `max_batch` and up to `max_in_flight` simultaneous queries, each for `trial_seconds`.
    """

    max_batch: int = number(64, 1)  # largest batch to try
    max_in_flight: int = number(16, 1)  # most simultaneous queries to try
    gain: float = number(0.03, 0)  # a larger setting must be faster by more than this fraction
    trial_seconds: float = number(1.0, 0.01)  # length of each trial
    seconds: Optional[float] = number(None, 0.1)  # minimum length of the window; None: protocol.seconds


@dataclass
class ProtocolConfig:
    """How long and how often each phase measures, and the limits of the verdict. See docs/metrics.md.

    `queries`, `seconds`, `max_seconds`, `max_interval` and `windows` define when the latency phase ends; `pool` and
    `seed` which images it feeds; `repeats` in how many processes it is measured.
    """

    name: str = MISSING  # name of the tier
    queries: int = number(MISSING, 1)  # minimum number of queries of the latency phase
    seconds: float = number(MISSING, 0)  # minimum length of the latency phase, and of the throughput window
    max_seconds: float = number(MISSING, 0)  # time limit of each phase
    pool: int = number(64, 1)  # number of real images that the queries cycle through
    seed: int = number(0, 0)  # of the random choice of these images
    windows: int = number(10, 5, 31)  # equal parts of the phase, for the confidence interval of the mean
    max_interval: float = number(0.05, 0)  # the latency phase ends once the interval / the mean is at most this
    repeats: int = number(1, 1)  # number of new agent processes in which the timed phases run; not 2
    max_accuracy_drop: float = number(0.01, 0)  # 0..1; a larger drop makes the verdict DEGRADED
    profile: bool = False  # also time each layer with the runtime's own profiler, after all other phases
    decompose_drop: bool = False  # also score the converted fp32 file, and the quantized file in floating point
    warmup: WarmupConfig = field(default_factory=WarmupConfig)
    throughput: ThroughputConfig = field(default_factory=ThroughputConfig)

    @property
    def window_seconds(self) -> float:
        """The minimum length of the throughput window."""
        return self.seconds if self.throughput.seconds is None else self.throughput.seconds


@dataclass
class PowerConfig:
    """Which sensor is read, and for how long.

    One reading is taken every `interval_s`: for `idle_seconds` while nothing runs, and in the single-stream and
    throughput phases for at least `active_seconds`, and as long as a slow sensor needs for `active_samples`.
    """

    name: str = MISSING  # name in tables
    sensor: Sensor = Sensor.auto  # which power sensor is read
    interval_s: float = number(0.05, 0.001)  # seconds between two readings
    idle_seconds: float = number(5.0, 0.1)  # length of the idle phase
    active_seconds: float = number(10.0, 0)  # minimum length of the single-stream and throughput phases with a sensor
    active_samples: int = number(20, 1)  # minimum number of new readings in each; a repeated one does not count


@dataclass
class MeterConfig:
    """A power meter next to the target, which this machine reads. It is the source of the power metrics.

    The meter defines its `options`: see docs/reference/meters.md.
    """

    name: str = MISSING  # name in tables
    kind: Optional[str] = None  # kind of meter; None: none is connected
    options: Dict[str, Any] = field(default_factory=dict)  # the meter's options, such as its port or its address


class SweepOrder(StrEnum):
    """The order of the runs of a sweep."""

    given = "given"  # as on the command line
    random = "random"  # so that slow changes of the machine do not favour some rows


@dataclass
class SweepConfig:
    """Settings for all runs of one command: their `order`."""

    order: SweepOrder = SweepOrder.given  # order of the runs


@dataclass
class CacheConfig:
    """The cache for later runs, in EDLAB_CACHE."""

    max_gb: Optional[float] = number(None, 0)  # above it, the least recently used entries are removed


@dataclass
class TrackingConfig:
    """The MLflow server or database that runs are sent to (`uri`), and the `experiment` there."""

    name: str = MISSING  # name of the option
    uri: str = MISSING  # address of an MLflow server, or sqlite:///FILE
    experiment: str = MISSING  # MLflow experiment for the runs


@dataclass
class EdlabConfig:
    """The configuration of one run: a group for each part of it, and the settings of its command."""

    task: Optional[str] = None  # what is measured: classification, detection, or a plugin's; None: the model's
    model: ModelConfig = MISSING
    quantization: QuantizationConfig = MISSING
    converter: ConverterConfig = MISSING
    device: DeviceConfig = MISSING
    dataset: DatasetConfig = MISSING
    protocol: ProtocolConfig = MISSING
    power: PowerConfig = MISSING
    meter: MeterConfig = MISSING
    tracking: TrackingConfig = MISSING
    sweep: SweepConfig = field(default_factory=SweepConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
