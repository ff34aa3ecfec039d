"""The loop that an engineer would write by hand over one artifact: no edlab in it, in a process of its own.

    python bare.py RUNTIME FILE INPUTS.npy THREADS latency|throughput SECONDS

INPUTS.npy holds ready input tensors (N, 1, ...). Prints the mean milliseconds, or the inferences per second of the
best of two ways to use the cores: one request with all threads, or one request with one thread on each.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

Infer = Callable[[np.ndarray], np.ndarray]


def onnxruntime(path: str, threads: int) -> Infer:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda tensor: session.run(None, {name: tensor})[0]


def openvino(path: str, threads: int) -> Infer:
    import openvino

    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    request = openvino.Core().compile_model(path, "CPU", settings).create_infer_request()

    def infer(tensor: np.ndarray) -> np.ndarray:
        request.set_input_tensor(openvino.Tensor(tensor, shared_memory=True))
        request.infer()
        return request.get_output_tensor().data

    return infer


def litert(path: str, threads: int) -> Infer:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=Path(path).read_bytes(), num_threads=threads)
    interpreter.allocate_tensors()
    given, taken = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def infer(tensor: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(given, tensor)
        interpreter.invoke()
        return interpreter.get_tensor(taken)

    return infer


RUNTIMES = {"onnxruntime": onnxruntime, "openvino": openvino, "litert": litert}


def latency_ms(infer: Infer, tensors: list[np.ndarray], seconds: float) -> float:
    for _ in range(2):
        end, count, start = time.perf_counter() + seconds / 2, 0, time.perf_counter()
        while time.perf_counter() < end:
            infer(tensors[count % len(tensors)])
            count += 1
        mean = (time.perf_counter() - start) / count * 1e3
    return mean  # of the second half: the first is the warm-up


def throughput_ips(infers: list[Infer], tensors: list[np.ndarray], seconds: float) -> float:
    counts = [0] * len(infers)
    end = time.perf_counter() + seconds

    def drive(worker: int) -> None:
        while time.perf_counter() < end:
            infers[worker](tensors[counts[worker] % len(tensors)])
            counts[worker] += 1

    threads = [threading.Thread(target=drive, args=(worker,)) for worker in range(len(infers))]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - start)


def main(runtime: str, path: str, inputs: str, threads: str, mode: str, seconds: str) -> None:
    cores = int(threads)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    tensors = list(np.load(inputs))
    build = RUNTIMES[runtime]
    if mode == "latency":
        print(latency_ms(build(path, cores), tensors, float(seconds)))
        return
    ways = [[build(path, cores)], [build(path, 1) for _ in range(cores)]]
    for way in ways:
        throughput_ips(way, tensors, 1.0)  # warm-up
    print(max(throughput_ips(way, tensors, float(seconds)) for way in ways))


if __name__ == "__main__":
    main(*sys.argv[1:])
