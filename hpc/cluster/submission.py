"""Order -> batch script -> job. submitit writes the script; what runs in it is ours, so that nothing has to be pickled.

submitit's own jobs are pickles that are renamed after sbatch, so one that is killed in between loses them; their signal
handlers requeue from within the step, whose end kills the request; and an orphan's late success would count.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from submitit.slurm.slurm import SlurmExecutor

from fgssl.errors import EXIT_INTERRUPTED, UserError
from fgssl.run_folder import write_atomically
from hpc.cluster.orders import Books, Order
from hpc.cluster.profiles import MODULE_OR_LEAVE
from hpc.cluster.requests import JobRequest, for_runs, sbatch_options
from hpc.cluster.slurm import Refusal, RefusedError, SchedulerUnavailableError, refused

_PATIENCE_S = 120.0
_STRIPPED_BEGINNINGS = ("SBATCH_", "SLURM_", "SLURMD_", "SRUN_", "SUBMITIT_", "TORCHELASTIC_")
_STRIPPED = {
    *("RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_RANK", "ROLE_NAME"),
    *("WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE", "ROLE_WORLD_SIZE"),
    *("MASTER_ADDR", "MASTER_PORT"),
}
"""Of torchrun; a site's own LOCAL_SCRATCH and its like must stay."""


_NOT_ASKED = ("job-name", "open-mode", "output", "requeue", "no-requeue", "signal", "array", "chdir")
"""Options that no site refuses, or that have an error of their own."""
_CAUSES = {
    r"accounting/QOS policy|(QOS|Assoc)(Max|Grp)": (
        "a limit of your account or QOS on size or time: fewer jobs.default.nodes or walltime_min, or another account"
    ),
    r"Invalid account": "account: give one of yours, cluster.account=NAME (`sacctmgr show associations user=$USER`)",
    r"(?i)invalid partition|partition .*not available": "partition: jobs.default.partition=NAME (listed by `sinfo -s`)",
    r"(?i)invalid qos": "QOS: jobs.default.qos=NAME (`sacctmgr show associations user=$USER` lists yours)",
    r"(?i)time limit": "walltime: a smaller jobs.default.walltime_min (`sinfo -o '%P %l'` lists the limits)",
    r"(?i)node configuration|node count|generic resource|\bgres\b|memory|CPU count": (
        "size: no node of the partition has so much; fewer jobs.default.processes_per_node, cores_per_process or "
        "memory_gb_per_node, or another gpu.type of the profile (`sinfo -o '%P %c %m %G'` lists what nodes have)"
    ),
    r"(?i)feature|reservation": "jobs.default.options: its constraint or reservation is not known there",
}
"""What sbatch says -> where it comes from and what to do."""


class _Writer(SlurmExecutor):
    """submitit's, also where there is no srun: a script can be shown anywhere."""

    @classmethod
    def affinity(cls) -> int:
        return 2


class Submission:
    """Of one output folder."""

    def __init__(self, books: Books, code: Path) -> None:
        self._books, self._code, self._python = books, code, shlex.quote(sys.executable)

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
        entry = shlex.join(["-u", "-m", "fgssl.job", str(self._books.order_file(order.token))])
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
        entry = shlex.join(["-u", "-m", "fgssl.sync", str(self._books.folder.parent), "--until-answered"])
        return writer._make_submission_file_text(f"{request.python or self._python} {entry}", "keeper")

    def self_test_script(self, request: JobRequest, folder: Path, arguments: Sequence[str]) -> str:
        """Of the doctor's job: `hpc.cluster.node_checks` in each process, then once back into the queue."""
        log, words = str(folder / "log.txt"), shlex.quote(str(folder / "requeue.txt"))
        options = sbatch_options(request)
        options["additional_parameters"] |= {"output": log}
        options["srun_args"] += [f"--output={log}", "--open-mode=append"]
        options["setup"] += [*self._code_exports(), "export SLURM_EXPORT_ENV=ALL", 'trap "" USR2']
        once = '[ "$status" = 0 ] && [ "${SLURM_RESTART_COUNT:-0}" = 0 ]'
        requeue = f'scontrol requeue "$SLURM_JOB_ID" 2>{words}'
        writer = _Writer(folder)
        writer.update_parameters(**options, teardown=["status=$?", f"if {once}; then {requeue}; fi", 'exit "$status"'])
        entry = shlex.join(["-u", "-m", "hpc.cluster.node_checks", str(folder), *arguments])
        return writer._make_submission_file_text(f"{request.python or self._python} {entry}", "self-test")

    def submit_self_test(self, request: JobRequest, folder: Path, arguments: Sequence[str]) -> str:
        """As `submit`."""
        return self._sbatch(folder / "job.sh", self.self_test_script(request, folder, arguments))

    def submit(self, order: Order, request: JobRequest) -> str:
        """The job's id. Raises `RefusedError` where there is no job, `SchedulerUnavailableError` where there may be."""
        return self._sbatch(self._books.order_file(order.token).with_suffix(".sh"), self.script(order, request))

    def submit_keeper(self, request: JobRequest) -> str:
        """As `submit`."""
        return self._sbatch(self._books.folder / "keeper.sh", self.keeper_script(request))

    def _sbatch(self, file: Path, script: str) -> str:
        write_atomically(file, script)
        # SBATCH_* of the user's shell would win over the script, SLURM_* of a job be taken for its own.
        kept = {name: value for name, value in os.environ.items() if name == "SLURM_CONF" or not _is_stripped(name)}
        try:
            ended = subprocess.run(
                ["sbatch", "--parsable", str(file)],
                env=kept,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_PATIENCE_S,
            )
        except FileNotFoundError:
            raise UserError(
                "no sbatch on PATH: submit from a login node of the cluster, or leave --cluster out to run here"
            ) from None
        except subprocess.TimeoutExpired:
            raise SchedulerUnavailableError(f"sbatch has not answered within {_PATIENCE_S:.0f} s") from None
        if ended.returncode != 0:
            raise _explained(refused(ended.stderr), script, file)
        job = re.fullmatch(r"(\d+)(;\S+)?", ended.stdout.strip().rpartition("\n")[2])  # a site's own words may precede
        if job is None:
            raise SchedulerUnavailableError(f"sbatch did not say which job it made: {ended.stdout.strip()!r}")
        return job[1]

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


def _is_stripped(variable: str) -> bool:
    return variable in _STRIPPED or variable.startswith(_STRIPPED_BEGINNINGS)


def _explained(error: RefusedError | SchedulerUnavailableError, script: str, file: Path) -> UserError:
    """With what was asked for and the likely cause; where waiting or a smaller array helps, as it is."""
    if not isinstance(error, RefusedError) or error.kind in (Refusal.FULL, Refusal.ARRAY):
        return error
    asked = [line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH --")]
    shown = " ".join(f"--{option}" for option in asked if option.partition("=")[0] not in _NOT_ASKED)
    words = str(error).replace("sbatch: error: ", "") or "no reason given"
    lines = [words, f"asked for: {shown}", f"the script: {file}"]
    if cause := next((cause for pattern, cause in _CAUSES.items() if re.search(pattern, words)), None):
        lines.insert(1, f"likely cause: {cause}")
    return RefusedError(error.kind, "\n  ".join(lines))
