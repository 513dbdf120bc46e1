"""Leases of run folders: the right to write, and its transfer to another process."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fgssl.errors import LeaseError
from fgssl.settings import fingerprints
from fgssl.settings.config import Config
from fgssl.store import lease as leases
from fgssl.store.lease import Lease
from fgssl.store.run_folder import RunFolder

ORPHAN = """
import sys
from pathlib import Path
from fgssl.settings import config as configs
from fgssl.settings import fingerprints
from fgssl.errors import LeaseError
from fgssl.store.run_folder import RunFolder
config, folder = configs.load(Path(sys.argv[1])), RunFolder(Path(sys.argv[2]))
with folder.lease(config, (1, 0)) as lease:
    lease.write("note", "the orphan's")
    print("at work", flush=True)
    input()
    try:
        lease.write("note", "the orphan's, late")
    except LeaseError as error:
        print(error)
"""


@pytest.fixture
def config(tiny_config: Callable[..., Config]) -> Config:
    return tiny_config()


def test_one_of_two_processes_writes(config: Config, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with folder.lease(config), pytest.raises(LeaseError, match="another process works here"), folder.lease(config):
        pass


@pytest.mark.parametrize("generation", [None, (1, 0), (0, 5)])
def test_nobody_older_takes_over(generation: tuple[int, int] | None, config: Config, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with folder.lease(config, (1, 0)), pytest.raises(LeaseError, match="another process works here"):
        folder.lease(config, generation).__enter__()


@pytest.mark.parametrize("generation", [(1, 1), (2, 0)])
def test_a_newer_generation_takes_over_from_an_orphan(
    generation: tuple[int, int], config: Config, tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text(fingerprints.to_yaml(config))
    folder = RunFolder(tmp_path / "run")
    command = [sys.executable, "-c", ORPHAN, str(tmp_path / "config.yaml"), str(folder.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as orphan:
        assert orphan.stdout is not None
        assert orphan.stdout.readline() == "at work\n"
        with folder.lease(config, generation) as lease:
            lease.write("note", "ours")
            said, _ = orphan.communicate("go on\n", timeout=60)
            assert "lost its lease" in said
            assert folder.holder() is not None
            with pytest.raises(LeaseError), folder.lease(config, (1, 0)):
                pass
            lease.write("note", "still ours")
    assert (folder.path / "note").read_text() == "still ours"
    assert folder.holder() is None
    with pytest.raises(LeaseError, match="a newer job has worked here"), folder.lease(config, (1, 0)):
        pass


def test_a_run_without_a_scheduler_goes_on_where_a_job_was(config: Config, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with folder.lease(config, (3, 1)):
        pass
    with folder.lease(config):
        assert "generation" not in json.loads((folder.path / "lease").read_text())
    with folder.lease(config, (1, 0)):
        pass


@pytest.mark.parametrize("free", [True, False])
def test_one_that_hesitates_does_not_put_a_newer_one_out(
    free: bool, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its look and its taking over the third generation comes, with the first one gone or still there."""
    folder, guarded = RunFolder(tmp_path / "run"), leases.guarded
    with contextlib.ExitStack() as owners:
        first = owners.enter_context(contextlib.ExitStack())
        first.enter_context(folder.lease(config, (1, 0)))
        newest: list[Lease] = []

        @contextlib.contextmanager
        def hesitating(path: Path) -> Iterator[None]:
            monkeypatch.setattr(leases, "guarded", guarded)
            newest.append(owners.enter_context(folder.lease(config, (3, 0))))
            with guarded(path):
                yield

        if free:
            first.close()
        monkeypatch.setattr(leases, "guarded", hesitating)
        with pytest.raises(LeaseError), folder.lease(config, (2, 0)):
            pass
        newest[0].write("note", "the third's")
    assert (folder.path / "note").read_text() == "the third's"


@pytest.mark.parametrize("content", [b"", b"{}", b"{", b"[5]", b'{"lease_id": "x\xff', b"null", b'{"generation": 5}'])
def test_a_lease_that_names_nobody_is_lost(content: bytes, config: Config, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with folder.lease(config) as lease:
        (folder.path / "lease").write_bytes(content)
        with pytest.raises(LeaseError, match="lost its lease"):
            lease.write("note", "ours")
