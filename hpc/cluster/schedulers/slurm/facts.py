"""Parse the output of squeue, sacct and scontrol: job states, times and node lists."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Literal

from hpc.cluster.schedulers.scheduler import JobFact, JobState

# The fields correspond, except that only squeue counts restarts. Names come last, since they may contain the separator.
QUEUE = "JobArrayID,State,Reason,exit_code,RestartCnt,StartTime,EndTime,TimeLimit,NodeList,Name"
DATABASE = "JobID,State,Reason,ExitCode,JobIDRaw,Start,End,TimelimitRaw,NodeList,JobName"
_FIELDS = 10

STATES = {
    "PENDING": JobState.PENDING,
    "REQUEUE_HOLD": JobState.HELD,
    "RESV_DEL_HOLD": JobState.HELD,
    "SPECIAL_EXIT": JobState.HELD,
    "COMPLETED": JobState.COMPLETED,
    "FAILED": JobState.FAILED,
    "CANCELLED": JobState.CANCELED,
    "REVOKED": JobState.CANCELED,
    "TIMEOUT": JobState.TIMEOUT,
    "DEADLINE": JobState.TIMEOUT,
    "PREEMPTED": JobState.PREEMPTED,
    "NODE_FAIL": JobState.NODE_FAILED,
    "BOOT_FAIL": JobState.NODE_FAILED,
    "OUT_OF_MEMORY": JobState.OUT_OF_MEMORY,
}
_WAITING = [word for word, state in STATES.items() if state in (JobState.PENDING, JobState.HELD)]


def facts_in(line: str, source: Literal["squeue", "sacct"]) -> Iterator[JobFact]:
    """Yield a fact for every job on a line, or none if the line continues a job name that has line breaks."""
    texts = line.split("|", _FIELDS - 1)
    job = re.fullmatch(r"(\d+)(?:_(\d+)|_\[([\d,:-]+)(?:%\d+)?\])?", texts[0])
    if len(texts) < _FIELDS or job is None:
        return
    number, task, tasks = job.groups()
    _, word, reason, ending, restarts, start, end, _, nodes, name = texts
    word, reason = word.partition(" ")[0], reason.replace("_", " ")  # CANCELLED by 1000; launch_failed_requeued_held
    started = None if word in _WAITING else seconds(start)  # squeue also prints expected starts
    state = _state(word, reason, started)
    exit_code, signal_number = _exit(ending)
    fact = JobFact(
        job_id="",
        name=name,
        state=state,
        exit_code=exit_code,
        signal=signal_number,
        nodes=_nodes(nodes),
        restarts=int(restarts) if source == "squeue" else 0,
        started=started,
        launch_failed="launch failed" in reason,
        never_starts=reason == "DependencyNeverSatisfied",
    )
    # sacct keeps the reason why an ended job was pending, and squeue also prints expected ends.
    fact = replace(
        fact,
        reason=reason if reason != "None" and (source == "squeue" or not fact.over) else "",
        ended=seconds(end) if fact.over or source == "sacct" else None,
    )
    for index in _range(tasks) if tasks else [task]:
        yield replace(fact, job_id=f"{number}_{index}" if index else number)


def _state(word: str, reason: str, started: float | None) -> JobState:
    if word == "PENDING" and "held" in reason.lower():
        return JobState.HELD
    # Other states belong to jobs that are configuring, completing, suspended or being requeued.
    return STATES.get(word, JobState.PENDING if started is None else JobState.RUNNING)


def _range(text: str) -> Iterator[str]:
    """Expand `1,04-06,8-12:2` to 1 04 05 06 8 10 12."""
    for part in text.split(","):
        span, _, step = part.partition(":")
        first, _, last = span.partition("-")
        for number in range(int(first), int(last or first) + 1, int(step or 1)):
            yield f"{number:0{len(first)}}"


def _nodes(text: str) -> tuple[str, ...]:
    """Expand `cn[1-2]-ib,login1` to cn1-ib cn2-ib login1."""
    if text in ("None assigned", "(null)"):
        return ()
    parts = re.findall(r"(?:\[[^]]*\]|[^,\[])+", text)
    return tuple(name for part in parts for name in _expanded(part))


def _expanded(name: str) -> Iterator[str]:
    match = re.search(r"\[([^]]*)\]", name)
    if match is None:
        yield name
        return
    for number in _range(match[1]):
        for rest in _expanded(name[match.end() :]):
            yield name[: match.start()] + number + rest


def _exit(text: str) -> tuple[int, int]:
    """Return (exit code, signal) from sacct's `3:0` or from squeue's wait status."""
    code, _, number = text.partition(":")
    if number:
        return int(code), int(number)
    status = int(text)
    return (0, status & 0x7F) if status & 0x7F else (status >> 8, 0)


def pairs(line: str) -> dict[str, str]:
    """Parse `NAME=VALUE` pairs of a line of `scontrol --oneliner`."""
    return {name: value for name, _, value in (pair.partition("=") for pair in line.split())}


def seconds(text: str) -> float | None:
    """Parse seconds since the epoch, or return None for Unknown, None and N/A."""
    return float(text) if text.isdecimal() else None


def count(text: str) -> int | None:
    """Parse a limit, or return None if there is no limit or the limit is 0."""
    return int(text) or None if text.isdecimal() else None


def minutes(text: str) -> int | None:
    """Parse `2-03:04:05`, `3:04:05`, `4:05` (rounded up) or minutes, or return None for UNLIMITED and similar words."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text)
    if match is None:
        return count(text)
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return (days * 24 + hours) * 60 + minutes + (seconds > 0)


def least(values: Iterable[int | None]) -> int | None:
    """Return the smallest value that is not None, or None if there is no such value."""
    return min((value for value in values if value is not None), default=None)
