"""Running a conformance suite on a third party's package, as its author would."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path


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


def outcomes(folder: Path, suite: str) -> dict[str, str]:
    """By the name of each test of a suite "passed", "failed", "error" or "skipped"; `folder` can be imported from."""
    (folder / "test_suite.py").write_text(suite)
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "pytest", "-v", "--tb=short", "-p", "no:cacheprovider", "-c", os.devnull]
    done = subprocess.run(
        [*command, "--rootdir", str(folder), str(folder / "test_suite.py")],
        env={**os.environ, "PYTHONPATH": path},
        cwd=folder,
        capture_output=True,
        text=True,
    )
    found = re.findall(r"^\S*::(\w+) (PASSED|FAILED|ERROR|SKIPPED)", done.stdout, re.MULTILINE)
    assert found, done.stdout + done.stderr
    print(done.stdout)
    return {name: outcome.lower() for name, outcome in found}
