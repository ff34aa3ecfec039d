"""`python -m edlab COMMAND`, the same as `edlab COMMAND`."""

import sys

from edlab.cli import main

if __name__ == "__main__":
    sys.exit(main())
