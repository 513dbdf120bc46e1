"""File format of a submitted sweep, from which `sync` and `status` work without its YAML files.

OUT/cluster/sweep.json    written by `fgssl sweep --cluster`, and overwritten when the sweep is submitted again
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ConfigDict

from fgssl.errors import Problem, SettingsError, UserError
from fgssl.settings.config import Config, possible_processes
from fgssl.settings.fingerprints import to_mapping
from fgssl.store.files import read_record, record_json, write_atomically
from fgssl.store.plan import PLAN, no_sweep
from fgssl.store.run_folder import RunFolder
from hpc.cluster.schedulers.scheduler import JobRequest, Submitter
from hpc.cluster.site.job_settings import JobSettings, Origin, read_jobs
from hpc.cluster.site.profile import LimitSettings, Profile, SchedulerName
from hpc.cluster.site.requests import request
from hpc.sweeps.output_folder import CLUSTER_SWEEP
from hpc.sweeps.overview import named_runs
from hpc.sweeps.plan import SweepPlan, SweepRun
from hpc.sweeps.retries import Retries

SCHEMA = 2

SUBMITTER = "cluster/submitter.json"
"""Record of the user and the cluster whose sweep this is, in its output folder."""


@dataclass(frozen=True, kw_only=True)
class ClusterRun:
    """Run folder to complete, by one job at a time."""

    __pydantic_config__ = ConfigDict(extra="forbid")
    run: str
    """Name of the run's folder."""
    label: str
    needs: tuple[str, ...]
    """Runs of this sweep that must be trained first."""
    results: tuple[str, ...]
    """Names of the result files; the run is done when its folder holds all of them."""
    configs: tuple[dict[str, Any], ...]
    """Resolved settings: one mapping, or several that differ in their evaluation only."""
    request: JobRequest

    def done(self, out: Path) -> bool:
        """Return whether all results are in the run's folder in `out`."""
        return self.files(out).issuperset(self.results)

    def files(self, out: Path) -> set[str]:
        """Return the file names in the run's folder, without results that are damaged.

        The folder is listed, since a network file system may have cached that a single file did not exist.
        """
        folder = RunFolder.in_output(out, self.run)
        try:
            names = os.listdir(folder.path)
        except FileNotFoundError:
            return set()
        return {name for name in names if name not in self.results or folder.is_whole(name)}


@dataclass(frozen=True, kw_only=True)
class ClusterSweep:
    """Submitted sweep: its runs, and the site's limits at the time of submission."""

    __pydantic_config__ = ConfigDict(extra="forbid")
    schema: int = SCHEMA
    name: str
    profile: str
    """Name of the cluster's profile."""
    scheduler: SchedulerName = "slurm"
    """Name of the site's scheduler (hpc.cluster.schedulers)."""
    limits: dict[str, LimitSettings]
    """Limits by partition; `""` is the site's default partition."""
    retries: Retries
    code: str
    """Folder of the frozen code that jobs run, relative to the output folder; older versions wrote absolute paths."""
    folder: str
    """Working directory of all jobs, from which relative paths in the settings start."""
    keeper: JobRequest | None
    """Resources of the keeper job, or None if users run `sync` themselves."""
    keeper_rest_s: int = 300
    """Shortest time in seconds between the passes of two keepers (`--begin`)."""
    runs: tuple[ClusterRun, ...]
    """Runs, in topological order of their needs."""

    def code_in(self, out: Path) -> Path:
        """Return the folder of the frozen code in an output folder, which may have been moved."""
        return out / Path(*Path(self.code).parts[-2:])


def on_cluster(plan: SweepPlan, profile: Profile) -> list[ClusterRun]:
    """Return the plan's runs in topological order, each with its job's resources.

    Raises `SettingsError` with every reason why the site would reject them.
    """
    grid = plan.grid
    blocks = job_blocks(plan)
    names = list(dict.fromkeys([*grid.stages, *(cell.arm for cell in grid.cells)]))
    jobs = read_jobs(grid.jobs, str(grid.file), names)
    by_name: dict[str, list[SweepRun]] = {}
    for run in plan.runs:
        by_name.setdefault(run.run, []).append(run)
    runs, problems = [], list[Problem]()
    for name, same in by_name.items():
        job, origin = jobs[blocks[name]]
        config = same[0].config
        problems += _process_problems(config, job, origin)
        try:
            asked = request(job, profile, config.resources.device != "cpu", grid.settings.name, origin)
        except SettingsError as error:
            problems += error.problems
            continue
        runs.append(
            ClusterRun(
                run=name,
                label=" + ".join(dict.fromkeys(run.label for run in same)),
                needs=tuple(dict.fromkeys(need for run in same for need in run.needs if need in by_name)),
                results=RunFolder(Path(name)).results([run.config for run in same]),
                configs=tuple(to_mapping(run.config) for run in same),
                request=asked,
            )
        )
    if problems:
        raise SettingsError(list(dict.fromkeys(problems)))
    return runs


