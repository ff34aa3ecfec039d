"""Why an instrument in the network cannot be reached, and what to check."""

from __future__ import annotations

import socket


def unreachable(address: str, reason: object) -> ConnectionError:
    """The error of a connection to `address` that failed with `reason`."""
    if isinstance(reason, socket.gaierror):
        return ConnectionError(f"the host {address} is not found: check meter.options.host, or set its IP address")
    why = getattr(reason, "strerror", None) or reason
    return ConnectionError(f"cannot reach {address} ({why}): check that it is on, and meter.options.host")
