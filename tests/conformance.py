"""Running conformance suites on third parties' packages, as their authors would."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


def install(folder: Path, module: str, source: str, *entries: str) -> Path:
    """A package as pip would install it: a module, and entry points ("edlab.knobs: fan = acme_fan")."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{module}.py").write_text(source)
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    sections = (entry.split(": ") for entry in entries)
    (info / "entry_points.txt").write_text("".join(f"[{group}]\n{entry}\n" for group, entry in sections))
    return folder


def outcomes(folder: Path, *tests: str) -> dict[str, str]:
    """By node ("test_suite.py::TestFan::test_it") "passed", "failed", "error" or "skipped"; `folder` is on the path."""
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "pytest", "-v", "--tb=short", "-p", "no:cacheprovider", "-c", os.devnull]
    done = subprocess.run(
        [*command, "--rootdir", str(folder), *tests],
        env={**os.environ, "PYTHONPATH": path},
        cwd=folder,
        capture_output=True,
        text=True,
    )
    print(done.stdout, done.stderr)
    found = re.findall(r"^(\S+::\w+(?:\[.*\])?) (PASSED|FAILED|ERROR|SKIPPED)", done.stdout, re.MULTILINE)
    return {node: outcome.lower() for node, outcome in found}


class Part(NamedTuple):
    """A part that keeps all rules of its suite: a module called `name`, its entry points, and its suite's class."""

    name: str
    source: str
    entries: tuple[str, ...]
    suite: str

    def install(self, folder: Path) -> Path:
        return install(folder, self.name, self.source, *self.entries)

    def check_suite(self, folder: Path, broken: Sequence[tuple[str, str, str]]) -> None:
        """Assert that the suite passes the part, and fails each broken one in the test that is for that.

        `broken`: what of the source is replaced, by what, and the name of the test.
        """
        (test_class,) = re.findall(r"^class (\w+)", self.suite, re.MULTILINE)
        (folder / "test_part.py").write_text(self.suite)
        self.install(folder)
        expected = {}
        for number, (text, replacement, test) in enumerate(broken):
            assert self.source.count(text) == 1, text
            variant = self._named(f"{self.name}{number}", self.source.replace(text, replacement))
            variant.install(folder)
            (folder / f"test_{number}.py").write_text(variant.suite)
            expected[f"test_{number}.py::{test_class}::{test}"] = text
        found = outcomes(folder, "test_part.py", *expected)
        whole = {node: outcome for node, outcome in found.items() if node.startswith("test_part.py")}
        assert whole
        assert set(whole.values()) == {"passed"}
        missed = {text for node, text in expected.items() if found.get(node) not in ("failed", "error")}
        assert not missed

    def _named(self, name: str, source: str) -> Part:
        texts = [text.replace(self.name, name) for text in (source, *self.entries, self.suite)]
        return Part(name, texts[0], tuple(texts[1:-1]), texts[-1])
