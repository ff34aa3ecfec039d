"""The report in a real browser: it draws, sorts, filters, stays on this machine, and fits a phone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from edlab.record import RunRecord, Verdict
from edlab.reports.report import Content, Power, Published, page

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

HOSTILE = "<script>alert(1)</script>"
LATENCIES = {"fp32": 10.0, "int8": 4.0, "fp16": 123.0}


def records() -> list[RunRecord]:
    found = []
    for model in ("net", HOSTILE):
        for quantization, ms in LATENCIES.items():
            values: dict[str, Any] = {"model.name": model, "quantization.name": quantization, "device.name": "cpu"}
            metrics = {
                "accuracy_top1": 0.7 + ms / 1000, "accuracy_drop": 0.01, "latency_ms": ms, "latency_p50_ms": ms,
                "latency_p90_ms": 2 * ms, "throughput_ips": 1000 / ms, "power_w": 5.0, "efficiency_ips_per_w": 20 / ms,
                "latency_ci95_low_ms": 0.99 * ms, "latency_ci95_high_ms": 1.01 * ms,
            }  # fmt: skip
            found.append(
                RunRecord(
                    name=f"{model}-{quantization}", uuid=f"{model}{quantization}", run_id=f"{len(found):032x}"[::-1],
                    sweep_id="s", started_at="2026-01-01T00:00:00+00:00", params=values, metrics=metrics,
                    verdict=Verdict(),
                )
            )  # fmt: skip
    return found


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "report.html"
    runs = records()
    power = {runs[0].uuid: Power([0.0, 1.0], [4.0, 5.0])}
    published = [Published("net", HOSTILE, "throughput_ips", 400.0, HOSTILE)]
    path.write_text(page(Content(runs, "Sweep s", "today", published, power)))
    return path.as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Visit:
    """The open page, what it reported and what it requested."""

    def __init__(self, browser: Any, address: str, width: int = 1280, scheme: str = "light") -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        self.context.grant_permissions(["clipboard-read", "clipboard-write"])
        self.page = self.context.new_page()
        self.reported: list[str] = []
        self.requested: list[str] = []
        self.page.on("console", lambda message: self.reported.append(message.text))
        self.page.on("pageerror", lambda error: self.reported.append(str(error)))
        self.page.on("dialog", lambda dialog: self.reported.append(dialog.message))
        self.page.on("request", lambda request: self.requested.append(request.url))
        self.page.goto(address)
        self.page.wait_for_selector("#chart-power .main-svg")

    def column(self, heading: str) -> list[str]:
        """The cells of the rows that are shown."""
        headings = self.page.locator("#runs thead th").all_inner_texts()
        index = next(number for number, text in enumerate(headings, 1) if text.split()[0] == heading)
        return [
            text.strip() for text in self.page.locator(f"#runs tbody td:nth-child({index}):visible").all_inner_texts()
        ]

    def color(self, selector: str, name: str) -> str:
        return str(self.page.eval_on_selector(selector, f"each => getComputedStyle(each)['{name}']"))


def test_every_chart_is_drawn_without_an_error_or_a_request(browser: Any, address: str) -> None:
    visit = Visit(browser, address)
    drawn = visit.page.locator(".chart .main-svg:first-child")
    assert drawn.count() == visit.page.locator(".chart").count() == 6
    assert visit.page.locator("#chart-throughput .bars .point").count() == 7
    assert HOSTILE in visit.page.locator("#chart-throughput").inner_text().replace("\n", "")
    assert all(visit.page.locator(".chart").nth(number).get_attribute("aria-describedby") for number in range(6))
    visit.page.hover("#chart-throughput .bars .point >> nth=0", force=True)  # Plotly's own layer is above the bars
    visit.page.wait_for_selector("#chart-throughput .hovertext")
    assert visit.reported == []
    assert visit.requested == [address]
    visit.context.close()


def test_the_table_is_sorted_by_keyboard_filtered_and_copied(browser: Any, address: str) -> None:
    visit = Visit(browser, address)
    button = visit.page.locator("#runs th button", has_text="ms").first
    button.press("Enter")
    assert visit.column("ms") == ["4.00*", "4.00*", "10.0", "10.0", "123", "123"]
    assert button.locator("..").get_attribute("aria-sort") == "ascending"
    button.press("Enter")
    assert visit.column("ms")[0] == "123"
    visit.page.fill("#filter", "NET int8")
    assert visit.column("quant") == ["int8"]
    assert visit.page.inner_text("#count") == "1 of 6 runs"
    visit.page.click("#copy")
    visit.page.wait_for_function("document.getElementById('count').textContent.includes('copied')")
    heading, row = visit.page.evaluate("navigator.clipboard.readText()").strip().splitlines()
    assert dict(zip(heading.split(","), row.split(","), strict=True))["latency_ms"] == "4.0"
    assert visit.reported == []
    visit.context.close()


def test_it_fits_a_phone_and_has_a_dark_form(browser: Any, address: str) -> None:
    visit = Visit(browser, address, width=400, scheme="dark")
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= 400
    assert all(visit.page.locator(".chart").nth(number).bounding_box()["width"] <= 400 for number in range(6))
    dark = visit.color("body", "backgroundColor"), visit.color("#chart-throughput .xtick text", "fill")
    visit.page.emulate_media(color_scheme="light")
    visit.page.wait_for_timeout(500)
    light = visit.color("body", "backgroundColor"), visit.color("#chart-throughput .xtick text", "fill")
    assert light[0] == "rgb(255, 255, 255)"
    assert all(one != other for one, other in zip(dark, light, strict=True))  # the charts follow
    assert visit.reported == []
    visit.context.close()
