"""The main job: `python -m edlab.main -m model=inception_v3,mnasnet device=cpu`."""

from __future__ import annotations

import sys

from edlab.cli import main

if __name__ == "__main__":
    sys.exit(main(["run", *sys.argv[1:]]))
