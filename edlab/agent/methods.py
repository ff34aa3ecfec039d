"""What the host can ask of the agent. See `edlab.devices.session` for the host's side."""

from __future__ import annotations

import os
import platform
import sys
import time
from typing import Any, Callable, TypeVar

import numpy as np

from . import __version__, int8, jetson, locks, phases, runtimes, sensors, system
from .errors import AgentError, StorageError, storage_error
from .predict import predict
from .preprocess import InputTable
from .protocol import Method, Progress
from .runtimes.base import Compiled, Runtime
from .sensors import nvml
from .sensors.base import Sampler, Sensor
from .store import Store

_Span = TypeVar("_Span", phases.Window, phases.Idle)

_FAST_PER_S = 30_000  # completions: above, what the driving loop itself can do is measured as well


class _Model:
    """An open model: its runtime, the request of the latency phases, and the table that makes its inputs."""

    def __init__(
        self, runtime: Runtime, compiled: Compiled, mean: list[float], std: list[float], layout: str, channels: str
    ) -> None:
        if len(compiled.inputs) != 1:
            names = ", ".join(spec.name for spec in compiled.inputs)
            raise AgentError("the model has %d inputs (%s); it must have one image" % (len(compiled.inputs), names))
        self.runtime = runtime
        self.request = compiled.requests[0]
        self.request.bind()
        self.input, self.output = compiled.inputs[0], compiled.outputs[0]
        if self.input.shape[0] not in (None, 1):
            raise AgentError("the model's batch is fixed at %d" % self.input.shape[0], hint="export it with batch 1")
        self.table = InputTable(mean, std, layout, self.input.dtype, self.input.scale, self.input.zero_point, channels)
        self._pool_key: tuple[object, ...] = ()
        self._pool: list[np.ndarray] = []

    def images(self, path: str) -> np.ndarray:
        """The stored images (N, H, W, 3), memory-mapped. Raises `AgentError` where they do not fit the input."""
        images: np.ndarray = np.load(path, mmap_mode="r")
        given = tuple(self.table.shape(1, images.shape[1], images.shape[2]))
        wanted = self.input.shape
        if len(given) != len(wanted) or any(w not in (None, g) for g, w in zip(given, wanted)):
            raise AgentError(
                "the model's input '%s' is %s, the images make %s" % (self.input.name, list(wanted), list(given)),
                hint="check model.layout, model.preprocessing.height and model.preprocessing.width",
            )
        return images

    def pool(self, path: str, indices: list[int]) -> list[np.ndarray]:
        """The input tensors of these images, preprocessed once for all phases."""
        key = (path, tuple(indices))
        if key != self._pool_key:
            images = self.images(path)
            self._pool = [self.table.apply(images[index : index + 1]) for index in indices]
            self._pool_key = key
        return self._pool


