"""A scheduler's commands, options and variables appear only in the scheduler's own folder."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
ROOM = ROOT / "hpc" / "cluster" / "schedulers" / "slurm"
WORDS = re.compile(r"SLURMD?_|(?<![.\w])(sbatch|squeue|sacct|scontrol|scancel|sinfo)\b")


def test_slurms_words_are_in_its_room() -> None:
    found = [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()}"
        for package in ("fgssl", "hpc")
        for file in sorted((ROOT / package).rglob("*.py"))
        if not file.is_relative_to(ROOM)
        for number, line in enumerate(file.read_text().splitlines(), start=1)
        if WORDS.search(line)
    ]
    assert found == []
