"""Run folder: the files of one config.

config.yaml               resolved settings
lease, guard              see fgssl.store.lease
progress.json             step, loss and images/s of the running training, deleted when the run is done
metrics.jsonl             one line per logged step
tensorboard/, wandb/      the same curves for viewers (resources.trackers)
checkpoints/              see fgssl.training.checkpoint
encoder.safetensors       trained encoder; encoder.json beside it holds the settings for loading it
decoder.safetensors       trained decoder, if the method has one
trained.json              record of the complete training, written last
evaluation-<hash>.json    measures, one file per evaluation settings
outcomes-<hash>.npz       outcomes of single test images, beside each of these files
features.safetensors      features of the measured images (evaluation.keep_features)
map-<hash>.npy            map of the test images' features in two dimensions, which a figure writes
failure.txt               message or traceback of the newest failure, if the run failed
failure-rank-<n>.txt      failure of a process other than the first, if that one failed
"""

import contextlib
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, Self, TypeAlias

from fgssl.errors import UserError
from fgssl.settings import config as configs
from fgssl.settings import fingerprints
from fgssl.store import lease as leases
from fgssl.store.files import read_or_warn, read_record, write_atomically
from fgssl.store.lease import Generation, Lease
from fgssl.store.outcomes import Outcomes, read_outcomes
from fgssl.store.records import (
    METRICS,
    PROGRESS,
    TRAINED,
    Evaluation,
    Progress,
    Trained,
    evaluation_file,
    outcomes_file,
)

OTHERS_FAILURES = "failure-rank-*.txt"
_NOT_DONE = "the run counts as not done, and its next execution writes the file anew"

RunState: TypeAlias = Literal["DONE", "RUNNING", "FAILED", "MISSING"]


