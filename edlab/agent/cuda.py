"""libcudart by ctypes: device and pinned memory, streams, copies, and properties of the GPU.

Signatures, attribute numbers and copy kinds are from the CUDA Runtime API reference, and unchanged since CUDA 10.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import numpy as np

from .errors import AgentError

_FOLDERS = ("", "/usr/local/cuda/lib64/")  # "": the loader's own folders; JetPack does not always configure the other
_NAMES = ("libcudart.so", "libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0", "libcudart.so.10.2")

_TO_DEVICE, _TO_HOST = 1, 2  # cudaMemcpyKind
_NON_BLOCKING = 1  # cudaStreamNonBlocking: not ordered with the default stream
_MAJOR, _MINOR = 75, 76  # cudaDevAttrComputeCapability*; the layout of cudaDeviceProp changes between versions
_MULTIPROCESSORS = 16  # cudaDevAttrMultiProcessorCount
_NAME_LENGTH = 256

_POINTER, _SIZE, _INT = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
_SIGNATURES: dict[str, list[Any]] = {
    "cudaMalloc": [ctypes.POINTER(_POINTER), _SIZE],
    "cudaFree": [_POINTER],
    "cudaMallocHost": [ctypes.POINTER(_POINTER), _SIZE],
    "cudaFreeHost": [_POINTER],
    "cudaMemcpyAsync": [_POINTER, _POINTER, _SIZE, _INT, _POINTER],
    "cudaStreamCreateWithFlags": [ctypes.POINTER(_POINTER), ctypes.c_uint],
    "cudaStreamSynchronize": [_POINTER],
    "cudaStreamDestroy": [_POINTER],
    "cudaDeviceGetAttribute": [ctypes.POINTER(_INT), _INT, _INT],
    "cudaMemGetInfo": [ctypes.POINTER(_SIZE), ctypes.POINTER(_SIZE)],
    "cudaRuntimeGetVersion": [ctypes.POINTER(_INT)],
}


@functools.lru_cache(maxsize=None)
def library() -> ctypes.CDLL:
    """libcudart. Raises `AgentError` if the target does not have it."""
    for path in [folder + name for folder in _FOLDERS for name in _NAMES]:
        try:
            cudart = ctypes.CDLL(path)
        except OSError:
            continue
        for name, arguments in _SIGNATURES.items():
            getattr(cudart, name).argtypes = arguments
        cudart.cudaGetErrorString.argtypes = [_INT]
        cudart.cudaGetErrorString.restype = ctypes.c_char_p
        return cudart
    raise AgentError(
        "the target has no libcudart",
        hint="install the CUDA runtime (on a Jetson: sudo apt install nvidia-jetpack), or add its folder to "
        "LD_LIBRARY_PATH in device.env",
    )


def runtime_version() -> str:
    """The version of libcudart: "12.6"."""
    number = _INT()
    _call("cudaRuntimeGetVersion", ctypes.byref(number))
    return "%d.%d" % (number.value // 1000, number.value % 1000 // 10)


def compute_capability() -> str:
    """The compute capability of the first GPU: "8.7". Raises `AgentError` if there is no GPU."""
    return "%d.%d" % (_attribute(_MAJOR), _attribute(_MINOR))


def multiprocessors() -> int:
    """The number of multiprocessors of the first GPU."""
    return _attribute(_MULTIPROCESSORS)


def memory_bytes() -> int:
    """The total memory of the first GPU; on a Jetson, the board's memory."""
    free, total = _SIZE(), _SIZE()
    _call("cudaMemGetInfo", ctypes.byref(free), ctypes.byref(total))
    return total.value


def device_name() -> str | None:
    """The driver's name of the first GPU; None if there is no libcuda."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    name = ctypes.create_string_buffer(_NAME_LENGTH)
    if driver.cuInit(0) or driver.cuDeviceGetName(name, _NAME_LENGTH, 0):
        return None
    return name.value.decode(errors="replace")


class DeviceMemory:
    """Memory on the GPU, at `address`, for the lifetime of this object."""

    def __init__(self, size: int) -> None:
        pointer = _POINTER()
        _call("cudaMalloc", ctypes.byref(pointer), size)
        self.address: int = pointer.value or 0

    def __del__(self) -> None:
        if hasattr(self, "address"):
            library().cudaFree(self.address)


class PinnedArray:
    """`array` is in memory that the GPU accesses without an intermediate copy, for the lifetime of this object."""

    def __init__(self, shape: tuple[int, ...], dtype: str) -> None:
        kind = np.dtype(dtype)
        size = int(np.prod(shape)) * kind.itemsize
        pointer = _POINTER()
        _call("cudaMallocHost", ctypes.byref(pointer), size)
        self.address: int = pointer.value or 0
        memory = memoryview((ctypes.c_byte * size).from_address(self.address))
        self.array: np.ndarray = np.frombuffer(memory, kind).reshape(shape)

    def __del__(self) -> None:
        if hasattr(self, "address"):
            library().cudaFreeHost(self.address)


class Stream:
    """Work that the GPU executes in order; `handle` is its cudaStream_t."""

    def __init__(self) -> None:
        pointer = _POINTER()
        _call("cudaStreamCreateWithFlags", ctypes.byref(pointer), _NON_BLOCKING)
        self.handle: int = pointer.value or 0
        self._copy = library().cudaMemcpyAsync
        self._synchronize = library().cudaStreamSynchronize

    def __del__(self) -> None:
        if hasattr(self, "handle"):
            library().cudaStreamDestroy(self.handle)

    def to_device(self, source: PinnedArray, target: DeviceMemory) -> None:
        """Start to copy all of `source`, in order with the rest of the stream."""
        _check(self._copy(target.address, source.address, source.array.nbytes, _TO_DEVICE, self.handle), "copy")

    def to_host(self, source: DeviceMemory, target: PinnedArray) -> None:
        """Start to fill all of `target`, in order with the rest of the stream."""
        _check(self._copy(target.address, source.address, target.array.nbytes, _TO_HOST, self.handle), "copy")

    def synchronize(self) -> None:
        """Wait until all work in the stream is done."""
        _check(self._synchronize(self.handle), "wait")


def _attribute(number: int) -> int:
    """One cudaDeviceAttr of the first GPU."""
    value = _INT()
    _call("cudaDeviceGetAttribute", ctypes.byref(value), number, 0)
    return value.value


def _call(name: str, *arguments: Any) -> None:
    _check(getattr(library(), name)(*arguments), name)


def _check(code: int, action: str) -> None:
    if code:
        text = library().cudaGetErrorString(code).decode(errors="replace")
        raise AgentError("CUDA cannot %s: %s (error %d)" % (action, text, code), hint="read `dmesg` on the target")
