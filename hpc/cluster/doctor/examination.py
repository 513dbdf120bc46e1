"""Examine a site for its doctor: what the scheduler reports on a login node, then a job on two nodes."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from fgssl.errors import SettingsError
from hpc.cluster.doctor.diagnosis import Diagnosis, Finding, Verdict
from hpc.cluster.doctor.self_test import judge, scratch_names, self_test_request, watch
from hpc.cluster.job_scripts import self_test_script
from hpc.cluster.schedulers import build_scheduler
from hpc.cluster.schedulers.scheduler import RefusedError

_CODE = Path(__file__).parents[3]


def examine(
    diagnosis: Diagnosis,
    out: Path,
    dry_run: bool,
    show: Callable[[Sequence[Finding]], None],
    tell: Callable[[str], None],
) -> None:
    """Fill the diagnosis; `show` gets the findings of each part, `tell` what the job does meanwhile.

    The job's files lie in a new folder in `out`. With `dry_run`, `tell` gets its script, and nothing is submitted or
    written. Raises `UserError` where there is no scheduler, or it does not answer.
    """
    build_scheduler(diagnosis.profile.scheduler).examine(diagnosis)
    show(diagnosis.findings)
    looked = len(diagnosis.findings)
    try:
        _self_test(diagnosis, out, dry_run, tell)
    except (SettingsError, RefusedError) as error:
        diagnosis.tell(Verdict.WARNING, "self-test", f"there was none: {error}")
    diagnosis.tell_unverified()
    show(diagnosis.findings[looked:])


def _self_test(diagnosis: Diagnosis, out: Path, dry_run: bool, tell: Callable[[str], None]) -> None:
    profile = diagnosis.filled()
    scheduler, asked = build_scheduler(profile.scheduler), self_test_request(profile)
    folder = out.absolute() / time.strftime("self-test-%Y%m%d-%H%M%S")
    script = self_test_script(asked, folder, _CODE, [profile.scheduler, *scratch_names(profile)])
    if dry_run:
        tell(f"\n{scheduler.script(script)}\n")
        return
    tell(f"\na job of two nodes goes into the queue; Ctrl-C cancels it. Its files: {folder}")
    judge(diagnosis, watch(script, folder, scheduler, tell))
    tell("")
