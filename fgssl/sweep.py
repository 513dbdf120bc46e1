"""Entry point `python -m fgssl.sweep`, the same as `fgssl sweep`."""

import sys

from fgssl.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["sweep", *sys.argv[1:]]))
