"""edlab's errors: each states what failed, where, and how to fix it.

EdlabError
├── ConfigError            a key, a value or a name on the command line or in a yaml
├── UnsupportedError       an unsupported combination; refused before any work (a SKIPPED row)
├── MissingDependencyError a Python package or vendor tool that is not installed
├── ModelError             a model that cannot be loaded, or its weights
├── DataError              a data set that is missing, empty or unreadable
│   └── DataUnavailableError no data set is given, or it cannot be downloaded: its metrics are withheld
├── ConversionError        a vendor's converter that failed, crashed or hung; or an invalid artifact
├── DeviceError            a target that cannot be reached, or whose agent was lost
│   └── AgentError         the agent answered with its own error
│       └── BusyError      another run holds the machine
├── MeasurementError       a measurement that is not possible
├── StorageError           a full disk, or a folder that cannot be written
└── TrackingError          MLflow cannot be reached, or does not have the requested run
"""

from __future__ import annotations


class EdlabError(Exception):
    """What failed (`message`), and how to fix it (`hint`, an imperative sentence or a command).

    `log` is the end of a tool's own output, if there is any.
    """

    def __init__(self, message: str, *, hint: str = "", log: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.log = log


class ConfigError(EdlabError):
    """A key, a value or a name on the command line or in a yaml is wrong."""


class UnsupportedError(EdlabError):
    """The requested combination is unsupported; the hint names the nearest one that is supported."""


class MissingDependencyError(EdlabError):
    """A package or a vendor tool is not installed; the hint is the command that installs it."""


class ModelError(EdlabError):
    """A model, or its weights, cannot be loaded."""


class DataError(EdlabError):
    """A data set is missing, empty, unreadable, or does not fit the model."""


class DataUnavailableError(DataError):
    """No data set is given, or it cannot be downloaded: its metrics are withheld, and the run continues."""


class ConversionError(EdlabError):
    """A conversion step failed, or its output is not a working model."""


class DeviceError(EdlabError):
    """A target cannot be reached, or its agent was lost."""


class AgentError(DeviceError):
    """The agent on the target answered a request with an error."""


class BusyError(AgentError):
    """Another run holds the machine."""


class MeasurementError(EdlabError):
    """A measurement is not possible as its protocol requires."""


class StorageError(EdlabError):
    """Files cannot be written: a full disk, or a folder without permission."""


class TrackingError(EdlabError):
    """MLflow cannot be reached, or does not have the requested run."""
