"""Requirements of a config that a dataset does not meet."""

import dataclasses
import subprocess
import sys
from typing import Any

import pytest

from fgssl.settings import config as configs
from fgssl.settings.methods import SimCLRSettings
from fgssl.store.manifest import Level, Manifest, Shard
from fgssl.store.requirements import cautions, unmet

COUNTS = {"train": ((40, 40, 40, 40), (80, 80)), "test": ((5, 5, 5, 5), (10, 10))}


def fungi(**counts: tuple[tuple[int, ...], ...]) -> Manifest:
    """Return four species of two genera, with recorded brightness; `counts` replaces splits."""
    of_split = COUNTS | counts
    return Manifest(
        dataset="fungi",
        source="test",
        arguments={},
        levels=(Level("species", ("a x", "a y", "b x", "b y")), Level("genus", ("a", "b"))),
        splits={split: (Shard(f"{split}-0.h5", sum(levels[0]), 1, ""),) for split, levels in of_split.items()},
        class_counts=of_split,
        attributes=("brightness", "warmth"),
    )


def unlabeled() -> Manifest:
    return dataclasses.replace(
        fungi(), levels=(), attributes=(), class_counts={split: () for split in COUNTS}, dataset="photos"
    )


def faults(manifest: Manifest, **settings: Any) -> list[str]:
    mapping = {"views": {"image_size": 32}, "method": {"name": "simclr"}} | settings
    return unmet(configs.parse(mapping, "test"), manifest)


def fault(manifest: Manifest, **settings: Any) -> str:
    [only] = faults(manifest, **settings)
    return only


SUPERVISED = [{"name": name} for name in ("cross_entropy", "supcon", "hcl", "n_pairs")]
TWO_OF_EACH = {"training": {"global_batch_size": 32, "images_per_class": 8}}
NUISANCES_ALONE = {"evaluation": {"linear": None, "retrieval": False, "collapse": True}}


@pytest.mark.parametrize("method", SUPERVISED)
def test_nothing_is_lacking(method: dict[str, Any]) -> None:
    evaluation = {
        **{"knn": {}, "collapse": True, "label_level": 1, "outliers": {"levels": {"species": 0, "genus": 1}}},
        **{"nuisances": {"light": ["brightness", "warmth"]}},
    }
    assert faults(fungi(), method=method, evaluation=evaluation, **TWO_OF_EACH) == []
    assert faults(unlabeled(), **NUISANCES_ALONE) == []


# ------------------------------------------------------------------------------------------ training


@pytest.mark.parametrize("method", SUPERVISED)
def test_labels_are_missing_for_a_supervised_method(method: dict[str, Any]) -> None:
    text = fault(unlabeled(), method=method, **NUISANCES_ALONE)
    assert text.startswith(f"method.name: {method['name']} needs labels, but dataset 'photos' is unlabeled: pack")
    assert "such as simclr" in text


@pytest.mark.parametrize("name", ["cross_entropy", "supcon", "n_pairs"])
def test_a_level_that_the_data_lack(name: str) -> None:
    assert faults(fungi(), method={"name": name, "level": 1}) == []
    assert fault(fungi(), method={"name": name, "level": 2}) == (
        "method.level: there is no level 2: dataset 'fungi' has 2 label levels: 0 (species), 1 (genus): give one "
        "of these"
    )


def test_more_weights_than_levels() -> None:
    for weights in ([1.0], [1.0, 0.1]):
        assert faults(fungi(), method={"name": "hcl", "level_weights": weights}) == []
    text = fault(fungi(), method={"name": "hcl", "level_weights": [1.0, 0.5, 0.1]})
    assert text.startswith(
        "method.level_weights: [1.0, 0.5, 0.1] are 3 weights, but dataset 'fungi' has 2 label levels"
    )
    assert text.endswith("2 at most")


def test_several_levels_of_data_with_one() -> None:
    species = dataclasses.replace(
        fungi(), levels=fungi().levels[:1], class_counts={"train": ((40, 40, 40, 40),), "test": ((5, 5, 5, 5),)}
    )
    assert fault(species, method={"name": "hmlc"}) == (
        "method.level_weights: [2.0, 1.4142] are 2 weights, but dataset 'fungi' has 1 label level: 0 (species): give "
        "one weight per level, finest first, 1 at most"
    )
    assert faults(species, method={"name": "hmlc", "level_weights": [1.0]}) == []


