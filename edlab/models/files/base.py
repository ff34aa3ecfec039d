"""Shared by all readers of model files: their results and their errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edlab.config import InputKind, ModelConfig
from edlab.errors import ModelError
from edlab.models.files.stated import Range, Stated, fits, keys_for
from edlab.models.network import preprocessing_of_size
from edlab.models.outputs import ReadOutputs
from edlab.source import ArrayInput, Complexity, Layout, Origin, Preprocessing, Reason, input_shape
from edlab.tasks import Size

_MOST_NAMED = 6
_NOTHING = Stated()


@dataclass(frozen=True)
class ModelFile:
    """What a model file states about itself."""

    format: str
    path: Path  # the copy
    layout: Layout
    precision: str
    outputs: ReadOutputs
    preprocessing: Preprocessing | ArrayInput
    preprocessing_origins: dict[str, Origin]
    preprocessing_note: str
    complexity: Complexity
    class_names: tuple[str, ...] = ()
    reasons: tuple[Reason, ...] = ()
    fixed_batch: bool = False  # see `SourceModel`

    @property
    def num_classes(self) -> int | None:
        """That the outputs tell apart."""
        return self.outputs.facts.num_classes


@dataclass(frozen=True)
class ModelInput:
    """The images, or arrays, that a model file accepts."""

    layout: Layout  # unused for arrays
    preprocessing: Preprocessing | ArrayInput
    origins: dict[str, Origin]
    note: str

    @property
    def size(self) -> Size:
        """Height and width; None for arrays."""
        given = self.preprocessing
        return (given.height, given.width) if isinstance(given, Preprocessing) else None

    @property
    def shape(self) -> tuple[int, ...]:
        """With batch 1."""
        return input_shape(self.preprocessing, self.layout)


def damaged(path: Path, kind: str, error: Exception) -> ModelError:
    """The error for a file that the reader of its format cannot parse."""
    return ModelError(
        f"{path} cannot be read as {kind}: {first_line(error)}",
        hint="the file is damaged or has another format: export it again",
    )


def first_line(error: BaseException) -> str:
    """The first line of an exception of any library, shortened for a message."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]


def read_input(config: ModelConfig, path: Path, shape: Sequence[int | None], stated: Stated = _NOTHING) -> ModelInput:
    """The images for an input of this shape, None for a free dimension. Raises `ModelError`.

    The configuration overrides what the file states, which overrides what is assumed.
    """
    if config.input == InputKind.array:
        return ModelInput("NCHW", _array(config, path, shape), {}, "")
    if len(shape) != 4:
        raise ModelError(
            f"{path.name} has an input of shape {tuple(shape)}, not of a batch of images",
            hint="images are (batch, C, height, width) or (batch, height, width, C), C being 3 or 1; set "
            "model.input=array dataset=arrays to feed arrays of another form",
        )
    if shape[0] not in (None, 1):
        raise ModelError(
            f"{path.name} was exported with a fixed batch of {shape[0]} images",
            hint="export it with a batch of 1, or with a free batch dimension",
        )
    layouts = _layouts(shape, 3) or _layouts(shape, 1)
    if config.layout in ("NCHW", "NHWC"):
        layout: Layout = config.layout  # type: ignore[assignment]
    elif len(layouts) == 1 and config.layout is None:
        layout = layouts[0]
    else:
        raise ModelError(
            f"the layout of the input {tuple(shape)} of {path.name} is unclear",
            hint="set model.layout=NCHW or model.layout=NHWC; images must have 3 channels or 1",
        )
    channels, height, width = shape[1:] if layout == "NCHW" else (shape[3], shape[1], shape[2])
    values = {"channels": "gray", **stated.values} if channels == 1 else stated.values
    preprocessing, origins = preprocessing_of_size(height, width, config, values)
    if channels not in (None, preprocessing.channel_count):
        raise ModelError(
            f"{path.name} needs images with {channels} channels, not {preprocessing.channel_count}",
            hint="remove model.preprocessing.channels, or "
            + ("set it to gray" if channels == 1 else "set it to rgb or bgr" if channels == 3 else "use another model"),
        )
    if (height or preprocessing.height, width or preprocessing.width) != (preprocessing.height, preprocessing.width):
        raise ModelError(
            f"{path.name} needs {height} x {width} pixels, not {preprocessing.height} x {preprocessing.width}",
            hint="remove model.preprocessing.height and width",
        )
    if stated.range and "assumed" in (origins["mean"], origins["std"]):
        _ensure_used(path, stated.range, preprocessing)
    return ModelInput(layout, preprocessing, origins, stated.note)


def _array(config: ModelConfig, path: Path, shape: Sequence[int | None]) -> ArrayInput:
    """The shape of one array: that of the file, with `model.input_shape` for its free dimensions."""
    if not shape or shape[0] not in (None, 1):
        raise ModelError(
            f"{path.name} has an input of shape {tuple(shape)}, without a batch of 1 as the first dimension",
            hint="export it with a batch of 1, or with a free batch dimension",
        )
    wanted = config.input_shape or [0] * (len(shape) - 1)
    filled = tuple(length or other for length, other in zip(shape[1:], wanted, strict=False))
    if len(wanted) != len(shape) - 1 or 0 in filled or any(w and w != f for w, f in zip(wanted, filled, strict=True)):
        raise ModelError(
            f"{path.name} has an input of shape {tuple(shape)}, which model.input_shape={config.input_shape} does not "
            "match",
            hint=f"set model.input_shape to {len(shape) - 1} lengths, without the batch",
        )
    return ArrayInput(shape=filled)


def _layouts(shape: Sequence[int | None], channels: int) -> list[Layout]:
    """The layouts in which an input of this shape has this number of channels."""
    layouts: list[tuple[Layout, int]] = [("NCHW", 1), ("NHWC", 3)]
    return [layout for layout, axis in layouts if shape[axis] == channels]


def _ensure_used(path: Path, found: Range, preprocessing: Preprocessing) -> None:
    """Raise `ModelError` if assumed values would leave most of an integer input's range unused, or exceed it."""
    if fits(found, preprocessing.mean, preprocessing.std):
        return
    mean, std = keys_for(found)
    raise ModelError(
        f"the preprocessing of {path.name} is missing: its input covers {found} by {found.note}, and pixels scaled to "
        "0..1 would use little of that range",
        hint="set model.preprocessing.mean=[R,G,B] and model.preprocessing.std=[R,G,B] (of 0..1) as in training; "
        f"pixels spread over exactly this range are mean=[{mean:.4g},{mean:.4g},{mean:.4g}] "
        f"std=[{std:.4g},{std:.4g},{std:.4g}]",
    )


def some(names: Sequence[str]) -> str:
    """A list of names for a message, shortened if it is long."""
    unique = list(dict.fromkeys(names))
    more = f" and {len(unique) - _MOST_NAMED} more" if len(unique) > _MOST_NAMED else ""
    return ", ".join(unique[:_MOST_NAMED]) + more


def training_mode(names: Sequence[str]) -> Reason:
    """The verdict reason for a graph with layers in training mode."""
    return Reason(
        code="training_mode",
        message=f"the model is in training mode ({some(names)}): its outputs depend on the other images of a batch, "
        "or on chance",
        advice="call model.eval(), and export it again",
    )


def random_operators(names: Sequence[str]) -> Reason:
    """The verdict reason for a graph whose outputs depend on chance."""
    return Reason(
        code="random_operators",
        message=f"the model draws random numbers ({some(names)}): the same image gives different outputs",
        advice="call model.eval(), remove the random operators, and export it again",
    )
