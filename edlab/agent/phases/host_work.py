"""Host work: the preprocessing and postprocessing around the model, timed separately."""

from __future__ import annotations

import time

import numpy as np

from ..messages import HostWorkReport, OnProgress
from ..observer import Look, Observer
from ..preprocess import ArrayTable, InputTable
from ..runtimes.base import Request
from ..tasks import Task

HOST_WORK_QUERIES = 64


def host_work(
    request: Request, table: InputTable | ArrayTable, images: np.ndarray, task: Task, progress: OnProgress
) -> HostWorkReport:
    """Mean milliseconds of the work around the model: uint8 to input tensor, and output tensors to a result."""
    count = min(len(images), HOST_WORK_QUERIES)
    tensor = table.apply(images[:1])
    preprocess_ns, postprocess_ns, done = 0, 0, 0
    with Observer(lambda: Look(done, done / count, "%d of %d queries" % (done, count)), progress) as observer:
        for index in range(count):
            image = np.ascontiguousarray(images[index : index + 1])
            before = time.perf_counter_ns()
            table.apply(image, tensor)
            preprocess_ns += time.perf_counter_ns() - before
            request.set_input(request.prepare(tensor))
            request.execute()
            outputs = request.get_outputs()
            before = time.perf_counter_ns()
            task.postprocess(outputs)
            postprocess_ns += time.perf_counter_ns() - before
            done += 1
    return HostWorkReport(preprocess_ns / count / 1e6, postprocess_ns / count / 1e6, count, observer.activity)
