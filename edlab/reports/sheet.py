"""A table that a person reads in the terminal, pastes into a document, or hands to a program: one form, all formats."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from html import escape as escape_html
from typing import Any, TypeVar

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, JustifyMethod, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from edlab.wording import escape_markdown

T = TypeVar("T")
_LONGEST_WORD = 40  # columns of the terminal: a longer one, such as a path in an error, may be broken
_LONGEST_PART = 12  # the same in a text, if the table does not fit otherwise


class Format(StrEnum):
    """The forms of a sheet."""

    table = "table"
    csv = "csv"
    json = "json"
    markdown = "markdown"
    latex = "latex"
    html = "html"


@dataclass(frozen=True)
class Heading:
    """A column: its heading, which may have line breaks, and whether its cells are numbers."""

    text: str
    is_number: bool = False
    folds: bool = False  # a long cell may be broken into lines, between words
    is_name: bool = False  # it folds, and shares a column with the other names if the terminal is narrow
    is_text: bool = False  # it folds, and its long words are broken if the terminal is too narrow
    is_spare: bool = False  # not shown if the terminal is too narrow

    @property
    def may_fold(self) -> bool:
        """Whether its cells may be broken between words."""
        return self.folds or self.is_name or self.is_text

    @property
    def line(self) -> str:
        """The heading in one line."""
        return self.text.replace("\n/", "/").replace("\n", " ")


@dataclass(frozen=True)
class Cell:
    """A cell's text, its style in the terminal, and a second line below it with another style."""

    text: str
    style: str = ""
    below: str = ""
    below_style: str = "dim"

    @property
    def lines(self) -> tuple[str, str]:
        """Both lines."""
        return self.text, self.below

    @property
    def line(self) -> str:
        """Both lines in one."""
        return f"{self.text}; {self.below}" if self.below else self.text


@dataclass(frozen=True)
class Note:
    """A line below the table, its style, and its indentation."""

    text: str
    style: str = ""
    indent: int = 0


