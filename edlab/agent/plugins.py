"""The modules that the agent finds by name: its own, and those of outside packages that were sent with it."""

from __future__ import annotations

import importlib
import json
import pkgutil
import platform
import sys
import traceback
from typing import Any, Iterable, TypeVar

from .errors import AgentError

T = TypeVar("T")

GROUPS = ("runtimes", "toolchains", "agent_tasks", "sensors", "knobs")  # of entry points, as edlab.<group>
_OWN = __name__.partition(".")[0]  # "edlab"; a zip has no __package__ yet while Python 3.7 imports it
FILE = "plugins.json"  # in the agent's zip: group -> name -> module


def outside(group: str) -> dict[str, str]:
    """The modules that outside packages add to a group, by name; none if the agent is not in a zip."""
    try:
        content = pkgutil.get_data(__package__, FILE)
    except OSError:
        return {}
    found: dict[str, str] = json.loads((content or b"{}").decode()).get(group, {})
    return found


def names(path: Iterable[str], group: str) -> list[str]:
    """The modules of a package and of a group, whether their libraries are installed on the target or not."""
    own = {module.name for module in pkgutil.iter_modules(path) if module.name != "base"}
    return sorted(own | set(outside(group)))


def load(package: str, path: Iterable[str], group: str, name: str, base: type[T]) -> type[T]:
    """The class in module `name` that is named like its base. Raises `AgentError` if there is no such module."""
    noun, known = base.__name__.lower(), names(path, group)
    if name not in known:
        raise AgentError("the agent has no %s '%s'" % (noun, name), hint="available: " + ", ".join(known))
    target = outside(group).get(name) or "%s.%s" % (package, name)
    try:
        module = importlib.import_module(target)
    except Exception as error:
        raise _not_imported("%s %s" % (noun, name), target, error) from error
    kind: type[T] | None = getattr(module, base.__name__, None)
    if not (isinstance(kind, type) and issubclass(kind, base)):
        base_name = "%s.%s" % (base.__module__, base.__name__)
        raise AgentError(
            "the module %s has no class %s derived from %s" % (target, base.__name__, base_name),
            hint="define it, or fix the entry point of the package that adds the %s" % noun,
        )
    missing = ", ".join(sorted(getattr(kind, "__abstractmethods__", ())))
    if missing:
        raise AgentError("the %s %s does not define %s" % (noun, name, missing), hint="define it in %s" % target)
    kind.name = name  # type: ignore[attr-defined]
    return kind


def _not_imported(part: str, module: str, error: Exception) -> AgentError:
    """The error for a module that was found and cannot be imported."""
    wanted = getattr(error, "name", None) or ""
    if isinstance(error, ImportError) and wanted.split(".")[0] == _OWN:
        return AgentError(
            "%s imports %s; of edlab only edlab.agent is sent to the target" % (part, wanted),
            hint="move what needs it from %s to another module" % module,
        )
    if isinstance(error, SyntaxError):
        return AgentError(
            "%s cannot be imported: %s for Python %s: %s (%s, line %s)"
            % (part, type(error).__name__, platform.python_version(), error.msg, _short(error.filename), error.lineno),
            hint="fix the package of %s: what is sent to a target must be valid for Python 3.7" % module,
        )
    place = _place(module, error)
    hint = "fix %s" % (place or module)
    if isinstance(error, ImportError):
        hint = "%s -m pip install the missing package; import it inside functions of %s" % (sys.executable, module)
    return AgentError("%s cannot be imported: %s: %s" % (part, type(error).__name__, error), hint=hint)


def mistake_in(kind: type, error: Exception) -> str:
    """Where the module of an outside class made a mistake, "FILE, line 12"; empty if it is another kind of error."""
    if not isinstance(error, (TypeError, AttributeError, NameError)) or kind.__module__.split(".")[0] == _OWN:
        return ""
    frames = _frames(error)
    if not frames or frames[-1][0] != kind.__module__:
        return ""
    return _place(kind.__module__, error)


def _place(module: str, error: Exception) -> str:
    """The last line of a module in the traceback of an error, "FILE, line 12"; empty if there is none."""
    places = ["%s, line %d" % (file, line) for name, file, line in _frames(error) if name == module]
    return places[-1] if places else ""


def _frames(error: Exception) -> list[tuple[str, str, int]]:
    """Module, file and line of each frame of the traceback, the deepest one last."""
    return [
        (frame.f_globals.get("__name__", ""), _short(frame.f_code.co_filename), line)
        for frame, line in traceback.walk_tb(error.__traceback__)
    ]


def _short(file: str | None) -> str:
    """The path of a file inside the agent's zip, without that of the zip."""
    return (file or "").rpartition("agent.zip/")[2]


def find(package: str, path: Iterable[str], group: str, name: str, base: Any) -> Any:
    """The same class, with its library imported. Raises `AgentError` if that is not installed on the target."""
    kind = load(package, path, group, name, base)
    try:
        kind.version()
    except ImportError as error:
        raise not_installed(kind, error) from error
    return kind


def not_installed(kind: Any, error: ImportError) -> AgentError:
    """The error of a runtime or toolchain that cannot be imported here."""
    return AgentError(
        "%s cannot be imported by %s: %s" % (kind.name, sys.executable, error),
        hint="%s -m pip install %s" % (sys.executable, kind.packages),
    )