@pytest.mark.parametrize("method", SUPERVISED)
def test_one_class_only(method: dict[str, Any]) -> None:
    one = fungi(train=((0, 160, 0, 0), (160, 0)))  # of four classes that the dataset names
    text, *others = faults(one, method=method)
    assert [other.split(":")[0] for other in others] == ["evaluation.linear"]
    assert text.startswith(f"method.name: {method['name']} separates classes, but all 160 training images")
    assert "belong to one species (level 0)" in text


def test_one_class_at_the_methods_level() -> None:
    one_genus = fungi(train=((80, 80, 0, 0), (160, 0)))
    assert faults(one_genus, method={"name": "supcon"}) == []
    assert faults(one_genus, method={"name": "hcl"}) == []
    assert "belong to one genus (level 1)" in fault(one_genus, method={"name": "supcon", "level": 1})
    everything = {"knn": True, "outliers": {"levels": {"species": 0, "genus": 1}}, "label_level": 1}
    assert faults(one_genus, evaluation={**everything, "label_level": 0})[0].startswith(
        "evaluation.outliers.levels.genus: all 160 images of the split `train` of dataset 'fungi' are of one genus"
    )
    keys = [text.split(":")[0] for text in faults(one_genus, evaluation=everything)]
    assert keys == ["evaluation.linear", "evaluation.knn", "evaluation.outliers.levels.genus"]
    one_species = fungi(train=((0, 160, 0, 0), (160, 0)))
    trained = {"method": {"name": "cross_entropy"}, "evaluation": {"classifier": True}}
    assert faults(one_species, **trained)[-1].startswith("evaluation.classifier: all 160 images of the split `train`")


def test_one_class_in_the_test_split() -> None:
    one = fungi(test=((0, 40, 0, 0), (40, 0)))
    assert fault(one).startswith("evaluation.retrieval: all 40 images of the split `test` of dataset 'fungi' are of")
    of_test = {"levels": {"species": 0}, "centroids": "test"}
    assert len(faults(one, evaluation={"retrieval": False, "outliers": of_test})) == 1


def test_fewer_images_than_the_balanced_sampler_draws() -> None:
    uneven = fungi(train=((1, 0, 99, 60), (1, 159)))
    training = {"global_batch_size": 32, "images_per_class": 16}
    assert faults(fungi(train=((16, 0, 84, 60), (16, 144))), training=training) == []
    text = fault(uneven, training=training)
    assert text == (
        "training.images_per_class: 16, but 1 of the 3 classes (species) of dataset 'fungi' have fewer training images "
        "(a x: 1): pack more images of them, or take training.images_per_class null"
    )
    text = fault(fungi(train=((15, 20, 85, 60), (35, 145))), training=training)
    assert text.endswith("(a x: 15): pack more images of them, or take training.images_per_class 8")


def test_five_of_the_classes_with_few_images_are_named() -> None:
    names = tuple(f"c{number}" for number in range(9))
    counts = (2, 3, 2, 2, 2, 2, 2, 99, 99)
    many = dataclasses.replace(
        fungi(), levels=(Level("class", names),), class_counts={"train": (counts,), "test": ((5,) * 9,)}
    )
    training = {"global_batch_size": 32, "images_per_class": 4}
    text = fault(many, training=training)
    assert "7 of the 9 classes (class)" in text
    assert (
        "(c0: 2, c1: 3, c2: 2, c3: 2, c4: 2, ...): pack more images of them, or take training.images_per_class null"
        in text
    )


def test_more_classes_a_batch_than_there_are() -> None:
    training = {"global_batch_size": 64, "images_per_class": 8}
    text = fault(fungi(), training=training)
    assert text.startswith("training.images_per_class: 8 at training.global_batch_size 64 needs 8 classes in a batch")
    assert "training images of 4 (species): take training.global_batch_size 32" in text


def test_balanced_batches_need_labels() -> None:
    text = fault(unlabeled(), **TWO_OF_EACH, **NUISANCES_ALONE)
    assert text.startswith("training.images_per_class: 8 needs labels, but dataset 'photos' is unlabeled")


def test_a_batch_larger_than_the_data() -> None:
    few = fungi(train=((20, 20, 20, 20), (40, 40)))
    assert fault(few) == (
        "training.global_batch_size: 128 exceeds the 80 training images of dataset 'fungi', which do not fill one "
        "batch: take training.global_batch_size 64"
    )
    assert faults(few, method={"name": "start_encoder"}) == []  # trains nothing


