"""HTTP requests to a meter, which must be answered in time: a name server or a meter that hangs delays no reading."""

from __future__ import annotations

import http.client
import json
import queue
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from email.message import Message
from typing import Any, NamedTuple

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
    """Request `url` and return the answer, or raise `OSError`; `TimeoutError` after `deadline` (time.monotonic).

    A thread makes the request: the time limits of sockets apply neither to a name server, nor to an entire answer.
    """
    left_s = max(deadline - time.monotonic(), 0.01)
    box: queue.SimpleQueue[Answer | OSError] = queue.SimpleQueue()
    request = urllib.request.Request(url, headers=dict(headers or {}))
    threading.Thread(target=lambda: box.put(_answer(request, left_s)), daemon=True).start()
    try:
        answer = box.get(timeout=left_s)
    except queue.Empty:
        raise TimeoutError(f"{request.host} did not answer in time") from None
    if isinstance(answer, OSError):
        raise answer
    return answer


def _answer(request: urllib.request.Request, timeout_s: float) -> Answer | OSError:
    """The messages name the host only: a URL may contain a password."""
    start_ns = time.perf_counter_ns()
    try:
        with _OPENER.open(request, timeout=timeout_s) as response:
            body = response.read(_MOST_BYTES)
            return Answer(response.status, response.headers, body, (start_ns + time.perf_counter_ns()) // 2)
    except urllib.error.HTTPError as error:
        with error:
            body = error.read(_MOST_BYTES)
        return Answer(error.code, error.headers, body, (start_ns + time.perf_counter_ns()) // 2)
    except TimeoutError:
        return TimeoutError(f"{request.host} did not answer in time")
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError):
            return TimeoutError(f"{request.host} did not answer in time")
        return ConnectionError(f"cannot reach {request.host}: {error.reason}")
    except (OSError, http.client.HTTPException) as error:
        return ConnectionError(f"the connection to {request.host} broke: {type(error).__name__} {error}".rstrip())
