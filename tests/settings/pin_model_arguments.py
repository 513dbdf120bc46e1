"""Names of the arguments that the models of the shipped sweeps take, by timm's signatures.

`python -m tests.settings.pin_model_arguments` writes `fgssl/settings/model_arguments.py` anew, for the installed timm.
"""

import inspect
import textwrap
from pathlib import Path

from fgssl.settings import model_arguments
from hpc.sweeps.grid import expand
from hpc.sweeps.sweep_file import preset_names
from tests.settings.pin_fingerprints import SWEEPS

FILE = Path(model_arguments.__file__)
_NOT_FOR_USERS = {"self", "num_classes", "device", "dtype"}
"""Arguments that fgssl decides: encoders have no classifier, and the run's device and precision."""
_HEAD = '''\
"""Names of the arguments of the models in `sweeps/`, so that planning finds a slip without torch.

Written by `python -m tests.settings.pin_model_arguments`; a test compares it with the installed timm.
"""

from collections.abc import Mapping

TIMM = "{version}"
"""Version of timm that has these arguments; with another one only the job can check them."""

ARGUMENTS: Mapping[str, str] = {{
{models}}}
"""Names of the arguments by the name of the model, separated by spaces."""
'''


def models() -> list[str]:
    """Return the names of all encoders of the shipped sweeps."""
    grids = [expand(file, preset) for file in sorted(SWEEPS.glob("*.yaml")) for preset in preset_names(file)]
    configs = [config for grid in grids for config in (*grid.stages.values(), *(cell.config for cell in grid.cells))]
    return sorted({config.encoder.name for config in configs})


def text() -> str:
    """Return the content of the file for the installed timm."""
    import timm

    entries = ""
    for model in models():
        network = inspect.signature(timm.model_entrypoint(model)).return_annotation
        names = " ".join(sorted(inspect.signature(network.__init__).parameters.keys() - _NOT_FOR_USERS))
        lines = textwrap.fill(names, 112, initial_indent=" " * 8, subsequent_indent=" " * 8)
        entries += f'    "{model}": """\n{lines}\n    """,\n'
    return _HEAD.format(version=timm.__version__, models=entries)


if __name__ == "__main__":
    FILE.write_text(text())
