"""What outside packages add through entry points, and what a program registers while it runs.

Groups: `edlab.models`, `edlab.devices`, `edlab.converters`, `edlab.runtimes`, `edlab.device_kinds`.
"""

from __future__ import annotations

import difflib
import importlib
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from edlab.errors import ConfigError


def plugins(group: str) -> dict[str, EntryPoint]:
    """The entry points of `edlab.<group>` by name, not loaded yet."""
    return {entry.name: entry for entry in entry_points(group=f"edlab.{group}")}


def load_target(target: str) -> Any:
    """The object that "package.module:name" names.

    Raises `ConfigError` where the module cannot be imported, or has no such name.
    """
    module_name, separator, attribute = target.partition(":")
    if not separator or not module_name or not attribute:
        raise ConfigError(f"'{target}' is not of the form package.module:name")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # of the module itself, or of what it imports: anything can happen there
        kind = "" if isinstance(error, ImportError) else f"{type(error).__name__}: "
        raise ConfigError(
            f"cannot import '{module_name}' of '{target}': {kind}{error}",
            hint=f"install what it needs, or put its folder on PYTHONPATH; python -c 'import {module_name}' says more",
        ) from error
    try:
        return getattr(module, attribute)
    except AttributeError:
        close = difflib.get_close_matches(attribute, vars(module), n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"define {attribute} in {module_name}"
        raise ConfigError(f"module '{module_name}' has no '{attribute}'", hint=hint) from None
