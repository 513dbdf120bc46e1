"""`fgssl doctor`."""

from collections import Counter
from pathlib import Path

import click

from fgssl.commands.arguments import PATH, clusters, print_next
from fgssl.store.files import write_atomically
from hpc.cluster.doctor.diagnosis import Diagnosis, Verdict
from hpc.cluster.doctor.examination import examine


@click.command()
@click.argument("overrides", metavar="[cluster.KEY=VALUE]...", nargs=-1)
@click.option(
    "--cluster",
    metavar="PROFILE",
    type=PATH,
    default="generic",
    show_default=True,
    shell_complete=clusters,
    help="Name, e.g. karolina, or file of a profile, as in slurm/*.yaml.",
)
@click.option(
    "--out",
    "given_out",
    type=PATH,
    metavar="DIR",
    help="Folder for the job and the profile, on a file system that nodes share.",
)
@click.option("--dry-run", is_flag=True, help="Print the script of the job; submit and write nothing.")
def command(overrides: tuple[str, ...], cluster: Path, given_out: Path | None, dry_run: bool) -> int:
    """Check a cluster profile against the cluster itself.

    On a login node the command queries Slurm. Then a job of two nodes tests for about a minute whether processes are
    bound to cores and see GPUs, files, locks and each other, receive signals, and may requeue and submit jobs. The
    command prints a verdict, and the profile with the values that were found.

    cluster.KEY=VALUE changes a value of the profile.

    The exit code is 0 if nothing contradicts the profile, 1 if it should be corrected, and 2 if there is no verdict.
    """
    diagnosis, out = Diagnosis(cluster, overrides), given_out or Path("outputs") / "doctor"
    examine(diagnosis, out, dry_run)
    counts = Counter(finding.verdict for finding in diagnosis.findings)
    print(", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict if counts[verdict]), end="\n\n")
    if given_out is None or dry_run:
        print(diagnosis.yaml(), end="")
    else:
        file = out / f"{diagnosis.profile.name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, diagnosis.yaml())
        print(f"the profile with what was found: {file}")
    profile = cluster if given_out is None or dry_run else file
    print_next("fgssl", "sweep", "SWEEP.yaml", "--cluster", profile, *overrides, purpose="submit a sweep")
    return int(counts[Verdict.DIFFERS] + counts[Verdict.WARNING] > 0)
