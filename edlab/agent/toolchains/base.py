"""The interface of a toolchain, which builds a file where this agent runs: on a target, or in the Python of a vendor's
tool.

To add a toolchain, add one file next to this, with `class Toolchain(base.Toolchain)`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from ..messages import Calibration, OnProgress


class Toolchain(ABC):
    """A vendor's tool, called by name from a conversion's step. Everything is static: a step is files in, files out."""

    name = ""  # the host's name for it: its module's, or its entry point's; set when it is found
    packages = ""  # the packages to install with pip

    @staticmethod
    @abstractmethod
    def version() -> str:
        """Import the tool and return its version. Raises `ImportError` if it is not installed."""

    @staticmethod
    @abstractmethod
    def identity(options: dict[str, Any]) -> dict[str, str]:
        """What a file that is built here depends on besides its input: versions, the processor, the board.

        The file is used again only if all of these are the same.
        """

    @staticmethod
    @abstractmethod
    def build(
        files: list[str], out: str, options: dict[str, Any], calibration: Calibration | None, report: OnProgress
    ) -> None:
        """Write `out` from the input files; `options` are the options of the conversion's step."""
