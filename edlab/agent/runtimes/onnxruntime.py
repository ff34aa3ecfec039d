"""ONNX Runtime. One session serves all requests in flight: `run` may be called from several threads.

Facts are from onnxruntime.ai, "CUDA Execution Provider" and "I/O Binding", and from the comments in onnxruntime's
onnxruntime_session_options_config_keys.h and onnxruntime_run_options_config_keys.h.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from typing import Any

import numpy as np

from ..errors import AgentError, FixedBatchError
from . import base

_DTYPES = {"float": "float32", "double": "float64"}  # the others have numpy's names
_CPU = "CPUExecutionProvider"
_CUDA = "CUDAExecutionProvider"
# By value of `int8_kernels`; onnxruntime_session_options_config_keys.h.
_SESSION_ENTRIES = {"exact": ["session.x64quantprecision"], "fast": [], "float": ["session.disable_quant_qdq"]}
_TIMED = "_kernel_time"  # the end of a node's name in a trace
_DERIVED = re.compile(r"(_nchwc|_token_\d+)$")  # what the optimizer appends to the name of a node that it replaces
_PROFILE_WARM_UP = 3  # queries
_NVIDIA = (_CUDA, "TensorrtExecutionProvider")  # whose tensors are in CUDA's memory


class Runtime(base.Runtime):
    packages = "onnxruntime"
    formats = ("onnx",)
    shapes_of_file = True
    # A model that the providers do not support completely is refused, unless CPUExecutionProvider is one of them.
    # provider_options: provider -> its options.
    options = {"providers": [_CPU], "provider_options": {}, "int8_kernels": "exact"}  # noqa: RUF012
    int8_kernels = {  # noqa: RUF012
        "exact": "uint8 x uint8 kernels (session.x64quantprecision=1)",
        "fast": "onnxruntime's default kernels",
        "float": "floating point (session.disable_quant_qdq=1)",
    }
    int8_in_float = ("float",)
    separates_compile = False

    @staticmethod
    def version() -> str:
        import onnxruntime

        return str(onnxruntime.__version__)

    @staticmethod
    def check_device(options: dict[str, Any]) -> None:
        import onnxruntime

        built_in = onnxruntime.get_available_providers()
        for name in options["providers"]:
            if name not in built_in:
                raise _without(name, "this build provides " + ", ".join(built_in))

    @classmethod
    def check_profiler(cls, options: dict[str, Any]) -> None:
        if options["providers"][0] in _NVIDIA:
            raise AgentError(
                "onnxruntime's trace has only the time to start a kernel on a GPU, not the time that it runs",
                hint="profile the model with device=cuda converter=torch, or with converter=tensorrt on a Jetson",
            )

    def runs_on_cpu(self) -> bool:
        return bool(self.options["providers"] == [_CPU])

    def load(self) -> None:
        import onnxruntime  # importing is not part of the compile time

        preload = getattr(onnxruntime, "preload_dlls", None)  # since 1.21: CUDA's libraries from pip's nvidia packages
        if preload and set(_NVIDIA) & set(self.options["providers"]):
            preload()

    def compile(self, in_flight: int, batch: int) -> base.Compiled:
        settings = self._settings(in_flight)
        in_force: dict[str, Any] = {
            "intra_op_num_threads": settings.intra_op_num_threads,
            "inter_op_num_threads": settings.inter_op_num_threads,
        }
        on_cpu = self.options["providers"] == [_CPU]
        session = self._open(settings)
        in_force["providers"] = session.get_providers()
        if not on_cpu:
            in_force.update(_placement(session))
        inputs = [_spec(tensor) for tensor in session.get_inputs()]
        outputs = [_spec(tensor) for tensor in session.get_outputs()]
        if batch > 1 and inputs[0].shape[0] is not None:
            raise FixedBatchError("the ONNX file's batch is %d" % inputs[0].shape[0])
        names = [output.name for output in outputs]
        requests: list[base.Request]
        if session.get_providers()[0] in _NVIDIA:
            gpu = int(session.get_provider_options()[session.get_providers()[0]].get("device_id", 0))
            requests = [BoundRequest(session, inputs[0], names, batch, "cuda", gpu) for _ in range(in_flight)]
        else:
            requests = [_Request(session, inputs[0].name, names) for _ in range(in_flight)]
        return base.Compiled(requests, inputs, outputs, in_force)

    def profile(self, tensors: list[np.ndarray], runs: int) -> list[base.LayerTime] | None:
        settings = self._settings(in_flight=1)
        settings.enable_profiling = True
        with tempfile.TemporaryDirectory() as folder:
            settings.profile_file_prefix = os.path.join(folder, "profile")
            session = self._open(settings)
            name = session.get_inputs()[0].name
            for number in range(_PROFILE_WARM_UP + runs):
                session.run(None, {name: tensors[number % len(tensors)]})
            with open(session.end_profiling(), encoding="utf-8") as file:
                return _layers(json.load(file), runs)

    def _settings(self, in_flight: int) -> Any:
        """The options of a session for this many requests in flight."""
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        # The threads that call run work too; the remaining cores are the pool that they share.
        settings.intra_op_num_threads = max(1, self.threads - in_flight + 1)
        settings.inter_op_num_threads = 1
        for entry in _SESSION_ENTRIES[self.options["int8_kernels"]]:
            settings.add_session_config_entry(entry, "1")
        return settings

    def _open(self, settings: Any) -> Any:
        """A session on the providers of the options."""
        return self._session(settings) if self.options["providers"] == [_CPU] else self._accelerated(settings)

    def _accelerated(self, settings: Any) -> Any:
        """A session that runs on the requested providers. Raises `AgentError` if onnxruntime would run without one.

        By default it warns and uses the CPU: for a provider that is missing in the build, for one with missing
        libraries, and for nodes that a provider does not support.
        """
        self.check_device(self.options)
        wanted = self.options["providers"]
        if _CPU not in wanted:
            settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        try:
            session = self._session(settings)
        except Exception as error:
            if "CPU EP" not in str(error):  # both of its errors contain it: for nodes, and for the CPU as a fallback
                raise
            names = ", ".join(wanted)
            raise AgentError(
                "onnxruntime would run all or part of the model on the CPU instead of %s" % names,
                hint="the agent's log names the library that %s is missing (CUDA's: pip install "
                "'onnxruntime-gpu[cuda,cudnn]'); if none is missing, the model has operators that only %s supports: "
                "add it to device.options.onnxruntime.providers to allow that" % (names, _CPU),
            ) from error
        lost = [name for name in wanted if name not in session.get_providers()]
        if lost:
            raise _without(lost[0], "the agent's log names the missing library")
        session.disable_fallback()  # else a run that fails on the device, and all later ones, run on the CPU
        return session

    def _session(self, settings: Any) -> Any:
        import onnxruntime

        options = {name: self.options["provider_options"].get(name, {}) for name in self.options["providers"]}
        if _CUDA in options:  # from Ampere on, cuBLAS and cuDNN otherwise round float32 to TF32's 10 bits
            options[_CUDA] = dict({"use_tf32": 0}, **options[_CUDA])
        return onnxruntime.InferenceSession(self.path, settings, providers=list(options.items()))


class _Request(base.Request):
    def __init__(self, session: Any, input_name: str, output_names: list[str]) -> None:
        self._run = session.run
        self._feed: dict[str, np.ndarray] = {}
        self._input_name = input_name
        self._output_names = output_names

    def set_input(self, tensor: np.ndarray) -> None:
        self._feed[self._input_name] = tensor  # read in place: onnxruntime does not copy it

    def execute(self) -> None:
        self._results = self._run(self._output_names, self._feed)

    def get_outputs(self) -> list[np.ndarray]:
        results: list[np.ndarray] = self._results
        return results


class BoundRequest(base.Request):
    """Input and outputs stay in the memory of a device, so that the copies to and from it are timed separately."""

    def __init__(
        self, session: Any, spec: base.TensorSpec, output_names: list[str], batch: int, device: str, index: int
    ) -> None:
        import onnxruntime

        shape = [batch if size is None else size for size in spec.shape]
        self._input = onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(shape, spec.dtype), device, index)
        self._binding = session.io_binding()
        self._binding.bind_ortvalue_input(spec.name, self._input)
        for name in output_names:
            self._binding.bind_output(name, device, index)
        self._run = session.run_with_iobinding

    def set_input(self, tensor: np.ndarray) -> None:
        self._input.update_inplace(tensor)

    def execute(self) -> None:
        self._run(self._binding)  # waits for the device, because `disable_synchronize_execution_providers` is not set

    def get_outputs(self) -> list[np.ndarray]:
        outputs: list[np.ndarray] = self._binding.copy_outputs_to_cpu()
        return outputs


def _without(provider: str, why: str) -> AgentError:
    if provider in _NVIDIA:
        why = "%s -m pip install 'onnxruntime-gpu[cuda,cudnn]' instead of onnxruntime; %s" % (sys.executable, why)
    return AgentError("this onnxruntime does not provide %s" % provider, hint=why)


def _placement(session: Any) -> dict[str, Any]:
    """What runs where: the actual options of each provider, and how many of the model's nodes it runs.

    Raises `AgentError` if the first provider runs none. Before onnxruntime 1.24 the nodes are not reported.
    """
    placement: dict[str, Any] = {"provider_options": session.get_provider_options()}
    assignment = getattr(session, "get_provider_graph_assignment_info", None)
    if assignment:
        nodes = dict.fromkeys(session.get_providers(), 0)
        for part in assignment():
            nodes[part.ep_name] = nodes.get(part.ep_name, 0) + len(part.get_nodes())
        first = session.get_providers()[0]
        if nodes[first] == 0:
            raise AgentError(
                "%s supports no node of the model" % first, hint="remove it from device.options.onnxruntime.providers"
            )
        placement["nodes"] = nodes
    return placement


def _layers(events: list[dict[str, Any]], runs: int) -> list[base.LayerTime]:
    """The nodes of the last `runs` queries in a trace of onnxruntime's profiler, in the order of execution."""
    starts = sorted(event["ts"] for event in events if event["name"] == "model_run")[-runs:]
    times: dict[tuple[str, str], list[float]] = {}
    facts: dict[tuple[str, str], dict[str, Any]] = {}
    for event in sorted((each for each in events if each["cat"] == "Node"), key=lambda each: int(each["ts"])):
        if event["name"].endswith(_TIMED) and event["ts"] >= starts[0]:
            key = event["name"][: -len(_TIMED)], event["args"]["node_index"]
            facts[key] = event["args"]
            times.setdefault(key, []).append(event["dur"] / 1e3)
    return [
        base.LayerTime(
            key[0],
            facts[key]["op_name"],
            *base.per_query(durations, len(starts)),
            place=facts[key].get("provider", ""),
            precision=_precision(facts[key]),
            sources=[_DERIVED.sub("", key[0])],
        )
        for key, durations in times.items()
    ]


def _precision(facts: dict[str, Any]) -> str:
    """The type of a node's first input, which decides the arithmetic."""
    types = [name for each in facts.get("input_type_shape", [])[:1] for name in each]
    return _DTYPES.get(types[0], types[0]) if types else ""


def _spec(tensor: Any) -> base.TensorSpec:
    element = tensor.type[len("tensor(") : -1]
    shape = tuple(size if isinstance(size, int) else None for size in tensor.shape)
    return base.TensorSpec(tensor.name, shape, _DTYPES.get(element, element))
