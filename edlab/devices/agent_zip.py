"""The agent as one zip file that any Python runs: the same bytes for the same sources."""

from __future__ import annotations

import importlib.util
import zipfile
from pathlib import Path

import edlab.agent
from edlab.cache import Cache, digest
from edlab.errors import ConfigError
from edlab.registry import plugins

NAME = "agent.zip"
_START = "from agent.__main__ import main\n\nmain()\n"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip holds; a real date would change the bytes


def build(cache: Cache) -> Path:
    """The zip with the package `agent` and the runtimes that outside packages add, made once for each content.

    An entry point of `edlab.runtimes` or `edlab.toolchains` names a module; its source becomes
    agent/runtimes/<entry point's name>.py, or that of agent/toolchains.
    Raises `ConfigError` where there is no such module.
    """
    members = {"__main__.py": _START, **_own_sources(), **_plugin_sources()}

    def make(folder: Path) -> None:
        with zipfile.ZipFile(folder / NAME, "w", zipfile.ZIP_STORED) as archive:
            for name in sorted(members):
                archive.writestr(zipfile.ZipInfo(name, _EPOCH), members[name])

    return cache.get_or_make("agents", digest(members), make) / NAME


def _own_sources() -> dict[str, str]:
    root = Path(edlab.agent.__file__).parent
    return {f"agent/{path.relative_to(root).as_posix()}": path.read_text() for path in root.rglob("*.py")}


def _plugin_sources() -> dict[str, str]:
    return {
        f"agent/{group}/{name}.py": _source(group, name, entry.value)
        for group in ("runtimes", "toolchains")
        for name, entry in plugins(group).items()
    }


def _source(group: str, name: str, module: str) -> str:
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        spec = None
    if spec is None or spec.origin is None:
        raise ConfigError(
            f"the {group.removesuffix('s')} '{name}' is to come from the module '{module}', which is not there",
            hint=f"correct the entry point in the group edlab.{group} of the package that adds it",
        )
    return Path(spec.origin).read_text()
