"""What builds a file where this agent runs: on a target, or in the Python that a vendor's tool needs.

Adding one is one file beside this, with `class Toolchain(base.Toolchain)`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from ..messages import Calibration, OnProgress


class Toolchain(ABC):
    """A vendor's tool, called by name from a conversion's step. All of it is static: a step is files in, files out."""

    name = ""  # by which the host asks for it: its module's, or its entry point's; set when it is found
    packages = ""  # what pip installs to have it

    @staticmethod
    @abstractmethod
    def version() -> str:
        """Import the tool and return its version. Raises `ImportError` if it is not installed."""

    @staticmethod
    @abstractmethod
    def identity(options: dict[str, Any]) -> dict[str, str]:
        """What a file that is built here depends on beside its input: versions, the processor, the board.

        It is used again only where all of these are the same.
        """

    @staticmethod
    @abstractmethod
    def build(
        files: list[str], out: str, options: dict[str, Any], calibration: Calibration | None, report: OnProgress
    ) -> None:
        """Write `out` from the input files; `options` are those of the conversion's step."""
