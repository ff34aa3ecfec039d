"""The methods that the host can call. See `edlab.devices.session` for the host's side."""

from __future__ import annotations

import os
import platform
import sys
import time
from typing import Callable

import numpy as np

from . import __version__, boards, int8, locks, messages, phases, plugins, runtimes, sensors, system, tasks, toolchains
from .boards import jetson
from .errors import AgentError, StorageError, storage_error
from .messages import Nothing, OnProgress
from .outputs import CHECKED_QUERIES, OutputCheck
from .predict import predict
from .preprocess import table_for
from .runtimes.base import Compiled, Runtime
from .sensors import nvml
from .sensors.base import Recorder, Sensor
from .store import Store

_FAST_PER_S = 30_000  # completions: above this rate, the limit of the driving loop is measured too


class _Model:
    """An open model: its runtime, the request of the latency phases, its preprocessing and its task."""

    def __init__(self, runtime: Runtime, compiled: Compiled, ask: messages.Open) -> None:
        if len(compiled.inputs) != 1:
            names = ", ".join(spec.name for spec in compiled.inputs)
            raise AgentError(
                "the model has %d inputs (%s); it must have one image" % (len(compiled.inputs), names),
                hint="export the model with the image as its only input",
            )
        self.runtime = runtime
        self.request = compiled.requests[0]
        self.request.bind()
        self.input = compiled.inputs[0]
        self.outputs = compiled.outputs
        if self.input.shape[0] not in (None, 1):
            raise AgentError("the model's batch is fixed at %d" % self.input.shape[0], hint="export it with batch 1")
        form = (self.input.dtype, self.input.scale, self.input.zero_point)
        self.table = table_for(ask.mean, ask.std, ask.channels, ask.layout, *form)
        self.task = tasks.find(ask.task)(compiled.outputs, dict(ask.task_options, **ask.task_files))
        self._pool_key: tuple[object, ...] = ()
        self._pool: list[np.ndarray] = []

    def images(self, path: str) -> np.ndarray:
        """The stored images (N, H, W, C), memory-mapped. Raises `AgentError` if they do not fit the input."""
        images: np.ndarray = np.load(path, mmap_mode="r")
        actual = tuple(self.table.shape(1, *images.shape[1:]))
        wanted = self.input.shape
        if len(actual) != len(wanted) or any(w not in (None, g) for g, w in zip(actual, wanted)):
            raise AgentError(
                "the model's input '%s' needs the shape %s, and the data have %s"
                % (self.input.name, list(wanted), list(actual)),
                hint="check the layout (model.layout of a model file, Step.layout of a converter), "
                "model.preprocessing.height and model.preprocessing.width",
            )
        return images

    def tensors(self, pool: messages.Pool) -> list[np.ndarray]:
        """The input tensors of these images, preprocessed once for all phases."""
        key = (pool.images, tuple(pool.indices))
        if key != self._pool_key:
            images = self.images(pool.images)
            self._pool = [self.table.apply(images[index : index + 1]) for index in pool.indices]
            self._pool_key = key
        return self._pool


