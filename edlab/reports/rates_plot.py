"""The bars of throughput and efficiency of several runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edlab.reports.plots import MOST_ROWS, empty_figure, label

_THROUGHPUT, _EFFICIENCY = "#0072b2", "#009e73"  # Okabe and Ito, for colour-blind readers
_DPI = 110


@dataclass(frozen=True)
class Rate:
    """A row of a sweep: inferences/s, and inferences/s/W if known; each with its origin: "", estimated or emulated."""

    name: str
    ips: tuple[float, str]
    ips_per_w: tuple[float, str] | None
    usable: bool  # its verdict is not INVALID


def rates_plot(rates: Sequence[Rate], path: Path, *, title: str) -> None:
    """Write a PNG with a bar of throughput for each row, and of efficiency if a row has one.

    Values that were not measured are hatched; rows that are INVALID are pale. Of more than `MOST_ROWS` rows, the
    fastest are shown, and the title says so.
    """
    if len(rates) > MOST_ROWS:
        title = ", ".join(filter(None, [title, f"the fastest {MOST_ROWS} of {len(rates):,} rows"]))
        rates = _fastest(rates)
    panels: list[tuple[str, str, list[tuple[float, str] | None]]] = [
        ("inferences/s", _THROUGHPUT, [each.ips for each in rates])
    ]
    if any(each.ips_per_w for each in rates):
        panels.append(("inferences/s/W", _EFFICIENCY, [each.ips_per_w for each in rates]))
    names = [label(each.name) + ("" if each.usable else " (INVALID)") for each in rates]
    labels_in = 0.2 + 0.075 * max(map(len, names))
    figure = empty_figure(max(9, 5 + labels_in), title, labels_in=labels_in, height=max(2.2, 1.2 + 0.28 * len(rates)))
    for index, (heading, color, values) in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), index + 1)
        for row, (value, rate) in enumerate(zip(values, rates, strict=True)):
            if value:
                number, origin = value
                hatch = "///" if origin else None
                axes.barh(row, number, color=color, edgecolor="white", alpha=1 if rate.usable else 0.35, hatch=hatch)
                axes.text(number, row, f" {number:,.4g}{f' ({origin})' if origin else ''}", va="center", fontsize=8)
        axes.set_yticks(range(len(rates)), names if index == 0 else [""] * len(rates), fontsize=8)
        axes.margins(x=0.2)
        axes.set_ylim(len(rates) - 0.4, -0.6)  # the first row on top
        axes.set(xlabel=f"{heading} (higher is better)")
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=_DPI)


def _fastest(rates: Sequence[Rate]) -> list[Rate]:
    """The `MOST_ROWS` rows with the highest throughput, INVALID ones last, in the order of the sweep."""
    ranked = sorted(range(len(rates)), key=lambda row: (rates[row].usable, rates[row].ips[0]), reverse=True)
    return [rates[row] for row in sorted(ranked[:MOST_ROWS])]
