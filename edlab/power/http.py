"""HTTP requests to a meter, which must be answered in time: a name server or a meter that hangs delays no reading."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from email.message import Message
from typing import Any, NamedTuple

from edlab.power.network import unreachable
from edlab.power.within import within

# A meter is in the local network: the proxy of the environment does not reach it.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_MOST_BYTES = 1_000_000


class Answer(NamedTuple):
    """An answer of any HTTP status. `t_ns` is the middle of request and answer (time.perf_counter_ns)."""

    status: int
    headers: Message
    body: bytes
    t_ns: int

    def json(self) -> dict[str, Any]:
        """The JSON object that the body contains. Raises `ValueError`."""
        try:
            content = json.loads(self.body)
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise ValueError(f"it answered {self.body[:60]!r}, not a JSON object")
        return content


def get(url: str, deadline: float, headers: Mapping[str, str] | None = None) -> Answer:
    """Request `url` and return the answer, or raise `OSError`; `TimeoutError` after `deadline` (time.monotonic)."""
    request = urllib.request.Request(url, headers=dict(headers or {}))
    return within(deadline, _late(request.host), lambda left_s: _answer(request, left_s))


def _late(host: str) -> str:
    return f"{host} did not answer in time: check that it is on, and meter.options.host"


def _answer(request: urllib.request.Request, timeout_s: float) -> Answer:
    """The answer. Raises `OSError`, whose message names the host only: a URL may contain a password."""
    start_ns = time.perf_counter_ns()
    try:
        with _OPENER.open(request, timeout=timeout_s) as response:
            body = response.read(_MOST_BYTES)
            return Answer(response.status, response.headers, body, (start_ns + time.perf_counter_ns()) // 2)
    except urllib.error.HTTPError as error:
        with error:
            body = error.read(_MOST_BYTES)
        return Answer(error.code, error.headers, body, (start_ns + time.perf_counter_ns()) // 2)
    except TimeoutError as error:
        raise TimeoutError(_late(request.host)) from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise TimeoutError(_late(request.host)) from error
        raise unreachable(request.host, error.reason) from error
    except (OSError, http.client.HTTPException) as error:
        broken = f"the connection to {request.host} broke: {type(error).__name__} {error}"
        raise ConnectionError(broken.rstrip()) from error
