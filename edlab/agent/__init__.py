"""The agent: the only code of edlab that runs on a target. Standard library, numpy and one runtime; Python >= 3.7.

It imports nothing from the rest of edlab: it is sent as one zip, which contains only this package and what outside
packages add to it.
"""

from __future__ import annotations

__version__ = "1.0"
