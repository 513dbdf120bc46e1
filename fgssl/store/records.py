"""The records in a run folder: their fields, and the names of their files.

Each is read by `files.read_record` and written by `Lease.write_record` (a checkpoint's mark by its writer).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from fgssl.settings import config as configs
from fgssl.settings import fingerprints

TRAINED = "trained.json"
PROGRESS = "progress.json"
METRICS = "metrics.jsonl"
COMPLETE = "COMPLETE"
"""Mark of a whole checkpoint, in its folder."""


def evaluation_file(config: configs.Config) -> str:
    """Return the name of the file that holds the measures under this config's evaluation settings."""
    return f"evaluation-{fingerprints.evaluation_fingerprint(config)}.json"


Measures: TypeAlias = dict[str, int | float]
"""Value of each measure by its name; counts are integers."""


@dataclass(frozen=True, kw_only=True)
class Environment:
    """Code, processes, device and libraries of one launch of a training: the bits depend on them."""

    code_version: str
    processes: int
    engine: str
    threads: int
    """CPU threads of torch in each process."""
    device: str
    """Name of the GPU, or `cpu`."""
    versions: Mapping[str, str]
    """Version by library; also of Python, and the processor's name."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A complete training."""

    steps: int
    wall_s: float
    metrics: Mapping[str, float]
    """Metrics logged last."""
    environments: tuple[Environment, ...]
    """The environments that the training went through, the newest last."""
    data_version: str
    start: Mapping[str, str | None]
    """SHA-256 of the weights file that each network started from; None for random weights."""
    state_sha256: str | None = None
    """Hash of the final method and optimizer; None if nothing was trained."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The measures of a trained run, and what computed them."""

    measures: Measures
    wall_s: float
    code_version: str
    data_version: str
    device: str
    features_bytes: int = 0
    """Size of the kept features of the run; 0 if none are kept."""
    features_code_versions: tuple[str, ...] = ()
    """Versions of the code that encoded the features which were read from there."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a training has come."""

    step: int
    total_steps: int
    loss: float
    images_per_s: float
    updated: float
    """Seconds since 1970."""


@dataclass(frozen=True)
class Identity:
    """Config, data and start weights that a checkpoint belongs to: it continues no other training."""

    fingerprint: str
    """Training fingerprint of the config."""
    data_version: str
    start_sha256: Mapping[str, str | None]
    """SHA-256 of the weights file that each network started from; None for random weights."""


@dataclass(frozen=True, kw_only=True)
class CheckpointMark:
    """The content of COMPLETE: written last, it makes a checkpoint whole."""

    step: int
    identity: Identity
    environments: tuple[Environment, ...]
    state_sha256: str
    """Hash of the method and the optimizer."""
    sha256: Mapping[str, str]
    """Hash of each file by its name."""
