"""Results of runs, as their jobs would have written them."""

from collections.abc import Iterable
from pathlib import Path

from fgssl.store.files import record_json
from fgssl.store.records import TRAINED, Environment, Evaluation, Measures, Trained

MADE_BY = Environment(code_version="c1", processes=1, engine="ddp", threads=1, device="cpu", versions={"python": "3"})
TRAINED_ONCE = Trained(steps=1, wall_s=1.0, metrics={}, environments=(MADE_BY,), data_version="v1", start={})


def write_results(folder: Path, names: Iterable[str], measures: Measures | None = None) -> None:
    """Write the files of results into a run folder, which is created if missing."""
    measured = Evaluation(measures=measures or {}, wall_s=0.5, code_version="c1", data_version="v1", device="cpu")
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text(record_json(TRAINED_ONCE if name == TRAINED else measured))
