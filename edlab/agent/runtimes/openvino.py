"""OpenVINO, on one device by name: CPU, GPU, NPU, or MYRIAD (the Neural Compute Stick 2, up to OpenVINO 2022.3).

Requests in flight are infer requests on as many streams of one compiled model. Works with the current Python API and
with the API of 2022.3. Facts are from docs.openvino.ai, "Inference Devices and Modes" and "Query Device Properties".
"""

from __future__ import annotations

import importlib
import re
from typing import Any

import numpy as np

from ..errors import AgentError, FixedBatchError
from ..fake_quantize import unroll
from . import base

_OLD_API = "openvino.runtime"
_PROFILE_WARM_UP = 3  # queries
# OpenVINO splits the bias from a layer, and adds nodes around it when it is quantized.
_APPENDED = re.compile(r"(/WithoutBiases|/fq_\w+|/Dequantization\w+)+$")
_FIXES = {
    "GPU": "for a GPU, install Intel's compute runtime for OpenCL and add this user to the group render",
    "NPU": "for an NPU, install Intel's NPU driver and add this user to the group render",
    "MYRIAD": "for a Neural Compute Stick 2, install OpenVINO 2022.3.1 or .2 from its archive (pip's has no plugin "
    "for it) and its udev rules, and set device.python to a Python that imports that OpenVINO",
}


class Runtime(base.Runtime):
    packages = "openvino"
    formats = ("openvino",)
    # inference_precision_hint, None: f32 on the CPU, which would otherwise silently use bf16 if it supports it, even
    # for an fp32 model; on other devices, the device's default. The reported options contain the actual value.
    options = {"device": "CPU", "inference_precision_hint": None, "int8_kernels": "exact"}  # noqa: RUF012
    # If OpenVINO's int8 kernels saturate, it has no others: the exact choice is floating point.
    int8_kernels = {  # noqa: RUF012
        "exact": "floating point (FakeQuantize unrolled)",
        "fast": "OpenVINO's int8 kernels",
        "float": "floating point (FakeQuantize unrolled)",
    }
    int8_in_float = ("exact", "float")

    @staticmethod
    def version() -> str:
        return str(_api().get_version())

    @staticmethod
    def check_device(options: dict[str, Any]) -> None:
        _device(_api().Core(), str(options["device"]))

    def runs_on_cpu(self) -> bool:
        return self._device == "CPU"

    def load(self) -> None:
        self._core = _api().Core()
        self._device = _device(self._core, str(self.options["device"]))
        self._supported = self._core.get_property(self._device, "SUPPORTED_PROPERTIES")
        self._model = self._core.read_model(self.path)
        if self._device == "CPU" and self.options["int8_kernels"] != "fast":
            unroll(self._model, _api().__name__)

    def compile(self, in_flight: int, batch: int) -> base.Compiled:
        model = self._model
        if batch > 1:
            model = model.clone()
            shape = model.input(0).get_partial_shape()
            shape[0] = batch
            try:
                model.reshape(shape)
            except RuntimeError as error:
                raise FixedBatchError("OpenVINO cannot reshape the model: %s" % error) from error
        compiled = self._core.compile_model(model, self._device, self._settings(in_flight))
        kind = _OldRequest if _api().__name__ == _OLD_API else _Request
        return base.Compiled(
            [kind(compiled.create_infer_request()) for _ in range(in_flight)],
            [_spec(port) for port in compiled.inputs],
            [_spec(port) for port in compiled.outputs],
            self._in_force(compiled),
        )

    def profile(self, tensors: list[np.ndarray], runs: int) -> list[base.LayerTime] | None:
        compiled = self._core.compile_model(self._model, self._device, dict(self._settings(1), PERF_COUNT="YES"))
        request = compiled.create_infer_request()
        times: dict[str, list[float]] = {}
        layers: dict[str, Any] = {}
        for number in range(_PROFILE_WARM_UP + runs):
            request.infer([tensors[number % len(tensors)]])
            if number >= _PROFILE_WARM_UP:
                for layer in request.profiling_info:
                    if str(layer.status).endswith("EXECUTED"):
                        layers[layer.node_name] = layer
                        times.setdefault(layer.node_name, []).append(layer.real_time.total_seconds() * 1e3)
        facts = {
            node.get_friendly_name(): node.get_rt_info() for node in compiled.get_runtime_model().get_ordered_ops()
        }
        return [
            base.LayerTime(
                name,
                layer.node_type,
                *base.per_query(times[name], runs),
                place=self._device,
                kernel=layer.exec_type,
                precision=_fact(facts, name, "runtimePrecision"),
                sources=_sources(_fact(facts, name, "originalLayersNames")),
            )
            for name, layer in layers.items()
        ]

    def _settings(self, in_flight: int) -> dict[str, Any]:
        on_cpu = self._device == "CPU"
        hint = self.options["inference_precision_hint"] or ("f32" if on_cpu else None)
        if hint and self._supported.get("INFERENCE_PRECISION_HINT") != "RW":
            raise AgentError(
                "%s does not support inference_precision_hint" % self._device,
                hint="remove device.options.openvino.inference_precision_hint",
            )
        settings: dict[str, Any] = {}
        if hint:
            settings["INFERENCE_PRECISION_HINT"] = hint
        if on_cpu:
            settings["INFERENCE_NUM_THREADS"] = self.threads
            settings["NUM_STREAMS"] = min(in_flight, self.threads)
        elif self._supported.get("NUM_STREAMS") == "RW" and "RANGE_FOR_STREAMS" in self._supported:
            most = self._core.get_property(self._device, "RANGE_FOR_STREAMS")[1]
            settings["NUM_STREAMS"] = min(in_flight, most)
        return settings

    def _in_force(self, compiled: Any) -> dict[str, Any]:
        """The properties of the compiled model. Raises `AgentError` if it does not run on the requested device."""
        properties = {"device": self._device, "device_name": self._core.get_property(self._device, "FULL_DEVICE_NAME")}
        for name in ("INFERENCE_PRECISION_HINT", "INFERENCE_NUM_THREADS", "NUM_STREAMS"):
            value = _property(compiled, name)
            if value is not None:
                properties[name] = _plain(value)
        ran_on = _property(compiled, "EXECUTION_DEVICES")  # 2022.3 does not report it
        if ran_on is not None:
            properties["EXECUTION_DEVICES"] = list(ran_on)
            if any(_kind(name) != _kind(self._device) for name in ran_on):
                raise AgentError(
                    "OpenVINO runs the model on %s instead of %s" % (", ".join(ran_on), self._device),
                    hint="update OpenVINO and the driver of %s, or choose another device" % self._device,
                )
        return properties


