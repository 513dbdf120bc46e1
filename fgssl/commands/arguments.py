"""Parts that commands share: arguments, the values that a shell completes, and how measures are printed."""

import contextlib
from collections.abc import Mapping
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from fgssl.errors import UserError

PATH = click.Path(path_type=Path)
OVERRIDES = click.argument("overrides", metavar="[KEY=VALUE]...", nargs=-1)
OUT = click.argument("out", metavar="OUT", type=PATH)
RUNS = click.argument("runs", metavar="[RUN]...", nargs=-1)


def presets(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Complete `--preset` from the sweep file that stands before it."""
    from hpc.sweeps.sweep_file import preset_names

    file = context.params.get("sweep") or next(iter(context.args), "")
    with contextlib.suppress(UserError):  # no file yet, or not one that can be read
        return [name for name in preset_names(Path(file)) if name.startswith(incomplete)]
    return []


def clusters(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete `--cluster` from the profiles that are shipped, else from the files that are there."""
    from hpc.cluster.site.profile_files import shipped_profiles

    names = [CompletionItem(name) for name in shipped_profiles() if name.startswith(incomplete)]
    return names or [CompletionItem(incomplete, type="file")]


def print_measures(measures: Mapping[str, int | float]) -> None:
    """Print a measure a line; counts are integers."""
    for name, value in measures.items():
        print(f"{name:>18} {value:.2f}" if isinstance(value, float) else f"{name:>18} {value}")
