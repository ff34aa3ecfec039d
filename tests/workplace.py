"""Using edlab from the shell, as a person would."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from fault_injection import forked

from edlab.engine.command import read_records
from edlab.record import RunRecord

# The shortest protocol that still runs every phase; its figures mean nothing.
FAST = (
    "protocol=smoke",
    "protocol.queries=20",
    "protocol.seconds=0.3",
    "protocol.max_interval=1",
    "protocol.warmup.seconds=0.2",
    "protocol.warmup.max_seconds=2",
    "protocol.throughput.trial_seconds=0.1",
    "protocol.throughput.max_in_flight=2",
    "protocol.throughput.max_batch=4",
)


# It has imported the libraries once; each command is forked from it.
os.environ.update(forked.ENVIRONMENT)
_FORKSERVER = multiprocessing.get_context("forkserver")
_FORKSERVER.set_forkserver_preload(list(forked.IMPORTS))


def _edlab(words: Sequence[str], folder: Path, environment: Mapping[str, str], out: Path, err: Path) -> None:
    with open(os.devnull, "rb") as nothing, open(out, "wb") as stdout, open(err, "wb") as stderr:
        forked.run_edlab(words, folder, environment, nothing.fileno(), stdout.fileno(), stderr.fileno())


class Workplace:
    """A folder in which `edlab` is used from the shell, as a person would; conversions are shared by the session."""

    def __init__(self, folder: Path, cache: Path) -> None:
        locks = folder.parent / "locks"  # tests that run beside one another do not wait for one another
        locks.mkdir(exist_ok=True)
        self.folder = folder
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "EDLAB_"))},
            "EDLAB_CACHE": str(cache),
            "EDLAB_LOCK_DIR": str(locks),
            "COLUMNS": "200",
        }

    def edlab(self, *arguments: str, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
        """Run `edlab ARGUMENTS` here and give its exit code and output."""
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            command = _FORKSERVER.Process(target=_edlab, args=(arguments, self.folder, self.environment, out, err))
            command.start()
            command.join(timeout_s)
            if command.exitcode is None:
                command.kill()
                raise subprocess.TimeoutExpired(["edlab", *arguments], timeout_s, out.read_bytes(), err.read_bytes())
            texts = [path.read_text(errors="replace") for path in (out, err)]
            return subprocess.CompletedProcess(["edlab", *arguments], command.exitcode, *texts)

    def run(self, *words: str, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
        """`edlab run` with the shortest protocol."""
        return self.edlab("run", *FAST, *words, timeout_s=timeout_s)

    def records(self) -> list[RunRecord]:
        """The records of the latest sweep, in the order of its runs."""
        return read_records(sorted((self.folder / "mlruns" / "sweeps").iterdir())[-1])
