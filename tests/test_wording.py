"""The language: the words of docs/glossary.md, in everything that a user or a plugin's author reads.

Messages, hints, help, docstrings, comments, configuration files and pages are read as text, however a string is made.
Users search for "missing", "not found", "fix", "override", "invalid" and "unsupported".
"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

#: What is not written, and what is written instead.
RETIRED = {
    r"mend(s|ed|ing)?": "fix",
    r"lack(s|ed|ing)?": "missing",
    r"eats?": "accept",
    r"nobody('?s)?": "no one, nothing",
    r"(be|been|was|were) had": "be measured, be available",
    r"defects?": "bug",
    r"of (its|their|your|his) own": "separate, its own",
    r"beside": "next to, besides",
    r"where (there )?(is|are) (no|none)": "if there is no",
    r"give [a-z_.]+=": "set",
    r"(is|are) no(?! (longer|more|less|fewer|better|worse|one)\b) [a-z]+ (of|in|that|name|file|model)": "is not a",
    r"whoever|whosoever": "anyone who",
    r"(hang|hangs|hung) on": "depend on",
    r"in place of": "instead of",
    r"(leave|leaves|left|leaving) (it |them |those |\S+ )?out": "remove, exclude, ignore",
    r"(?<!cannot.)tells?(?! apart)|told": "report, state, show",
    r"arrives? damaged": "was damaged in transfer",
    r"(has|have|had) to": "must",
    r"asked for": "requested",
    r"(these|those) words|words of (a|the) command": "overrides",
    r"ended with (exit )?(code|signal)": "failed with exit code",
    r"sees? the (device|board|chip)": "measures the device",
    r"takes? no": "does not support, has no",
    r"anew": "again",
    r"at fault": "faulty",
    r"what there is": "what is available",
    r"(is|are) not known": "is unknown, is missing",
    r"so (many|large|much|long) (that|as)": "a plain number or comparison",
}

#: Files that quote other people's words, or the retired ones.
EXCEPTIONS = {"CHANGELOG.md", "docs/reference"}


def documents() -> list[Path]:
    """Everything that is read as text: the code, the configuration, the scripts and the pages."""
    found = [path for suffix in ("py", "yaml") for path in (ROOT / "edlab").rglob(f"*.{suffix}")]
    found += (ROOT / "conf").rglob("*.yaml")
    found += (ROOT / "docs").rglob("*.md")
    found += ROOT.glob("*.md")
    found += [path for path in (ROOT / ".github").rglob("*") if path.suffix in {".md", ".yml", ".yaml"}]
    found += [path for path in (ROOT / "scripts").rglob("*") if path.suffix in {"", ".py", ".sh"} and path.is_file()]
    return sorted(path for path in found if not _is_exception(path.relative_to(ROOT)))


def _is_exception(path: Path) -> bool:
    return any(path.as_posix().startswith(exception) for exception in EXCEPTIONS)


def find_retired(text: str) -> list[tuple[int, str, str]]:
    """(line number, retired words, what to write) of a text; line breaks inside a phrase count as spaces."""
    found = []
    for pattern, instead in RETIRED.items():
        spaced = pattern.replace(" ", r"[\s#\"]+(?:[frb]\")?")
        for match in re.finditer(rf"(?<![\w.-])(?:{spaced})(?![\w(])", text, re.IGNORECASE):
            found.append((text.count("\n", 0, match.start()) + 1, match.group(), instead))
    return sorted(found)


@pytest.mark.parametrize("folder", ["edlab", "conf", "docs", "scripts", ".github", "."])
def test_no_retired_word_is_left(folder: str) -> None:
    root = ROOT / folder
    faults = [
        f"{path.relative_to(ROOT)}:{line}: {words!r}; write: {instead}"
        for path in documents()
        if (path.parent == root if folder == "." else path.is_relative_to(root))
        for line, words, instead in find_retired(path.read_text(encoding="utf-8"))
    ]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    "sentence",
    [
        "what mends it",
        "it lacks numpy",
        "where there is\n    none",
        "'a b' is no name of a host",
        "leave device.threads out",
        '"the run has "\n    f"to be made again"',
    ],
)
def test_retired_words_are_found(sentence: str) -> None:
    assert find_retired(sentence)


def test_the_words_that_users_search_for_pass() -> None:
    assert not find_retired("numpy is missing; install it, or set device.python to fix it: it is no longer supported")