@pytest.mark.parametrize("method", SUPERVISED)
def test_a_batch_of_one_class(method: dict[str, Any]) -> None:
    training = {"global_batch_size": 32, "images_per_class": 32}
    assert fault(fungi(), method=method, training=training) == (
        f"training.images_per_class: 32 at training.global_batch_size 32 draws one class per batch, but method "
        f"{method['name']} separates classes: take training.images_per_class 16"
    )
    assert faults(fungi(), method=method, training=training | {"images_per_class": 16}) == []
    assert faults(fungi(), method={"name": "simclr"}, training=training) == []


def test_a_supervised_method_without_a_level_has_the_finest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SimCLRSettings, "needs_labels", True)
    assert faults(fungi()) == []
    assert "belong to one species (level 0)" in faults(fungi(train=((0, 160, 0, 0), (160, 0))))[0]


# ----------------------------------------------------------------------------------------- cautions


def told(manifest: Manifest, method: dict[str, Any]) -> list[str]:
    return cautions(configs.parse({"views": {"image_size": 32}, "method": method}, "test"), manifest)


@pytest.mark.parametrize("base", [False, True])
def test_a_queue_larger_than_the_data(base: bool) -> None:
    def method(queue_size: int) -> dict[str, Any]:
        moco = {"name": "mocov2", "queue_size": queue_size}
        return {"name": "synthesized", "base": moco} if base else moco

    assert told(fungi(), method(384)) == [
        "queue_size 384 exceeds the 160 training images of dataset 'fungi': the queue holds about 2.4 stale keys of "
        "every image, its own among its negatives: take a multiple of training.global_batch_size, 160 at most"
    ]
    assert told(fungi(train=((96, 96, 96, 96), (192, 192))), method(384)) == []
    assert told(without("train"), method(384)) == []  # what `unmet` tells


def test_methods_without_a_queue() -> None:
    assert told(fungi(), {"name": "simclr"}) == []
    assert told(fungi(), {"name": "synthesized", "base": {"name": "simsiam"}}) == []


def test_a_monitor_that_never_looks() -> None:
    def monitored(every: int, name: str = "simclr") -> list[str]:
        settings = {"training": {"epochs": 10}, "resources": {"monitor_every_epochs": every}}
        config = {"views": {"image_size": 32}, "method": {"name": name}} | settings
        return cautions(configs.parse(config, "test"), fungi())

    assert monitored(10) == monitored(11, "start_encoder") == []
    assert monitored(11) == ["resources.monitor_every_epochs: 11 exceeds training.epochs 10: nothing will be monitored"]


# ---------------------------------------------------------------------------------------- evaluation


def without(split: str) -> Manifest:
    return dataclasses.replace(
        fungi(), splits={name: shards for name, shards in fungi().splits.items() if name != split}
    )


def test_no_split_to_measure_on() -> None:
    assert fault(without("test")).startswith("evaluation: dataset 'fungi' has no split `test` to measure on")
    assert faults(without("test"), evaluation=None) == []
    assert fault(without("train"), method={"name": "start_encoder"}) == (
        "data.dataset: dataset 'fungi' has no split `train` (it has test): pack it with one"
    )


def test_measures_of_unlabeled_data() -> None:
    text = fault(unlabeled(), evaluation={"knn": {}, "outliers": {"levels": {"genus": 1}}, "collapse": True})
    assert text.startswith(
        "evaluation.linear, evaluation.retrieval, evaluation.knn, evaluation.outliers: labels are needed, but dataset "
        "'photos' is unlabeled"
    )
    assert fault(unlabeled(), evaluation={"linear": None, "collapse": True}).startswith("evaluation.retrieval: labels")


def test_levels_that_the_measures_lack() -> None:
    evaluation = {"label_level": 3, "outliers": {"levels": {"genus": 1, "family": 2}}}
    assert faults(fungi(), evaluation=evaluation) == [
        "evaluation.label_level: there is no level 3: dataset 'fungi' has 2 label levels: 0 (species), 1 (genus): "
        "give one of these",
        "evaluation.outliers.levels.family: there is no level 2: dataset 'fungi' has 2 label levels: 0 (species), "
        "1 (genus): give one of these",
    ]
    classified = {"label_level": 3, "linear": None, "retrieval": False, "classifier": True}
    lacking = faults(fungi(), method={"name": "cross_entropy", "level": 3}, evaluation=classified)
    assert [text.split(":")[0] for text in lacking] == ["method.level", "evaluation.label_level"]
    # Nothing is measured at that level.
    assert faults(fungi(), evaluation={"label_level": 3, "linear": None, "retrieval": False, "collapse": True}) == []


