"""``python -m cockpitlite`` is the command line."""

import sys

from cockpitlite.cli import main

if __name__ == "__main__":
    sys.exit(main())
