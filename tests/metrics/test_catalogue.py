"""One list of metrics: what the tables, the docs and the records have is what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from edlab.metrics import catalogue
from edlab.metrics.catalogue import Column, Section

ROOT = Path(__file__).parents[2]


def test_no_metric_stands_in_it_twice() -> None:
    names = [name for metric in catalogue.CATALOGUE for name in metric.names]
    assert len(names) == len(set(names))


def test_the_six_headlines_are_those_of_the_paper() -> None:
    assert set(catalogue.headlines()) == {
        "accuracy_top1", "latency_ms", "throughput_ips", "flops_per_s", "power_w", "efficiency_ips_per_w",
    }  # fmt: skip


def test_a_metric_is_found_whatever_it_was_measured_on() -> None:
    for name in ("latency_ms", "emulated_latency_ms", "estimated_power_w"):
        assert catalogue.find(name)
    assert catalogue.find("of_a_plugin") is None


@pytest.mark.parametrize(
    ("value", "column", "text"),
    [
        (0.9954, Column("top1", scale=100, form=".1f"), "99.5"),
        (0.0123, Column("ms"), "0.0123"),
        (1234.5, Column("ms"), "1,234"),
        (0.0, Column("ms"), "0"),
    ],
)
def test_a_value_is_written_as_its_column_says(value: float, column: Column, text: str) -> None:
    assert column.write(value) == text


def test_the_docs_have_every_section() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    for section in ("headlines", *Section):
        assert f"<!-- metrics: {section} -->" in page
