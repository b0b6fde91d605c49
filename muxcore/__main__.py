"""``python -m muxcore``: the command line."""

import sys

from muxcore.cli import main

if __name__ == "__main__":
    sys.exit(main())
