"""What every reader of a model file shares: what it finds, and how it refuses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edlab.config import ModelConfig
from edlab.errors import ModelError
from edlab.models.files.stated import Range, Stated, fits, keys_for
from edlab.models.network import preprocessing_of_size
from edlab.source import Complexity, Layout, Origin, Preprocessing, Reason

_MOST_NAMED = 6
_NOTHING = Stated()


@dataclass(frozen=True)
class ModelFile:
    """What a model file tells of itself."""

    format: str
    path: Path  # the copy
    layout: Layout
    precision: str
    num_classes: int
    preprocessing: Preprocessing
    preprocessing_origins: dict[str, Origin]
    preprocessing_note: str
    complexity: Complexity
    output: str
    outputs: tuple[str, ...]
    class_names: tuple[str, ...] = ()
    reasons: tuple[Reason, ...] = ()


@dataclass(frozen=True)
class ModelInput:
    """The images that a model file takes."""

    layout: Layout
    preprocessing: Preprocessing
    origins: dict[str, Origin]
    note: str

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """With batch 1."""
        height, width = self.preprocessing.height, self.preprocessing.width
        return (1, 3, height, width) if self.layout == "NCHW" else (1, height, width, 3)


def damaged(path: Path, kind: str, error: Exception) -> ModelError:
    """For a file that no reader of its format can parse."""
    return ModelError(
        f"{path} cannot be read as {kind}: {first_line(error)}",
        hint="the file is damaged or of another format: export it again",
    )


def first_line(error: BaseException) -> str:
    """What an exception of any library says, short enough for a message."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]


def read_input(config: ModelConfig, path: Path, shape: Sequence[int | None], stated: Stated = _NOTHING) -> ModelInput:
    """The images for an input of this shape, None for a dimension that is free. Raises `ModelError`.

    What the configuration sets stands over what the file states, and that over what is assumed.
    """
    if len(shape) != 4:
        raise ModelError(
            f"{path.name} has an input of shape {tuple(shape)}, not of a batch of images",
            hint="edlab measures image classifiers: (batch, 3, height, width) or (batch, height, width, 3)",
        )
    if shape[0] not in (None, 1):
        raise ModelError(
            f"{path.name} was exported with a fixed batch of {shape[0]} images",
            hint="export it with a batch of 1, or with a free batch dimension",
        )
    layouts: list[Layout] = [layout for layout, axis in (("NCHW", 1), ("NHWC", 3)) if shape[axis] == 3]  # type: ignore[misc]
    if config.layout in ("NCHW", "NHWC"):
        layout: Layout = config.layout  # type: ignore[assignment]
    elif len(layouts) == 1 and config.layout is None:
        layout = layouts[0]
    else:
        raise ModelError(
            f"the layout of the input {tuple(shape)} of {path.name} is not clear",
            hint="set model.layout=NCHW or model.layout=NHWC; the model takes colour images (3 channels)",
        )
    height, width = (shape[2], shape[3]) if layout == "NCHW" else (shape[1], shape[2])
    preprocessing, origins = preprocessing_of_size(height, width, config, stated.values)
    if (height or preprocessing.height, width or preprocessing.width) != (preprocessing.height, preprocessing.width):
        raise ModelError(
            f"{path.name} takes {height} x {width} pixels, not {preprocessing.height} x {preprocessing.width}",
            hint="leave model.preprocessing.height and width to the file",
        )
    if stated.range and "assumed" in (origins["mean"], origins["std"]):
        _ensure_used(path, stated.range, preprocessing)
    return ModelInput(layout, preprocessing, origins, stated.note)


def _ensure_used(path: Path, found: Range, preprocessing: Preprocessing) -> None:
    """Raise `ModelError` where assumed values would leave most of an integer input's range unused, or outside it."""
    if fits(found, preprocessing.mean, preprocessing.std):
        return
    mean, std = keys_for(found)
    raise ModelError(
        f"{path.name} takes {found} by {found.note}, and its preprocessing is not known: pixels scaled to 0..1 would "
        "use little of that range",
        hint="set model.preprocessing.mean=[R,G,B] and model.preprocessing.std=[R,G,B] (of 0..1) as in training; "
        f"pixels spread over exactly this range are mean=[{mean:.4g},{mean:.4g},{mean:.4g}] "
        f"std=[{std:.4g},{std:.4g},{std:.4g}]",
    )


def classes_of(name: str, shape: Sequence[int | None]) -> int:
    """The number of classes of an output of this shape. Raises `ModelError` where it is not (batch, classes)."""
    lengths = [length for length in shape[1:] if length != 1]
    if len(lengths) != 1 or not lengths[0]:
        raise ModelError(
            f"{name} has an output of shape {tuple(shape)}, not of (batch, classes)",
            hint="edlab measures image classifiers by their scores: export it without ArgMax or other steps behind them"
            if not lengths
            else "edlab measures image classifiers with at least two classes",
        )
    return int(lengths[0])


def choose_output(config: ModelConfig, name: str, outputs: Sequence[tuple[str, Sequence[int | None]]]) -> int:
    """Which of the outputs, by name and shape, is scored: the only one, or that of `model.output`.

    Raises `ModelError` with the list where there are several and none is chosen: a guess would be scored in silence.
    """
    names = [output for output, _ in outputs]
    listing = ", ".join(f"{output} {_shape(shape)}" for output, shape in outputs)
    if config.output is not None:
        if names.count(config.output) != 1:
            raise ModelError(
                f"{name} has no output '{config.output}'" if outputs else f"{name} has no output",
                hint=f"set model.output to one of: {listing}",
            )
        return names.index(config.output)
    if len(outputs) == 1:
        return 0
    if not outputs:
        raise ModelError(f"{name} has no output", hint="export it with one output, (batch, classes)")
    logits = [output for output, shape in outputs if len(shape) == 2 and shape[1] != 1]
    likely = logits[0] if len(logits) == 1 else names[0]
    raise ModelError(
        f"{name} has {len(outputs)} outputs: {listing}",
        hint=f"set model.output to the one to score, for example model.output={likely}",
    )


def _shape(shape: Sequence[int | None]) -> str:
    return f"({', '.join('?' if length is None else str(length) for length in shape)})"


def some(names: Sequence[str]) -> str:
    """A list of names for a message, the first of a long one."""
    unique = list(dict.fromkeys(names))
    more = f" and {len(unique) - _MOST_NAMED} more" if len(unique) > _MOST_NAMED else ""
    return ", ".join(unique[:_MOST_NAMED]) + more


def training_mode(names: Sequence[str]) -> Reason:
    """The reason for a graph with layers that behave as in training."""
    return Reason(
        code="training_mode",
        message=f"the model is in training mode ({some(names)}): its outputs depend on the other images of a batch, "
        "or on chance",
        advice="export it again after model.eval()",
    )


def random_operators(names: Sequence[str]) -> Reason:
    """The reason for a graph whose outputs depend on chance."""
    return Reason(
        code="random_operators",
        message=f"the model draws random numbers ({some(names)}): the same image gives different outputs",
        advice="export it again after model.eval(), without the random operators",
    )
