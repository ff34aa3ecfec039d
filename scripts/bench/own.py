"""edlab's own phases over one artifact, in a separate process.

    python own.py RUNTIME FILE INPUTS.npy THREADS IN_FLIGHT phases|window|openvino_clock|loadgen

INPUTS.npy contains ready input tensors (N, 1, ...). Answers slices (slices.py):

- `phases`: mean_ms, median_ms, execute_mean_ms, execute_median_ms of the latency phase, ips of a saturated window;
- `window`: only the ips;
- `openvino_clock`: mean_ms and median_ms of the latency phase's queries by OpenVINO's own clock, all of one input;
- `loadgen`: the results of MLPerf's LoadGen for the same request.
"""

from __future__ import annotations

import gc
import math
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from slices import private_stdout, serve

_OPTIONS: dict[str, dict[str, Any]] = {  # the kernels that a runtime chooses by default, as in the other tools
    "onnxruntime": {"int8_kernels": "fast"},
    "openvino": {"int8_kernels": "fast"},
}


def quiet(fraction: float | None, message: str) -> None:
    """Progress that is not shown."""


def latency(request: Any, pool: list[np.ndarray], seconds: float) -> np.ndarray:
    """int64 ns (N, 3) of the latency phase."""
    from edlab.agent import phases
    from edlab.agent.messages import Latency, Pool

    asked = Latency(Pool("", []), 1, seconds, seconds, windows=10, max_interval=math.inf, out="")
    return phases.latency(request, pool, asked, quiet).stages_ns


def both_phases(requests: list[Any], pool: list[np.ndarray], seconds: float) -> dict[str, float]:
    stages = latency(requests[0], pool, seconds) / 1e6
    latencies = stages.sum(axis=1)
    return {
        "mean_ms": float(latencies.mean()),
        "median_ms": float(np.median(latencies)),
        "execute_mean_ms": float(stages[:, 1].mean()),
        "execute_median_ms": float(np.median(stages[:, 1])),
        **window(requests, pool, seconds),
    }


def window(requests: list[Any], pool: list[np.ndarray], seconds: float) -> dict[str, float]:
    from edlab.agent import phases

    limit_ns = time.perf_counter_ns() + int(100 * seconds * 1e9)
    return {"ips": phases.saturate(requests, pool, seconds, limit_ns, quiet).ips}


def openvino_clock(requests: list[Any], pool: list[np.ndarray], seconds: float) -> dict[str, float]:
    """The latency phase, with each query's time read from OpenVINO after the phase has taken its own."""
    (request,) = requests
    from edlab.agent.runtimes.base import Request

    times: list[float] = []

    class Watched(Request):
        prepare, set_input, execute = request.prepare, request.set_input, request.execute

        def get_outputs(self) -> list[np.ndarray]:
            outputs: list[np.ndarray] = request.get_outputs()
            times.append(request._request.latency)  # in milliseconds, only of the C++ call
            return outputs

    stages = latency(Watched(), pool[:1], seconds)
    timed = times[-len(stages) :]  # earlier ones have cold caches: the phase does not time them either
    return {"mean_ms": float(np.mean(timed)), "median_ms": float(np.median(timed))}


def loadgen(requests: list[Any], pool: list[np.ndarray], seconds: float) -> dict[str, float]:
    """SingleStream and Offline over the request: LoadGen's figures, and those of its callback, as edlab counts."""
    (request,) = requests
    single, inside = _loadgen("SingleStream", request, pool, seconds, expected_ms=1.0)
    expected_ms = single["Mean latency (ns)"] / 1e6
    offline, _ = _loadgen("Offline", request, pool, seconds, expected_ms)
    return {
        "mean_ms": expected_ms,
        "median_ms": single["50.00 percentile latency (ns)"] / 1e6,
        "callback_mean_ms": float(inside.mean()) / 1e6,
        "callback_median_ms": float(np.median(inside)) / 1e6,
        "ips": offline["Samples per second"],
    }


def _loadgen(
    scenario: str, request: Any, pool: list[np.ndarray], seconds: float, expected_ms: float
) -> tuple[dict[str, float], np.ndarray]:
    """LoadGen's summary, and the ns of each query in its callback."""
    import mlperf_loadgen as lg

    prepared = [request.prepare(tensor) for tensor in pool]
    set_input, execute, get_outputs = request.set_input, request.execute, request.get_outputs
    clock = time.perf_counter_ns
    times: list[int] = []

    def issue(samples: list[Any]) -> None:
        for sample in samples:
            tensor = prepared[sample.index]
            before = clock()
            set_input(tensor)
            execute()
            get_outputs()
            times.append(clock() - before)
            lg.QuerySamplesComplete([lg.QuerySampleResponse(sample.id, 0, 0)])

    settings = lg.TestSettings()
    settings.scenario = getattr(lg.TestScenario, scenario)
    settings.mode = lg.TestMode.PerformanceOnly
    settings.min_duration_ms = int(seconds * 1e3)
    settings.min_query_count = 1
    settings.single_stream_expected_latency_ns = int(expected_ms * 1e6)
    settings.offline_expected_qps = 1e3 / expected_ms
    logs = lg.LogSettings()
    with tempfile.TemporaryDirectory() as folder:
        logs.log_output.outdir = folder
        logs.enable_trace = False
        sut = lg.ConstructSUT(issue, lambda: None)
        library = lg.ConstructQSL(len(pool), len(pool), lambda indices: None, lambda indices: None)
        gc.collect()
        gc.disable()
        lg.StartTestWithLogSettings(sut, library, settings, logs)
        gc.enable()
        lg.DestroyQSL(library)
        lg.DestroySUT(sut)
        return summary(Path(folder, "mlperf_log_summary.txt").read_text()), np.array(times, np.int64)


def summary(text: str) -> dict[str, float]:
    """The figures of LoadGen's mlperf_log_summary.txt by their names: lines of the form `name : number`."""
    figures = {}
    for line in text.splitlines():
        name, colon, value = line.rpartition(":")
        if colon:
            try:
                figures[name.strip()] = float(value)
            except ValueError:
                continue
    return figures


SUBJECTS = {"phases": both_phases, "window": window, "openvino_clock": openvino_clock, "loadgen": loadgen}


def main(runtime: str, path: str, inputs: str, threads: str, in_flight: str, subject: str) -> None:
    replies = private_stdout()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(threads)])
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = threads
    from edlab.agent import runtimes

    instance = runtimes.find(runtime)([path], int(threads), _OPTIONS.get(runtime, {}))
    instance.load()
    requests = instance.compile(int(in_flight), 1).requests
    requests[0].bind()
    pool = list(np.load(inputs))
    serve(lambda seconds: SUBJECTS[subject](requests, pool, seconds), replies)


if __name__ == "__main__":
    main(*sys.argv[1:])
