"""edlab's errors: each says what failed, where, and what to do.

EdlabError
├── ConfigError            a key, a value or a name on the command line or in a yaml
├── UnsupportedError       a combination that no one can run; refused before any work (a SKIPPED row)
├── MissingDependencyError a Python package or vendor tool that is not installed
├── ModelError             a model that cannot be loaded, or its weights
├── DataError              a data set that is missing, empty or unreadable
│   └── DataUnavailableError none was given, or it cannot be fetched: what it feeds is withheld
├── ConversionError        a vendor's converter that refused, crashed or hung; or an artifact that is garbage
├── DeviceError            a target that cannot be reached, or whose agent was lost
│   └── AgentError         the agent answered with an error of its own
├── MeasurementError       a measurement that cannot be taken
├── StorageError           a full disk, or a folder that cannot be written
└── TrackingError          MLflow cannot be reached, or does not hold what was asked for
"""

from __future__ import annotations


class EdlabError(Exception):
    """What failed (`message`), and what to do (`hint`, an imperative sentence or a command).

    `log` is the tail of a tool's own output, where there is one.
    """

    def __init__(self, message: str, *, hint: str = "", log: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.log = log


class ConfigError(EdlabError):
    """A key, a value or a name on the command line or in a yaml is wrong."""


class UnsupportedError(EdlabError):
    """The combination asked for can run nowhere; the hint names the nearest that can."""


class MissingDependencyError(EdlabError):
    """A package or a vendor tool is not installed; the hint is the command that installs it."""


class ModelError(EdlabError):
    """A model, or its weights, cannot be loaded."""


class DataError(EdlabError):
    """A data set is missing, empty, unreadable, or does not fit the model."""


class DataUnavailableError(DataError):
    """No data set was given, or it cannot be fetched: what it feeds is withheld, and the run goes on."""


class ConversionError(EdlabError):
    """A conversion step failed, or what it made is not a working model."""


class DeviceError(EdlabError):
    """A target cannot be reached, or its agent was lost."""


class AgentError(DeviceError):
    """The agent on the target answered a request with an error."""


class MeasurementError(EdlabError):
    """A measurement cannot be taken as its protocol says."""


class StorageError(EdlabError):
    """Files cannot be written: a full disk, or a folder without permission."""


class TrackingError(EdlabError):
    """MLflow cannot be reached, or does not hold what was asked for."""
