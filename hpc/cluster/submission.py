"""Order -> batch script -> job. submitit writes the script; what runs in it is ours, so that nothing has to be pickled.

submitit's own jobs are pickles that are renamed after sbatch, so one that is killed in between loses them; their signal
handlers requeue from within the step, whose end kills the request; and an orphan's late success would count.
"""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from submitit.slurm.slurm import SlurmExecutor

from fgssl.errors import EXIT_INTERRUPTED
from fgssl.store.files import write_atomically
from hpc.cluster.job_store import Books, Order
from hpc.cluster.schedulers.scheduler import Scheduler
from hpc.cluster.site.profile import MODULE_OR_LEAVE
from hpc.cluster.site.requests import JobRequest, for_runs, sbatch_options


class _Writer(SlurmExecutor):
    """submitit's, also where there is no srun: a script can be shown anywhere."""

    @classmethod
    def affinity(cls) -> int:
        return 2


class Submission:
    """Of one output folder's jobs."""

    def __init__(self, books: Books, code: Path, scheduler: Scheduler) -> None:
        self._books, self._code, self._scheduler = books, code, scheduler
        self._python = shlex.quote(sys.executable)

    def script(self, order: Order, request: JobRequest) -> str:
        """What sbatch is given; `request` is of a full pack of runs."""
        request = for_runs(request, max(len(element.runs) for element in order.elements))
        array = len(order.elements) > 1
        log = str(self._books.log(order.token, "%a" if array else 0))
        options = sbatch_options(request)
        options["additional_parameters"] |= {"output": log}
        options["setup"] += self._setup(order)
        # submitit's own srun has an --output of submitit's.
        srun = shlex.join(["srun", "--unbuffered", f"--output={log}", "--open-mode=append", *options.pop("srun_args")])
        writer = _Writer(self._books.logs)
        writer.update_parameters(**options, use_srun=False, teardown=self._teardown(order))
        if array:
            writer.parameters["map_count"] = len(order.elements)
        entry = shlex.join(["-u", "-m", "hpc.cluster.job", str(self._books.order_file(order.token))])
        return writer._make_submission_file_text(f"{srun} {request.python or self._python} {entry}", order.token)

    def keeper_script(self, request: JobRequest) -> str:
        """Of the job that makes the next pass over the sweep; without srun, for it submits jobs itself."""
        options = sbatch_options(request)
        # A module that it may not need must not end it.
        options["setup"] = [line.removesuffix(MODULE_OR_LEAVE) for line in options["setup"]]
        options["additional_parameters"] |= {"output": str(self._books.log("keeper", 0))}
        options["setup"] += self._code_exports()
        writer = _Writer(self._books.logs)
        again = f'if [ "$status" = {EXIT_INTERRUPTED} ]; then scontrol requeue "$SLURM_JOB_ID"; fi'
        writer.update_parameters(**options, use_srun=False, teardown=["status=$?", again, 'exit "$status"'])
        entry = shlex.join(["-u", "-m", "fgssl", "sync", str(self._books.folder.parent), "--until-answered"])
        return writer._make_submission_file_text(f"{request.python or self._python} {entry}", "keeper")

    def self_test_script(self, request: JobRequest, folder: Path, arguments: Sequence[str]) -> str:
        """Of the doctor's job: `hpc.cluster.doctor.node_checks` in each process, then once back into the queue."""
        log, words = str(folder / "log.txt"), shlex.quote(str(folder / "requeue.txt"))
        options = sbatch_options(request)
        options["additional_parameters"] |= {"output": log}
        options["srun_args"] += [f"--output={log}", "--open-mode=append"]
        options["setup"] += [*self._code_exports(), "export SLURM_EXPORT_ENV=ALL", 'trap "" USR2']
        once = '[ "$status" = 0 ] && [ "${SLURM_RESTART_COUNT:-0}" = 0 ]'
        requeue = f'scontrol requeue "$SLURM_JOB_ID" 2>{words}'
        writer = _Writer(folder)
        writer.update_parameters(**options, teardown=["status=$?", f"if {once}; then {requeue}; fi", 'exit "$status"'])
        entry = shlex.join(["-u", "-m", "hpc.cluster.doctor.node_checks", str(folder), *arguments])
        return writer._make_submission_file_text(f"{request.python or self._python} {entry}", "self-test")

    def submit_self_test(self, request: JobRequest, folder: Path, arguments: Sequence[str]) -> str:
        """As `submit`."""
        return self._submit(folder / "job.sh", self.self_test_script(request, folder, arguments))

    def submit(self, order: Order, request: JobRequest) -> str:
        """The job's id. Raises `RefusedError` where there is no job, `SchedulerUnavailableError` where there may be."""
        return self._submit(self._books.order_file(order.token).with_suffix(".sh"), self.script(order, request))

    def submit_keeper(self, request: JobRequest) -> str:
        """As `submit`."""
        return self._submit(self._books.folder / "keeper.sh", self.keeper_script(request))

    def _submit(self, file: Path, script: str) -> str:
        write_atomically(file, script)
        return self._scheduler.submit(file)

    def _request(self, order: Order) -> str:
        return shlex.quote(str(self._books.requeue_file(order.token, ""))) + '"${SLURM_ARRAY_TASK_ID:-0}"'

    def _setup(self, order: Order) -> list[str]:
        return [
            *self._code_exports(),
            "export SLURM_EXPORT_ENV=ALL",  # where sbatch was told not to, srun would not pass these on
            f"rm -f {self._request(order)}",  # of an earlier time in the same job
            'trap "" USR2',  # for a user's sbatch that signals this shell
        ]

    def _code_exports(self) -> list[str]:
        return [
            f"export PYTHONPATH={shlex.quote(str(self._code))}${{PYTHONPATH:+:$PYTHONPATH}}",
            "export PYTHONSAFEPATH=1",  # the working directory's code is not the submission's
        ]

    def _teardown(self, order: Order) -> list[str]:
        """TERM, as scancel sends it, ends the batch script before it comes here: a cancelled job stays cancelled."""
        request = self._request(order)
        return [
            "status=$?",
            f"if [ -e {request} ]; then",
            f"    rm -f {request}",
            f"    status={EXIT_INTERRUPTED}",
            '    job="${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_}${SLURM_ARRAY_TASK_ID:-$SLURM_JOB_ID}"',
            '    scontrol requeue "$job" || echo "not requeued: the next sync orders another job" >&2',
            "fi",
            'exit "$status"',
        ]
