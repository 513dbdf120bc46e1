"""Entry point `python -m fgssl.train`, the same as `fgssl train`."""

import sys

from fgssl.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
