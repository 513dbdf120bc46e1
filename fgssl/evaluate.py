"""Entry point `python -m fgssl.evaluate`, the same as `fgssl evaluate`."""

import sys

from fgssl.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
