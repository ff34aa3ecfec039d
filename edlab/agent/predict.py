"""The accuracy pass: every image through the model once, at the speed of the runtime."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed

import numpy as np

from .messages import Activity, OnProgress
from .observer import Look, Observer
from .preprocess import ArrayTable, InputTable
from .runtimes.base import Request
from .tasks import Task


def predict(
    requests: list[Request],
    table: InputTable | ArrayTable,
    task: Task,
    images: np.ndarray,
    indices: np.ndarray,
    progress: OnProgress,
) -> tuple[np.ndarray, Activity]:
    """The task's results for images[indices], float32 (N, ...), and what the machine did in that time.

    Each request is driven by a thread that also preprocesses for it, at batch 1: the cores stay busy, and the result of
    an image does not depend on the other images.
    """
    count = len(indices)
    results: list[np.ndarray] = []  # one array for all images, created when the first result shows its shape
    making = threading.Lock()
    predicted = bytearray(count)
    positions = itertools.count()  # its next() is atomic

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
            found = task.read(request.get_outputs())
            with making:
                if not results:
                    results.append(np.empty((count, *found.shape), np.float32))
            results[0][position] = found
            predicted[position] = 1

    def look() -> Look:
        finished = sum(predicted)
        return Look(finished, finished / count, "%d of %d images" % (finished, count))

    with Observer(look, progress) as observer, ThreadPoolExecutor(len(requests)) as pool:
        for future in as_completed([pool.submit(drive, request) for request in requests]):
            future.result()
    return results[0], observer.activity
