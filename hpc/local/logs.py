"""Logs of jobs on this machine: the output of each run, and the warnings in them."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from hpc.local.launch import BEGINS, LOG

_WARNING = "WARNING: "


def job_logs(out: Path) -> list[Path]:
    """Return the logs of all jobs that sweeps on this machine started in `out`, the newest job last."""
    return sorted(out.glob(f"jobs/*/*/{LOG}"))


def output_of(run: str, logs: Sequence[Path]) -> Iterator[tuple[Path, list[str]]]:
    """Yield each log in which the run named `run` began, and the lines that it printed there."""
    for log in logs:
        lines: list[str] = []
        begun = inside = False
        for line in _lines(log):
            if line.startswith(BEGINS):
                inside = line.endswith(f": {run}")
                begun |= inside
            elif inside:
                lines.append(line)
        if begun:
            yield log, lines


def warnings_in(logs: Sequence[Path]) -> list[str]:
    """Return the warnings in the logs, each once, in the order of their appearance."""
    return list(
        dict.fromkeys(line.removeprefix(_WARNING) for log in logs for line in _lines(log) if line.startswith(_WARNING))
    )


def _lines(log: Path) -> list[str]:
    return log.read_text(errors="replace", encoding="utf-8").splitlines()
