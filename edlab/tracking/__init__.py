"""Every run in MLflow: what it was made of, what it gave, the model that ran; and the way back to each."""

from edlab.tracking.files import DatasetInfo, Files
from edlab.tracking.recorder import RESULT, Recorder
from edlab.tracking.spool import Spool
from edlab.tracking.tracker import Tracker

__all__ = ["RESULT", "DatasetInfo", "Files", "Recorder", "Spool", "Tracker"]
