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
    parser.add_argument("--cpus", default="", help="comma-separated cores to run on; all if empty")
    parser.add_argument("--workdir", help="folder for the host's files, if the target cannot read them there")
    parser.add_argument("--host-silence-s", type=float, help="end if the host sends nothing for this long")
    options = parser.parse_args(arguments)
    faulthandler.enable()  # if a runtime crashes, stderr shows the Python line that called it
    cpus = [int(cpu) for cpu in options.cpus.split(",") if cpu]
    if cpus:
        os.sched_setaffinity(0, cpus)
        for variable in _THREAD_VARIABLES:
            os.environ[variable] = str(len(cpus))
    if options.workdir:
        os.chdir(options.workdir)  # for files that a vendor library leaves
    requests, replies = _take_streams()

    from .protocol import serve

    def load() -> object:
        from .methods import Agent

        return Agent(options.workdir)

    serve(load, requests, replies, options.host_silence_s)


def _take_streams() -> tuple[int, int]:
    """Private copies of stdin and stdout: a vendor library or its child cannot read from them or print to them."""
    requests, replies = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, replies


if __name__ == "__main__":
    main(sys.argv[1:])
