"""The accuracy pass: every image through the model once, at the speed of the runtime."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed

import numpy as np

from .messages import Activity, OnProgress, TensorSpec
from .observer import Look, Observer
from .preprocess import InputTable, dequantize
from .runtimes.base import Request


def predict(
    requests: list[Request],
    table: InputTable,
    output: TensorSpec,
    images: np.ndarray,
    indices: np.ndarray,
    progress: OnProgress,
) -> tuple[np.ndarray, Activity]:
    """float32 logits (N, C), dequantized, of images[indices]; and what the machine did meanwhile.

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

    def look() -> Look:
        finished = sum(predicted)
        return Look(finished, finished / count, "%d of %d images" % (finished, count))

    with Observer(look, progress) as observer, ThreadPoolExecutor(len(requests)) as pool:
        for future in as_completed([pool.submit(drive, request) for request in requests]):
            future.result()
    return results[0], observer.activity
