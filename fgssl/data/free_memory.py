"""Memory that is left on this node for files in shared memory, which count as memory of the job."""

import os
from pathlib import Path
from typing import Final

_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")
_FILES: Final[dict[str, tuple[str, str, str]]] = {
    "": ("memory.max", "memory.current", "inactive_file"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
"""Names by controller, which is empty for cgroups of version 2: limit, use, and the share of cached files in use."""


def free_memory(folder: Path) -> int:
    """Return the bytes that files in `folder`, a file system in memory, may still take.

    The smallest of three numbers: free space there, available memory of the node, and what the cgroups of the process
    leave to it.
    """
    space = os.statvfs(folder)
    available = _numbers(_PROC / "meminfo").get("MemAvailable", 0) * 1024
    return min(space.f_bavail * space.f_frsize, available, *_left_by_cgroups())


def _left_by_cgroups() -> list[int]:
    """Return how much the memory of each cgroup of this process, and of each above it, may still grow."""
    left = []
    for line in (_PROC / "self" / "cgroup").read_text(encoding="utf-8").splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in {"", "memory"} & set(controllers.split(",")):
            root = _CGROUPS / controller
            group = root / path.lstrip("/")
            while group.is_relative_to(root):
                left += _left(group, *_FILES[controller])
                group = group.parent
    return left


def _left(group: Path, limit: str, used: str, reclaimable: str) -> list[int]:
    try:
        most = int((group / limit).read_text(encoding="utf-8"))
        now = int((group / used).read_text(encoding="utf-8"))
        return [most - now + _numbers(group / "memory.stat").get(reclaimable, 0)]
    except (OSError, ValueError):  # a group of another controller, or one without a limit
        return []


def _numbers(file: Path) -> dict[str, int]:
    """Return the numbers of a file with lines such as `name: 12 kB`."""
    lines = [line.split() for line in file.read_text(encoding="utf-8").splitlines()]
    return {line[0].rstrip(":"): int(line[1]) for line in lines}