class Agent:
    """The state of one agent: at most one open model. Each method takes `progress` and the request's parameters."""

    def __init__(self, workdir: str | None = None) -> None:
        """`workdir` is where the host's files are kept, this agent's zip among them; None: it sees the host's own."""
        self._model: _Model | None = None
        self._lock: int | None = None
        self._power_mode: jetson.PowerModeChange | None = None
        self._sensors: dict[str, Sensor] = {}  # that the host knows of
        self._store = Store(workdir) if workdir else None
        if self._store:
            self._store.use(os.path.basename(os.path.dirname(sys.argv[0])))
        self.methods: dict[str, Method] = {
            "hello": self.hello,
            "probe": self.probe,
            "sensors": self.sensors,
            "state": self.state,
            "lock": self.lock,
            "expect": self.expect,
            "accept": self.accept,
            "scratch": self.scratch,
            "set_power_mode": self.set_power_mode,
            "identity": self.identity,
            "build": self.build,
            "open": self.open,
            "predict": self.predict,
            "warmup": self.warmup,
            "latency": self.latency,
            "stages": self.stages,
            "throughput": self.throughput,
            "idle": self.idle,
            "close": self.close,
        }

    def hello(self, progress: Progress) -> dict[str, Any]:
        """Who answers, and on what: agent, python, numpy, pid; what `system`, `jetson` and `nvml` describe."""
        versions = {"agent": __version__, "python": platform.python_version(), "numpy": np.__version__}
        described = dict(system.describe(), **jetson.describe(), **nvml.describe())
        return dict(described, pid=os.getpid(), executable=sys.executable, **versions)

    def probe(
        self,
        progress: Progress,
        wanted: list[str] | None = None,
        options: dict[str, dict[str, Any]] | None = None,
    ) -> dict[str, Any]:
        """Which runtimes can be used, with these options of each: by name {"version"} or {"reason", "hint"}."""
        return runtimes.probe(wanted, options)

    def sensors(self, progress: Progress) -> dict[str, Any]:
        """The power sensors that can be read, the one to prefer first, and those that cannot: `sensors.describe`."""
        found = sensors.survey()
        self._sensors = {sensor.name: sensor for sensor in found.sensors}
        return sensors.describe(found)

    def state(self, progress: Progress) -> dict[str, Any]:
        """Clocks, governor, temperatures, load and peak memory now: `system.state`, and for a Jetson `jetson.state`."""
        return dict(system.state(), **jetson.state())

    def set_power_mode(self, progress: Progress, mode: str) -> dict[str, Any]:
        """Put a Jetson into a power mode (a name or number of nvpmodel) until the agent ends, however it does."""
        self._power_mode = jetson.PowerModeChange(mode, self._lock)
        return jetson.state()

    def lock(self, progress: Progress, name: str, holder: str, pid: int, timeout_s: float) -> dict[str, Any]:
        """Hold the device for this agent alone, until it ends and its power mode is set back. See `locks.acquire`."""
        self._lock = locks.acquire(name, holder, pid, timeout_s, lambda message: progress("deploy", None, message))
        return {}

    def expect(
        self, progress: Progress, key: str, sizes: dict[str, int], digests: dict[str, str], limit_bytes: float
    ) -> dict[str, Any]:
        """Where files are, or are to be sent to. See `Store.expect`."""
        return self._kept().expect(key, sizes, digests, limit_bytes, _checking(progress))

    def accept(self, progress: Progress, key: str, digests: dict[str, str]) -> dict[str, Any]:
        """Check files that were sent, and keep them. See `Store.accept`."""
        return self._kept().accept(key, digests, _checking(progress))

    def scratch(self, progress: Progress) -> dict[str, Any]:
        """The `folder` for what the host will fetch; it is removed when the agent ends."""
        return {"folder": self._kept().scratch()}

    def identity(self, progress: Progress, runtime: str, options: dict[str, Any]) -> dict[str, Any]:
        """What a file built here by this runtime depends on: see `Runtime.identity`."""
        return dict(_importable(runtime).identity(options))

    def build(
        self,
        progress: Progress,
        runtime: str,
        files: list[str],
        out: str,
        options: dict[str, Any],
        calibration: dict[str, Any] | None,
    ) -> dict[str, Any]:
        """Write `out` from a portable model file, by the runtime that will open it: see `Runtime.build`."""
        driver = _importable(runtime)
        start = time.perf_counter()
        driver.build(files, out, options, calibration, lambda fraction, message: progress("build", fraction, message))
        return {"seconds": time.perf_counter() - start}

    def open(
        self,
        progress: Progress,
        runtime: str,
        files: list[str],
        options: dict[str, Any],
        threads: int,
        mean: list[float],
        std: list[float],
        layout: str,
        channels: str = "rgb",
        int8_probe: str | None = None,
        int8_probe_layout: str = "",
    ) -> dict[str, Any]:
        """Load and compile a model file, in place of the one that is open.

        With `int8_probe`, a file of `edlab.agent.int8`, the runtime's int8 kernels are tried first and chosen; what
        was found is in the answer as `int8`.

        load_ms is reading it into the runtime's own form, compile_ms making it ready to run; compile_ms is None
        where the runtime does both at once. Importing the runtime is in neither.
        """
        self._model = None
        driver = _importable(runtime)
        version = driver.version()
        kernels = int8.choose(driver, int8_probe, int8_probe_layout, options) if int8_probe else None
        instance = driver(files, threads, kernels["options"] if kernels else options)
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
            raise AgentError(
                "%s cannot open %s: %s: %s" % (runtime, files[0], type(error).__name__, first_line),
                hint="the file is damaged, or not of the kind that %s %s reads: convert it again" % (runtime, version),
            ) from error
        self._model = _Model(instance, compiled, mean, std, layout, channels)
        if not driver.separates_compile:
            loaded = ready
        return {
            "runtime": runtime,
            "version": version,
            "load_ms": (loaded - start) / 1e6,
            "compile_ms": (ready - loaded) / 1e6 if driver.separates_compile else None,
            "inputs": [spec._asdict() for spec in compiled.inputs],
            "outputs": [spec._asdict() for spec in compiled.outputs],
            "options": compiled.options,
            "on_cpu": instance.runs_on_cpu(),
            "int8": kernels,
        }

    def predict(self, progress: Progress, images: str, indices: list[int], out: str) -> dict[str, Any]:
        """Write the logits of these images to `out` (npy), float32 (N, classes). See `predict.predict`."""
        model = self._open_model()
        stored = model.images(images)
        in_flight = model.runtime.threads
        compiled = model.runtime.compile(in_flight, batch=1)
        results, activity = predict(
            compiled.requests,
            model.table,
            model.output,
            stored,
            np.asarray(indices),
            lambda fraction, message: progress("predict", fraction, message),
        )
        _save(out, results)
        return {
            "images": len(results),
            "seconds": activity.seconds,
            "in_flight": in_flight,
            "options": compiled.options,
            "activity": activity._asdict(),
        }

    def warmup(
        self,
        progress: Progress,
        images: str,
        indices: list[int],
        queries: int,
        seconds: float,
        tolerance: float,
        max_seconds: float,
    ) -> dict[str, Any]:
        """See `phases.warmup`."""
        model = self._open_model()
        return phases.warmup(
            model.request,
            model.pool(images, indices),
            queries,
            seconds,
            tolerance,
            max_seconds,
            lambda fraction, message: progress("warm-up", fraction, message),
        )

    def latency(
        self,
        progress: Progress,
        images: str,
        indices: list[int],
        queries: int,
        seconds: float,
        max_seconds: float,
        windows: int,
        max_interval: float,
        out: str,
    ) -> dict[str, Any]:
        """Write int64 ns (N, 3) to `out` (npy): input copy, execute, output copy. See `phases.latency`."""
        model = self._open_model()
        measured = phases.latency(
            model.request,
            model.pool(images, indices),
            queries,
            seconds,
            max_seconds,
            windows,
            max_interval,
            lambda fraction, message: progress("latency", fraction, message),
        )
        peak_memory_mb = system.peak_memory_mb()  # before the throughput search holds several requests and batches
        _save(out, measured.stages_ns)
        return {
            "queries": len(measured.stages_ns),
            "seconds": measured.seconds,
            "truncated": measured.truncated,
            "activity": measured.activity._asdict(),
            "peak_memory_mb": peak_memory_mb,
        }

    def stages(self, progress: Progress, images: str, indices: list[int]) -> dict[str, Any]:
        """preprocess_ms and postprocess_ms, means over up to 64 queries. See `phases.stages`."""
        model = self._open_model()
        return phases.stages(
            model.request,
            model.table,
            model.images(images)[indices[: phases.STAGES_QUERIES]],
            model.output,
            lambda fraction, message: progress("stages", fraction, message),
        )

    def throughput(
        self,
        progress: Progress,
        images: str,
        indices: list[int],
        seconds: float,
        max_seconds: float,
        max_batch: int,
        max_in_flight: int,
        gain: float,
        trial_seconds: float,
        setting: list[int] | None = None,
        sensor: str | None = None,
        interval_s: float = 0.05,
        samples_out: str | None = None,
    ) -> dict[str, Any]:
        """Search for the best setting, then measure it over one saturated window, both within `max_seconds`.

        With `setting`, [batch, in flight], that one is measured and nothing is searched.
        Every setting is compiled anew, also that of the latency phases: a model that has run before has an advantage.
        Queries in progress at the limit are waited for. `truncated` where it cut the window short, `search_truncated`
        where it ended the search or cut one of its trials short. `batch1_note` says why batch1_ips is None; see
        `phases.Search`.
        With `sensor` (a name of `sensors`) its samples are written to `samples_out`: float64 (n, 2) of t_ns and watts
        over the window and one beyond either end. `readings` then says how many failed, and what the last one said.
        """
        model = self._open_model()
        pool = model.pool(images, indices)

        def report(fraction: float, message: str) -> None:
            progress("throughput", fraction, message)

        limit_ns = time.perf_counter_ns() + int(max_seconds * 1e9)
        if setting:
            found = phases.Search(phases.Setting(*setting), [], None, "", False, None)
        else:
            limits = phases.Limits(max_batch, max_in_flight, len(system.allowed_cpus()), gain)
            search_limit_ns = limit_ns - int(seconds * 1e9)
            found = phases.search(model.runtime.compile, pool, limits, trial_seconds, search_limit_ns, report)
        best = found.best
        compiled = model.runtime.compile(best.in_flight, best.batch)
        tensors = phases.batches(pool, best.batch)
        window, readings = _sampled(
            lambda: phases.saturate(compiled.requests, tensors, seconds, limit_ns, report),
            self._sensor(sensor),
            interval_s,
            samples_out,
        )
        rate = window.ips / best.batch  # completions
        driver = phases.driver_limit(best.batch, best.in_flight) if rate > _FAST_PER_S else None
        return {
            "throughput_ips": window.ips,
            "batch1_ips": window.ips if best.batch == 1 else found.batch1_ips,
            "batch1_note": found.batch1_note,
            "driver_limit_ips": driver,
            "batch": best.batch,
            "in_flight": best.in_flight,
            "completed": window.completed,
            "ips_by_second": window.ips_by_second,
            "seconds": window.seconds,
            "truncated": window.truncated,
            "search_truncated": found.truncated,
            "activity": window.activity._asdict(),
            "search_activity": found.activity._asdict() if found.activity else None,
            "start_ns": window.start_ns,
            "end_ns": window.end_ns,
            "search": [trial._asdict() for trial in found.trials],
            "options": compiled.options,
            "readings": readings,
        }

    def idle(
        self,
        progress: Progress,
        seconds: float,
        sensor: str | None = None,
        interval_s: float = 0.05,
        samples_out: str | None = None,
    ) -> dict[str, Any]:
        """Do nothing for a while, with a sensor's samples as in `throughput`. See `phases.idle`."""
        message = "reading %s" % sensor if sensor else ""
        span, readings = _sampled(
            lambda: phases.idle(seconds, lambda fraction, _: progress("idle", fraction, message)),
            self._sensor(sensor),
            interval_s,
            samples_out,
        )
        return dict(span._asdict(), activity=span.activity._asdict(), readings=readings)

    def close(self, progress: Progress) -> dict[str, Any]:
        """Let go of the open model, if there is one, and of the scratch folder; set the power mode back."""
        self._model = None
        if self._power_mode:
            self._power_mode.undo()
        if self._store:
            self._store.close()
        return {}

    def _kept(self) -> Store:
        if self._store is None:
            raise AgentError("this agent sees the host's own files: it keeps none")
        return self._store

    def _sensor(self, name: str | None) -> Sensor | None:
        """One that was found before is kept, so that it may fail to be read just now. Raises `AgentError`: no such."""
        if name is None:
            return None
        return self._sensors.get(name) or sensors.get(name)

    def _open_model(self) -> _Model:
        if self._model is None:
            raise AgentError("no model is open", hint="call open first")
        return self._model


def _checking(progress: Progress) -> Callable[[], None]:
    return lambda: progress("deploy", None, "checking what was sent")


def _importable(name: str) -> type[Runtime]:
    """The runtime of this name. Raises `AgentError` where the target does not have it."""
    runtime = runtimes.find(name)
    try:
        runtime.version()
    except ImportError as error:
        raise runtimes.not_installed(runtime, error) from error
    return runtime


def _sampled(
    phase: Callable[[], _Span], sensor: Sensor | None, interval_s: float, samples_out: str | None
) -> tuple[_Span, dict[str, Any]]:
    """What the phase gives; the samples of the sensor over its span go to `samples_out` (npy).

    With it, of the readings: how many "failed", and the last "error". Empty without a sensor.
    """
    if not (sensor and samples_out):
        return phase(), {}
    with Sampler(sensor, interval_s) as sampler:
        span = phase()
    _save(samples_out, sampler.between(span.start_ns, span.end_ns))
    return span, {"failed": sampler.failed, "error": sampler.error}


def _save(path: str, array: np.ndarray) -> None:
    """Write an npy file. numpy's own error for a full disk has neither a number nor the path."""
    try:
        np.save(path, array)
    except OSError as error:
        raise StorageError(path, error) from error
