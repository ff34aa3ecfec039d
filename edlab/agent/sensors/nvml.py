"""NVML: names and power of NVIDIA graphics cards, from the driver's own library.

nvmlDeviceGetPowerUsage returns milliwatts of the entire card, including memory and circuitry: since Ampere the mean of
one second, before it (and on GA100) the present value (NVML API reference). The reading is updated about every 100 ms
(Yang, Adamek and Armour, Part-time Power Measurements, 2023).
"""

from __future__ import annotations

import ctypes
from typing import Any

from ..messages import UnusableSensor
from .base import Found, PowerSensor

_SUCCESS = 0
_LAG_S = 1.1  # the mean of one second, updated every 100 ms
_HINT = "nvidia-smi --query-gpu=name,power.draw --format=csv shows what the driver reports"
_LIBRARY = "libnvidia-ml.so.1"
_NAME_LENGTH = 96  # NVML_DEVICE_NAME_V2_BUFFER_SIZE
_VERSION_LENGTH = 80  # NVML_SYSTEM_DRIVER_VERSION_BUFFER_SIZE


def describe(library: str = _LIBRARY) -> dict[str, str]:
    """`gpu`, the names of the cards in nvidia-smi's order, and `gpu_driver`, its version; empty if there is none."""
    try:
        nvml = _load(library)
    except RuntimeError:  # `survey` reports why
        return {}
    if nvml is None:
        return {}
    count = ctypes.c_uint()
    nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))  # stays 0 if it fails
    found = [_handle(nvml, index) for index in range(count.value)]
    names = ", ".join(filter(None, (_name(nvml, handle) for code, handle in found if code == _SUCCESS)))
    return {"gpu": names, "gpu_driver": _driver(nvml)} if names else {}


def survey(library: str = _LIBRARY) -> Found:
    """The cards that report their power; none if the driver is not installed."""
    try:
        nvml = _load(library)
    except RuntimeError as error:
        return Found([], [UnusableSensor("nvml", "nvml", str(error), _HINT)])
    return _of_driver(nvml) if nvml else Found([], [])


def _of_driver(nvml: Any) -> Found:
    count = ctypes.c_uint()
    code = nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))
    if code != _SUCCESS:
        return Found([], [UnusableSensor("nvml", "nvml", "nvmlDeviceGetCount_v2 failed with error %d" % code, _HINT)])
    found = Found([], [])
    for index in range(count.value):
        code, handle = _handle(nvml, index)
        name = "nvml:%d %s" % (index, _name(nvml, handle) if code == _SUCCESS else "")
        if code == _SUCCESS:
            code = nvml.nvmlDeviceGetPowerUsage(handle, ctypes.byref(ctypes.c_uint()))
        if code == _SUCCESS:
            found.sensors.append(Nvml(nvml, handle, name))
        else:
            found.unusable.append(UnusableSensor(name, "nvml", "reading its power failed with error %d" % code, _HINT))
    return found


class Nvml(PowerSensor):
    """One card."""

    def __init__(self, nvml: Any, handle: ctypes.c_void_p, name: str) -> None:
        super().__init__(name, "nvml", "module", _LAG_S)
        self._nvml = nvml
        self._handle = handle

    def watts(self) -> float:
        milliwatts = ctypes.c_uint()
        code = self._nvml.nvmlDeviceGetPowerUsage(self._handle, ctypes.byref(milliwatts))
        if code != _SUCCESS:
            raise OSError("nvmlDeviceGetPowerUsage of %s failed with error %d" % (self.name, code))
        return milliwatts.value / 1000


def _load(library: str) -> ctypes.CDLL | None:
    """The initialised library; None if it is not installed. Raises `RuntimeError` if it finds no driver."""
    try:
        nvml = ctypes.CDLL(library)
    except OSError:
        return None
    code = nvml.nvmlInit_v2()
    if code != _SUCCESS:
        raise RuntimeError("nvmlInit_v2 failed with error %d" % code)
    return nvml


def _handle(nvml: Any, index: int) -> tuple[int, ctypes.c_void_p]:
    """NVML's code, and the card's handle if it succeeded."""
    handle = ctypes.c_void_p()
    return nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(handle)), handle


def _name(nvml: Any, handle: ctypes.c_void_p) -> str:
    buffer = ctypes.create_string_buffer(_NAME_LENGTH)
    nvml.nvmlDeviceGetName(handle, buffer, ctypes.c_uint(_NAME_LENGTH))
    return buffer.value.decode(errors="replace")


def _driver(nvml: Any) -> str:
    buffer = ctypes.create_string_buffer(_VERSION_LENGTH)
    nvml.nvmlSystemGetDriverVersion(buffer, ctypes.c_uint(_VERSION_LENGTH))
    return buffer.value.decode(errors="replace")
