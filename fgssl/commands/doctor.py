"""`fgssl doctor [--cluster PROFILE.yaml] [cluster.key=value ...]`: does a site do what its profile says?

On a login node it asks Slurm; then a job of two nodes looks, for about a minute, whether processes are bound to cores
and see GPUs, files, locks and each other, get signals, may go back into the queue and submit jobs. Prints a verdict and
the profile with what was found filled in. --dry-run prints the job's script in place of submitting it.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from fgssl.errors import SettingsError, exit_code
from fgssl.store.files import write_atomically
from hpc.cluster.doctor.diagnosis import Diagnosis, Finding, Verdict
from hpc.cluster.doctor.self_test import judge, scratch_names, self_test_request, watch
from hpc.cluster.doctor.site import look
from hpc.cluster.job_store import Books
from hpc.cluster.schedulers.scheduler import RefusedError
from hpc.cluster.schedulers.slurm import Slurm
from hpc.cluster.submission import Submission

_CODE = Path(__file__).parents[2]
_GENERIC = _CODE / "slurm" / "generic.yaml"


def main(arguments: Sequence[str] | None = None) -> int:
    """0: all is as the profile says, or it said nothing; 1: something to mend; 2 (by `exit_code`): no verdict."""
    given = _parser().parse_intermixed_args(arguments)
    diagnosis, out = Diagnosis(given.cluster, given.overrides), given.out or Path("outputs") / "doctor"
    look(diagnosis, Slurm())
    _print(diagnosis.findings)
    looked = len(diagnosis.findings)
    try:
        _self_test(diagnosis, out, given.dry_run)
    except (SettingsError, RefusedError) as error:
        diagnosis.tell(Verdict.WARNING, "self-test", f"there was none: {error}")
    diagnosis.tell_unverified()
    _print(diagnosis.findings[looked:])
    counts = Counter(finding.verdict for finding in diagnosis.findings)
    print(", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict if counts[verdict]), end="\n\n")
    if given.out is None or given.dry_run:
        print(diagnosis.yaml(), end="")
    else:
        file = out / f"{diagnosis.profile.name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, diagnosis.yaml())
        print(f"the profile with what was found: {file}")
    return int(counts[Verdict.DIFFERS] + counts[Verdict.WARNING] > 0)


def _self_test(diagnosis: Diagnosis, out: Path, dry_run: bool) -> None:
    profile = diagnosis.filled()
    asked, scratch = self_test_request(profile), scratch_names(profile)
    scheduler, folder = Slurm(), out.absolute() / time.strftime("self-test-%Y%m%d-%H%M%S")
    submission = Submission(Books(out), _CODE, scheduler)
    if dry_run:
        print(f"\n{submission.self_test_script(asked, folder, scratch)}\n")
        return
    print(f"\na job of two nodes goes into the queue; Ctrl-C cancels it. Its files: {folder}", flush=True)
    judge(diagnosis, watch(submission, asked, scratch, folder, scheduler, lambda words: print(words, flush=True)))
    print()


def _print(findings: Sequence[Finding]) -> None:
    for finding in findings:
        print(f"{finding.verdict:8} {finding.subject}: {finding.message}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fgssl doctor", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("overrides", nargs="*", metavar="cluster.key=value", help="over the profile's values")
    parser.add_argument(
        "--cluster", type=Path, default=_GENERIC, metavar="PROFILE", help="name or file; generic where left out"
    )
    parser.add_argument("--out", type=Path, help="folder that nodes see too, for the job and the profile")
    parser.add_argument("--dry-run", action="store_true", help="submit and write nothing")
    return parser


if __name__ == "__main__":
    sys.exit(exit_code(main))