def test_retrieval_of_images_that_are_alone() -> None:
    lonely = fungi(test=((1, 1, 1, 0), (2, 1)))
    text = fault(lonely)
    assert text.startswith("evaluation.retrieval: no two of the 3 test images of dataset 'fungi' share a species")
    assert faults(lonely, evaluation={"label_level": 1}) == []
    assert faults(lonely, evaluation={"retrieval": False}) == []


def test_more_neighbors_than_images() -> None:
    evaluation = {"knn": {"neighbors": 161}}
    assert fault(fungi(), evaluation=evaluation) == (
        "evaluation.knn.neighbors: 161 exceeds the 160 training images of dataset 'fungi': take 160 at most"
    )
    assert faults(fungi(), evaluation={"knn": {"neighbors": 160}}) == []


def test_attributes_that_the_data_lack() -> None:
    evaluation = {"nuisances": {"light": ["brightnes", "warmth"], "place": ["x_shift"]}}
    near, far = faults(fungi(), evaluation=evaluation)
    assert near == (
        "evaluation.nuisances.light: unknown attribute 'brightnes': did you mean 'brightness'? "
        "allowed: brightness, warmth"
    )
    assert far == "evaluation.nuisances.place: unknown attribute 'x_shift': allowed: brightness, warmth"
    bare = dataclasses.replace(fungi(), attributes=())
    assert fault(bare, evaluation=evaluation).startswith(
        "evaluation.nuisances: dataset 'fungi' records no attributes of its images: remove this key"
    )


def test_all_at_once_in_single_lines() -> None:
    found = faults(
        unlabeled(),
        method={"name": "supcon"},
        training={"global_batch_size": 256, "images_per_class": 4},
        evaluation={"nuisances": {"light": ["brightness"]}},
    )
    assert [line.split(":")[0] for line in found] == [
        *("method.name", "training.global_batch_size", "training.images_per_class"),
        *("evaluation.linear, evaluation.retrieval", "evaluation.nuisances"),
    ]
    assert not any("\n" in line for line in found)


def test_other_backgrounds_need_masks() -> None:
    views = {"image_size": 32, "background": True}
    assert fault(fungi(), views=views, **TWO_OF_EACH) == (
        "views.background: masks of the objects are needed, but dataset 'fungi' was packed without: pack it again with "
        "masks=FOLDER, leave views.background empty, or leave out the arm of the sweep that sets it (arms.NAME=null)"
    )
    assert "pack it again with draw_masks=true" in fault(
        dataclasses.replace(fungi(), source="toy"), views=views, **TWO_OF_EACH
    )
    assert faults(dataclasses.replace(fungi(), masks=True), views=views, **TWO_OF_EACH) == []


def test_requirements_are_light_to_import() -> None:
    code = "import fgssl.store.requirements, sys; print({'numpy', 'h5py', 'PIL', 'torch'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


@pytest.mark.parametrize(
    ("images", "settings", "share"),
    [
        (6, {"linear": {}}, "at 0.2 every class"),
        (2, {"linear": {"label_fractions": [0.5, 0.74, 1.0]}}, "at 0.5, 0.74 every class"),
        (8, {"linear": {}}, None),
        (6, {"linear": {"learning_rates": [1.0]}}, None),
        (2, {"linear": {"label_fractions": [0.75]}}, None),
    ],
)
def test_a_share_of_labels_from_which_no_image_can_be_held_out(images, settings, share) -> None:
    manifest = fungi(train=((images, 1, 1, images), (images + 1, images + 1)))
    found = faults(
        manifest, evaluation=settings, training={"global_batch_size": 1}, encoder={"batch_norm_group_size": 1}
    )
    assert [share in line for line in found] == ([] if share is None else [True])


def test_one_training_image_leaves_none_to_choose_a_penalty() -> None:
    manifest = fungi(train=((1, 0, 0, 0), (1, 0)))
    evaluation = {"linear": None, "retrieval": False, "nuisances": {"light": ["brightness"]}}
    sizes = {"training": {"global_batch_size": 1}, "encoder": {"batch_norm_group_size": 1}}
    assert "has 1 training image, so none can be held out" in fault(manifest, evaluation=evaluation, **sizes)
