"""`fgssl train`."""

import sys
from pathlib import Path

import click

from fgssl.commands.arguments import OVERRIDES, PATH, not_an_override, print_measures, print_next
from fgssl.data.location import levels_named
from fgssl.interruption import Interrupted
from fgssl.run.process import make
from fgssl.run.verify_exact import verify
from fgssl.settings import config as configs
from fgssl.settings import fingerprints
from fgssl.settings.layers import read_yaml
from fgssl.store.run_folder import RunFolder
from hpc import ranks

_OUT = Path("outputs/train")


@click.command()
@click.argument("file", metavar="CONFIG.yaml", type=PATH, callback=not_an_override)
@OVERRIDES
@click.option("--out", type=PATH, default=_OUT, show_default=True, help="Run folders go to OUT/runs.")
@click.option(
    "--stop-after-step", type=int, metavar="N", help="Stop after N steps as if interrupted; the same command continues."
)
@click.option(
    "--run-folder", type=PATH, metavar="DIR", help="Use DIR as the run folder instead of a folder in OUT/runs."
)
@click.option(
    "--verify-exact",
    is_flag=True,
    help="Train nothing; test on this machine that `training.invariant: exact` gives this config the same bits for any "
    "allowed number of processes, also after an interruption.",
)
def command(
    file: Path,
    overrides: tuple[str, ...],
    out: Path,
    stop_after_step: int | None,
    run_folder: Path | None,
    verify_exact: bool,
) -> int:
    """Train and evaluate one run.

    CONFIG.yaml holds the settings of one run. It may be the config.yaml of a run folder: runs that it starts from are
    then found beside that folder, otherwise in OUT/runs. KEY=VALUE changes a setting, e.g. training.epochs=10.

    Several processes train one run if torchrun, `accelerate launch` or srun starts this command in each.
    """
    with levels_named(lambda: configs.overridden(read_yaml(file), overrides)):
        config = configs.load(file, overrides)
    if verify_exact:
        exact = verify(file, overrides, out)
        if exact:
            folders = {"--out": None if out == _OUT else out, "--run-folder": run_folder}
            given = [f"{option}={path}" for option, path in folders.items() if path is not None]
            print_next("fgssl", "train", file, *overrides, "training.invariant=exact", *given, purpose="train")
        return 0 if exact else 1
    ranks.require_engine(config.resources.engine)
    processes = ranks.processes(out, config.resources.expected_processes)
    folder = RunFolder(run_folder or out / "runs" / fingerprints.run_name(config), _starts(file, config, out))
    try:
        make(config, out, folder, processes, stop_after_step)
    except Interrupted as interrupted:
        if processes.rank == 0:
            print("interrupted; the same command continues from the newest checkpoint", file=sys.stderr)
        return int(interrupted.code or 0)
    if processes.rank == 0:
        print(f"run folder: {folder.path}")
        if (evaluation := folder.evaluation(config)) is not None and config.evaluation is not None:
            print_measures(config.evaluation, evaluation.measures)
        if evaluation is None:
            print_next("fgssl", "evaluate", folder.path, purpose="measure it")
        else:
            print_next("fgssl", "evaluate", folder.path, "evaluation.knn=true", purpose="measure it in another way")
    return 0


def _starts(file: Path, config: configs.Config, out: Path) -> Path:
    """Return the folder that holds the runs which `config` starts from."""
    runs = [source.run for source in config.start.sources.values() if source.run is not None]
    beside = file.absolute().parent.parent
    return beside if runs and all((beside / run).is_dir() for run in runs) else out / "runs"
