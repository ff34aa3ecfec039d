"""Every run in MLflow: what it was made of, what it gave, the model that ran; and the way back to each."""

from edlab.tracking.tracker import DatasetInfo, Files, Tracker

__all__ = ["DatasetInfo", "Files", "Tracker"]
