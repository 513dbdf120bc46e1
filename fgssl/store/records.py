"""Records in a run folder, and the names of their files.

`files.read_record` reads them and `Lease.write_record` writes them, except for the mark of a checkpoint, which its
writer writes.
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
"""Name of the file that marks a checkpoint as whole, in its folder."""


def evaluation_file(config: configs.Config) -> str:
    """Return the name of the file that holds the measures under this config's evaluation settings."""
    return f"evaluation-{fingerprints.evaluation_fingerprint(config)}.json"


def outcomes_file(config: configs.Config) -> str:
    """Return the name of the file that holds the outcomes of single test images beside `evaluation_file`."""
    return f"outcomes-{fingerprints.evaluation_fingerprint(config)}.npz"


Measures: TypeAlias = dict[str, int | float]
"""Value of each measure by its name; counts are integers."""


@dataclass(frozen=True, kw_only=True)
class Environment:
    """Code, processes, device and libraries of one launch of a training, on which the bits of its result depend."""

    code_version: str
    processes: int
    engine: str
    threads: int
    """Torch CPU threads in each process."""
    device: str
    """Name of the GPU, or `cpu`."""
    versions: Mapping[str, str]
    """Version by library, the version of Python, the name of the processor, and whether denormals are flushed."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """Record of a complete training."""

    steps: int
    wall_s: float
    """Time of all launches together, in seconds."""
    metrics: Mapping[str, float]
    """Metrics of the last logged step."""
    environments: tuple[Environment, ...]
    """Environments of all launches of the training, the newest last."""
    data_version: str
    start: Mapping[str, str | None]
    """SHA-256 of the weights file that each network started from; None for random weights."""
    state_sha256: str | None = None
    """Hash of the final state of method and optimizer, or None if nothing was trained."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Measures of a trained run, and the code, data and device that gave them."""

    measures: Measures
    wall_s: float
    """Time of the evaluation, in seconds."""
    code_version: str
    data_version: str
    device: str
    features_bytes: int = 0
    """Size of the file of kept features, or 0 if there is none."""
    features_code_versions: tuple[str, ...] = ()
    """Versions of the code that encoded kept features, if any were read instead of encoding the images."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Progress of a running training."""

    step: int
    total_steps: int
    loss: float
    images_per_s: float
    updated: float
    """Time of writing, in seconds since 1970."""


@dataclass(frozen=True)
class Identity:
    """Config, data and start weights of a checkpoint, which continues no other training."""

    fingerprint: str
    """Training fingerprint of the config."""
    data_version: str
    start_sha256: Mapping[str, str | None]
    """SHA-256 of the weights file that each network started from; None for random weights."""


@dataclass(frozen=True, kw_only=True)
class CheckpointMark:
    """Content of COMPLETE, which is written last and makes a checkpoint whole."""

    step: int
    identity: Identity
    environments: tuple[Environment, ...]
    state_sha256: str
    """Hash of the state of method and optimizer."""
    sha256: Mapping[str, str]
    """SHA-256 of each file, by its name."""
