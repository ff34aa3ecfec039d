"""Entry: pin the process and keep the protocol's streams private, before numpy or any runtime is imported."""

from __future__ import annotations

import argparse
import os
import sys

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def main(arguments: list[str] | None = None) -> None:
    """Serve the host over stdin and stdout until stdin closes. `--cpus 0,1` pins to these cores."""
    parser = argparse.ArgumentParser(prog="agent")
    parser.add_argument("--cpus", default="", help="comma-separated cores to run on; all if empty")
    cpus = [int(cpu) for cpu in parser.parse_args(arguments).cpus.split(",") if cpu]
    if cpus:
        os.sched_setaffinity(0, cpus)
        for variable in _THREAD_VARIABLES:
            os.environ[variable] = str(len(cpus))
    requests, replies = _take_streams()

    from .methods import Agent
    from .protocol import serve

    serve(Agent().methods, requests, replies)


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
