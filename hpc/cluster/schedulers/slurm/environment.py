"""Environment variables that Slurm sets in the processes of a job."""

import os
import pwd

from hpc.cluster.schedulers.scheduler import JobPlace
from hpc.environment import number_of


def user_name() -> str:
    """Return the name of this process's user, or its number if it has no name here."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def place() -> JobPlace:
    """Return the place of this process in its Slurm job."""
    memory_mb = number_of("SLURM_MEM_PER_CPU", 0) * number_of("SLURM_CPUS_ON_NODE", 0)
    return JobPlace(
        job_id=os.environ.get("SLURM_ARRAY_JOB_ID") or os.environ.get("SLURM_JOB_ID", ""),
        element=number_of("SLURM_ARRAY_TASK_ID", 0),
        step=os.environ.get("SLURM_STEP_ID", ""),
        restart=number_of("SLURM_RESTART_COUNT", 0),
        asked=number_of("SLURM_NTASKS", 1),
        started=number_of("SLURM_STEP_NUM_TASKS", 0),
        local_started=len(os.environ.get("SLURM_GTIDS", "").split(",")),
        task=number_of("SLURM_PROCID", 0),
        local_task=number_of("SLURM_LOCALID", 0),
        nodes=os.environ.get("SLURM_JOB_NODELIST", ""),
        node_count=number_of("SLURM_JOB_NUM_NODES", 1),
        node=os.environ.get("SLURMD_NODENAME", ""),
        node_number=number_of("SLURM_NODEID", 0),
        memory_mb=number_of("SLURM_MEM_PER_NODE", memory_mb) or None,
    )