class RunFolder:
    """Paths and records of one run. Reading needs no lease, writing does."""

    def __init__(self, path: Path, starts: Path | None = None) -> None:
        """`starts` holds the run folders that this run starts from; they lie beside it if left out."""
        self.path, self.starts = path, starts or path.parent
        self.config_file = path / "config.yaml"
        self.checkpoints = path / "checkpoints"
        self.metrics = path / METRICS
        self.encoder = path / "encoder.safetensors"
        self.decoder = path / "decoder.safetensors"
        self.features = path / "features.safetensors"

    @classmethod
    def in_output(cls, out: Path, name: str) -> Self:
        """Return the run folder `name` of the output folder `out`."""
        return cls(out / "runs" / name)

    # ------------------------------------------------------------------------------- what is there

    def trained(self) -> Trained | None:
        """Return the record of a complete training, or None; a warning on stderr names a damaged one."""
        return read_or_warn(self.path / TRAINED, Trained, advice=_NOT_DONE)

    def evaluation(self, config: configs.Config) -> Evaluation | None:
        """Return the measures under this config's evaluation settings, or None; a warning names damaged ones."""
        return read_or_warn(self.path / evaluation_file(config), Evaluation, advice=_NOT_DONE)

    def outcomes(self, config: configs.Config) -> Outcomes | None:
        """Return the outcomes of the test images under this config's evaluation settings.

        They are None if the run is not measured, or was measured by a version that kept none.
        """
        return read_outcomes(self.path / outcomes_file(config))

    def is_whole(self, result: str) -> bool:
        """Return whether a file of `results` is there and undamaged; a warning on stderr names a damaged one."""
        kind = Trained if result == TRAINED else Evaluation
        try:
            return read_or_warn(self.path / result, kind, advice=_NOT_DONE) is not None
        except UserError:  # it may not be read here, but it is there
            return True

    def progress(self) -> Progress | None:
        """Return the progress of the newest training here, or None."""
        with contextlib.suppress(UserError):  # damaged: nothing depends on it, and the next write replaces it
            return read_record(self.path / PROGRESS, Progress)
        return None

    def done(self, config: configs.Config) -> bool:
        """Return whether training and evaluation are complete for this config."""
        return self.trained() is not None and (config.evaluation is None or self.evaluation(config) is not None)

    def results(self, all_configs: Sequence[configs.Config]) -> tuple[str, ...]:
        """Return the names of the files that exist once training and evaluation are complete for these configs."""
        measured = [evaluation_file(config) for config in all_configs if config.evaluation is not None]
        return (TRAINED, *dict.fromkeys(measured))

    def state(self, config: configs.Config) -> RunState:
        """Return the state of the run for this config.

        It is `DONE` if nothing is left to compute, even while another process works here, and else `RUNNING` if one
        does. Without a live process it is `FAILED` if the folder holds a failure, and `MISSING` otherwise.
        """
        return "DONE" if self.done(config) else self.state_if_not_done()

    def state_if_not_done(self) -> RunState:
        """Return the state of a run that lacks a result."""
        if self.holder() is not None:
            return "RUNNING"
        return "MISSING" if self.failure() is None else "FAILED"

    def failure(self) -> str | None:
        """Return the message of the newest failure, or its traceback if users cannot correct it; None without one."""
        try:
            return (self.path / "failure.txt").read_text(errors="replace", encoding="utf-8")
        except FileNotFoundError:
            return self.failures_of_others(patience_s=0.0) or None  # the first process was killed before it could write

    def note_failure(self, rank: int, text: str) -> None:
        """Write the failure of a process other than the first; it is the only file that such a process writes."""
        with contextlib.suppress(UserError):
            write_atomically(self.path / f"failure-rank-{rank}.txt", text)

    def failures_of_others(self, patience_s: float) -> str:
        """Return the failures of other processes, oldest first, after waiting up to `patience_s` seconds for one."""
        deadline = time.monotonic() + patience_s
        while not (files := list(self.path.glob(OTHERS_FAILURES))) and time.monotonic() < deadline:
            time.sleep(0.1)
        files.sort(key=lambda file: file.stat().st_mtime)
        return "".join(
            f"{file.stem.removeprefix('failure-')}:\n{file.read_text(errors='replace', encoding='utf-8')}\n"
            for file in files
        )

    def config(self) -> configs.Config:
        """Return the settings with which the run was made."""
        return configs.load(self.config_file)

    # --------------------------------------------------------------------------------- who writes

    @contextlib.contextmanager
    def lease(self, config: configs.Config, generation: Generation | None = None) -> Iterator[Lease]:
        """Hold the lease of the folder, which is created if missing, within the context.

        Raise a `LeaseError` under the conditions of `fgssl.store.lease.hold`, and a `UserError` if the folder belongs
        to another config.
        """
        with leases.hold(self.path, generation) as lease:
            self._claim(config, lease)
            self._clear_leftovers()
            yield lease

    def holder(self) -> str | None:
        """Return the record of the process that holds the lease, or None if it is free."""
        return leases.holder(self.path)

    def _claim(self, config: configs.Config, lease: Lease) -> None:
        if not self.config_file.exists():
            lease.write("config.yaml", fingerprints.to_yaml(config))
        there, asked = map(fingerprints.training_fingerprint, (self.config(), config))
        if there != asked:
            raise UserError(
                f"{self.config_file}: this folder belongs to another config (fingerprint {there}, not {asked}): "
                "choose another --out or move the folder away"
            )

    def _clear_leftovers(self) -> None:
        """Delete partial files of killed processes. An orphan may still write, so some may remain or vanish."""
        for file in (*self.path.glob(".*"), *self.path.glob(OTHERS_FAILURES)):
            if not file.name.startswith((".nfs", ".lease.")):  # deleted but open files; a lease being taken over
                with contextlib.suppress(OSError):
                    file.unlink()
        for folder in self.checkpoints.glob(".step-*"):
            shutil.rmtree(folder, ignore_errors=True)


def start_file(source: configs.StartSource, role: str, starts: Path) -> Path:
    """Return the file of weights that a run starts from: a given one, or that of a run folder in `starts`.

    `role` is the network's name.
    """
    if source.file is not None:
        return Path(source.file).expanduser()
    return starts / str(source.run) / f"{role}.safetensors"
