"""Logs of jobs on this machine: the output of each run, and the warnings in them."""

from collections.abc import Collection, Sequence
from pathlib import Path

from hpc.local.launch import BEGINS, LOG

_WARNING = "WARNING: "


def job_logs(out: Path) -> list[Path]:
    """Return the logs of all jobs that sweeps on this machine started in `out`, the newest job last."""
    return sorted(out.glob(f"jobs/*/*/{LOG}"))


def outputs(runs: Collection[str], logs: Sequence[Path]) -> dict[str, dict[Path, list[str]]]:
    """Return the lines that each run printed, by its name and the log.

    `runs` holds the names of all runs of the plan: a line that begins like a start line, and ends in none of them, is
    output.
    """
    found: dict[str, dict[Path, list[str]]] = {run: {} for run in runs}
    for log in logs:
        inside: list[str] = []  # lines before the first start line belong to no run
        for line in _lines(log):
            name = line.rpartition(": ")[2]
            if line.startswith(BEGINS) and name in found:
                inside = found[name].setdefault(log, [])
            else:
                inside.append(line)
    return found


def warnings_in(logs: Sequence[Path]) -> list[str]:
    """Return the warnings in the logs, each once, in the order of their appearance."""
    return list(
        dict.fromkeys(line.removeprefix(_WARNING) for log in logs for line in _lines(log) if line.startswith(_WARNING))
    )


def _lines(log: Path) -> list[str]:
    return log.read_text(errors="replace", encoding="utf-8").splitlines()
