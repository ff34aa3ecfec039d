"""Runs one function in a separate process, so that a vendor tool that crashes, hangs or uses too much memory is an
error.

    result = run_isolated("package.module:function", {"path": "net.onnx"}, log=Path("convert.log"), timeout_s=600)

Arguments and result are JSON. What the function and its native libraries print goes to the log. An edlab error raised
inside is raised again as the same error, a full or protected disk as `StorageError`, anything else as `ConversionError`
with the end of the log. The child ends with its parent, however that ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from edlab import durable, errors
from edlab.errors import ConversionError, EdlabError
from edlab.registry import load_target

_POLL_S = 0.05
_ORPHAN_POLL_S = 1.0
_TAIL_LINES = 30
_TAIL_BYTES = 1 << 16
_MOST_CHARACTERS = 500  # of an error's first line
_MARK = "EDLAB_PROCESS"  # the variable that identifies a child's children that have left its process group
_SHARE = 0.9  # of the memory that is free when a child starts


def log_tail(log: Path, lines: int = _TAIL_LINES) -> str:
    """The last lines of a log, empty if there is no log."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            return "\n".join(file.read(_TAIL_BYTES).decode(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return ""


def run_isolated(
    target: str,
    arguments: Mapping[str, Any],
    *,
    log: Path,
    timeout_s: float = 1800.0,
    memory_limit_gb: float | None = None,
    log_limit_mb: float = 500.0,
    environment: Mapping[str, str] | None = None,
) -> Any:
    """Call the function that `target` names with `arguments` in a child process and return its JSON result.

    `memory_limit_gb` limits the resident memory of the child and its children; None: 90 % of the memory that is free
    now. `log_limit_mb` limits their output. Raises the edlab error that the function raised, or `ConversionError` for a
    crash, a time-out, too much memory or too much output.
    """
    name = target.partition(":")[2]
    limits = _Limits(timeout_s, memory_limit_bytes(memory_limit_gb), int(log_limit_mb * 1e6))
    mark = secrets.token_hex(8)
    with tempfile.TemporaryDirectory(prefix="edlab-") as folder:
        request, answer = Path(folder, "request.json"), Path(folder, "answer.json")
        call = {"target": target, "arguments": dict(arguments), "log": str(log), "parent": os.getpid()}
        request.write_text(json.dumps(call, default=str))
        path = os.pathsep.join(filter(None, sys.path))
        with open(log, "ab") as output:
            child = subprocess.Popen(
                [sys.executable, "-X", "faulthandler", "-m", "edlab.isolation", str(request), str(answer)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": path, _MARK: mark, **(environment or {})},
                start_new_session=True,
            )
            try:
                _wait(child, name, log, limits)
            finally:
                _kill_group(child)
                kill_marked(_MARK, mark)
        if not answer.exists():
            raise ConversionError(
                f"{name} crashed with {describe_exit(child.returncode)}",
                hint=f"read its log: {log}",
                log=log_tail(log),
            )
        return _unpack(json.loads(answer.read_text()), log)


def memory_limit_bytes(gigabytes: float | None) -> int:
    """The memory limit of a child: this many gigabytes, else 90 % of the memory that is free now."""
    return int(gigabytes * 1e9) if gigabytes else int(psutil.virtual_memory().available * _SHARE)


class _Limits(NamedTuple):
    timeout_s: float
    memory_bytes: int
    log_bytes: int


def _wait(child: subprocess.Popen[bytes], name: str, log: Path, limits: _Limits) -> None:
    deadline = time.monotonic() + limits.timeout_s
    while True:
        try:
            child.wait(timeout=_POLL_S)
            return
        except subprocess.TimeoutExpired:
            pass
        if time.monotonic() > deadline:
            raise ConversionError(
                f"{name} timed out after {limits.timeout_s:g} s",
                hint="raise converter.timeout_s, or use a smaller model or fewer calibration images",
                log=log_tail(log),
            )
        if log.stat().st_size > limits.log_bytes:
            raise ConversionError(
                f"{name} printed more than {limits.log_bytes / 1e6:,.0f} MB",
                hint="read the beginning of its log, or raise converter.log_limit_mb",
                log=log_tail(log),
            )
        if _resident_bytes(child.pid) > limits.memory_bytes:
            raise ConversionError(
                f"{name} used more than {limits.memory_bytes / 1e9:.1f} GB of memory",
                hint="use fewer calibration images (quantization.calibration.images=...), or raise "
                "converter.memory_limit_gb",
                log=log_tail(log),
            )


def _resident_bytes(pid: int) -> int:
    try:
        process = psutil.Process(pid)
        return sum(p.memory_info().rss for p in (process, *process.children(recursive=True)))
    except psutil.Error:
        return 0


def _kill_group(child: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def kill_marked(variable: str, value: str) -> None:
    """Kill every process with this variable in its environment: a daemon leaves its process group, but keeps it."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(variable) == value:
                process.kill()


def describe_exit(code: int) -> str:
    """How a child ended, as text: its exit code, or the signal that killed it (a negative `returncode`)."""
    if code < 0:
        note = " (the system ran out of memory?)" if -code == signal.SIGKILL else ""
        return f"signal {signal.Signals(-code).name}{note}"
    return f"exit code {code}"


def _unpack(answer: dict[str, Any], log: Path) -> Any:
    if "result" in answer:
        return answer["result"]
    kind = getattr(errors, answer["kind"], None)
    if isinstance(kind, type) and issubclass(kind, EdlabError):
        raise kind(answer["message"], hint=answer["hint"], log=answer["log"] or log_tail(log))
    raise ConversionError(
        f"{answer['name']} failed: {answer['kind']}: {answer['message']}",
        hint=f"read its log: {log}",
        log=log_tail(log),
    )


def _serve(request_path: Path, answer_path: Path) -> None:
    request = json.loads(request_path.read_text())
    name = request["target"].partition(":")[2]
    threading.Thread(target=_end_with, args=(request["parent"],), daemon=True).start()
    try:
        answer = {"result": _call(request)}
    except EdlabError as error:
        texts = {"message": error.message, "hint": error.hint, "log": error.log}
        answer = {"kind": type(error).__name__, **{key: text[-_TAIL_BYTES:] for key, text in texts.items()}}
    except Exception as error:
        traceback.print_exc()
        first_line = str(error).strip().splitlines()[:1]
        answer = {"kind": type(error).__name__, "name": name, "message": "".join(first_line)[:_MOST_CHARACTERS]}
    scratch = answer_path.with_suffix(".tmp")
    scratch.write_text(json.dumps(answer, default=str))
    scratch.rename(answer_path)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # vendor libraries crash or hang in their destructors; the answer is already on disk


def _call(request: dict[str, Any]) -> Any:
    try:
        return load_target(request["target"])(**request["arguments"])
    except PermissionError:  # of a device, or of the tool's own file: not a disk error
        raise
    except OSError as error:
        place = Path(request["log"]).parent  # a failed write does not state the file
        if explained := durable.storage_error(error, place, "set EDLAB_CACHE and TMPDIR to another disk"):
            raise explained from error
        raise


def _end_with(parent: int) -> None:
    """Kill this process and its children once the parent is gone: no one waits for the answer."""
    while os.getppid() == parent:
        time.sleep(_ORPHAN_POLL_S)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), Path(sys.argv[2]))
