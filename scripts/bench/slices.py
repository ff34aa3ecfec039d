"""Two programs that are compared run at the same time and measure short slices in turn: speed may double in a second.

A program reads lines of seconds on its stdin and answers each with a line of JSON. It does not use edlab.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

Figures = dict[str, float]
HERE = Path(__file__).parent


def private_stdout() -> TextIO:
    """The stream for answers; from now on, the output of libraries goes to stderr."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return replies


def serve(measure: Callable[[float], Figures], replies: TextIO) -> None:
    """Measure a slice of the given seconds for each line of input."""
    for line in sys.stdin:
        print(json.dumps(measure(float(line))), file=replies, flush=True)


class Program:
    """A program of this folder, in a separate process, as a context manager."""

    def __init__(self, script: str, arguments: Sequence[object]) -> None:
        self._command = [sys.executable, str(HERE / script), *map(str, arguments)]

    def __enter__(self) -> Program:
        self._log = tempfile.TemporaryFile("w+")
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(self._command, stdin=pipe, stdout=pipe, stderr=self._log, text=True)
        return self

    def __exit__(self, *error: object) -> None:
        self._process.communicate()
        self._log.close()

    def measure(self, seconds: float) -> Figures:
        """The figures of one slice. Raises `RuntimeError` with the end of the program's output."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            words = "".join(self._log.readlines()[-8:])
            raise RuntimeError(f"{' '.join(self._command)} ended:\n{words}")
        figures: Figures = json.loads(line)
        return figures