@dataclass
class Sheet:
    """Rows of cells for people, and the same rows as `data` for programs: values by name, units in the names.

    A row that is a text instead of cells is a heading within the table. What is equal in all rows is in `title`.
    """

    headings: list[Heading]
    rows: list[list[Cell] | str] = field(default_factory=list)
    data: list[dict[str, Any]] = field(default_factory=list)
    title: str = ""
    notes: list[Note] = field(default_factory=list)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The table if it fits; else with all names in one column, then without spare columns, then with the words of
        texts broken, then as blocks.
        """
        merged = self._merged()
        narrower = [merged._without_spare(count) for count in range(merged._spare + 1)]
        ways = [*((sheet, _LONGEST_WORD) for sheet in (self, *narrower)), (narrower[-1], _LONGEST_PART)]
        for sheet, longest_word in ways:
            least = sheet._least_widths(longest_word)
            if sum(least) + len(least) - 1 <= options.max_width:
                kept = [heading.text for heading in sheet.headings]
                left_out = [each.line for each in self.headings if each.is_spare and each.text not in kept]
                yield self._framed(sheet._table(sheet._widths(least, options.max_width)), left_out)
                return
        yield self._framed(self._cards(), [])

    @property
    def _spare(self) -> int:
        return sum(heading.is_spare for heading in self.headings)

    def _merged(self) -> Sheet:
        """With all names in one column."""
        names = [index for index, heading in enumerate(self.headings) if heading.is_name]
        if len(names) < 2:
            return self
        others = [index for index in range(len(self.headings)) if index not in names]
        place = sum(index < names[0] for index in others)

        def merge(row: Sequence[T], join: Callable[[Sequence[T]], T]) -> list[T]:
            kept = [row[index] for index in others]
            return [*kept[:place], join([row[index] for index in names]), *kept[place:]]

        return Sheet(
            merge(self.headings, lambda headings: Heading(" ".join(each.text for each in headings), is_name=True)),
            [
                row if isinstance(row, str) else merge(row, lambda cells: Cell(" ".join(each.text for each in cells)))
                for row in self.rows
            ],
        )

    def _without_spare(self, count: int) -> Sheet:
        """Without the first `count` spare columns."""
        spare = [index for index, heading in enumerate(self.headings) if heading.is_spare][:count]
        kept = [index for index in range(len(self.headings)) if index not in spare]
        rows: list[list[Cell] | str] = [
            row if isinstance(row, str) else [row[index] for index in kept] for row in self.rows
        ]
        return Sheet([self.headings[index] for index in kept], rows)

    def _lines(self, index: int) -> list[str]:
        """All lines of a column."""
        cells = [row[index] for row in self.rows if not isinstance(row, str)]
        return [*self.headings[index].text.splitlines(), *(line for cell in cells for line in cell.lines)]

    def _least_widths(self, longest_word: int) -> list[int]:
        """What each column needs without breaking a word; of a text, a word of up to this many columns."""
        return [_least_width(self._lines(index), each, longest_word) for index, each in enumerate(self.headings)]

    def _widths(self, least: Sequence[int], available: int) -> list[int]:
        """What each column gets: what it needs, and an equal share of the rest up to its longest line."""
        widths = list(least)
        wanted = [max(map(cell_len, self._lines(index)), default=0) - width for index, width in enumerate(widths)]
        rest = available - sum(widths) - len(widths) + 1
        for done, index in enumerate(sorted(range(len(widths)), key=wanted.__getitem__)):
            more = min(wanted[index], rest // (len(widths) - done))
            widths[index], rest = widths[index] + more, rest - more
        return widths

    def _framed(self, table: RenderableType, left_out: Sequence[str]) -> RenderableType:
        parts: list[RenderableType] = [Text(self.title, "bold"), table] if self.title else [table]
        narrow = [Note(f"not shown in this width: {', '.join(left_out)}", "dim")] if left_out else []
        notes = [_below(note) for note in narrow + self.notes]
        return Group(*parts, "", *notes) if notes else Group(*parts)

    def _table(self, widths: Sequence[int]) -> RenderableType:
        """The table with columns of these widths; a heading within it is a line between two parts with the same."""
        table = self._columns(widths, with_headings=True)
        parts: list[RenderableType] = [table]
        for row in self.rows:
            if isinstance(row, str):
                table = self._columns(widths, with_headings=False)
                parts += [Text(row, "dim"), table]
            else:
                table.add_row(*map(_two_lines, row))
        return Group(*parts)

    def _columns(self, widths: Sequence[int], with_headings: bool) -> Table:
        table = Table(
            box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0), collapse_padding=True,
            show_header=with_headings,
        )  # fmt: skip
        for heading, width in zip(self.headings, widths, strict=True):
            justify: JustifyMethod = "right" if heading.is_number else "left"
            table.add_column(
                Text(heading.text), justify=justify, no_wrap=not heading.may_fold, width=width, overflow="fold"
            )
        return table

    def _cards(self) -> RenderableType:
        """Each row as a block of lines, for a terminal that is too narrow for the table."""
        parts: list[RenderableType] = []
        label = max(len(heading.line) for heading in self.headings)
        for row in self.rows:
            if isinstance(row, str):
                parts.append(Text(row, "dim"))
                continue
            block = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1, 0, 0))
            block.add_column(no_wrap=True, style="dim", width=label)
            block.add_column(overflow="fold")
            for heading, cell in zip(self.headings, row, strict=True):
                block.add_row(Text(heading.line), Text.assemble((cell.line, cell.style)))
            parts += [block, ""]
        return Group(*parts[:-1] if parts and parts[-1] == "" else parts)

    def write(self, form: Format) -> str:
        """The sheet as a text of this format, except `table`, which needs the width of a terminal."""
        writers: Mapping[Format, Callable[[Sheet], str]] = {
            Format.csv: _csv,
            Format.json: _json,
            Format.markdown: _markdown,
            Format.latex: _latex,
            Format.html: _html,
        }
        return writers[form](self)


def _least_width(lines: Iterable[str], heading: Heading, longest_word: int) -> int:
    parts = [part for line in lines for part in (line.split() if heading.may_fold else [line])]
    longest = max(map(cell_len, parts), default=0)
    if heading.is_text:
        return min(longest, longest_word)
    return min(longest, _LONGEST_WORD) if heading.folds else longest


def _below(note: Note) -> RenderableType:
    return Padding(Text(note.text, note.style), (0, 0, 0, note.indent), expand=False)


def _two_lines(cell: Cell) -> Text:
    if not cell.below:
        return Text(cell.text, cell.style)
    return Text.assemble((cell.text, cell.style), "\n", (cell.below, cell.below_style))


def _csv(sheet: Sheet) -> str:
    """The data, a column for each name. A text that a spreadsheet would run as a formula begins with an apostrophe."""
    names = list(dict.fromkeys(name for row in sheet.data for name in row))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    for row in sheet.data:
        writer.writerow([_csv_value(row.get(name)) for name in names])
    return out.getvalue()


def _csv_value(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, str):
        return f"'{value}" if value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
    return json.dumps(value, default=str) if isinstance(value, list | dict) else value


def _json(sheet: Sheet) -> str:
    content = {"title": sheet.title, "rows": sheet.data, "notes": [note.text for note in sheet.notes]}
    return json.dumps(_without_nan(content), indent=2, default=str) + "\n"


def _without_nan(value: Any) -> Any:
    """Infinity and NaN are not valid in JSON."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    return [_without_nan(each) for each in value] if isinstance(value, list) else value


