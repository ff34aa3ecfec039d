"""The last step from a row to a program: what is recorded next to a converted model, so that it can be used.

edlab.json (`manifest`), an example program (`program`, of `examples` and `loaders`), and MLmodel (`mlmodel`, `pyfunc`).
"""

from edlab.deployable.package import write

__all__ = ["write"]
