"""`edlab cache list|verify|clear`: the files that are kept for the next run."""

from __future__ import annotations

import time
from itertools import groupby

from rich.console import Console
from rich.table import Table

from edlab.cache import Cache


def show(cache: Cache, console: Console) -> int:
    """Print the size and the age of each kind of entry."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("kind", "entries", "MB", "last used"):
        table.add_column(heading, justify="left" if heading == "kind" else "right")
    total = 0
    for kind, group in groupby(cache.entries(), key=lambda entry: entry.kind):
        entries = list(group)
        size = sum(entry.size_bytes for entry in entries)
        total += size
        last = time.strftime("%Y-%m-%d %H:%M", time.localtime(max(entry.used_at for entry in entries)))
        table.add_row(kind, str(len(entries)), f"{size / 1e6:,.1f}", last)
    console.print(table)
    console.print(f"{total / 1e6:,.1f} MB in {cache.root}", markup=False, highlight=False)
    return 0


def verify(cache: Cache, console: Console) -> int:
    """Check each entry's files against their checksums. Return 1 if one is damaged; the next run rebuilds it."""
    damaged = checked = 0
    for entry, problem in cache.verify():
        checked += 1
        if problem:
            damaged += 1
            console.print(f"[red]damaged[/] {entry.kind}/{entry.key}: {problem}", highlight=False)
    console.print(f"{checked} entries checked, {damaged} damaged", highlight=False)
    return 1 if damaged else 0


def clear(cache: Cache, console: Console) -> int:
    """Remove all entries. Raises `StorageError` while a run is using them."""
    removed = cache.clear()
    cache.tidy()
    megabytes = sum(entry.size_bytes for entry in removed) / 1e6
    console.print(f"{len(removed)} entries removed, {megabytes:,.1f} MB", highlight=False)
    return 0
