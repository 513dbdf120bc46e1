"""Records of a finished sweep that figures draw from, each read once, when a figure first needs it."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fgssl.errors import DataError, UserError
from fgssl.settings.config import Config
from fgssl.store.features import KeptFeatures, read_features
from fgssl.store.plan import PlanRecord, read_plan
from fgssl.store.run_folder import RunFolder

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from fgssl.data.shards import ShardedSplit
    from fgssl.report.images import MetricOutcomes
    from fgssl.report.rows import Row
    from fgssl.store.manifest import Level

SPLITS = ("train", "test")


class NotDrawnError(UserError):
    """Reason, in one line, why a figure does not apply to a sweep."""


@dataclass(frozen=True)
class Embedding:
    """Kept features of a finished run beside the images they belong to."""

    cell: str
    seed: int
    config: Config
    folder: RunFolder
    images: "Mapping[str, ShardedSplit]"
    """Images by split, in the order of the features: labels, groups, attributes and pixels."""
    networks: frozenset[str]
    """Networks whose weights the run folder holds, such as `decoder`."""

    @property
    def levels(self) -> "list[Level]":
        """Names and classes of the label levels, finest first."""
        return self.images["test"].levels

    @property
    def coarse(self) -> int:
        """Label level above the finest, such as genus, or the finest if there is no other.

        Raises:
            NotDrawnError: The test images have no labels.
        """
        if not self.levels:
            raise NotDrawnError("the test images have no labels")
        return min(1, len(self.levels) - 1)

    @property
    def known(self) -> str:
        """Split of the class centroids of outliers: that of the measure `outliers`, or train if it is not measured."""
        measured = self.config.evaluation and self.config.evaluation.outliers
        return measured.centroids if measured else "train"

    def features(self, split: str) -> "NDArray[Any]":
        """Return the features (N, D) of a split, read anew, or raise a `NotDrawnError` if they cannot be used."""
        import numpy as np

        kept, file = read_features(self.folder.features), f"runs/{self.folder.path.name}/{self.folder.features.name}"
        found = None if kept is None else kept.splits.get(split)
        if found is None or len(found) != len(self.images[split]):
            raise NotDrawnError(f"{file} does not hold the features of the split {split}")
        if not np.isfinite(found).all():
            raise NotDrawnError(f"{file} holds NaN or infinity in the split {split}")
        return found


class Records(dict[str, Any]):
    """Records of the sweep in the output folder `out`, by name; each is read on its first use."""

    def __init__(self, out: Path) -> None:
        super().__init__(plan=read_plan(out))
        self.out = out
        self.damaged: list[str] = []
        """Files of runs that cannot be read, such as features, once the record that needs them is read."""

    def __missing__(self, name: str) -> Any:
        found = self[name] = RECORDS[name](self)
        return found


def compared_metric(plan: PlanRecord) -> str:
    """Return the primary metric, or else the first one; raise a `NotDrawnError` if the table shows none."""
    metric = plan.primary or next(iter(plan.metrics), None)
    if metric is None:
        raise NotDrawnError("the table shows no metric")
    return metric


def first_of_each_cell(embeddings: "list[Embedding]") -> list[Embedding]:
    """Return the embedding of each cell's first seed, in the order of the cells; raise a `NotDrawnError` if none is."""
    if not embeddings:
        raise NotDrawnError(
            "no run that is done keeps features of images that are there: see evaluation.keep_features and data.folder"
        )
    return list({one.cell: one for one in reversed(embeddings)}.values())[::-1]


def with_weights(embeddings: "list[Embedding]", network: str) -> list[Embedding]:
    """Return the first embedding of each cell whose run folder holds the weights of a network."""
    found = [one for one in embeddings if network in one.networks]
    if embeddings and not found:
        raise NotDrawnError(f"no run that is done holds the weights of its {network} ({network}.safetensors)")
    return first_of_each_cell(found)


def with_noise(embeddings: "list[Embedding]") -> list[Embedding]:
    """Return the embeddings of runs that added noise to features; raise a `NotDrawnError` if there are only others."""
    found = [one for one in embeddings if one.config.method.added_noise is not None]
    if embeddings and not found:
        raise NotDrawnError("no run that is done adds noise to features (method synthesized)")
    return found


def evenly_spaced(images: int, most: int) -> "NDArray[np.int64]":
    """Return at most `most` rows in equal steps. They are a fair choice, since packing has permuted the images."""
    import numpy as np

    return np.linspace(0, images - 1, min(images, most)).round().astype(np.int64)


def _rows(records: Records) -> "list[Row]":
    from fgssl.report.rows import collect_rows

    return collect_rows(records["plan"], records.out)


def _table(records: Records) -> "pd.DataFrame":
    from fgssl.report.tables import tabulate

    return tabulate(records["rows"], records["plan"])


def _features(records: Records) -> dict[tuple[str, int], KeptFeatures]:
    kept = {(cell, seed): read_features(folder.features) for cell, seed, _, folder in _runs(records)}
    return {place: features for place, features in kept.items() if features is not None}


