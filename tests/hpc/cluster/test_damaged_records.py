"""Damaged files of a sweep: every command that reads them names the file and prints no traceback."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fgssl.__main__ import main
from fgssl.store.files import record_json
from fgssl.store.records import Progress
from hpc.cluster.job_store import JobStore, Launch
from tests.hpc.fake_slurm.cluster import FakeSlurm

READING = ("status", "sync", "retry")
DAMAGES = (b"", b'{"runs": [1', b"\xff\xfe\x00", b"[1]")
Find = Callable[[Path], Path]


@pytest.fixture
def out(sweep_file: Path, tmp_path: Path, fake_slurm: FakeSlurm) -> Path:
    """Return a sweep's folder with one record of each kind, some of them for its second run."""
    out = tmp_path / "out"
    given = ["settings.resources.device=cpu", "--cluster", "generic", "cluster.submit_from_jobs=allowed"]
    assert main(["sweep", str(sweep_file), *given, "--out", str(out)]) == 0
    store = JobStore(out)
    order = store.orders()[0]
    run = order.elements[1].runs[0]
    store.note_canceled(order, [0])
    store.note_refused({run: "no"})
    store.write_launch(Launch(order.token, 1, 0, 0, started=1.0, time_up=2.0, nodes="n1", first_step=0))
    (store.folder / "retried" / run).write_text(json.dumps(1.0))
    folder = out / "runs" / run
    (folder / "checkpoints" / "step-junk").mkdir(parents=True)
    progress = Progress(step=1, total_steps=2, loss=0.5, images_per_s=10.0, updated=1.0)
    (folder / "progress.json").write_text(record_json(progress))
    return out


@pytest.mark.parametrize(
    ("pattern", "reading"),
    [
        *((f"cluster/{pattern}", READING) for pattern in ("sweep.json", "orders/*.json", "orders/*.id", "launches/*")),
        *((f"cluster/{pattern}", READING) for pattern in ("orders/*.canceled", "retried/*", "refused.json")),
        ("cluster/keeper.id", ("sync",)),
        ("runs/*/progress.json", ()),  # nothing hangs on it
    ],
)
def test_a_damaged_record_is_named(
    out: Path, pattern: str, reading: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    capfd.readouterr()
    [file, *_] = sorted(out.glob(pattern))
    first, *others = reading or READING
    for command, damage in [*((first, damage) for damage in DAMAGES), *((other, b"") for other in others)]:
        file.write_bytes(damage)
        status = main([command, str(out)])
        told = "".join(capfd.readouterr())
        assert (status == 2) == (str(file) in told) == bool(reading), (command, damage, told)
