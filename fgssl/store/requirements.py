"""Requirements of a config that a dataset does not meet, or meets badly, reported before anything runs.

Only the manifest is read, so that planning a sweep needs neither torch nor h5py.
"""

import importlib.util
from collections.abc import Mapping

from fgssl.settings.batch_sizes import Supply, fitting_sizes
from fgssl.settings.config import Config
from fgssl.settings.evaluation import EvaluationSettings
from fgssl.store.manifest import Level, Manifest

LEFT_IS_NOT_RIGHT = ("gtsrb",)
"""Sources in which the mirror image of one class is another class."""
LISTED_CLASSES = 5
"""Most classes that one message lists."""


def unmet(config: Config, manifest: Manifest) -> list[str]:
    """Return a line for each thing that the dataset lacks for a run of `config`; it begins with the key."""
    if "train" not in manifest.splits:
        there = ", ".join(manifest.splits) or "none"
        return [f"data.dataset: {manifest.title} has no split `train` (it has {there}): pack it with one"]
    faults = list(config.method.lacks(manifest))
    if config.method.trains:
        faults += [*_of_training(config, manifest), *_of_masks(config, manifest)]
    if config.evaluation is not None:
        faults += _of_evaluation(config.evaluation, manifest)
    return faults


def absent_trackers(config: Config) -> list[str]:
    """Return a line for each tracker of a training whose package is not installed here; it begins with the key."""
    return [
        f"resources.trackers: {name} is not installed: pip install {name}, or leave it out"
        for name in (config.resources.trackers if config.method.trains else ())
        if importlib.util.find_spec(name) is None
    ]


def cautions(config: Config, manifest: Manifest) -> list[str]:
    """Return a warning for each thing that makes training on the dataset doubtful, though possible."""
    if "train" not in manifest.splits:
        return []
    return [*config.method.cautions(manifest), *_of_mirrored_views(config, manifest), *_of_monitor(config)]


def _of_mirrored_views(config: Config, manifest: Manifest) -> list[str]:
    """Return a warning if views of traffic signs are mirrored."""
    trained = config.method.trains and config.method.num_views != 0
    if manifest.source not in LEFT_IS_NOT_RIGHT or not config.views.horizontal_flip or not trained:
        return []
    return [
        f"views.horizontal_flip: views of {manifest.title} are mirrored, but a mirrored traffic sign is another sign "
        "(keep left, keep right): set views.horizontal_flip=false"
    ]


def _of_monitor(config: Config) -> list[str]:
    """Return a warning if the training ends before its features are looked at."""
    every, epochs = config.resources.monitor_every_epochs, config.training.epochs
    if every is None or every <= epochs or not config.method.trains:
        return []
    return [f"resources.monitor_every_epochs: {every} exceeds training.epochs {epochs}: nothing will be monitored"]


# ------------------------------------------------------------------------------------------ training


def _of_training(config: Config, manifest: Manifest) -> list[str]:
    training = config.training
    batch, images, balanced = training.global_batch_size, manifest.count("train"), training.images_per_class
    if balanced is not None and not manifest.levels:
        lacking = [
            f"training.images_per_class: {balanced} needs labels, but {manifest.title} is unlabeled: leave it empty, "
            "or pack its images in a folder for each class"
        ]
        return [*_of_batch(batch, images, manifest, fitting_sizes(config, Supply(images))), *lacking]
    finest = manifest.levels[0] if manifest.levels else Level("class", ())
    counts = zip(finest.classes, manifest.class_counts["train"][0] if manifest.levels else (), strict=True)
    present = {name: count for name, count in counts if count}  # other classes are never drawn
    advice = fitting_sizes(config, Supply(images, len(present), min(present.values(), default=0)))
    faults = _of_batch(batch, images, manifest, advice)
    if balanced is None:
        return faults
    if few := {name: count for name, count in present.items() if count < balanced}:
        faults.append(
            f"training.images_per_class: {balanced}, but {len(few)} of the {len(present)} classes ({finest.name}) of "
            f"{manifest.title} have fewer training images ({_some(few)}): pack more images of them, or {advice}"
        )
    if batch // balanced > len(present):
        faults.append(
            f"training.images_per_class: {balanced} at training.global_batch_size {batch} needs "
            f"{batch // balanced} classes in a batch, but {manifest.title} has training images of {len(present)} "
            f"({finest.name}): {advice}"
        )
    if batch // balanced < 2 and config.method.needs_labels:
        faults.append(
            f"training.images_per_class: {balanced} at training.global_batch_size {batch} draws one class per batch, "
            f"but method {config.method.name} separates classes: {advice}"
        )
    return faults


def _of_masks(config: Config, manifest: Manifest) -> list[str]:
    if config.views.background is None or manifest.masks:
        return []
    how = "draw_masks=true" if manifest.source == "toy" else "masks=FOLDER"
    return [
        f"views.background: masks of the objects are needed, but {manifest.title} was packed without: pack it again "
        f"with {how}, leave views.background empty, or leave out the arm of the sweep that sets it (arms.NAME=null)"
    ]


def _of_batch(batch: int, images: int, manifest: Manifest, advice: str) -> list[str]:
    if batch <= images:
        return []
    return [
        f"training.global_batch_size: {batch} exceeds the {images} training images of {manifest.title}, which do not "
        f"fill one batch: {advice}"
    ]


def _some(counts: Mapping[str, int]) -> str:
    shown = [f"{name}: {count}" for name, count in list(counts.items())[:LISTED_CLASSES]]
    return ", ".join([*shown, "..."] if len(counts) > LISTED_CLASSES else shown)


# ---------------------------------------------------------------------------------------- evaluation


def _of_evaluation(wanted: EvaluationSettings, manifest: Manifest) -> list[str]:
    faults = []
    if "test" not in manifest.splits:
        faults.append(
            f"evaluation: {manifest.title} has no split `test` to measure on: pack labeled images with one, or set "
            "`evaluation: null` (a stage of a sweep is not measured)"
        )
    levels = {key: measure.label_levels(wanted.label_level) for key, measure in wanted.measures.items()}
    if not manifest.levels:
        if asked := [f"evaluation.{key}" for key, read in levels.items() if read]:
            faults.append(
                f"{', '.join(asked)}: labels are needed, but {manifest.title} is unlabeled: pack its images in a "
                "folder for each class, or set these measures to false"
            )
    else:
        by_key = {key: level for read in levels.values() for key, level in read.items()}
        faults += [manifest.no_level(key, level) for key, level in by_key.items() if level >= len(manifest.levels)]
    for key, measure in wanted.measures.items():
        if all(level < len(manifest.levels) for level in levels[key].values()):
            faults += measure.lacks(manifest, wanted.label_level)
    return faults
