"""Inputs other than images: arrays of an npz file, fed to the model unchanged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edlab.cache import sha256_files
from edlab.config import DatasetConfig
from edlab.data.catalogue import Catalogue
from edlab.errors import DataError
from edlab.source import ArrayInput

_FORM = "write it with numpy.savez(path, inputs=..., labels=...): inputs (N, ...), labels (N,) of class indices"
_SYNTHETIC = 256  # to score, and the same number for calibration


def list_arrays(config: DatasetConfig, wanted: ArrayInput) -> Catalogue:
    """The rows of `inputs` in the npz file `config.path`, and their `labels` if it has any. Raises `DataError`."""
    path = Path(config.path or "").expanduser()
    if not config.path or not path.is_file():
        raise DataError(f"the data set file '{config.path or ''}' is not found", hint="set dataset.path=FILE.npz")
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
    except Exception as error:  # numpy and zipfile raise many types for a damaged file
        reason = (str(error).splitlines() or [""])[0][:200]
        raise DataError(f"cannot read {path}: {reason}", hint=_FORM) from error
    inputs = _inputs(path, found, wanted)
    labels = _labels(path, found, len(inputs))
    digest = sha256_files([path])
    return Catalogue(
        names=[f"{path.name}[{index}]" for index in range(len(inputs))],
        identity=[[digest, index] for index in range(len(inputs))],
        arrays=inputs,
        labels=labels,
        classes=None if labels is None else int(labels.max()) + 1,
    )


def list_synthetic_arrays(config: DatasetConfig, wanted: ArrayInput) -> Catalogue:
    """Normal noise with mean 0 and variance 1, drawn with `config.seed`, without labels."""
    evaluation = config.images or _SYNTHETIC
    count = evaluation + _SYNTHETIC
    values = np.random.default_rng(config.seed).standard_normal((count, *wanted.shape), np.float32)
    return Catalogue(
        names=[f"synthetic-{config.seed}-{index:05d}" for index in range(count)],
        identity=[["synthetic arrays", config.seed, index] for index in range(count)],
        arrays=values,
        own_calibration=np.arange(evaluation, count),
    )


def _inputs(path: Path, found: dict[str, NDArray[Any]], wanted: ArrayInput) -> NDArray[Any]:
    if "inputs" not in found:
        raise DataError(f"{path} has no array 'inputs' (it has {', '.join(found) or 'none'})", hint=_FORM)
    inputs = found["inputs"]
    if inputs.dtype.kind not in "fiu":
        raise DataError(f"'inputs' of {path} are {inputs.dtype}, not numbers", hint=_FORM)
    if inputs.ndim == 0 or not len(inputs):
        raise DataError(f"'inputs' of {path} are empty", hint=_FORM)
    if inputs.shape[1:] != wanted.shape:
        raise DataError(
            f"'inputs' of {path} have the shape {inputs.shape[1:]} each, and the model needs {wanted.shape}",
            hint="save them in the model's shape, the batch first",
        )
    if inputs.dtype.kind == "f" and not np.isfinite(inputs).all():
        raise DataError(f"'inputs' of {path} contain NaN or infinity", hint="remove these rows")
    return inputs


def _labels(path: Path, found: dict[str, NDArray[Any]], count: int) -> NDArray[np.int64] | None:
    if "labels" not in found:
        return None
    labels = found["labels"]
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise DataError(
            f"'labels' of {path} are {labels.dtype} of shape {labels.shape}, not {count} class indices", hint=_FORM
        )
    integers: NDArray[np.int64] = labels.astype(np.int64)
    if integers.min() < 0:
        raise DataError(f"'labels' of {path} contain {integers.min()}", hint="class indices count from 0")
    return integers
