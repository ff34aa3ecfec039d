"""MLflow's own UI: served from this machine, and the address in it that shows one sweep."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import webbrowser
from collections.abc import Callable, Sequence
from urllib.parse import urlencode

from edlab.errors import TrackingError
from edlab.metrics import catalogue
from edlab.tracking.runs import Runs
from edlab.tracking.store import Store

_PORTS_TRIED = 20
_STARTS_WITHIN_S = 180
_LOG_LINES = 5

VIEW_TAG = "mlflow.sharedViewState."  # of the experiment: the columns of a view, by its key
_NAME, _VERDICT = "attributes.`Run Name`", "tags.`edlab.verdict`"
_WIDTHS = {_NAME: 270, _VERDICT: 115}  # pixels
_METRIC_WIDTH = 130
_SECTION = "edlab-headlines"  # of the page with charts


def latest_page(store: Store, runs: Runs, base: str) -> str:
    """The address of the latest sweep's runs in the UI at `base`, with a view of its metrics stored in MLflow."""
    experiment = store.experiment_id
    sweep_id = runs.latest_sweep()
    if not sweep_id:
        return address(base, experiment)
    metrics = {name for record in runs.rows(sweep_id) for name in record.metrics}
    try:
        key = f"edlab-{sweep_id}"
        store.client.set_experiment_tag(experiment, VIEW_TAG + key, view(sweep_id, sorted(metrics)))
    except Exception:  # without the permission to write, the page has MLflow's own columns
        return address(base, experiment, sweep_id=sweep_id)
    return address(base, experiment, view=key)


def address(base: str, experiment_id: str, *, view: str = "", sweep_id: str = "") -> str:
    """The page with the runs of an experiment: those of a stored view; else those of a sweep, the fastest first."""
    query = {"workflowType": "machine_learning"}  # MLflow's other mode shows traces of language models
    if view:
        query["viewStateShareKey"] = view
    elif sweep_id:
        query |= {name: str(value) for name, value in _search(sweep_id).items() if isinstance(value, str)}
    return f"{base.rstrip('/')}/#/experiments/{experiment_id}/runs?{urlencode(query)}"


def view(sweep_id: str, metrics: Sequence[str]) -> str:
    """The content of a stored view: the runs of a sweep, the fastest first, with verdict and the six metrics.

    `metrics` are the metrics that a run of the sweep has.
    """
    wanted = [*catalogue.accuracies(), *catalogue.headlines()]
    names = [f"{prefix}{name}" for name in dict.fromkeys(wanted) for prefix in ("", *catalogue.PREFIXES)]
    shown = [name for name in names if name in metrics]
    columns = [_VERDICT, *(f"metrics.`{name}`" for name in shown)]
    widths = dict.fromkeys(columns, _METRIC_WIDTH) | _WIDTHS
    table = {"selectedColumns": columns, "columnOrder": [_NAME, *columns], "columnWidths": widths}
    charts = {"compareRunSections": _sections(), "compareRunCharts": [_bars(name) for name in shown]}
    return json.dumps({**_search(sweep_id), **table, **charts, "runsHiddenMode": "SHOW_ALL"})


def _sections() -> list[dict[str, object]]:
    """The sections of the page with charts: MLflow adds one chart to the second for each other metric, by name."""
    names = {_SECTION: "Headline metrics", "edlab-others": "Model metrics", "edlab-system": "System metrics"}
    return [
        {
            "uuid": uuid,
            "name": name,
            "display": uuid == _SECTION,
            "isReordered": False,
            "deleted": False,
            "isGenerated": uuid != _SECTION,
        }
        for uuid, name in names.items()
    ]


def _bars(metric: str) -> dict[str, object]:
    return {
        "type": "BAR",
        "uuid": f"edlab-{metric}",
        "metricSectionId": _SECTION,
        "metricKey": metric,
        "runsCountToCompare": 20,
        "deleted": False,
        "isGenerated": True,
    }


def _search(sweep_id: str) -> dict[str, object]:
    return {
        "searchFilter": f"tags.`edlab.sweep_id` = '{sweep_id}'",
        "orderByKey": "metrics.`latency_ms`",
        "orderByAsc": "true",
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
    }


def open_browser(page: str) -> None:
    """Open a page in the user's browser, if there is one that has a window."""
    display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if display or os.environ.get("BROWSER") or sys.platform != "linux":
        with contextlib.suppress(webbrowser.Error, OSError):
            webbrowser.open(page)


def command(uri: str, host: str, port: int) -> list[str]:
    """The command that serves the UI for the runs of `uri`."""
    options = ["--backend-store-uri", uri, "--host", host, "--port", str(port), "--workers", "1"]
    return [sys.executable, "-m", "mlflow", "ui", *options]


def serve(uri: str, host: str, port: int, on_ready: Callable[[], None]) -> int:
    """Serve the UI on this free port until Ctrl-C or SIGTERM ends it and its workers; return 0.

    `on_ready` is called when it answers. Its own output is hidden: raises `TrackingError` with the end of that if it
    ends by itself.
    """
    # MLflow's server can run jobs for language models in separate workers, which are not needed here.
    environment = {
        "PYTHONWARNINGS": "ignore",
        **os.environ,
        "MLFLOW_LOGGING_LEVEL": "ERROR",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(
            command(uri, host, port), env=environment, start_new_session=True, stdout=log, stderr=log
        )
        try:
            threading.Thread(target=_when_ready, args=(server, host, port, on_ready), daemon=True).start()
            code = server.wait()
        except KeyboardInterrupt:
            return 0
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)  # MLflow's server has its own workers
            server.wait()
        log.seek(0)
        tail = log.read().decode(errors="replace").strip().splitlines()[-_LOG_LINES:]
    raise TrackingError(f"MLflow's UI failed with exit code {code}: " + "\n".join(tail))


def _when_ready(server: subprocess.Popen[bytes], host: str, port: int, on_ready: Callable[[], None]) -> None:
    """Wait until the server answers."""
    deadline = time.monotonic() + _STARTS_WITHIN_S
    while server.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{host}:{port}/health", timeout=2):
            on_ready()
            return
        time.sleep(0.1)


def free_port(host: str, port: int) -> int:
    """`port`, or the next one that is free. Raises `TrackingError` if the next twenty are in use."""
    for candidate in range(port, port + _PORTS_TRIED):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, candidate))
            except OSError:
                continue
            return candidate
    raise TrackingError(
        f"ports {port} to {port + _PORTS_TRIED - 1} of {host} are in use", hint="choose another port with --port"
    )
