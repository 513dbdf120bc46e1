"""What a config asks of its data, and a dataset does not have, or has less of than is good: told before anything runs.

Light to import: planning a sweep needs neither torch nor h5py. Only the manifest is looked at.
"""

from collections.abc import Mapping

from fgssl.settings.config import Config
from fgssl.settings.evaluation import EvaluationSettings
from fgssl.settings.methods import SUPERVISED, HCLSettings, MoCoV2Settings, StartEncoderSettings, SynthesizedSettings
from fgssl.store.manifest import Manifest

LISTED_CLASSES = 5


def unmet(config: Config, manifest: Manifest) -> list[str]:
    """Everything that the dataset of `manifest` lacks for a run of `config`: a line each, beginning with the key."""
    if "train" not in manifest.splits:
        there = ", ".join(manifest.splits) or "none"
        return [f"data.dataset: {manifest.title} has no split `train` (it has {there}): pack it with one"]
    faults = []
    if not isinstance(config.method, StartEncoderSettings):  # which trains nothing
        faults += [*_of_method(config, manifest), *_of_training(config, manifest)]
    if config.evaluation is not None:
        faults += _of_evaluation(config.evaluation, manifest)
    return faults


def cautions(config: Config, manifest: Manifest) -> list[str]:
    """What a user should know of training on the dataset of `manifest`, though it can be done: a line each."""
    method = config.method.base if isinstance(config.method, SynthesizedSettings) else config.method
    if not isinstance(method, MoCoV2Settings) or "train" not in manifest.splits:
        return []
    rows, images = method.queue_size, manifest.count("train")
    if rows <= images:
        return []
    return [
        f"queue_size {rows} exceeds the {images} training images of {manifest.title}: the queue holds about "
        f"{rows / images:.1f} stale keys of every image, its own among its negatives"
    ]


# ------------------------------------------------------------------------------------------ training


def _of_method(config: Config, manifest: Manifest) -> list[str]:
    method, levels = config.method, len(manifest.levels)
    if not isinstance(method, SUPERVISED):
        return []
    if not levels:
        return [
            f"method.name: {method.name} needs labels, but {manifest.title} is unlabeled: pack its images in a "
            "folder for each class, or take a method without labels, such as simclr"
        ]
    if isinstance(method, HCLSettings) and len(given := list(method.level_weights)) > levels:
        return [
            f"method.level_weights: {given} are {len(given)} weights, but {_levels(manifest)}: give one weight a "
            f"level, finest first, {levels} at most"
        ]
    level = getattr(method, "level", 0)  # of a method without one the finest
    if level >= levels:
        return [_no_level("method.level", level, manifest)]
    classes = sum(count > 0 for count in manifest.class_counts["train"][level])
    if classes < 2:
        return [
            f"method.name: {method.name} tells classes apart, but all {manifest.count('train')} training images of "
            f"{manifest.title} are of one {manifest.levels[level].name} (level {level}): pack images of two or more, "
            "or take another level or a method without labels, such as simclr"
        ]
    return []


def _of_training(config: Config, manifest: Manifest) -> list[str]:
    training = config.training
    batch, images, balanced = training.global_batch_size, manifest.count("train"), training.images_per_class
    faults = []
    if batch > images:
        faults.append(
            f"training.global_batch_size: {batch} exceeds the {images} training images of {manifest.title}, not one "
            f"whole batch: take {images} at most"
        )
    if balanced is None:
        return faults
    if not manifest.levels:
        return [
            *faults,
            f"training.images_per_class: {balanced} needs labels, but {manifest.title} is unlabeled: leave it empty, "
            "or pack its images in a folder for each class",
        ]
    finest = manifest.levels[0]
    counts = zip(finest.classes, manifest.class_counts["train"][0], strict=True)
    present = {name: count for name, count in counts if count}  # no other class is ever drawn
    if few := {name: count for name, count in present.items() if count < balanced}:
        least = min(present.values())
        lower = f"take {least} at most, or leave it empty" if least > 1 else "leave it empty"
        faults.append(
            f"training.images_per_class: {balanced}, but {len(few)} of the {len(present)} classes ({finest.name}) of "
            f"{manifest.title} have fewer training images ({_some(few)}): {lower}, or pack more images of them"
        )
    if batch // balanced > len(present):
        faults.append(
            f"training.images_per_class: {balanced} at training.global_batch_size {batch} asks for "
            f"{batch // balanced} classes a batch, but {manifest.title} has training images of {len(present)} "
            f"({finest.name}): take a batch of {balanced * len(present)} at most, or more images per class"
        )
    if batch // balanced < 2 and isinstance(config.method, SUPERVISED):
        lower = f"take {batch // 2} at most, or " if batch > 1 else ""
        faults.append(
            f"training.images_per_class: {balanced} at training.global_batch_size {batch} draws one class a batch, but "
            f"method {config.method.name} tells classes apart: {lower}a batch of {2 * balanced} or more"
        )
    return faults


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
                "folder for each class, or leave these measures out (null; retrieval and classifier: false)"
            )
    else:
        by_key = {key: level for read in levels.values() for key, level in read.items()}
        faults += [_no_level(key, level, manifest) for key, level in by_key.items() if level >= len(manifest.levels)]
    for key, measure in wanted.measures.items():
        if all(level < len(manifest.levels) for level in levels[key].values()):
            faults += measure.lacks(manifest, wanted.label_level)
    return faults


# --------------------------------------------------------------------------------------------- words


def _levels(manifest: Manifest) -> str:
    listed = ", ".join(f"{level} ({named.name})" for level, named in enumerate(manifest.levels))
    number = len(manifest.levels)
    return f"{manifest.title} has {number} label {'level' if number == 1 else 'levels'}: {listed}"


def _no_level(key: str, level: int, manifest: Manifest) -> str:
    return f"{key}: {level} is not there: {_levels(manifest)}; give one of these"
