"""What a model source returns: a model file with its preprocessing, claims and complexity."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from edlab.agent.messages import NO_CHANNELS

USUAL_CALIBRATION_IMAGES = 64  # fewer are used only if the data set provides fewer, or if the user sets a number

Layout = Literal["NCHW", "NHWC"]
Origin = Literal["read", "given", "assumed"]  # read from the source, given by the user, or assumed by edlab
_Grey = Annotated[int, Field(ge=0, le=255)]
WeightsOrigin = Literal["pretrained", "file", "given", "untrained"]  # given: by the caller's module or factory


class Reason(BaseModel):
    """Why a metric is doubtful: a code for machines, the facts, and what to change."""

    code: str  # see the list of verdict codes
    message: str  # what was found, with figures
    advice: str = ""  # what to change
    invalid: bool = False  # in a verdict: whether it alone makes the run INVALID, not only DEGRADED


class Preprocessing(BaseModel):
    """From an image file to the model's float input.

    The image is converted to RGB, or to gray by the weights of ITU-R 601, resized and cropped to `height` x `width`,
    put into the order of `channels`, scaled to 0..1, then normalised per channel: (x - mean) / std. `mean` and `std`
    are in the order of `channels`; one number stands for all. A model fed with 0..255 values has mean 0 and std 1/255.

    `resize_mode` defines how the image is resized:
    - `crop`: the shorter side becomes `resize` pixels, then the centre is cropped; with borders if the image is
    smaller.
    - `squash`: the image becomes height x width whatever its aspect ratio; with `resize`, its shorter side becomes
      `resize` pixels, the other one in the ratio of height and width, then the centre is cropped.
    - `letterbox`: the image is fitted into height x width with its aspect ratio, and gets borders.
    The default is `crop` if `resize` is set, else `squash`. `border` is the colour of borders, in RGB, 0..255.

    Without `antialias` each pixel is interpolated between its nearest neighbours however small the image becomes, as
    OpenCV and tf.image do by default.
    """

    model_config = ConfigDict(frozen=True)

    height: int = Field(gt=0)  # of the input, pixels
    width: int = Field(gt=0)  # of the input, pixels
    resize: int | None = Field(default=None, gt=0)  # length of the shorter side, pixels
    resize_mode: Literal["crop", "squash", "letterbox"] = "squash"  # how the image is resized
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bilinear"  # filter of the resize
    antialias: bool = True  # whether the filter is widened if the image is made smaller
    border: tuple[_Grey, _Grey, _Grey] = (0, 0, 0)  # color of borders, RGB, 0..255
    channels: Literal["rgb", "bgr", "gray"] = "rgb"  # order of the channels
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)  # is subtracted, one number for each channel, of values 0..1
    std: tuple[float, ...] = (1.0, 1.0, 1.0)  # is divided by, one number for each channel, of values 0..1

    @property
    def channel_count(self) -> int:
        """The number of channels of the model's input."""
        return 1 if self.channels == "gray" else 3

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        values = dict(values)
        if values.get("resize_mode") is None:
            values["resize_mode"] = "squash" if values.get("resize") is None else "crop"
        channels = 1 if values.get("channels") == "gray" else 3
        for key, default in (("mean", 0.0), ("std", 1.0)):
            numbers = values.get(key, (default,))
            same = len(numbers) in (1, 3) and len(set(numbers)) == 1
            values[key] = tuple(numbers[:1]) * channels if same else numbers
        return values

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.interpolation == "lanczos" and not self.antialias:
            raise ValueError("lanczos is always antialiased: use bilinear or bicubic")
        if self.resize_mode == "crop" and self.resize is None:
            raise ValueError("resize_mode=crop needs resize, the length of the shorter side in pixels")
        if self.resize_mode == "letterbox" and self.resize is not None:
            raise ValueError("resize_mode=letterbox fits the image into height x width: remove resize")
        if {len(self.mean), len(self.std)} != {self.channel_count}:
            raise ValueError(f"mean and std need one number for each of the {self.channel_count} channels")
        if 0 in self.std:
            raise ValueError("std is what values are divided by: it cannot be 0")
        return self


class ArrayInput(BaseModel):
    """An input that is not an image: arrays of this shape (without the batch), fed unchanged.

    Real numbers are cast to the input's type, and quantized by its scale and zero point if it has them; integers of the
    input's own type stay unchanged.
    """

    model_config = ConfigDict(frozen=True)

    shape: tuple[int, ...]  # without the batch


def input_shape(preprocessing: Preprocessing | ArrayInput, layout: Layout) -> tuple[int, ...]:
    """The shape of a model's input, with batch 1."""
    if isinstance(preprocessing, ArrayInput):
        return (1, *preprocessing.shape)
    channels, height, width = preprocessing.channel_count, preprocessing.height, preprocessing.width
    return (1, channels, height, width) if layout == "NCHW" else (1, height, width, channels)


def normalisation(preprocessing: Preprocessing | ArrayInput) -> dict[str, Any]:
    """Mean, std and channels for the agent: see `edlab.agent.messages.Open`."""
    if isinstance(preprocessing, ArrayInput):
        return {"mean": [], "std": [], "channels": NO_CHANNELS}
    return {
        "mean": list(preprocessing.mean),
        "std": list(preprocessing.std),
        "channels": preprocessing.channels,
    }


