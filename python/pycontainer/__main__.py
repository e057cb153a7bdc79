"""`python -m pycontainer`: the command line."""

import sys

from pycontainer.cli import main

if __name__ == "__main__":
    sys.exit(main())
