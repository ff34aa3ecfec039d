"""Numbers with their nouns, in messages; texts in Markdown."""

from __future__ import annotations

import re


def plural(count: int, one: str, several: str) -> str:
    """The number with its noun, and what follows it: "1 file has", "3 files have"."""
    return f"{count:,} {one}" if count == 1 else f"{count:,} {several}"


def none_of(count: int, noun: str, does: str, does_not: str) -> str:
    """That none does: "none of the 3 images can be read", "the only image cannot be read"."""
    return f"the only {noun} {does_not}" if count == 1 else f"none of the {count} {noun}s {does}"


def escape_markdown(text: str) -> str:
    """The text in Markdown: one line that ends no cell of a table, and has no link and no tag of HTML."""
    return re.sub(r"[\\|`]|(?<=\])\(", r"\\\g<0>", " ".join(text.split())).replace("<", "&lt;")
