"""Examination of a site: the scheduler's reports on a login node, then a self-test on two nodes."""

import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from fgssl.errors import SettingsError
from hpc.cluster.doctor.diagnosis import Diagnosis, Finding, Verdict
from hpc.cluster.doctor.self_test import judge, scratch_names, self_test_request, watch
from hpc.cluster.job_scripts import self_test_script
from hpc.cluster.schedulers import build_scheduler
from hpc.cluster.schedulers.scheduler import RefusedError

_CODE = Path(__file__).parents[3]


def examine(diagnosis: Diagnosis, out: Path, dry_run: bool) -> None:
    """Run all checks, add their findings to the diagnosis, and print them with the job's states.

    The self-test's files are in a new folder in `out`. With `dry_run`, its script is printed, and nothing is submitted
    or written. Raises `UserError` if there is no scheduler or it does not answer.
    """
    build_scheduler(diagnosis.profile.scheduler).examine(diagnosis)
    _print(diagnosis.findings)
    looked = len(diagnosis.findings)
    try:
        _self_test(diagnosis, out, dry_run)
    except (SettingsError, RefusedError) as error:
        diagnosis.add(Verdict.WARNING, "self-test", f"not run: {error}")
    diagnosis.add_unverified()
    _print(diagnosis.findings[looked:])


def _self_test(diagnosis: Diagnosis, out: Path, dry_run: bool) -> None:
    profile = diagnosis.filled()
    scheduler, asked = build_scheduler(profile.scheduler), self_test_request(profile)
    folder = out.absolute() / f"{time.strftime('self-test-%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:8]}"
    script = self_test_script(asked, folder, _CODE, [profile.scheduler, *scratch_names(profile)])
    if dry_run:
        print(f"\n{scheduler.script(script)}\n")
        return
    print(f"\nsubmitting a job on two nodes; Ctrl-C cancels it. Its files: {folder}", flush=True)
    judge(diagnosis, watch(script, folder, scheduler))
    print(flush=True)


def _print(findings: Sequence[Finding]) -> None:
    for finding in findings:
        print(f"{finding.verdict:8} {finding.subject}: {finding.message}", flush=True)
