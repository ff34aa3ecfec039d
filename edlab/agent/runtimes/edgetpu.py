"""Google Coral's Edge TPU: LiteRT with the delegate of libedgetpu, which runs the operators that were compiled for it.

LiteRT and libedgetpu must have similar TensorFlow versions, or they crash: Coral's own packages are for 2.5
(google-coral/edgetpu issue 731).
"""

from __future__ import annotations

import ctypes
from typing import Any

from ..errors import AgentError, FixedBatchError
from . import base, litert

_LIBRARY = "libedgetpu.so.1"
_CUSTOM_OPERATOR = b"edgetpu-custom-op"  # the compiler replaces the operators that the Edge TPU runs by it


class Runtime(litert.Runtime):
    """`device` is a libedgetpu device: "" for any, usb, pci, or one by number (:0, usb:0, pci:1)."""

    formats = ()
    options = {"device": ""}  # noqa: RUF012

    @staticmethod
    def version() -> str:
        return "%s, libedgetpu %s" % (litert.Runtime.version(), _library_version())

    @staticmethod
    def check_device(options: dict[str, Any]) -> None:
        _delegate(options["device"])

    def runs_on_cpu(self) -> bool:
        return False

    def load(self) -> None:
        super().load()
        self._delegate = _delegate(self.options["device"])

    def compile(self, in_flight: int, batch: int) -> base.Compiled:
        if batch > 1:
            raise FixedBatchError("models for the Edge TPU are compiled with batch 1")
        compiled = super().compile(in_flight, batch)
        if _CUSTOM_OPERATOR not in self._content:
            raise AgentError(
                "%s has no operators for the Edge TPU: the whole model would run on the CPU" % self.path,
                hint="compile it for the Edge TPU: set converter=edgetpu",
            )
        return compiled._replace(options=dict(compiled.options, device=self.options["device"] or "any"))

    def _delegates(self) -> list[Any]:
        return [self._delegate]


def _delegate(device: str) -> Any:
    """libedgetpu with this device. Raises `AgentError` if it is not found."""
    try:
        return litert.interpreter_module().load_delegate(_LIBRARY, {"device": device})
    except ValueError as error:  # libedgetpu reports no cause
        raise AgentError(
            "no Edge TPU is found (device.options.edgetpu.device=%s)" % (device or "any"),
            hint="plug it in (lsusb: 1a6e:089a or 18d1:9302; PCIe: /dev/apex_0), stop other programs that use it, and "
            "give this user access: sudo usermod -aG plugdev $USER (USB) or -aG apex (PCIe), then log in again",
        ) from error


def _library_version() -> str:
    """libedgetpu's version: its build and the runtime version that a compiled model requires."""
    try:
        get_version = ctypes.CDLL(_LIBRARY).edgetpu_version
    except OSError as error:
        raise AgentError(
            "the Edge TPU's library cannot be loaded: %s" % error,
            hint="install the Debian package libedgetpu1-std (https://coral.ai/docs/accelerator/get-started/)",
        ) from error
    get_version.restype = ctypes.c_char_p
    version: bytes = get_version()
    return version.decode(errors="replace")
