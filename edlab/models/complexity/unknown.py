"""The note that states why a count is incomplete."""

from __future__ import annotations

from collections.abc import Iterable


def cannot_be_counted(operators: Iterable[str]) -> str:
    """The note of a missing count: the operators that are neither free nor have a formula."""
    names = sorted(set(operators))
    return f"cannot be counted: the graph has {', '.join(names[:5])}{' and others' if len(names) > 5 else ''}"
