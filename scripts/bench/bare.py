"""The loop that an engineer would write by hand over one artifact: without edlab, in a separate process.

    python bare.py RUNTIME FILE INPUTS.npy THREADS IN_FLIGHT

INPUTS.npy contains ready input tensors (N, 1, ...). Answers slices (slices.py): mean_ms and median_ms of a query, and
ips, the queries of all loops per second. Each of IN_FLIGHT loops runs in a thread.
"""

from __future__ import annotations

import gc
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from slices import private_stdout, serve

Infer = Callable[[Any], np.ndarray]
Prepare = Callable[[np.ndarray], Any]


def onnxruntime(path: str, threads: int, loops: int) -> tuple[Prepare, list[Infer]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = max(1, threads - loops + 1)
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name, outputs = session.get_inputs()[0].name, [session.get_outputs()[0].name]
    return lambda tensor: {name: tensor}, [lambda feed: session.run(outputs, feed)[0]] * loops


def openvino(path: str, threads: int, loops: int) -> tuple[Prepare, list[Infer]]:
    import openvino

    settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": loops, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(path, "CPU", settings)

    def loop() -> Infer:
        request = compiled.create_infer_request()

        def infer(tensor: Any) -> np.ndarray:
            request.set_input_tensor(tensor)
            return next(iter(request.infer(share_outputs=True).values()))

        return infer

    return lambda tensor: openvino.Tensor(tensor, shared_memory=True), [loop() for _ in range(loops)]


def litert(path: str, threads: int, loops: int) -> tuple[Prepare, list[Infer]]:
    from ai_edge_litert.interpreter import Interpreter

    def loop() -> Infer:
        interpreter = Interpreter(model_content=Path(path).read_bytes(), num_threads=max(1, threads // loops))
        interpreter.allocate_tensors()
        given, taken = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

        def infer(tensor: np.ndarray) -> np.ndarray:
            interpreter.set_tensor(given, tensor)
            interpreter.invoke()
            return interpreter.get_tensor(taken)

        return infer

    return lambda tensor: tensor, [loop() for _ in range(loops)]


RUNTIMES = {"onnxruntime": onnxruntime, "openvino": openvino, "litert": litert}


def run(infer: Infer, inputs: list[Any], seconds: float) -> tuple[list[int], float]:
    """The nanoseconds of each query for this number of seconds, and the seconds that they took."""
    clock, times, count = time.perf_counter_ns, [], 0
    start = clock()
    end = start + int(seconds * 1e9)
    while True:
        tensor = inputs[count % len(inputs)]
        before = clock()
        infer(tensor)
        after = clock()
        times.append(after - before)
        count += 1
        if after >= end:
            return times, (after - start) / 1e9


def measure(infers: list[Infer], inputs: list[Any], seconds: float) -> dict[str, float]:
    results: list[tuple[list[int], float]] = []
    gc.collect()
    gc.disable()
    threads = [
        threading.Thread(target=lambda infer=infer: results.append(run(infer, inputs, seconds))) for infer in infers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gc.enable()
    times = [each for taken, _ in results for each in taken]
    ips = sum(len(taken) / elapsed for taken, elapsed in results)
    return {"mean_ms": statistics.fmean(times) / 1e6, "median_ms": statistics.median(times) / 1e6, "ips": ips}


def main(runtime: str, path: str, inputs: str, threads: str, in_flight: str) -> None:
    replies = private_stdout()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(threads)])
    prepare, infers = RUNTIMES[runtime](path, int(threads), int(in_flight))
    prepared = [prepare(tensor) for tensor in np.load(inputs)]
    serve(lambda seconds: measure(infers, prepared, seconds), replies)


if __name__ == "__main__":
    main(*sys.argv[1:])