def job_blocks(plan: SweepPlan) -> dict[str, str]:
    """Return {run name: key of its block in `jobs`}, which is an arm or a stage."""
    arms = {
        plan.of_cell[cell.name, seed].run: cell.arm for cell in plan.grid.cells for seed in plan.grid.settings.seeds
    }
    return {run.run: run.stage for run in reversed(plan.runs) if run.stage is not None} | arms


def _process_problems(config: Config, job: JobSettings, origin: Origin) -> Iterator[Problem]:
    wanted, possible = job.nodes * job.processes_per_node, possible_processes(config)
    key = "nodes" if job.nodes > 1 and "processes_per_node" in origin.defaults else "processes_per_node"
    if wanted not in possible:
        message = (
            f"{job.nodes} x {job.processes_per_node} (nodes x processes) are {wanted} processes, into which the batch "
            f"of {config.training.global_batch_size} images cannot be split; allowed: {', '.join(map(str, possible))}"
        )
        yield origin.problem(key, message)
    expected = config.resources.expected_processes
    if expected is not None and expected != wanted:
        yield origin.problem(key, f"{wanted} processes, but resources.expected_processes is {expected}")


def write(sweep: ClusterSweep, out: Path) -> None:
    """Write the sweep to its file in `out`, replacing an earlier one."""
    file = out / CLUSTER_SWEEP
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, record_json(sweep))


def read(out: Path) -> ClusterSweep:
    """Return the sweep in `out`, or raise `UserError` if none was submitted to a cluster from there."""
    file = out / CLUSTER_SWEEP
    advice = "submit the sweep again with this version, which rewrites the file"
    sweep = read_record(file, ClusterSweep, schema=SCHEMA, advice=advice)
    if sweep is None and (out / PLAN).exists():
        raise UserError(
            f"{out}: this sweep was not submitted to a cluster: `fgssl status` shows it; to submit it, give "
            "`fgssl sweep SWEEP.yaml --cluster PROFILE --out DIR`"
        )
    if sweep is None:
        raise no_sweep(out)
    return sweep


class AnotherSubmitterError(UserError):
    """Error of a sweep that another user submitted, or this one on another cluster."""


def submitter(out: Path) -> Submitter | None:
    """Return the user and cluster whose sweep this is, or None if an earlier version submitted it."""
    advice = "delete it if you submitted this sweep here; the next sync rewrites it"
    return read_record(out / SUBMITTER, Submitter, advice=advice)


def note_submitter(here: Submitter, out: Path) -> None:
    """Record whose sweep this is. The record has its own file, so that code of earlier versions reads the others."""
    write_atomically(out / SUBMITTER, record_json(here))


def check_submitter(here: Submitter | None, out: Path) -> None:
    """Raise an `AnotherSubmitterError` if this is not the sweep of `here`; without `here`, compare the user alone.

    A sweep of an earlier version belongs to the owner of its file.
    """
    kept, uid = submitter(out), os.getuid() if here is None else here.uid
    owner = (out / CLUSTER_SWEEP).stat().st_uid if kept is None else kept.uid
    if owner == uid and (kept is None or here is None or kept == here):
        return
    raise AnotherSubmitterError(
        f"{out}: {kept or f'the user with number {owner}'} submitted this sweep, and this is "
        f"{here or f'the user with number {uid}'}, who may not see its jobs: nothing was changed. Run this command "
        "there. `fgssl status`, `logs` and `aggregate` work here too. If those jobs are over for good, "
        "`fgssl retry --take-over` submits here what they left"
    )


def chosen(sweep: ClusterSweep, parts: Sequence[str]) -> list[ClusterRun]:
    """Return the runs that one of `parts` names (`hpc.sweeps.overview.named_runs`)."""
    return named_runs(sweep.runs, parts, sweep.name)
