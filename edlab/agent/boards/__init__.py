"""Features of a board: settings that a run may change (knobs), and what the board reports about itself.

A vendor package adds a knob by the entry point group `edlab.knobs`: a module with `class Knob(base.Knob)`.
"""

from __future__ import annotations

import importlib

from .. import plugins
from ..errors import AgentError
from .base import Change, Knob

__all__ = ["BUILT_IN", "Change", "Knob", "find"]

BUILT_IN = {"governor": "%s.governor" % __name__, "power_mode": "%s.jetson" % __name__}  # name -> module


def find(name: str) -> Knob:
    """This machine's knob of this name. Raises `AgentError` if there is none."""
    known = dict(BUILT_IN, **plugins.outside("knobs"))
    if name not in known:
        raise AgentError("the agent has no knob '%s'" % name, hint="available: " + ", ".join(sorted(known)))
    knob: Knob = importlib.import_module(known[name]).Knob()
    knob.name = name
    return knob
