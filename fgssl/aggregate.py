"""Entry point `python -m fgssl.aggregate`, the same as `fgssl aggregate`."""

import sys

from fgssl.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["aggregate", *sys.argv[1:]]))
