"""MLflow's UI in a real browser, on the store of a real sweep, as `edlab ui` opens it."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from workplace import Workplace

from edlab.record import RunRecord

if TYPE_CHECKING:
    from playwright.sync_api import Page

CHROMIUM = shutil.which("chromium")
MISSING = [
    name
    for name, is_there in (("playwright", importlib.util.find_spec("playwright")), ("chromium", CHROMIUM))
    if not is_there
]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")

PATIENCE_MS = 60_000
TRAINING = "workflowType=machine_learning"
RUNS = "a[href*='/runs/']"  # the links of a list to its runs
ROWS = "digits_cnn-fp32-"


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory, shared_cache: Path) -> Workplace:
    """A folder with a sweep of two rows."""
    workplace = Workplace(tmp_path_factory.mktemp("swept"), shared_cache)
    result = workplace.run("-m", "converter=onnxruntime,openvino")
    assert result.returncode == 0, result.stdout + result.stderr
    return workplace


@pytest.fixture(scope="module")
def address(swept: Workplace) -> Iterator[str]:
    """What `edlab ui` prints; at the end Ctrl-C ends it without an error, and nothing else was printed."""
    with subprocess.Popen(
        [sys.executable, "-m", "edlab", "ui", "--no-browser", "--port", "5350"],
        cwd=swept.folder,
        env=swept.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout
        line = server.stdout.readline().strip()
        try:
            yield line
        finally:
            server.send_signal(signal.SIGINT)
            out, err = server.communicate(timeout=60)
    assert (server.returncode, out, err) == (0, "", "")


@pytest.fixture(scope="module")
def page(address: str) -> Iterator[Page]:
    """One page of a browser."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1700, "height": 900})
        page.set_default_timeout(PATIENCE_MS)
        yield page
        browser.close()


@pytest.fixture
def experiment(page: Page, address: str) -> str:
    """The address of the experiment's pages; the browser shows none of them."""
    page.goto("about:blank")  # another page of MLflow would only change the part of the address after #
    return address.partition("/runs?")[0]


def rows(swept: Workplace) -> list[RunRecord]:
    """The rows of the sweep, the fastest first."""
    return sorted(swept.records(), key=lambda record: record.metrics["latency_ms"])


def test_the_printed_address_shows_the_latest_sweep_the_fastest_first_with_its_metrics(
    page: Page, address: str, experiment: str, swept: Workplace
) -> None:
    from playwright.sync_api import expect

    page.goto(address)
    for column in (
        "tags.`edlab.verdict`",
        "metrics.`accuracy_top1`",
        "metrics.`latency_ms`",
        "metrics.`throughput_ips`",
    ):
        expect(page.locator(f"[role=columnheader][col-id='{column}']")).to_be_attached()
    names = page.locator(RUNS, has_text=ROWS)
    expect(names).to_have_count(2)
    shown = [name.removeprefix("✗ ").removeprefix("⚠ ") for name in names.all_inner_texts()]
    assert shown == [record.name for record in rows(swept)]


def test_the_sweep_is_a_parent_whose_children_are_its_rows(page: Page, experiment: str) -> None:
    from playwright.sync_api import expect

    page.goto(f"{experiment}/runs?{TRAINING}")
    parent = page.get_by_role("link", name="digits_cnn: onnxruntime, openvino")
    expect(parent).to_be_visible()
    children = page.locator(RUNS, has_text=ROWS)
    expect(children).to_have_count(0)
    page.locator(".ag-row button").first.click()
    expect(children).to_have_count(2)
    parent.click()
    expect(page.get_by_text("Compared:")).to_be_visible()


def test_comparing_two_runs_begins_with_their_latency_and_shows_what_differs(
    page: Page, experiment: str, swept: Workplace
) -> None:
    from playwright.sync_api import expect

    base, _, number = experiment.partition("/#/experiments/")
    runs = quote(json.dumps([record.run_id for record in rows(swept)]))
    page.goto(f"{base}/#/compare-runs?runs={runs}&experiments={quote(json.dumps([number]))}")
    plot = page.locator(".js-plotly-plot").first
    expect(plot.get_by_text("latency_ms")).to_be_visible()
    expect(plot.get_by_text("converter.name")).to_be_visible()
    expect(plot.get_by_text("model.name")).to_have_count(0)


def test_a_downloaded_artifact_is_the_file_that_ran(
    page: Page, experiment: str, swept: Workplace, tmp_path: Path
) -> None:
    record = next(record for record in rows(swept) if record.params["converter.name"] == "onnxruntime")
    (file,) = [Path(file) for file in record.details["artifact"]["files"]]
    page.goto(f"{experiment}/runs/{record.run_id}/artifacts/converted/{file.name}?{TRAINING}")
    with page.expect_download() as download:
        page.locator("button[data-component-id*=artifactview]").first.click()
    download.value.save_as(tmp_path / "model")
    assert sha256(tmp_path / "model") == sha256(file)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_models_tab_lists_the_converted_models(page: Page, experiment: str) -> None:
    from playwright.sync_api import expect

    page.goto(f"{experiment}/models?{TRAINING}")
    for converter in ("onnxruntime", "openvino"):
        expect(page.get_by_role("link", name=f"digits_cnn-fp32-{converter}-cpu", exact=True)).to_be_visible()


def test_the_summary_opens_as_a_table(page: Page, experiment: str, swept: Workplace) -> None:
    from mlflow import MlflowClient
    from playwright.sync_api import expect

    parent = MlflowClient(f"sqlite:///{swept.folder}/mlruns/mlflow.db").get_run(rows(swept)[0].run_id)
    parent_id = parent.data.tags["mlflow.parentRunId"]
    page.goto(f"{experiment}/runs/{parent_id}/artifacts/summary.json?{TRAINING}")
    expect(page.get_by_text("View as table")).to_be_visible()
    expect(page.get_by_role("columnheader", name="converter")).to_be_visible()
    expect(page.get_by_role("cell", name="openvino")).to_be_visible()
