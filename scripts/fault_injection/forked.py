"""The `edlab` command in a forked process, which saves the seconds for importing MLflow, SciPy and others."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

IMPORTS = (
    "edlab.cli",
    "edlab.benchmark",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
    "mlflow",
    "mlflow.store.tracking.sqlalchemy_store",
    "sklearn.datasets",
)
# MLflow reads it once, at import; edlab/tracking/store.py sets it before.
ENVIRONMENT = {"MLFLOW_LOGGING_LEVEL": "CRITICAL"}


def preload() -> None:
    """Import what each start of edlab imports, in the process that will be forked."""
    os.environ.update(ENVIRONMENT)
    for name in IMPORTS:
        importlib.import_module(name)


def run_edlab(
    words: Sequence[str], folder: Path, environment: Mapping[str, str], stdin: int, stdout: int, stderr: int
) -> None:
    """Become, in a fork, what a shell would have started: `edlab WORDS` in a new session. Does not return."""
    from edlab import cli

    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    tempfile.tempdir = None
    for source, target in ((stdin, 0), (stdout, 1), (stderr, 2)):
        os.dup2(source, target)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False, buffering=1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    code = cli.main(words)
    with suppress(OSError):
        sys.stdout.flush()
    sys.exit(code)
