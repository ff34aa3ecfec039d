"""The agent: the only code of edlab that runs on a target. Standard library, numpy and one runtime; Python >= 3.7.

It imports nothing of the rest of edlab: it travels as one zip, which holds this package alone, and what outside
packages add to it.
"""

from __future__ import annotations

__version__ = "1.0"
