"""The accuracy pass: every image through the model once, at the speed of the runtime."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Callable

import numpy as np

from .preprocess import InputTable, dequantize
from .runtimes.base import Request, TensorSpec

_REPORT_S = 0.5


def predict(
    requests: list[Request],
    table: InputTable,
    output: TensorSpec,
    images: np.ndarray,
    indices: np.ndarray,
    progress: Callable[[float, str], None],
) -> np.ndarray:
    """float32 logits (N, C), dequantized, of images[indices].

    Each request is driven by a thread that also preprocesses for it, at batch 1: the cores are busy throughout, and
    what an image gives does not depend on which others run beside it.
    """
    count = len(indices)
    results: list[np.ndarray] = []  # one array for all images, made when the first output shows how long it is
    making = threading.Lock()
    predicted = bytearray(count)
    positions = itertools.count()  # next() of it is atomic

    def drive(request: Request) -> None:
        request.bind()
        tensor = table.apply(images[indices[:1]])
        prepared = request.prepare(tensor)
        for position in positions:
            if position >= count:
                return
            index = indices[position]
            table.apply(images[index : index + 1], tensor)
            request.set_input(prepared)
            request.execute()
            logits = dequantize(request.get_output().reshape(1, -1), output.scale, output.zero_point)
            with making:
                if not results:
                    results.append(np.empty((count, logits.shape[1]), np.float32))
            results[0][position] = logits[0]
            predicted[position] = 1

    with ThreadPoolExecutor(len(requests)) as pool:
        finished = 0
        pending = {pool.submit(drive, request) for request in requests}
        while pending:
            done, pending = wait(pending, timeout=_REPORT_S, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
            now_finished = sum(predicted)
            if now_finished > finished:  # a pass that hangs must not look alive
                finished = now_finished
                progress(finished / count, "%d of %d images" % (finished, count))
    return results[0]
