"""The vendors' own benchmark programs, their figures in full: both print hundredths of a millisecond.

    python vendor.py benchmark_app|litert_benchmark FILE THREADS IN_FLIGHT SECONDS

Runs the program of the installed package, unchanged but for that and a warm-up. After what it prints comes a line of
JSON: mean_ms and median_ms; benchmark_app's also ips.
"""

from __future__ import annotations

import json
import os
import sys


def benchmark_app(path: str, threads: int, in_flight: int, seconds: float) -> dict[str, float]:
    """OpenVINO's, in Python: one request by its synchronous loop, several by AsyncInferQueue with as many streams."""
    from openvino.tools.benchmark import main as program
    from openvino.tools.benchmark.benchmark import Benchmark

    figures: dict[str, float] = {}

    class Full(Benchmark):
        def main_loop(self, *arguments: object) -> tuple:
            super().main_loop(*arguments)  # warm-up, which the program leaves out
            results = super().main_loop(*arguments)
            figures.update(ips=results[0], median_ms=results[1], mean_ms=results[2])
            return results

    program.Benchmark = Full
    api = ["-api", "sync"] if in_flight == 1 else ["-api", "async", "-nireq", str(in_flight)]
    options = ["-hint", "none", "-nthreads", str(threads), "-nstreams", str(in_flight), "-infer_precision", "f32"]
    sys.argv = ["benchmark_app", "-m", path, "-d", "CPU", *api, *options, "-t", str(max(1, round(seconds)))]
    program.main()
    return figures


def litert_benchmark(path: str, threads: int, in_flight: int, seconds: float) -> dict[str, float]:
    """LiteRT's benchmark_litert_model, which counts runs and not seconds: a short one tells how many."""
    from ai_edge_litert.tools import benchmark_litert_model as program

    program.round = lambda value, digits: value

    def run(runs: int, warm_up: int) -> dict[str, float]:
        sys.argv = ["litert-benchmark", f"--model={path}", f"--num_threads={threads}"]
        sys.argv += [f"--num_runs={runs}", f"--warmup_runs={warm_up}"]
        latency: dict[str, float] = program.run_benchmark(program.parse_args())["latency"]
        return latency

    runs = max(20, int(seconds * 1e3 / run(20, 5)["avg_ms"]))
    latency = run(runs, runs // 2)
    return {"mean_ms": latency["avg_ms"], "median_ms": latency["median_ms"]}


def main(program: str, path: str, threads: str, in_flight: str, seconds: str) -> None:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(threads)])
    programs = {"benchmark_app": benchmark_app, "litert_benchmark": litert_benchmark}
    print("\n" + json.dumps(programs[program](path, int(threads), int(in_flight), float(seconds))))


if __name__ == "__main__":
    main(*sys.argv[1:])
