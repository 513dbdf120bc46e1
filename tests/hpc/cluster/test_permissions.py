"""A sweep that the user may read but not write, or may not read in part: messages, and what can be shown is."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fgssl.__main__ import main
from hpc.cluster import cluster_sweep
from tests.hpc.fake_slurm.cluster import FakeSlurm
from tests.hpc.results import write_results

NOBODY = 65534


@pytest.fixture
def readable(sweep_file: Path, tmp_path: Path, fake_slurm: FakeSlurm) -> Iterator[Path]:
    """Return a finished sweep that nobody may change."""
    given = ["settings.resources.device=cpu", "--cluster", "generic", "cluster.submit_from_jobs=allowed"]
    assert main(["sweep", str(sweep_file), *given, "--out", str(tmp_path / "out")]) == 0
    for run in cluster_sweep.read(tmp_path / "out").runs:
        write_results(tmp_path / "out" / "runs" / run.run, run.results)
    assert main(["aggregate", str(tmp_path / "out")]) == 0  # and the commands are imported
    parent = Path(tempfile.mkdtemp())  # tmp_path lies in a folder that only its owner may enter
    parent.chmod(0o755)
    out = Path(shutil.copytree(tmp_path / "out", parent / "out"))
    for path in (out, *out.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield out
    for path in (out, *out.rglob("*")):
        path.chmod(0o755)
    shutil.rmtree(parent)


@pytest.fixture
def as_colleague(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs a command as a user without rights: its exit code, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        child = os.fork()
        if child == 0:
            status = 99
            try:
                if os.geteuid() == 0:
                    os.setuid(NOBODY)
                status = main([str(argument) for argument in arguments])
            finally:
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return status, *capfd.readouterr()

    return run


def test_a_colleague_gets_the_table(readable: Path, as_colleague: Callable[..., tuple[int, str, str]]) -> None:
    status, printed, told = as_colleague("aggregate", readable)
    assert status == 2
    assert "grad_cam" in printed
    assert told.endswith(f"error: {readable / 'rows.csv'}: cannot be written: Permission denied\n")


@pytest.mark.parametrize("command", ["sync", "retry"])
def test_what_may_not_be_written_is_named(
    command: str, readable: Path, as_colleague: Callable[..., tuple[int, str, str]]
) -> None:
    status, _, told = as_colleague(command, readable)
    assert status == 2
    lock = readable / "cluster" / "sync.lock"
    assert told == f"error: {lock}: Permission denied: ask its owner for the right, or give another folder\n"


@pytest.mark.parametrize("folder", ["runs/*", "cluster/orders"])
@pytest.mark.parametrize("command", ["status", "logs"])
def test_a_folder_that_may_not_be_listed_is_named(
    folder: str, command: str, readable: Path, as_colleague: Callable[..., tuple[int, str, str]]
) -> None:
    first = min(readable.glob(folder))
    first.chmod(0)
    status, _, told = as_colleague(command, readable)
    assert status == 2
    assert told.startswith(f"error: {first}: Permission denied: ask its owner"), told
