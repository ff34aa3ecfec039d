"""Every run in MLflow: its parameters, its results and the model that ran; and how to find each run again."""

from edlab.tracking.files import RESULT, DatasetInfo, Files
from edlab.tracking.recorder import Recorder
from edlab.tracking.spool import Spool
from edlab.tracking.sweeps import Summary
from edlab.tracking.tracker import Tracker

__all__ = ["RESULT", "DatasetInfo", "Files", "Recorder", "Spool", "Summary", "Tracker"]
