"""Program that tries start weights: it builds the encoder of each config on its stdin and loads the file into it.

`hpc.sweeps.start_weights` starts it before the first run of a sweep, in a process of its own, since planning imports no
torch.
"""

import contextlib
import json
import pickle
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from fgssl.errors import CheckpointError, UserError
from fgssl.methods.build import RANDOM_START, start_encoder
from fgssl.settings.config import Config


def misfits(configs: Sequence[Config]) -> Iterator[str]:
    """Yield the error of each config whose encoder does not take the weights in `start.encoder.file`."""
    for config in configs:
        source = config.start.encoder
        assert source is not None
        assert source.file is not None
        file = Path(source.file).expanduser()
        try:
            start_encoder(config, RANDOM_START | {"encoder": file})
        except CheckpointError as error:
            yield f"start.encoder.file: {error}"
        except UserError as error:
            yield str(error)


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):  # the prefixes that are printed are for the user
        found = [*misfits(pickle.load(sys.stdin.buffer))]
    json.dump(found, sys.stdout)
