"""NVML: the power of NVIDIA graphics cards, through the driver's own library.

nvmlDeviceGetPowerUsage gives milliwatts of the whole card, memory and circuitry included (NVML API reference).
"""

from __future__ import annotations

import ctypes
from typing import Any

from .base import PowerSensor, Sensor

_SUCCESS = 0
_NAME_LENGTH = 96  # NVML_DEVICE_NAME_V2_BUFFER_SIZE


def find(library: str = "libnvidia-ml.so.1") -> list[Sensor]:
    """The cards that tell their power; none where the driver is not installed."""
    nvml = _load(library)
    count = ctypes.c_uint()
    if nvml is None or nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) != _SUCCESS:
        return []
    sensors: list[Sensor] = []
    for index in range(count.value):
        handle = ctypes.c_void_p()
        if nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(handle)) != _SUCCESS:
            continue
        if nvml.nvmlDeviceGetPowerUsage(handle, ctypes.byref(ctypes.c_uint())) == _SUCCESS:
            sensors.append(Nvml(nvml, handle, "nvml:%d %s" % (index, _name(nvml, handle))))
    return sensors


class Nvml(PowerSensor):
    """One card."""

    def __init__(self, nvml: Any, handle: ctypes.c_void_p, name: str) -> None:
        super().__init__(name, "nvml", "module")
        self._nvml = nvml
        self._handle = handle

    def watts(self) -> float:
        milliwatts = ctypes.c_uint()
        code = self._nvml.nvmlDeviceGetPowerUsage(self._handle, ctypes.byref(milliwatts))
        if code != _SUCCESS:
            raise OSError("nvmlDeviceGetPowerUsage of %s gave error %d" % (self.name, code))
        return milliwatts.value / 1000


def _load(library: str) -> ctypes.CDLL | None:
    try:
        nvml = ctypes.CDLL(library)
    except OSError:
        return None
    return nvml if nvml.nvmlInit_v2() == _SUCCESS else None


def _name(nvml: Any, handle: ctypes.c_void_p) -> str:
    buffer = ctypes.create_string_buffer(_NAME_LENGTH)
    nvml.nvmlDeviceGetName(handle, buffer, ctypes.c_uint(_NAME_LENGTH))
    return buffer.value.decode(errors="replace")
