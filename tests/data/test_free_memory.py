from pathlib import Path

import pytest

from fgssl.data import free_memory as measured
from fgssl.data.free_memory import free_memory

GIB = 2**30


def write(root: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the root of a node with 8 GiB of available memory."""
    monkeypatch.setattr(measured, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(measured, "_CGROUPS", tmp_path / "cgroup")
    write(tmp_path, {"proc/meminfo": f"MemTotal: 99 kB\nMemAvailable:   {8 * GIB // 1024} kB\nHugePages_Free:  0\n"})
    write(tmp_path, {"proc/self/cgroup": "0::/\n"})
    return tmp_path


def test_memory_of_the_node(node: Path) -> None:
    assert free_memory(Path("/")) <= 8 * GIB
    write(node, {"proc/meminfo": "MemAvailable: 3 kB\n"})
    assert free_memory(Path("/")) == 3 * 1024


def test_limit_of_the_job_in_either_version_of_cgroups(node: Path) -> None:
    job = {"memory.max": f"{4 * GIB}\n", "memory.current": f"{3 * GIB}\n", "memory.stat": f"inactive_file {GIB // 2}\n"}
    write(node / "cgroup/slurm/job_1", job)
    write(node / "cgroup/slurm/job_1/step_0", {"memory.max": "max\n", "memory.current": "5\n", "memory.stat": "x 1\n"})
    write(node, {"proc/self/cgroup": "0::/slurm/job_1/step_0\n"})
    assert free_memory(Path("/")) == 3 * GIB // 2
    old = {"memory.limit_in_bytes": f"{GIB}\n", "memory.usage_in_bytes": "0\n", "memory.stat": "total_inactive_file 1"}
    write(node / "cgroup/memory/slurm/job_1", old)
    write(node, {"proc/self/cgroup": "9:cpu:/other\n4:hugetlb,memory:/slurm/job_1\n0::/\n"})
    assert free_memory(Path("/")) == GIB + 1
