"""Two users and two clusters that share a file system: nothing is lost, ordered twice or killed."""

import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.conftest import Cluster, own_cluster
from tests.slurm.small_sweep import RUNS, SWEEP, Swept, freeze_fake_code, swept_in

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

ANOTHER_USER = "daemon"


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """Yield a folder to which every user may write, as to that of a project."""
    before = os.umask(0)
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)
    os.umask(before)


@pytest.fixture
def clusters(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Cluster, Cluster]]:
    """Yield two clusters; the first, which hides jobs from other users, is that of this process."""
    with (
        own_cluster(accounting=True, CLUSTER_SLURM_CONF="PrivateData=jobs") as first,
        own_cluster(accounting=False, CLUSTER_NAME="another", CLUSTER_NODES="1") as second,
    ):
        monkeypatch.setenv("SLURM_CONF", str(first.configuration))
        yield first, second


def orders(swept: Swept) -> set[str]:
    return {file.name for file in (swept.out / "cluster" / "orders").iterdir()}


def test_a_sweep_is_only_read_by_another_user_and_from_another_cluster(
    clusters: tuple[Cluster, Cluster], shared_folder: Path
) -> None:
    first, second = clusters
    swept = swept_in(shared_folder / "out", first, freeze_fake_code(shared_folder / "code"), SWEEP)
    endless = [swept.run("base", seed) for seed in (0, 1)]
    swept.behave("endless", endless)
    swept.sync()
    swept.until(lambda: all(swept.logged("executed")[run] for run in endless))
    before = orders(swept)

    def by_another_user(*arguments: str) -> tuple[int, str]:
        found = first.attempt_as(ANOTHER_USER, sys.executable, "-m", "fgssl", *arguments)
        return found.returncode, found.stdout + found.stderr

    def on_another_cluster(*arguments: str) -> tuple[int, str]:
        found = second.attempt(sys.executable, "-m", "fgssl", *arguments)
        return found.returncode, found.stdout + found.stderr

    for attempt in (by_another_user, on_another_cluster):
        code, words = attempt("status", str(swept.out))
        assert (code, "LOST" in words, "Traceback" in words) == (0, False, False), words
        assert "submitted by root on cluster tests (head), whose jobs cannot be seen from here" in words
        assert attempt("logs", str(swept.out), "base")[0] == 0
        for command in ("sync", "cancel", "retry"):
            code, words = attempt(command, str(swept.out))
            assert (code, "Traceback" in words) == (2, False), words
            assert "root on cluster tests (head) submitted this sweep, and this is " in words
        code, words = attempt("aggregate", str(swept.out))
        assert (code, "Traceback" in words) == (0, False), words
    assert orders(swept) == before
    assert not second.queue()

    swept.go()
    swept.until_done()
    swept.check()
    assert swept.logged("executed") == Counter(dict.fromkeys((run.run for run in swept.sweep.runs), 1))
    assert len(swept.sweep.runs) == RUNS
