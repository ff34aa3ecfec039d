"""The pages that `scripts/docs` generates: up to date, complete, and refused where the code says too little."""

from __future__ import annotations

import ast
import dataclasses
import re
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import pytest
from docs_pages import environment, errors, fields, result_json, texts, verdicts

import edlab
from edlab import cli
from edlab.config import EdlabConfig

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs" / "reference"
OWN = "_".join(["EDLAB", "ACME"])  # in one piece it would be a variable that this file uses


def test_the_docs_say_what_the_code_says() -> None:
    checked = subprocess.run([sys.executable, "scripts/docs", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr


def test_every_configuration_key_is_on_the_page() -> None:
    page = (REFERENCE / "configuration.md").read_text()
    missing = [key for key in keys(EdlabConfig) if f"| `{key}` |" not in page]
    assert not missing


def keys(kind: type, prefix: str = "") -> list[str]:
    found = []
    for name, inner in get_type_hints(kind).items():
        found += keys(inner, f"{prefix}{name}.") if dataclasses.is_dataclass(inner) else [f"{prefix}{name}"]
    return found


def test_every_option_of_every_group_is_on_the_page() -> None:
    page = (REFERENCE / "configuration.md").read_text()
    for path in (ROOT / "conf").glob("*/*.yaml"):
        assert f"`{path.parent.name}={path.stem}`" in page


def test_every_command_is_on_the_page() -> None:
    page = (REFERENCE / "cli.md").read_text()
    _, commands = cli._parser()
    assert [command for command in commands if f"## edlab {command}\n" not in page] == []


def test_every_public_name_is_on_the_page() -> None:
    page = (REFERENCE / "python-api.md").read_text()
    assert [name for name in edlab.__all__ if f"### edlab.{name}\n" not in page] == []


def test_every_class_of_error_is_on_the_page_with_its_messages() -> None:
    page = (REFERENCE / "errors.md").read_text()
    assert [name for name in errors.kinds() if f"## {name}\n" not in page] == []
    assert "- `unknown command '<arguments>'`" in page  # from the command line
    assert "- `the agent has no <noun> '<name>'`" in page  # from the agent
    assert "- `ncnn has no operator <kind>`" in page  # from a vendor's package


def test_every_code_in_the_list_of_rules_has_its_messages() -> None:
    rules = (ROOT / "docs" / "metrics.md").read_text().partition("## Verdict\n")[2]
    rows = [line.split("|")[1] for line in rules.splitlines() if line.startswith("| `")]
    listed = {code.strip("` ") for row in rows for code in row.split(",")}
    assert listed == set(verdicts.codes())


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("os.environ.get('ACME_HOME')", "uses ACME_HOME: add its meaning"),
        ("os.environ['ACME_HOME']", "uses ACME_HOME: add its meaning"),
        (f"VARIABLE = '{OWN}'", f"uses {OWN}: add its meaning"),
        ("for name in ('ACME_HOME',): os.environ.setdefault(name, '')", "uses ACME_HOME: add its meaning"),
        ("def read(name): return os.environ[name]", "cannot identify the environment variable name"),
    ],
)
def test_an_environment_variable_without_a_meaning_is_refused(tmp_path: Path, source: str, message: str) -> None:
    (tmp_path / "edlab").mkdir()
    (tmp_path / "edlab" / "acme.py").write_text(f"{source}\n")
    with pytest.raises(SystemExit, match=message):
        environment.check(environment.uses(tmp_path), {})


def test_a_variable_that_a_yaml_file_reads_needs_a_meaning(tmp_path: Path) -> None:
    (tmp_path / "conf" / "device").mkdir(parents=True)
    (tmp_path / "conf" / "device" / "acme.yaml").write_text("address: ${oc.env:ACME_HOST,null}\n")
    with pytest.raises(SystemExit, match="uses ACME_HOST: add its meaning"):
        environment.check(environment.uses(tmp_path), {})


def test_a_meaning_without_its_variable_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="nothing uses ACME_GONE"):
        environment.check(environment.uses(tmp_path), {"ACME_GONE": "what it was"})


def test_a_key_of_the_record_needs_a_meaning() -> None:
    with pytest.raises(SystemExit, match=r"details.acme is written: add its meaning"):
        result_json._keys({}, {"acme"}, "details")
    with pytest.raises(SystemExit, match=r"nothing writes details.gone"):
        result_json._keys({"gone": "what it was"}, set(), "details")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("f'{path.name} has {len(inputs)} inputs'", ["<path> has <count> inputs"]),
        ("f'{a:.1%} of it'", ["<a> % of it"]),
        ("'cannot write %s: %d %%' % (path, code)", ["cannot write <path>: <code> %"]),
        ("'it has ' + ', '.join(sorted(known))", ["it has <known>"]),
        ("'one' if ready else 'two'", ["one", "two"]),
        ("WORDS", ["a constant"]),
        ("hint", ["set it", "unset it"]),
        ("helper('x')", ["helped by x"]),
    ],
)
def test_a_message_is_read_from_its_expression(source: str, expected: list[str]) -> None:
    assert of_function(source) == expected


def of_function(expression: str) -> list[str]:
    """The texts of an expression that a function returns."""
    source = f"""
WORDS = "a constant"

def helper(what):
    return f"helped by {{what}}"

def function(path, ready):
    hint = "set it" if ready else "unset it"
    return {expression}
"""
    module = texts.Module("acme.py", ast.parse(source))
    function = module.functions["function"]
    value = next(node.value for node in ast.walk(function) if isinstance(node, ast.Return))
    return texts.texts(value, texts.Scope(module, function))


def test_a_message_with_an_optional_part_is_listed_once() -> None:
    assert texts.longest(["<path> has <count> inputs", "<path> has <count> inputs: <names>", "other"]) == [
        "<path> has <count> inputs: <names>",
        "other",
    ]


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        ("Optional[List[int]]", "list of integers, or null"),
        ("float | None", "number, or null"),
        ("Dict[str, Any]", "mapping from text to any value"),
        ("Literal['read', 'given']", "`read` or `given`"),
    ],
)
def test_types_are_in_words(annotation: str, words: str) -> None:
    assert fields.type_in_words(ast.parse(annotation, mode="eval").body) == words


@pytest.mark.parametrize("page", ["cli", "configuration", "environment", "errors", "result-json", "verdicts"])
def test_what_is_filled_in_is_no_html(page: str) -> None:
    """Angle brackets stand in code spans and code blocks alone, or are escaped."""
    text = (REFERENCE / f"{page}.md").read_text()
    assert "<" not in without_code(text).replace("\\<", "")


def without_code(text: str) -> str:
    return re.sub(r"(`+)[^`].*?(?<!`)\1(?!`)", "", text, flags=re.DOTALL)
