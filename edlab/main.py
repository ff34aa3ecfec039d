"""The main job: `python -m edlab.main -m model=inception_v3,mnasnet device=cpu`, the same as `edlab run`."""

from __future__ import annotations

import sys

from edlab.cli import main

if __name__ == "__main__":
    arguments = sys.argv[1:]
    is_command = bool(arguments) and arguments[0].isidentifier()  # an override has a "="
    sys.exit(main(arguments if is_command else ["run", *arguments]))
