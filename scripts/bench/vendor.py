"""The vendors' own benchmark programs, with unrounded figures: both round to hundredths of a millisecond.

    python vendor.py benchmark_app|litert_benchmark FILE THREADS IN_FLIGHT

Answers slices (slices.py) with the program of the installed package: mean_ms and median_ms; benchmark_app's also ips.
"""

from __future__ import annotations

import os
import sys
from typing import TextIO

from slices import private_stdout, serve


def benchmark_app(path: str, threads: int, in_flight: int, replies: TextIO) -> None:
    """OpenVINO's, in Python: one request in its synchronous loop, several with AsyncInferQueue and as many streams."""
    from openvino.tools.benchmark import main as program
    from openvino.tools.benchmark.benchmark import Benchmark

    class Sliced(Benchmark):
        def main_loop(self, *arguments: object) -> tuple:
            def measure(seconds: float) -> dict[str, float]:
                nonlocal results
                self.duration_seconds = seconds
                results = super(Sliced, self).main_loop(*arguments)
                return {"ips": results[0], "median_ms": results[1], "mean_ms": results[2]}

            results: tuple = ()
            serve(measure, replies)
            return results

    program.Benchmark = Sliced
    api = ["-api", "sync"] if in_flight == 1 else ["-api", "async", "-nireq", str(in_flight)]
    options = ["-hint", "none", "-nthreads", str(threads), "-nstreams", str(in_flight), "-infer_precision", "f32"]
    sys.argv = ["benchmark_app", "-m", path, "-d", "CPU", *api, *options, "-t", "1"]
    program.main()


def litert_benchmark(path: str, threads: int, in_flight: int, replies: TextIO) -> None:
    """LiteRT's benchmark_litert_model, which counts runs and not seconds; it loads the model for each slice."""
    from ai_edge_litert.tools import benchmark_litert_model as program

    program.round = lambda value, digits: value
    mean_ms = 0.0

    def measure(seconds: float) -> dict[str, float]:
        nonlocal mean_ms
        runs = max(10, int(seconds * 1e3 / mean_ms)) if mean_ms else 10
        sys.argv = ["litert-benchmark", f"--model={path}", f"--num_threads={threads}"]
        sys.argv += [f"--num_runs={runs}", f"--warmup_runs={max(3, runs // 10)}"]
        latency = program.run_benchmark(program.parse_args())["latency"]
        mean_ms = latency["avg_ms"]
        return {"mean_ms": mean_ms, "median_ms": latency["median_ms"]}

    serve(measure, replies)


def main(program: str, path: str, threads: str, in_flight: str) -> None:
    replies = private_stdout()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(threads)])
    programs = {"benchmark_app": benchmark_app, "litert_benchmark": litert_benchmark}
    programs[program](path, int(threads), int(in_flight), replies)


if __name__ == "__main__":
    main(*sys.argv[1:])
