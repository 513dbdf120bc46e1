"""Parts that commands share: arguments, the values that a shell completes, and the lines that they print."""

import contextlib
import json
import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from fgssl.errors import UserError
from fgssl.settings.evaluation import EvaluationSettings

PATH = click.Path(path_type=Path)
OVERRIDES = click.argument("overrides", metavar="[KEY=VALUE]...", nargs=-1)
OUT = click.argument("out", metavar="OUT", type=PATH)
RUNS = click.argument("runs", metavar="[RUN]...", nargs=-1)
REPORT = click.option(
    "--report/--no-report",
    "with_report",
    default=True,
    envvar="FGSSL_REPORT",
    show_envvar=True,
    help="Whether to write the page and figures of `fgssl report` too once all runs are done. The default is yes.",
)


def not_an_override(context: click.Context, parameter: click.Parameter, given: Path) -> Path:
    """Return the file that a command takes first; raise a `UserError` if KEY=VALUE stands in its place."""
    if "=" in given.name and not given.exists():
        raise UserError(f"{parameter.metavar} is missing: give it before {given}")
    return given


def presets(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Complete `--preset` from the sweep file that is given before it."""
    from hpc.sweeps.sweep_file import preset_names

    file = context.params.get("sweep") or next(iter(context.args), "")
    with contextlib.suppress(UserError):  # no file yet, or one that cannot be read
        return [name for name in preset_names(Path(file)) if name.startswith(incomplete)]
    return []


def clusters(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete `--cluster` from the names of shipped profiles, or as a file if none of them fits."""
    from hpc.cluster.site.profile_files import shipped_profiles

    names = [CompletionItem(name) for name in shipped_profiles() if name.startswith(incomplete)]
    return names or [CompletionItem(incomplete, type="file")]


def print_measures(evaluation: EvaluationSettings, measures: Mapping[str, int | float]) -> None:
    """Print one measure per line, without those that tables do not show, and the remarks on stderr.

    Counts are integers, all others have two decimals.
    """
    hidden = {column.name for column in evaluation.columns if not column.shown}
    printed = {name: value for name, value in measures.items() if name not in hidden}
    width = max(map(len, printed))
    for name, value in printed.items():
        print(f"{name:>{width}} {value:z.2f}" if isinstance(value, float) else f"{name:>{width}} {value}")
    for remark in evaluation.remarks(measures):
        print(f"note: {remark}", file=sys.stderr)


def print_next(program: str, *arguments: object, purpose: str) -> None:
    """Print the command to give next as the last line on stderr, so that stdout stays what programs read."""
    sys.stdout.flush()
    command = [_as_typed(program), *map(str, arguments)]
    print(f"next: {' '.join(map(_quoted, command))}  # {purpose}", file=sys.stderr, flush=True)


def print_sweep_again(preset: str, out: Path, purpose: str) -> None:
    """Print the command that repeats a sweep on this machine, whose file and settings are known to the user alone."""
    print_next("fgssl", "sweep", "SWEEP.yaml", *(["--preset", preset] if preset else []), "--out", out, purpose=purpose)


def write_report(out: Path) -> None:
    """Write the report of a finished sweep, and print its path; a fault is a warning, since the table is there."""
    from fgssl.progress import shown  # these import pandas, which only a finished sweep needs
    from fgssl.report.report import report
    from hpc.run_jobs import run_jobs

    try:
        print(f"report: {report(out, run_jobs, track=shown)}", flush=True)
    except UserError as error:
        print(f"WARNING: no report was written: {error}", file=sys.stderr, flush=True)


def _quoted(word: str) -> str:
    """Return a word for a shell; bytes that are not UTF-8 become escapes of bash, which can be pasted."""
    if word == word.encode(errors="replace").decode():
        return shlex.quote(word)
    escaped = (f"\\x{byte:02x}" if not 32 <= byte < 127 or byte in b"\\'" else chr(byte) for byte in os.fsencode(word))
    return f"$'{''.join(escaped)}'"


def _as_typed(program: str) -> str:
    """Return the name of a program of this environment, or its path where the shell finds no or another one."""
    here = Path(sys.executable).with_name(program)
    found = shutil.which(program)
    if not os.path.exists(here) or (found is not None and Path(found).parent == here.parent):
        return program
    return str(here.relative_to(Path.cwd())) if here.is_relative_to(Path.cwd()) else str(here)


def print_next_in_python(assignment: str, path: Path) -> None:
    """Print the command that opens Python with a result; `path` is the argument of the function in `assignment`."""
    print_next("python", "-ic", f"import fgssl; {assignment}({json.dumps(str(path))})", purpose="go on in Python")
