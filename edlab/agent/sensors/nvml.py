"""NVML: names and power of NVIDIA graphics cards, from the driver's own library.

All watts are those of the entire card, including memory and circuitry (NVML API reference). A card has up to three
sensors, the first of which is preferred:

- its energy counter, nvmlDeviceGetTotalEnergyConsumption, in millijoules since the driver was loaded: Volta and newer.
  If there is none: nvmlDeviceGetPowerUsage, in milliwatts, since Ampere the mean of one second, before it (and on
  GA100) the present value.
- NVML_FI_DEV_POWER_AVERAGE and NVML_FI_DEV_POWER_INSTANT of nvmlDeviceGetFieldValues, in milliwatts: the mean of one
  second, and the present value. An instant one misses what happens between two readings.

All are renewed about every 100 ms (Yang, Adamek and Armour, Part-time Power Measurements, 2023).
"""

from __future__ import annotations

import ctypes
import time
from typing import Any, NamedTuple

from ..messages import UnusableSensor
from .base import EnergyCounter, Found, PowerSensor, Sensor

_SUCCESS = 0
_NOT_SUPPORTED = 3
_KIND = "nvml"
_RENEWED_S = 0.1
_AVERAGE_LAG_S = 1.1  # the mean of one second, updated every 100 ms
_POWER_AVERAGE = 185  # NVML_FI_DEV_POWER_AVERAGE
_POWER_INSTANT = 186  # NVML_FI_DEV_POWER_INSTANT
_PATIENCE_S = 0.5  # for energy counters to move
_POLL_S = 0.02
_SPAN_J = 2**64 / 1000  # of a counter of unsigned 64-bit millijoules
_HINT = "nvidia-smi --query-gpu=name,power.draw --format=csv shows what the driver reports"
_LIBRARY = "libnvidia-ml.so.1"
_NAME_LENGTH = 96  # NVML_DEVICE_NAME_V2_BUFFER_SIZE
_VERSION_LENGTH = 80  # NVML_SYSTEM_DRIVER_VERSION_BUFFER_SIZE


class _Value(ctypes.Union):
    """nvmlValue_t."""

    _fields_ = [("dVal", ctypes.c_double), ("uiVal", ctypes.c_uint), ("ullVal", ctypes.c_ulonglong)]


class FieldValue(ctypes.Structure):
    """nvmlFieldValue_t."""

    _fields_ = [
        ("fieldId", ctypes.c_uint),
        ("scopeId", ctypes.c_uint),
        ("timestamp", ctypes.c_longlong),
        ("latencyUsec", ctypes.c_longlong),
        ("valueType", ctypes.c_uint),
        ("nvmlReturn", ctypes.c_uint),
        ("value", _Value),
    ]


class _Card(NamedTuple):
    """A card, and the name of its preferred sensor."""

    name: str
    handle: ctypes.c_void_p


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
        return Found([], [UnusableSensor(_KIND, _KIND, str(error), _HINT)])
    return _of_driver(nvml) if nvml else Found([], [])


def _of_driver(nvml: Any) -> Found:
    count = ctypes.c_uint()
    code = nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))
    if code != _SUCCESS:
        return Found([], [UnusableSensor(_KIND, _KIND, "nvmlDeviceGetCount_v2 failed with error %d" % code, _HINT)])
    found = Found([], [])
    cards = []
    for index in range(count.value):
        code, handle = _handle(nvml, index)
        if code == _SUCCESS:
            cards.append(_Card("nvml:%d %s" % (index, _name(nvml, handle)), handle))
        else:
            found.unusable.append(_unusable("nvml:%d " % index, code))
    counting = _counting(nvml, cards)
    for card in cards:
        sensors, code = _of_card(nvml, card, card in counting)
        found.sensors.extend(sensors)
        if not sensors:
            found.unusable.append(_unusable(card.name, code))
    return found


def _of_card(nvml: Any, card: _Card, has_counter: bool) -> tuple[list[Sensor], int]:
    """A card's sensors that can be read, the preferred one first, and NVML's code if there is none."""
    code, _ = _milliwatts(nvml, card.handle)
    sensors: list[Sensor] = []
    if has_counter:
        sensors.append(Counter(nvml, card))
    elif code == _SUCCESS:
        sensors.append(Usage(nvml, card))
    for field, what, lag_s in ((_POWER_AVERAGE, "average", _AVERAGE_LAG_S), (_POWER_INSTANT, "instant", _RENEWED_S)):
        if _field(nvml, card.handle, field)[0] == _SUCCESS:
            sensors.append(Field(nvml, card, field, what, lag_s))
    return sensors, code


