"""What every reader of a model file shares: what it finds, and how it refuses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edlab.config import ModelConfig
from edlab.errors import ModelError
from edlab.models.network import preprocessing_of_size
from edlab.source import Complexity, Layout, Preprocessing


@dataclass(frozen=True)
class ModelFile:
    """What a model file tells of itself."""

    format: str
    path: Path  # the copy
    layout: Layout
    precision: str
    num_classes: int
    preprocessing: Preprocessing
    preprocessing_note: str
    complexity: Complexity


@dataclass(frozen=True)
class ModelInput:
    """The images that a model file takes."""

    layout: Layout
    preprocessing: Preprocessing
    note: str

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """With batch 1."""
        height, width = self.preprocessing.height, self.preprocessing.width
        return (1, 3, height, width) if self.layout == "NCHW" else (1, height, width, 3)


def damaged(path: Path, kind: str, error: Exception) -> ModelError:
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
    return ModelError(
        f"{path} cannot be read as {kind}: {reason}", hint="the file is damaged or of another format: export it again"
    )


def read_input(config: ModelConfig, path: Path, shape: Sequence[int | None]) -> ModelInput:
    """Layout and size of an input of this shape, None for a dimension that is free. Raises `ModelError`."""
    if len(shape) != 4:
        raise ModelError(
            f"{path.name} has an input of shape {tuple(shape)}, not of a batch of images",
            hint="edlab measures image classifiers: (batch, 3, height, width) or (batch, height, width, 3)",
        )
    layouts: list[Layout] = [layout for layout, axis in (("NCHW", 1), ("NHWC", 3)) if shape[axis] == 3]  # type: ignore[misc]
    if config.layout in ("NCHW", "NHWC"):
        layout: Layout = config.layout  # type: ignore[assignment]
    elif len(layouts) == 1 and config.layout is None:
        layout = layouts[0]
    else:
        raise ModelError(
            f"the layout of the input {tuple(shape)} of {path.name} is not clear",
            hint="give model.layout=NCHW or model.layout=NHWC; the model takes colour images (3 channels)",
        )
    height, width = (shape[2], shape[3]) if layout == "NCHW" else (shape[1], shape[2])
    preprocessing, note = preprocessing_of_size(height, width, config)
    if (height or preprocessing.height, width or preprocessing.width) != (preprocessing.height, preprocessing.width):
        raise ModelError(
            f"{path.name} takes {height} x {width} pixels, not {preprocessing.height} x {preprocessing.width}",
            hint="leave model.preprocessing.height and width to the file",
        )
    return ModelInput(layout, preprocessing, note)


def classes_of(name: str, shape: Sequence[int | None]) -> int:
    """The number of classes of an output of this shape. Raises `ModelError` where it is not (batch, classes)."""
    lengths = [length for length in shape[1:] if length != 1]
    if len(lengths) != 1 or not lengths[0]:
        raise ModelError(
            f"{name} has an output of shape {tuple(shape)}, not of (batch, classes)",
            hint="edlab measures image classifiers with at least two classes",
        )
    return int(lengths[0])
