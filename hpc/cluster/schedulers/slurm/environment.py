"""What Slurm says of a job in the environment of its processes."""

import os

from fgssl.processes import Processes
from hpc.cluster.schedulers.scheduler import JobPlace, JobStep
from hpc.environment import number_of


def place() -> JobPlace:
    memory_mb = number_of("SLURM_MEM_PER_CPU", 0) * number_of("SLURM_CPUS_ON_NODE", 0)
    return JobPlace(
        job_id=os.environ.get("SLURM_ARRAY_JOB_ID") or os.environ.get("SLURM_JOB_ID", ""),
        element=number_of("SLURM_ARRAY_TASK_ID", 0),
        task=number_of("SLURM_PROCID", 0),
        local_task=number_of("SLURM_LOCALID", 0),
        restart=number_of("SLURM_RESTART_COUNT", 0),
        nodes=os.environ.get("SLURM_JOB_NODELIST", ""),
        node=os.environ.get("SLURMD_NODENAME", ""),
        node_number=number_of("SLURM_NODEID", 0),
        memory_mb=number_of("SLURM_MEM_PER_NODE", memory_mb) or None,
    )


def step() -> JobStep | None:
    asked, nodes = number_of("SLURM_NTASKS", 1), number_of("SLURM_JOB_NUM_NODES", 1)
    started = number_of("SLURM_STEP_NUM_TASKS", 0)
    if started == 0 and asked == nodes == 1:
        return None
    on_this_node = len(os.environ.get("SLURM_GTIDS", "").split(","))
    rank, local_rank = number_of("SLURM_PROCID", 0), number_of("SLURM_LOCALID", 0)
    return JobStep(
        launcher="srun",
        asked=asked,
        nodes=nodes,
        started=Processes(rank, started, local_rank, on_this_node, "srun") if started else None,
        job_id=os.environ.get("SLURM_JOB_ID", ""),
        restart=number_of("SLURM_RESTART_COUNT", 0),
        step_id=os.environ.get("SLURM_STEP_ID", ""),
        node=os.environ.get("SLURMD_NODENAME", ""),
        number_option="--ntasks",
        advice=(
            "Begin the line with srun, as slurm/train_several_nodes.sbatch does; for one process, with "
            "`srun --nodes=1 --ntasks=1`"
        ),
    )
