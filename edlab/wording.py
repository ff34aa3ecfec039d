"""Numbers with their nouns, in messages."""

from __future__ import annotations


def plural(count: int, one: str, several: str) -> str:
    """The number with its noun, and what follows it: "1 file has", "3 files have"."""
    return f"{count:,} {one}" if count == 1 else f"{count:,} {several}"


def none_of(count: int, noun: str, does: str, does_not: str) -> str:
    """That none does: "none of the 3 images can be read", "the only image cannot be read"."""
    return f"the only {noun} {does_not}" if count == 1 else f"none of the {count} {noun}s {does}"
