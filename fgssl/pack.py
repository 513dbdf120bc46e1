"""Entry point `python -m fgssl.pack`, the same as `fgssl pack`."""

import sys

from fgssl.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["pack", *sys.argv[1:]]))