def _metrics(records: Records) -> dict[tuple[str, int], list[dict[str, float]]]:
    done = {(cell, seed): folder.metrics for cell, seed, _, folder in _runs(records) if folder.trained() is not None}
    return {place: _logged(file) for place, file in done.items() if file.is_file()}


def _logged(file: Path) -> list[dict[str, float]]:
    try:
        return list(map(json.loads, file.read_text(encoding="utf-8").splitlines()))
    except ValueError as error:
        advice = "restore the file, or delete its run folder and train the run again"
        raise UserError(f"{file}: cannot be read as logged metrics ({error}): {advice}") from None


def _embeddings(records: Records) -> list[Embedding]:
    opened: dict[Path | None, Mapping[str, ShardedSplit]] = {}
    found = []
    for cell, seed, config, folder in _runs(records):
        if config.evaluation is None or config.evaluation.pooling != "gap":
            continue  # features of other poolings are not kept
        measured = folder.evaluation(config)
        if measured is None or not folder.features.is_file():
            continue
        shards = shards_of(config, records.out)
        if shards not in opened:
            opened[shards] = _images(shards)
        images = opened[shards]
        if images and images["test"].version == measured.data_version:
            files = [file for file in (folder.features, folder.encoder, folder.decoder) if file.is_file()]
            whole = {file.stem for file in files if _is_whole(file)}
            place = f"runs/{folder.path.name}"
            records.damaged += [
                f"{place}/{file.name} ({cell}, seed {seed})" for file in files if file.stem not in whole
            ]
            if folder.features.stem in whole:
                found.append(Embedding(cell, seed, config, folder, images, frozenset(whole)))
    return found


def _is_whole(file: Path) -> bool:
    """Return whether a safetensors file has a header, and the size that its header gives."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy"):
            return True
    except (SafetensorError, OSError):
        return False


def _outcomes(records: Records) -> "MetricOutcomes":
    """Return the outcomes of the primary metric, or of the first that has any, of runs with the same test images."""
    from fgssl.report.images import MetricOutcomes

    plan: PlanRecord = records["plan"]
    found = []
    for cell, seed, config, folder in _runs(records):
        measured = None if config.evaluation is None or folder.trained() is None else folder.evaluation(config)
        if measured is not None and (outcomes := folder.outcomes(config)) is not None:
            found.append((cell, seed, config, measured.data_version, outcomes))
    metrics = plan.metrics if plan.primary is None else [plan.primary]
    metric = next((name for name in metrics if any(one[-1].of(name) is not None for one in found)), None)
    if metric is None:
        raise NotDrawnError(
            f"no run that is done keeps outcomes of test images for {', '.join(metrics)}: runs that an earlier version "
            "measured have none (delete their evaluation-*.json and run the sweep again to measure them anew)"
        )
    cells: dict[str, dict[int, NDArray[np.float64]]] = {}
    version = next(version for _, _, _, version, outcomes in found if outcomes.of(metric) is not None)
    shown: ShardedSplit | None = None
    others: list[str] = []
    for cell, seed, config, of_run, outcomes in found:
        values = outcomes.of(metric)
        if values is not None and of_run == version:
            cells.setdefault(cell, {})[seed] = values
            shown = shown or _test_images(config, records.out, version)
        elif values is not None:
            others.append(f"{cell} seed {seed}")
    return MetricOutcomes(metric, plan.columns[metric].unit == "count", plan.baseline, cells, shown, tuple(others))


def _test_images(config: Config, out: Path, version: str) -> "ShardedSplit | None":
    """Return the test images of a run, or None if its shards are not there or have another version."""
    images = _images(shards_of(config, out)).get("test")
    return images if images is not None and images.version == version else None


def shards_of(config: Config, out: Path) -> Path | None:
    """Return the folder of a run's shards, or None if they are not where the run found them."""
    from fgssl.data.location import shards_folder

    try:
        return shards_folder(config.data, out / "data")
    except DataError:
        return None


def _images(shards: Path | None) -> "Mapping[str, ShardedSplit]":
    """Return the images by split, or nothing if the shards cannot be read."""
    from fgssl.data.shards import ShardedSplit

    try:
        return {} if shards is None else {split: ShardedSplit(shards, split) for split in SPLITS}
    except DataError:
        return {}


def _runs(records: Records) -> Iterator[tuple[str, int, Config, RunFolder]]:
    plan: PlanRecord = records["plan"]
    for cell in plan.of_arms:
        for run in cell.runs:
            yield cell.cell, run.seed, run.config, RunFolder.in_output(records.out, run.run)


RECORDS: dict[str, Callable[[Records], Any]] = {
    "rows": _rows,
    "table": _table,
    "features": _features,
    "metrics": _metrics,
    "embeddings": _embeddings,
    "outcomes": _outcomes,
}
"""Records that a figure can need beside the plan: the rows and the table; the kept features and the logged metrics of
complete trainings, by (cell, seed); the finished runs whose features and images are there; the outcomes of test images
in one metric. Only the rows and the table hold sanity rows."""