class _Request(base.Request):
    def __init__(self, request: Any) -> None:
        self._tensor = _api().Tensor
        self._request = request

    def prepare(self, tensor: np.ndarray) -> Any:
        return self._tensor(tensor, shared_memory=True)

    def set_input(self, prepared: Any) -> None:
        self._request.set_input_tensor(prepared)

    def execute(self) -> None:
        self._results = self._request.infer(share_outputs=True)

    def get_outputs(self) -> list[np.ndarray]:
        # `infer` has created an array for each output, in order. In its result, keys are ten times slower than values.
        return list(self._results.values())


class _OldRequest(_Request):
    """For 2022.3, where `infer` copies every output into a dict that is not needed."""

    def execute(self) -> None:
        self._request.start_async()
        self._request.wait()

    def get_outputs(self) -> list[np.ndarray]:
        return [tensor.data for tensor in self._request.output_tensors]


def _fact(facts: dict[str, Any], name: str, key: str) -> str:
    """What OpenVINO reports about a layer of the compiled model; empty if it does not."""
    info = facts.get(name)
    if info is None or key not in info:
        return ""
    value = info[key]
    return str(value.astype(str) if hasattr(value, "astype") else value)


def _sources(names: str) -> list[str]:
    """The layers of the model file that were fused into a layer: "a,b,c", with what OpenVINO appended removed."""
    return list(dict.fromkeys(_APPENDED.sub("", name) for name in names.split(",") if name))


def _api() -> Any:
    """The module with Core, Tensor and get_version: openvino itself since 2023.1, before that openvino.runtime."""
    import openvino

    return openvino if hasattr(openvino, "Core") else importlib.import_module(_OLD_API)


def _device(core: Any, wanted: str) -> str:
    """The device's name. Raises `AgentError` if it is not found; no other device is chosen, as AUTO would."""
    found = core.available_devices
    if not any(name == wanted or _kind(name) == wanted for name in found):
        hints = ["OpenVINO finds " + (", ".join(found) or "no device")]
        if _kind(wanted) in _FIXES:
            hints.append(_FIXES[_kind(wanted)])
        raise AgentError(
            "OpenVINO %s finds no device %s" % (Runtime.version().partition("-")[0], wanted), hint="; ".join(hints)
        )
    return wanted


def _kind(device: str) -> str:
    """The kind of a device, without its number: GPU for GPU.1."""
    return device.partition(".")[0]


def _property(compiled: Any, name: str) -> Any:
    try:
        return compiled.get_property(name)
    except RuntimeError:  # this device has no such property
        return None


def _spec(port: Any) -> base.TensorSpec:
    shape = tuple(d.get_length() if d.is_static else None for d in port.get_partial_shape())
    return base.TensorSpec(port.get_any_name(), shape, np.dtype(port.get_element_type().to_dtype()).name)


def _plain(value: Any) -> Any:
    """A property's value in JSON's types."""
    return value if isinstance(value, (int, str, bool)) else getattr(value, "get_type_name", value.__str__)()
