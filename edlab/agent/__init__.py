"""The agent: the only code of edlab that runs on a target. Standard library, numpy and one runtime; Python >= 3.7.

It imports nothing of the rest of edlab, and its own modules only relatively: it travels as one zip, in which this
package is called `agent`.
"""

from __future__ import annotations

__version__ = "1.0"