class Complexity(BaseModel):
    """Multiply-accumulates of one inference at batch 1, and the number of trained parameters.

    A number is None if it cannot be counted completely, and `note` states why: a sum that omits one operator is wrong.
    """

    model_config = ConfigDict(frozen=True)

    macs: int | None  # multiply-accumulates of one inference
    parameters: int | None  # number of trained parameters
    method: str  # how it was counted: "torch.utils.flop_counter", "onnx shapes", ...
    thop_macs: int | None = None  # a cross-check, if thop can count this model
    note: str = ""  # why a number is missing

    @property
    def flops(self) -> int | None:
        """Operations of one inference: 2 x MACs."""
        return None if self.macs is None else 2 * self.macs


class OutputReader(BaseModel):
    """How the agent's task reads the outputs: its options, the origin of the notable ones, and options as files."""

    model_config = ConfigDict(frozen=True)

    options: dict[str, Any] = Field(default_factory=dict)  # of the task, by name
    origins: dict[str, Origin] = Field(default_factory=dict)  # where notable options come from
    files: dict[str, Path] = Field(default_factory=dict)  # options that are files
    modules: tuple[str, ...] = ()  # of the user's own code: their packages are sent with the agent


class SourceModel(BaseModel):
    """An unconverted model: one file (`pt2`, `keras`, `onnx` or `tflite`) and the facts needed to use it."""

    model_config = ConfigDict(frozen=True)

    name: str  # name in the configuration
    format: Literal["pt2", "keras", "onnx", "tflite"]  # of the file
    path: Path  # of the file on the host
    sha256: str  # of the file
    layout: Layout  # of the model's input
    precision: str = "fp32"  # a file may already be quantized: "int8"
    preprocessing: Preprocessing | ArrayInput  # from an image to the input
    preprocessing_origins: dict[str, Origin] = Field(default_factory=dict)  # by key of Preprocessing
    preprocessing_note: str = ""  # the source of the values that were read
    task: str = "classification"  # what the outputs mean
    num_classes: int | None  # None if the source does not state it
    class_names: tuple[str, ...] = ()  # of the classes in order, if the source names them
    label_offset: int = 0  # 1 for a model whose class 0 is "background"
    label_offset_origin: Origin = "assumed"  # where `label_offset` comes from
    fixed_batch: bool = False  # an ONNX file that accepts only single images
    output: str = ""  # name of the output that is read, in the source; several are joined by ", "
    outputs: tuple[str, ...] = ()  # all outputs of the source
    reader: OutputReader = OutputReader()  # how the outputs are read
    reasons: tuple[Reason, ...] = ()  # why metrics of this model are doubtful: training mode, random operators
    weights: WeightsOrigin  # what the weights really are, whatever was requested
    weights_note: str = ""  # their source, or why they are untrained
    claimed_top1: float | None = None  # 0..1
    claimed_source: str = ""  # who published `claimed_top1`
    complexity: Complexity = Complexity(
        macs=None, parameters=None, method="", note="it was not counted"
    )  # operations and parameters
    license: str = ""  # SPDX identifier or name of the license, if known

    @property
    def assumed(self) -> tuple[str, ...]:
        """The keys of the preprocessing that neither the model nor the user states."""
        shown = self.inputs_in_use()
        return tuple(key for key, origin in self.preprocessing_origins.items() if origin == "assumed" and key in shown)

    def inputs_in_use(self) -> dict[str, str]:
        """The preprocessing and label offset that a run uses, with origins: {"mean": "0.5, 0.5, 0.5 (read)"}."""
        return {key: f"{value} ({origin})" for key, value, origin in self._inputs()}

    def describe_inputs(self) -> str:
        """The same as one line, by origin: "read: height 224, width 224; assumed: mean 0, 0, 0"."""
        groups: dict[str, list[str]] = {}
        for key, value, origin in self._inputs():
            groups.setdefault(origin, []).append(f"{key} {value}")
        return "; ".join(f"{origin}: {', '.join(parts)}" for origin, parts in groups.items())

    def _inputs(self) -> list[tuple[str, str, Origin]]:
        """Key, value and origin of each."""
        values: dict[str, Any] = {**self.preprocessing.model_dump(), "label_offset": self.label_offset}
        given = self.preprocessing
        if isinstance(given, Preprocessing) and given.resize_mode != "letterbox" and not any(given.border):
            del values["border"]  # the usual black, which is visible only if the image is smaller than the crop
        values |= {key: self.reader.options[key] for key in self.reader.origins}
        origins: dict[str, Origin] = {
            **self.preprocessing_origins,
            "label_offset": self.label_offset_origin,
            **self.reader.origins,
        }
        return [(key, _text(value), origins.get(key, "read")) for key, value in values.items() if value is not None]

    @property
    def classes(self) -> int | None:
        """How many classes of the data set the outputs distinguish; None if the source does not state it."""
        return None if self.num_classes is None else self.num_classes - self.label_offset

    @property
    def trained(self) -> bool:
        return self.weights != "untrained"

    @property
    def deterministic(self) -> bool:
        """Whether two runs of the model give the same outputs: not with random operators, or in training mode."""
        return not {"training_mode", "random_operators"} & {reason.code for reason in self.reasons}

    @property
    def batchable(self) -> bool:
        """Whether an image's output is independent of its batch: not in training mode."""
        return all(reason.code != "training_mode" for reason in self.reasons)


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(f"{number:.6g}" for number in value)
    return str(value).lower() if isinstance(value, bool) else str(value)
