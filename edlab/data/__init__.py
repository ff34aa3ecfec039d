"""Data sets: found or downloaded, prepared once as one array of pixels, split into evaluation and calibration."""

from edlab.data.base import Dataset, Wanted
from edlab.data.catalogue import Catalogue
from edlab.data.datasets import DATASETS
from edlab.data.pixels import Decoded
from edlab.data.prepared import PreparedData, check_options, check_path, prepare, task_of

__all__ = [
    "DATASETS",
    "Catalogue",
    "Dataset",
    "Decoded",
    "PreparedData",
    "Wanted",
    "check_options",
    "check_path",
    "prepare",
    "task_of",
]