def _markdown(sheet: Sheet) -> str:
    aligned = ["---:" if heading.is_number else "---" for heading in sheet.headings]
    lines = [[escape_markdown(heading.line) for heading in sheet.headings], aligned]
    for row in sheet.rows:
        cells = [row, *[""] * (len(sheet.headings) - 1)] if isinstance(row, str) else [cell.line for cell in row]
        lines.append([escape_markdown(cell) for cell in cells])
    parts = [f"**{escape_markdown(sheet.title)}**\n\n"] if sheet.title else []
    parts.append("".join(f"| {' | '.join(line)} |\n" for line in lines))
    if sheet.notes:
        parts.append("\n" + "".join(f"{' ' * note.indent}- {escape_markdown(note.text)}\n" for note in sheet.notes))
    return "".join(parts)


def _latex(sheet: Sheet) -> str:
    """A `tabular` for the package booktabs."""
    columns = "".join("r" if heading.is_number else "l" for heading in sheet.headings)
    lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
    lines += [" & ".join(_latex_text(heading.line) for heading in sheet.headings) + r" \\", r"\midrule"]
    for row in sheet.rows:
        if isinstance(row, str):
            lines.append(rf"\multicolumn{{{len(columns)}}}{{l}}{{{_latex_text(row)}}} \\")
        else:
            lines.append(" & ".join(_latex_text(cell.line) for cell in row) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    above = [f"% {' '.join(sheet.title.split())}"] if sheet.title else []
    return "\n".join([*above, *lines, *(f"% {' '.join(note.text.split())}" for note in sheet.notes)]) + "\n"


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "–": "--", "±": r"$\pm$", "≈": r"$\approx$", "×": r"$\times$", "★": r"$\star$",
}  # fmt: skip


def _latex_text(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in " ".join(text.split()))


def _html(sheet: Sheet) -> str:
    """A table without styles, as a part of a page."""
    heads = "".join(f"<th>{escape_html(heading.line)}</th>" for heading in sheet.headings)
    rows = []
    for row in sheet.rows:
        if isinstance(row, str):
            rows.append(f'<tr><th colspan="{len(sheet.headings)}">{escape_html(row)}</th></tr>')
        else:
            rows.append("<tr>" + "".join(f"<td>{escape_html(cell.line)}</td>" for cell in row) + "</tr>")
    caption = f"<caption>{escape_html(sheet.title)}</caption>" if sheet.title else ""
    notes = "".join(f"<li>{escape_html(note.text)}</li>" for note in sheet.notes)
    body = "\n".join(rows)
    table = f"<table>{caption}\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>\n"
    return table + (f"<ul>{notes}</ul>\n" if notes else "")