def _unusable(name: str, code: int) -> UnusableSensor:
    if code == _NOT_SUPPORTED:
        reason = (
            "NVML does not report the power of this GPU (error %d, not supported); on a Jetson the sensors are ina3221"
            % code
        )
        return UnusableSensor(name, _KIND, reason, "on a Jetson: device.sensors=[ina3221], or device=jetson")
    return UnusableSensor(name, _KIND, "reading its power failed with error %d" % code, _HINT)


class Counter(EnergyCounter):
    """The energy counter of a card. A sample covers two of its steps."""

    renewed_s = _RENEWED_S

    def __init__(self, nvml: Any, card: _Card) -> None:
        super().__init__(card.name, _KIND, "module", 2 * _RENEWED_S)
        self._nvml = nvml
        self._handle = card.handle

    def joules(self) -> list[float]:
        code, millijoules = _millijoules(self._nvml, self._handle)
        if code != _SUCCESS:
            raise OSError("nvmlDeviceGetTotalEnergyConsumption of %s failed with error %d" % (self.name, code))
        return [millijoules / 1000]

    def spans(self) -> list[float]:
        return [_SPAN_J]


class Usage(PowerSensor):
    """The power of a card that has no energy counter."""

    def __init__(self, nvml: Any, card: _Card) -> None:
        super().__init__(card.name, _KIND, "module", _AVERAGE_LAG_S)
        self._nvml = nvml
        self._handle = card.handle

    def watts(self) -> float:
        code, milliwatts = _milliwatts(self._nvml, self._handle)
        if code != _SUCCESS:
            raise OSError("nvmlDeviceGetPowerUsage of %s failed with error %d" % (self.name, code))
        return milliwatts / 1000


class Field(PowerSensor):
    """One of the power fields of a card."""

    def __init__(self, nvml: Any, card: _Card, field: int, what: str, lag_s: float) -> None:
        super().__init__("%s %s" % (card.name, what), _KIND, "module", lag_s)
        self._nvml = nvml
        self._handle = card.handle
        self._field = field

    def watts(self) -> float:
        code, milliwatts = _field(self._nvml, self._handle, self._field)
        if code != _SUCCESS:
            raise OSError("field %d of %s failed with error %d" % (self._field, self.name, code))
        return milliwatts / 1000


def _counting(nvml: Any, cards: list[_Card]) -> list[_Card]:
    """The cards whose energy counter can be read, and moves."""
    first = {card.name: _millijoules(nvml, card.handle) for card in cards}
    waiting = [card for card in cards if first[card.name][0] == _SUCCESS]
    counting: list[_Card] = []
    end = time.monotonic() + _PATIENCE_S
    while waiting and time.monotonic() < end:
        time.sleep(_POLL_S)
        now = {card.name: _millijoules(nvml, card.handle) for card in waiting}
        counting += [card for card in waiting if now[card.name][0] == _SUCCESS and now[card.name] != first[card.name]]
        waiting = [card for card in waiting if now[card.name] == first[card.name]]
    return counting


def _millijoules(nvml: Any, handle: ctypes.c_void_p) -> tuple[int, int]:
    """NVML's code, and the energy since the driver was loaded."""
    millijoules = ctypes.c_ulonglong()
    return _call(nvml, "nvmlDeviceGetTotalEnergyConsumption", handle, ctypes.byref(millijoules)), millijoules.value


def _milliwatts(nvml: Any, handle: ctypes.c_void_p) -> tuple[int, int]:
    """NVML's code, and the power."""
    milliwatts = ctypes.c_uint()
    return nvml.nvmlDeviceGetPowerUsage(handle, ctypes.byref(milliwatts)), milliwatts.value


def _field(nvml: Any, handle: ctypes.c_void_p, field: int) -> tuple[int, int]:
    """NVML's code, and the milliwatts of a field."""
    value = FieldValue(fieldId=field)
    code = _call(nvml, "nvmlDeviceGetFieldValues", handle, ctypes.c_int(1), ctypes.byref(value))
    return code or value.nvmlReturn, value.value.uiVal


def _call(nvml: Any, function: str, *arguments: Any) -> int:
    """NVML's code of a function that older drivers do not have."""
    called = getattr(nvml, function, None)
    return _NOT_SUPPORTED if called is None else called(*arguments)


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
