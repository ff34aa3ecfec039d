"""Entry: pin the process and keep the protocol's streams private, before numpy or any runtime is imported."""

from __future__ import annotations

import argparse
import faulthandler
import os
import sys

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def main(arguments: list[str] | None = None) -> None:
    """Serve the host over stdin and stdout until stdin closes."""
    parser = argparse.ArgumentParser(prog="agent")
    parser.add_argument("--cpus", default="", help="comma-separated cores to run and be pinned to; all if empty")
    parser.add_argument("--workdir", help="where the host's files are kept, on a target that does not see the host's")
    parser.add_argument("--host-silence-s", type=float, help="end where the host gives not even a heartbeat so long")
    options = parser.parse_args(arguments)
    faulthandler.enable()  # where a runtime crashes, stderr has the Python line that called it
    cpus = [int(cpu) for cpu in options.cpus.split(",") if cpu]
    if cpus:
        os.sched_setaffinity(0, cpus)
        for variable in _THREAD_VARIABLES:
            os.environ[variable] = str(len(cpus))
    if options.workdir:
        os.chdir(options.workdir)  # what a vendor library drops
    requests, replies = _take_streams()

    from .protocol import serve

    def load() -> object:
        from .methods import Agent

        return Agent(options.workdir)

    serve(load, requests, replies, options.host_silence_s)


def _take_streams() -> tuple[int, int]:
    """Private copies of stdin and stdout: what a vendor library or its child reads or prints cannot touch them."""
    requests, replies = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, replies


if __name__ == "__main__":
    main(sys.argv[1:])
