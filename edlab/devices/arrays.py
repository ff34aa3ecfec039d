"""Arrays that an agent wrote and its host reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edlab.errors import DeviceError


def read_array(path: Path, dimensions: int | None = None) -> NDArray[Any]:
    """The array of an npy file with this number of dimensions (None: any). Raises `DeviceError` for any other file."""
    try:
        array = np.load(path, allow_pickle=False)
    except Exception as error:  # numpy reads the header with Python's own parser, which raises other errors
        raise _damaged(path, str(error)) from error
    if not isinstance(array, np.ndarray) or dimensions not in (None, array.ndim) or array.dtype.kind not in "fiu":
        raise _damaged(path, f"it does not contain numbers in {dimensions or 'any'} dimensions")
    return array


def _damaged(path: Path, why: str) -> DeviceError:
    why = why.splitlines()[0][:200] if why else "it is empty"
    return DeviceError(f"{path.name}, which the agent wrote, cannot be read: {why}", hint="run it again")
