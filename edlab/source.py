"""What a model source hands to the rest: a model file with its preprocessing, claims and complexity."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator

Layout = Literal["NCHW", "NHWC"]
WeightsOrigin = Literal["pretrained", "file", "given", "untrained"]  # given: by the caller's module or factory


class Preprocessing(BaseModel):
    """From an image file to the model's float input.

    The image is converted to RGB, its shorter side resized to `resize` pixels with `interpolation`, cropped at the
    centre to `height` x `width`, scaled to 0..1, then normalised per channel: (x - mean) / std. `resize` None
    resizes straight to height x width. A model fed with 0..255 values has mean 0 and std 1/255.

    Without `antialias` each pixel is interpolated between its nearest neighbours however small the image becomes, as
    OpenCV and tf.image do unless told otherwise.
    """

    model_config = ConfigDict(frozen=True)

    height: int
    width: int
    resize: int | None = None
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bilinear"
    antialias: bool = True
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @model_validator(mode="after")
    def _check_antialias(self) -> Self:
        if self.interpolation == "lanczos" and not self.antialias:
            raise ValueError("lanczos is always antialiased: take bilinear or bicubic")
        return self


class Complexity(BaseModel):
    """Multiply-accumulates of one inference at batch 1, and the number of trained parameters."""

    model_config = ConfigDict(frozen=True)

    macs: int
    parameters: int
    method: str  # how it was counted: "torch.utils.flop_counter", "onnx shapes", ...
    thop_macs: int | None = None  # the cross-check, where thop can count this model

    @property
    def flops(self) -> int:
        """Floating-point operations of one inference: 2 x MACs."""
        return 2 * self.macs


class SourceModel(BaseModel):
    """An unconverted model: one file (`pt2`, `keras`, `onnx` or `tflite`) and what must be known to use it."""

    model_config = ConfigDict(frozen=True)

    name: str
    format: Literal["pt2", "keras", "onnx", "tflite"]
    path: Path
    sha256: str
    layout: Layout  # of the model's input
    precision: str = "fp32"  # a file may arrive quantized: "int8"
    preprocessing: Preprocessing
    preprocessing_note: str = ""  # what of it was assumed, where the source does not tell
    num_classes: int
    label_offset: int = 0  # 1 for a model whose class 0 is "background"
    weights: WeightsOrigin  # what the weights really are, whatever was asked for
    weights_note: str = ""  # where they came from, or why they are untrained
    claimed_top1: float | None = None  # 0..1
    claimed_source: str = ""
    complexity: Complexity | None = None
    complexity_note: str = ""  # why complexity is missing
    license: str = ""

    @property
    def trained(self) -> bool:
        return self.weights != "untrained"
