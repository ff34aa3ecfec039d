"""Data sets: found or downloaded, prepared once as one array of pixels, split into evaluation and calibration."""

from edlab.data.prepared import PreparedData, prepare, task_of

__all__ = ["PreparedData", "prepare", "task_of"]
