"""The documentation builds, loads nothing from the network, and its links lead somewhere."""

from __future__ import annotations

import html.parser
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from string import Template

import pytest

from edlab.composition import Composer, with_new_keys
from edlab.engine.plan import plan

ROOT = Path(__file__).parent.parent
_PAGES = ("README.md", "CONTRIBUTING.md", "SECURITY.md")  # outside of docs/, where mkdocs does not look
_CODE = re.compile(r"^```.*?^```|^(?: {4}|\t).*?$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_REMOTE = re.compile(r"^(?:https?:)?//")
_LOADED_BY_CSS = re.compile(r"url\(\s*['\"]?([^)'\"]+)|@import\s+['\"]([^'\"]+)")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built pages; a broken link or anchor, or a page that the navigation does not have, fails the build."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return folder


class _Loads(html.parser.HTMLParser):
    """What a browser fetches to show a page; links that a reader follows are not among it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "link" and values.get("rel") == "canonical":
            return
        wanted = ("src", "srcset", "data", "poster", *(("href",) if tag == "link" else ()))
        self.found += [value for name in wanted if (value := values.get(name))]


def test_the_documentation_builds(site: Path) -> None:
    assert (site / "index.html").is_file()
    assert (site / "tutorials" / "choose-a-device.html").is_file()


def test_the_pages_load_nothing_from_the_network(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert pages
    for page in pages:
        loads = _Loads()
        loads.feed(page.read_text(encoding="utf-8"))
        assert loads.found, page
        assert not [address for address in loads.found if _REMOTE.match(address)], page
    for sheet in site.rglob("*.css"):
        found = [a or b for a, b in _LOADED_BY_CSS.findall(sheet.read_text(encoding="utf-8"))]
        assert not [address for address in found if _REMOTE.match(address)], sheet


def test_tables_and_lists_are_rendered(site: Path) -> None:
    """GitHub's Markdown starts them without an empty line, the one of these pages does not."""
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"^\|[ -]*-{3}", text, re.MULTILINE), page
        assert not re.search(r"<p>[^<]*\n(?:- |1\. )", text), page


def _links(page: Path) -> Iterator[tuple[Path, str]]:
    """The file and the anchor of each link to something in this repository."""
    for target in _LINK.findall(_CODE.sub("", page.read_text(encoding="utf-8"))):
        if not re.match(r"[a-z]+:", target):
            path, _, anchor = target.partition("#")
            yield (page.parent / path if path else page), anchor


def _anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub names them."""
    titles = re.findall(r"^#+ +(.+?) *$", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", _PAGES)
def test_links_of_the_front_pages_lead_somewhere(name: str) -> None:
    page = ROOT / name
    for target, anchor in _links(page):
        assert target.exists(), f"{name} links to {target}"
        assert not anchor or anchor in _anchors(target), f"{name} links to {target}#{anchor}"


def test_the_quickstart_says_how_to_use_edlab_afterwards() -> None:
    script = (ROOT / "scripts/quickstart").read_text(encoding="utf-8")
    assert "to use edlab in this shell: source" in script.splitlines()[-2]
    for name in ("README.md", "docs/quickstart.md"):
        assert "source .venv/bin/activate" in (ROOT / name).read_text(encoding="utf-8")


def test_the_readme_names_the_commands_that_ci_runs() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for command in ("./scripts/quickstart", "./scripts/test"):
        assert command in text
        assert (ROOT / command).is_file()
    assert "python -m edlab.main -m model=inception_v3,mnasnet device=jetson,coral" in text


_EDLAB = r"(?:[A-Z_]+=\S+ )*(?:edlab (?:run|doctor)|python -m edlab\.main)\b"
_COMMAND = re.compile(rf"^ *({_EDLAB}.*)$|`({_EDLAB}[^`]*)`", re.MULTILINE)


def _commands(page: Path) -> Iterator[list[str]]:
    """The arguments of each `edlab run` and `edlab doctor` of a page."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    variables = dict(re.findall(r"^ *([A-Z]+)=[\"'](.*)[\"']$", text, re.MULTILINE))
    for line in ("".join(found) for found in _COMMAND.findall(text)):
        words = shlex.split(Template(line).safe_substitute(variables), comments=True)
        start = next(index for index, word in enumerate(words) if word in ("run", "doctor", "edlab.main"))
        yield words[start + 1 :]


_GUIDES = {
    page.relative_to(ROOT).as_posix(): commands
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    # That guide is run by its own test, and the reference is generated.
    if page.name != "adding-a-device.md" and page.parent.name != "reference" and (commands := list(_commands(page)))
}


@pytest.mark.parametrize("name", _GUIDES)
def test_the_commands_of_the_guides_are_valid(name: str) -> None:
    """Every override exists and has a valid value; whether files and boards exist is for the reader's machine."""
    composer = Composer()
    for arguments in _GUIDES[name]:
        if not any(re.search(r"^--help$|\.\.\.|=[A-Z]+$|acme", argument) for argument in arguments):
            overrides = [argument for argument in arguments if not argument.startswith("-") and argument != "job"]
            for sample in plan(with_new_keys(overrides), "-m" in arguments).samples():
                composer.compose(sample)


def test_the_guides_have_commands() -> None:
    assert len(_GUIDES) >= 12
    assert sum(map(len, _GUIDES.values())) >= 50