class Agent:
    """The state of one agent: at most one open model. A method of `messages.METHODS` is the method of that name here.

    Each takes `progress(fraction, message)` and its request, and returns its reply.
    """

    def __init__(self, workdir: str | None = None) -> None:
        """`workdir` is the folder of the host's files, including this agent's zip; None: it reads them on the host."""
        self._model: _Model | None = None
        self._lock: int | None = None
        self._changes: dict[str, boards.Change] = {}  # of knobs, by name
        self._sensors: dict[str, Sensor] = {}  # that the host knows
        self._recorders: dict[str, Recorder] = {}  # by sensor, the latest of each
        self._store = Store(workdir) if workdir else None
        if self._store:
            self._store.use(os.path.basename(os.path.dirname(sys.argv[0])))

    def hello(self, progress: OnProgress, ask: Nothing) -> messages.Machine:
        return messages.Machine(
            pid=os.getpid(),
            executable=sys.executable,
            agent=__version__,
            python=platform.python_version(),
            numpy=np.__version__,
            **dict(system.describe(), **jetson.describe(), **nvml.describe()),
        )

    def available(self, progress: OnProgress, ask: messages.Available) -> messages.Runtimes:
        return messages.Runtimes(runtimes.available(ask.runtimes, ask.options))

    def sensors(self, progress: OnProgress, ask: Nothing) -> messages.Sensors:
        found = sensors.survey()
        self._sensors = {sensor.name: sensor for sensor in found.sensors}
        return sensors.describe(found)

    def clock(self, progress: OnProgress, ask: Nothing) -> messages.Clock:
        return messages.Clock(time.perf_counter_ns())

    def record_start(self, progress: OnProgress, ask: messages.RecordStart) -> Nothing:
        """A sensor that was found before may fail now; an unknown one raises `AgentError`."""
        if ask.sensor in self._recorders:
            self._recorders[ask.sensor].stop()
        recorder = Recorder(self._sensors.get(ask.sensor) or sensors.get(ask.sensor), ask.interval_s)
        recorder.start()
        self._recorders[ask.sensor] = recorder
        return Nothing()

    def record_stop(self, progress: OnProgress, ask: messages.RecordStop) -> Nothing:
        self._recorder(ask.sensor).stop()
        return Nothing()

    def record_series(self, progress: OnProgress, ask: messages.RecordSeries) -> messages.Readings:
        recorder = self._recorder(ask.sensor)
        _save(ask.out, recorder.series(ask.start_ns, ask.end_ns))
        return recorder.failures(ask.start_ns, ask.end_ns)

    def state(self, progress: OnProgress, ask: Nothing) -> messages.State:
        return messages.State(**dict(system.state(), **jetson.state()))

    def set_knob(self, progress: OnProgress, ask: messages.SetKnob) -> messages.KnobSet:
        """Set a knob until the agent ends in any way."""
        if ask.name in self._changes:
            self._changes.pop(ask.name).undo()
        change = self._changes[ask.name] = boards.Change(boards.find(ask.name), ask.value, self._lock)
        return messages.KnobSet(change.before, change.value)

    def lock(self, progress: OnProgress, ask: messages.Lock) -> Nothing:
        """Lock the device until the agent ends and its knobs are restored."""
        self._lock = locks.acquire(*ask, waiting=lambda message: progress(None, message))
        return Nothing()

    def expect(self, progress: OnProgress, ask: messages.Expect) -> messages.Expected:
        return self._kept().expect(*ask, checking=_checking(progress))

    def accept(self, progress: OnProgress, ask: messages.Accept) -> messages.Accepted:
        return self._kept().accept(*ask, checking=_checking(progress))

    def scratch(self, progress: OnProgress, ask: Nothing) -> messages.Folder:
        """A folder for files that the host will fetch; it is removed when the agent ends."""
        return messages.Folder(self._kept().scratch())

    def identify(self, progress: OnProgress, ask: messages.Identify) -> messages.Identity:
        return messages.Identity(toolchains.find(ask.toolchain).identity(ask.options))

    def build(self, progress: OnProgress, ask: messages.Build) -> messages.Built:
        toolchain = toolchains.find(ask.toolchain)
        start = time.perf_counter()
        toolchain.build(ask.files, ask.out, ask.options, ask.calibration, progress)
        return messages.Built(time.perf_counter() - start)

    def open(self, progress: OnProgress, ask: messages.Open) -> messages.Opened:
        """Replaces the open model."""
        self._model = None
        driver = runtimes.find(ask.runtime)
        version = driver.version()
        kernels = int8.choose(driver, ask.int8_probe, ask.int8_probe_layout, ask.options) if ask.int8_probe else None
        instance = driver(ask.files, ask.threads, kernels.options if kernels else ask.options)
        try:
            start = time.perf_counter_ns()
            instance.load()
            loaded = time.perf_counter_ns()
            compiled = instance.compile(in_flight=1, batch=1)
            ready = time.perf_counter_ns()
        except AgentError:
            raise
        except Exception as error:
            if storage_error(error):
                raise
            first_line = (str(error).strip().splitlines() or [""])[0]
            message = "%s cannot open %s: %s: %s" % (ask.runtime, ask.files[0], type(error).__name__, first_line)
            raise AgentError(message, hint=_why_not_opened(driver, version, error)) from error
        self._model = _Model(instance, compiled, ask)
        if not driver.separates_compile:
            loaded = ready
        return messages.Opened(
            runtime=ask.runtime,
            version=version,
            load_ms=(loaded - start) / 1e6,
            compile_ms=(ready - loaded) / 1e6 if driver.separates_compile else None,
            inputs=compiled.inputs,
            outputs=compiled.outputs,
            options=compiled.options,
            on_cpu=instance.runs_on_cpu(),
            int8=kernels,
        )

    def predict(self, progress: OnProgress, ask: messages.Predict) -> messages.PredictReport:
        """Write the task's results for the images, float32 (N, ...), in order. See `predict.predict`."""
        model = self._open_model()
        stored = model.images(ask.pool.images)
        in_flight, compiled = _compile_for_all_cores(model.runtime)
        indices = np.asarray(ask.pool.indices)
        results, activity = predict(compiled.requests, model.table, model.task, stored, indices, progress)
        _save(ask.out, results)
        return messages.PredictReport(len(results), activity.seconds, in_flight, compiled.options, activity)

    def idle(self, progress: OnProgress, ask: messages.Idle) -> messages.IdleReport:
        return phases.idle(ask.seconds, progress)

    def warmup(self, progress: OnProgress, ask: messages.Warmup) -> messages.WarmupReport:
        model = self._open_model()
        check = OutputCheck(model.runtime, model.outputs, model.task)
        return phases.warmup(model.request, model.tensors(ask.pool), ask, progress, check, CHECKED_QUERIES)

    def latency(self, progress: OnProgress, ask: messages.Latency) -> messages.LatencyReport:
        model = self._open_model()
        measured = phases.latency(model.request, model.tensors(ask.pool), ask, progress)
        peak_memory_mb = system.peak_memory_mb()  # before the throughput search allocates several requests and batches
        _save(ask.out, measured.stages_ns)
        return messages.LatencyReport(
            queries=len(measured.stages_ns),
            start_ns=measured.start_ns,
            end_ns=measured.end_ns,
            seconds=measured.seconds,
            truncated=measured.truncated,
            activity=measured.activity,
            peak_memory_mb=peak_memory_mb,
        )

    def host_work(self, progress: OnProgress, ask: messages.HostWork) -> messages.HostWorkReport:
        model = self._open_model()
        images = model.images(ask.pool.images)[ask.pool.indices[: phases.HOST_WORK_QUERIES]]
        return phases.host_work(model.request, model.table, images, model.task, progress)

    def throughput(self, progress: OnProgress, ask: messages.Throughput) -> messages.ThroughputReport:
        """Every setting is compiled again, also the one of the latency phase: a model that has run has an advantage.

        Queries in progress at the limit are waited for.
        """
        model = self._open_model()
        tensors = model.tensors(ask.pool)
        limit_ns = time.perf_counter_ns() + int(ask.max_seconds * 1e9)
        if ask.setting:
            found = phases.Search(ask.setting, [], None, "", False, None)
        else:
            limits = phases.Limits(ask.max_batch, ask.max_in_flight, len(system.allowed_cpus()), ask.gain)
            search_limit_ns = limit_ns - int(ask.seconds * 1e9)
            found = phases.search(model.runtime.compile, tensors, limits, ask.trial_seconds, search_limit_ns, progress)
        best = found.best
        compiled = model.runtime.compile(best.in_flight, best.batch)
        batches = phases.batches(tensors, best.batch)
        window = phases.saturate(compiled.requests, batches, ask.seconds, limit_ns, progress)
        completions_per_s = window.ips / best.batch
        driver = phases.driver_limit(best.batch, best.in_flight) if completions_per_s > _FAST_PER_S else None
        return messages.ThroughputReport(
            throughput_ips=window.ips,
            batch1_ips=window.ips if best.batch == 1 else found.batch1_ips,
            batch1_note=found.batch1_note,
            driver_limit_ips=driver,
            batch=best.batch,
            in_flight=best.in_flight,
            completed=window.completed,
            ips_by_second=window.ips_by_second,
            seconds=window.seconds,
            truncated=window.truncated,
            search_truncated=found.truncated,
            activity=window.activity,
            search_activity=found.activity,
            start_ns=window.start_ns,
            end_ns=window.end_ns,
            search=found.trials,
            options=compiled.options,
        )

    def profile(self, progress: OnProgress, ask: messages.Profile) -> messages.ProfileReport:
        model = self._open_model()
        return phases.profile(model.runtime, model.request, model.tensors(ask.pool), ask.runs, progress)

    def close(self, progress: OnProgress, ask: Nothing) -> Nothing:
        """Release the open model, if there is one, and the scratch folder; restore the knobs."""
        self._model = None
        for name in reversed(list(self._changes)):
            try:
                self._changes.pop(name).undo()
            except AgentError as error:  # no one waits for an answer any more; the other knobs must be restored too
                sys.stderr.write("%s; %s\n" % (error, error.hint))
        if self._store:
            self._store.close()
        return Nothing()

    def _kept(self) -> Store:
        if self._store is None:
            raise AgentError("this agent reads the host's files and stores none", hint="start the agent with --workdir")
        return self._store

    def _open_model(self) -> _Model:
        if self._model is None:
            raise AgentError("no model is open", hint="call open first")
        return self._model

    def _recorder(self, sensor: str) -> Recorder:
        if sensor not in self._recorders:
            raise AgentError("the sensor '%s' was not recorded" % sensor, hint="call record_start first")
        return self._recorders[sensor]


def _compile_for_all_cores(runtime: Runtime) -> tuple[int, Compiled]:
    """The model for one request per core, or for half of that, and so on, if the device does not have as many."""
    in_flight = runtime.threads
    while True:
        try:
            return in_flight, runtime.compile(in_flight, batch=1)
        except Exception:
            if in_flight == 1:
                raise
        in_flight //= 2


def _why_not_opened(driver: type[Runtime], version: str, error: Exception) -> str:
    """The hint for a file that a runtime cannot open: the file, or an error in the module of an outside package."""
    place = plugins.mistake_in(driver, error)
    if place:
        return "this is an error in the module of the runtime %s, not in the file: fix %s" % (driver.name, place)
    return "the file is damaged, or %s %s does not support it: convert it again" % (driver.name, version)


def _checking(progress: OnProgress) -> Callable[[], None]:
    return lambda: progress(None, "checking the files that were sent")


def _save(path: str, array: np.ndarray) -> None:
    """Write an npy file. numpy's own error for a full disk has neither an error number nor the path."""
    try:
        np.save(path, array)
    except OSError as error:
        raise StorageError(path, error) from error
