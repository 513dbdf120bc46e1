import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fgssl.data.packing import pack
from fgssl.data.shards import ShardedSplit
from fgssl.data.sources.folder import FolderSettings, read
from fgssl.errors import DataError


def image(number: int, mode: str = "RGB") -> Image.Image:
    generator = np.random.default_rng(number)
    return Image.fromarray(generator.integers(0, 256, (6, 9, 3), dtype=np.uint8)).convert(mode)


def tree(root: Path, paths: Sequence[str]) -> Path:
    for number, path in enumerate(paths):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        image(number).save(root / path)
    return root


def packed(root: Path, destination: Path, **options: Any) -> dict[str, ShardedSplit]:
    manifest = pack(read(root, FolderSettings(**options)), destination)
    return {split: ShardedSplit(destination, split) for split in manifest.splits}


def names(split: ShardedSplit) -> dict[str, tuple[str, ...]]:
    """Return {source id: class names, finest first}."""
    return {
        str(source_id): tuple(level.classes[label] for level, label in zip(split.levels, labels, strict=True))
        for source_id, labels in zip(split.source_ids, split.labels.tolist(), strict=True)
    }


TWO_LEVELS = [
    f"{genus}/{species}/{number}.png"
    for genus, species in (("amanita", "alba"), ("amanita", "rubra"), ("boletus", "alba"))
    for number in range(5)
]


def test_genus_and_species_with_given_splits(tmp_path: Path) -> None:
    root = tree(tmp_path / "fungi", [f"{split}/{path}" for split in ("train", "test") for path in TWO_LEVELS])
    splits = packed(root, tmp_path / "shards")
    assert list(splits) == ["train", "test"]
    train = splits["train"]
    assert train.manifest.dataset == "fungi"
    assert [(level.name, level.classes) for level in train.levels] == [
        ("species", ("amanita/alba", "amanita/rubra", "boletus/alba")),  # two species of one name
        ("genus", ("amanita", "boletus")),
    ]
    assert names(train)["train/boletus/alba/3.png"] == ("boletus/alba", "boletus")
    assert len(train) == len(splits["test"]) == 15


def test_levels_have_the_names_that_are_given(tmp_path: Path) -> None:
    root = tree(tmp_path / "birds", TWO_LEVELS)
    splits = packed(root, tmp_path / "shards", levels=("species", "family"))
    assert [level.name for level in splits["train"].levels] == ["species", "family"]
    assert splits["test"].manifest.listed_levels.endswith("has 2 label levels: 0 (species), 1 (family)")
    assert packed(root, tmp_path / "usual")["train"].version != splits["train"].version


@pytest.mark.parametrize(
    ("paths", "levels", "fault"),
    [
        (
            TWO_LEVELS,
            ("species",),
            "levels: [species] does not fit: {root} has class folders in two levels; give two",
        ),
        (["a/1.png", "a/2.png"], ("a", "b"), "{root} has class folders in one level; give one name, or remove levels"),
        (["1.png", "2.png"], ("class",), "levels: [class] does not fit: {root} has no class folders; remove levels"),
    ],
)
def test_names_of_levels_must_fit_the_folders(
    tmp_path: Path, paths: list[str], levels: tuple[str, ...], fault: str
) -> None:
    root = tree(tmp_path / "images", paths)
    with pytest.raises(DataError) as refused:
        read(root, FolderSettings(levels=levels))
    assert fault.format(root=root) in str(refused.value)


def test_two_levels_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="each level needs a name of its own, not species, species"):
        FolderSettings(levels=("species", "species"))


def test_stratified_split_is_seeded(tmp_path: Path) -> None:
    root = tree(tmp_path / "fungi", TWO_LEVELS)
    splits = packed(root, tmp_path / "1", test_fraction=0.4)
    assert {split: len(rows) for split, rows in splits.items()} == {"train": 9, "test": 6}
    assert np.bincount(splits["test"].labels[:, 0]).tolist() == [2, 2, 2]
    test = set(names(splits["test"]))
    assert test | set(names(splits["train"])) == set(TWO_LEVELS)
    assert set(names(packed(root, tmp_path / "2", test_fraction=0.4)["test"])) == test
    assert set(names(packed(root, tmp_path / "3", test_fraction=0.4, seed=1)["test"])) != test
    assert splits["train"].version == ShardedSplit(tmp_path / "2", "train").version


@pytest.mark.parametrize(("fraction", "in_test"), [(0.01, 1), (0.99, 4)])
def test_each_class_is_in_both_splits(tmp_path: Path, fraction: float, in_test: int) -> None:
    splits = packed(tree(tmp_path / "fungi", TWO_LEVELS), tmp_path / "shards", test_fraction=fraction)
    assert np.bincount(splits["test"].labels[:, 0]).tolist() == [in_test] * 3


def test_one_level(tmp_path: Path) -> None:
    root = tree(
        tmp_path / "birds", [f"{split}/{name}/1.png" for split in ("train", "test") for name in ("owl", "crow")]
    )
    splits = packed(root, tmp_path / "shards", name="aves")
    assert splits["test"].manifest.dataset == "aves"
    assert [(level.name, level.classes) for level in splits["test"].levels] == [("class", ("crow", "owl"))]
    assert names(splits["test"]) == {"test/crow/1.png": ("crow",), "test/owl/1.png": ("owl",)}


def test_flat_folder_is_unlabeled(tmp_path: Path) -> None:
    splits = packed(tree(tmp_path / "flat", ["a.png", "b.png"]), tmp_path / "shards")
    assert list(splits) == ["train"]
    assert splits["train"].labels.shape == (2, 0)
    assert names(splits["train"]) == {"a.png": (), "b.png": ()}


def test_version_does_not_depend_on_the_place(tmp_path: Path) -> None:
    first = packed(tree(tmp_path / "here" / "fungi", TWO_LEVELS), tmp_path / "1")
    second = packed(tree(tmp_path / "there" / "fungi", TWO_LEVELS), tmp_path / "2")
    assert first["train"].version == second["train"].version
    assert str(tmp_path) not in (tmp_path / "1" / "manifest.json").read_text()


# -------------------------------------------------------------------------------------------- faults


def message(root: Path, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        pack(read(root, FolderSettings(**options)), root.parent / "shards")
    assert not (root.parent / "shards").exists()
    return str(caught.value)


def test_all_unreadable_images_at_once(tmp_path: Path) -> None:
    root = tree(tmp_path / "fungi", TWO_LEVELS)
    (root / "amanita/alba/0.png").write_text("no image")
    whole = (root / "amanita/rubra/1.png").read_bytes()
    (root / "amanita/rubra/1.png").write_bytes(whole[: len(whole) // 2])  # truncated: only decoding finds it
    (root / "boletus/alba/2.png").write_bytes(b"")
    image(0).convert("CMYK").save(root / "boletus/alba/9.tif")
    image(0).save(root / "boletus/alba/pages.tif", save_all=True, append_images=[image(1)])
    text = message(root)
    assert text.startswith("5 images that cannot be packed:")
    for expected in (
        "amanita/alba/0.png: cannot identify image file",
        "amanita/rubra/1.png: ",
        "boletus/alba/2.png: cannot identify image file",
        "boletus/alba/9.tif: PNG cannot hold mode CMYK without loss; convert it to RGB",
        "boletus/alba/pages.tif: it holds several images; keep one",
    ):
        assert f"\n  {expected}" in text


def test_empty_class(tmp_path: Path) -> None:
    root = tree(tmp_path / "fungi", TWO_LEVELS)
    (root / "boletus" / "nova").mkdir()
    (root / "clitocybe").mkdir()
    text = message(root)
    assert f"{root}/boletus/nova: no images in it" in text
    assert f"{root}/clitocybe: no images in it" in text


def test_classes_that_a_split_lacks(tmp_path: Path) -> None:
    root = tree(tmp_path / "x", ["train/a/1.png", "train/b/1.png", "test/b/1.png", "test/c/1.png"])
    text = message(root)
    assert text.startswith("2 classes without images in a split:")
    assert "class c: no images in train" in text
    assert "class a: no images in test" in text
    assert text.endswith("\nadd images, or move the folder of the class out of the other split")


def test_class_of_one_image_cannot_be_split(tmp_path: Path) -> None:
    assert "class b has one image" in message(tree(tmp_path / "x", ["a/1.png", "a/2.png", "b/1.png"]))


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["train/a/1.png"], "x: has no test split, but train: add it, name it with test=NAME, or give that folder"),
        (["VAL/a/1.png"], "x: has no train split, but VAL: add it, name it with train=NAME, or give"),
        (["train/a/1.png", "b/a/1.png"], "x: holds train, named like splits, beside b: are these classes? Give split_"),
        (["a/train/1.png", "a/test/1.png"], "x/a/test: is named like a split, but stands where a class is expected"),
        (["x/train/a/1.png", "x/test/a/1.png"], "give the folder that holds the splits as IMAGES"),
        (["train/a/1.png", "test/a/1.png", "1.png"], "x/1.png: an image beside train and test"),
        (["a/1.png", "1.png"], "x: holds both images and folders (1.png, a)"),
        (["a/b/c/1.png"], "x/a/b: holds folders (c); class folders may be two levels deep at most"),
        (["a/1.png", "a/2.png", "b/c/1.png", "b/c/2.png"], "have depths [1, 2], such as "),
        (["train/a/1.png", "test/1.png"], "/test/1.png and "),
    ],
)
def test_faults_in_the_layout(tmp_path: Path, paths: list[str], expected: str) -> None:
    assert expected in message(tree(tmp_path / "x", paths))


# ------------------------------------------------------------------------------------ names of splits


def splits_of(paths: Sequence[str], tmp_path: Path, **options: Any) -> dict[str, set[str]]:
    """Return the source ids of each split of a tree with an image at each of the paths."""
    dataset = read(tree(tmp_path / "x", paths), FolderSettings(**options))
    return {split: {recipe().source_id for recipe in recipes} for split, recipes in dataset.splits.items()}


@pytest.mark.parametrize(
    ("train", "test"),
    [("Training", "Testing"), ("TRAIN", "eval"), ("train", "val"), ("train", "Validation"), ("training", "dev")],
)
def test_usual_names_of_splits(tmp_path: Path, train: str, test: str) -> None:
    found = splits_of([f"{train}/a/1.png", f"{test}/a/1.png"], tmp_path)
    assert found == {"train": {f"{train}/a/1.png"}, "test": {f"{test}/a/1.png"}}
    remarks = read(tmp_path / "x", FolderSettings()).remarks
    assert f"the test split is {test}" in remarks
    assert (f"the train split is {train}" in remarks) == (train != "train")


THREE = ["train/a/1.png", "test/a/1.png", "val/a/1.png"]


def test_a_choice_of_splits_is_asked_for(tmp_path: Path) -> None:
    assert (
        "has test and val: which one is the test split? Give test=test, or test=val, or test=[test,val] for all of "
        "them, or train=[train,val] to train on val"
    ) in message(tree(tmp_path / "x", THREE))
    assert "train=nowhere: " in message(tmp_path / "x", train=("nowhere",))
    assert "val cannot be in both" in message(tmp_path / "x", train=("val",), test=("val",))
    twice = tree(tmp_path / "y", ["train/a/1.png", "Training/a/1.png", "test/a/1.png"])
    assert "has Training and train: which one is the train split?" in message(twice)


def test_splits_that_are_chosen(tmp_path: Path) -> None:
    assert splits_of(THREE, tmp_path, test=("val",))["test"] == {"val/a/1.png"}
    left_out = "left out, since neither train nor test names it: test"
    assert left_out in read(tmp_path / "x", FolderSettings(test=("val",))).remarks
    assert splits_of(THREE, tmp_path, train=("train", "val")) == {
        "train": {"train/a/1.png", "val/a/1.png"},
        "test": {"test/a/1.png"},
    }


def test_a_class_may_be_named_like_a_split(tmp_path: Path) -> None:
    paths = [f"{name}/{number}.png" for name in ("car", "train") for number in range(2)]
    dataset = read(tree(tmp_path / "x", paths), FolderSettings(split_folders=False))
    assert dataset.levels[0].classes == ("car", "train")


# ------------------------------------------------------------------------------------- names of classes


def test_three_levels_need_names(tmp_path: Path) -> None:
    root = tree(tmp_path / "x", ["a/b/c/1.png", "a/b/c/2.png", "a/b/d/1.png", "a/b/d/2.png"])
    dataset = read(root, FolderSettings(levels=("species", "genus", "family")))
    assert [level.classes for level in dataset.levels] == [("a/b/c", "a/b/d"), ("a/b",), ("a",)]
    assert "unless levels=[...] names more" in message(root)


def test_one_name_in_two_forms_of_unicode(tmp_path: Path) -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    root = tree(
        tmp_path / "x", [f"train/{composed}/1.png", f"test/{decomposed}/1.png", "train/b /1.png", "test/b/1.png"]
    )
    assert read(root, FolderSettings()).levels[0].classes == ("b", composed)
    twice = message(tree(tmp_path / "y", [f"{composed}/1.png", f"{decomposed}/1.png", "b/1.png", "b /1.png"]))
    assert "y: 'cafe\\u0301' and 'caf\\xe9' are one name" in twice
    assert "'b' and 'b ' are one name" in twice


def test_names_that_differ_in_case(tmp_path: Path) -> None:
    paths = ["train/Genus/Alba/1.png", "test/genus/alba/1.png", "train/A/x/1.png", "train/a/x/1.png"]
    root = tree(tmp_path / "x", [*paths, "test/A/x/1.png", "test/a/x/1.png"])
    dataset = read(root, FolderSettings())
    assert dataset.levels[0].classes == ("A/x", "Genus/Alba", "a/x")
    assert any("genus/alba (Genus/Alba)" in remark for remark in dataset.remarks)
    assert any(f"{root}/train/a (A)" in remark for remark in dataset.remarks)


def test_names_that_differ_in_case_in_two_folders_of_a_split(tmp_path: Path) -> None:
    paths = ["train/Robin/1.png", "val/robin/2.png", "test/Robin/3.png", "test/robin/4.png"]
    dataset = read(tree(tmp_path / "x", paths), FolderSettings(train=("train", "val"), test=("test",)))
    (remark,) = [remark for remark in dataset.remarks if "differ" in remark]
    assert f"{tmp_path}/x/val/robin (Robin)" in remark
    assert f"{tmp_path}/x/test/robin (Robin)" in remark


def test_class_names_that_are_not_utf_8(tmp_path: Path) -> None:
    root = tree(tmp_path / "x", ["a/1.png", "a/2.png"])
    (root / "caf\udce9").mkdir()
    assert "caf\\udce9': the name of this class folder is not UTF-8: rename it" in message(root)


# ------------------------------------------------------------------------------------------ odd files


def test_a_folder_around_the_classes_is_named(tmp_path: Path) -> None:
    root = tree(tmp_path / "x", ["images/a/1.png", "images/a/2.png", "images/b/1.png", "images/b/2.png"])
    assert read(root, FolderSettings()).remarks == (
        "all images are of one genus, images: if that is no class, give the folder images as IMAGES",
    )


def test_odd_files_are_named(tmp_path: Path) -> None:
    root = tree(tmp_path / "x", ["a/1.png", "a/2.png", ".trash/1.png", "__MACOSX/a/._1.png", "a/.3.png"])
    (root / "a/dead.png").symlink_to(root / "nowhere")
    os.mkfifo(root / "a/pipe.png")
    (root / "gone").symlink_to(root / "nowhere")
    dataset = read(root, FolderSettings())
    assert sum(map(len, dataset.splits.values())) == 2
    text = "\n".join(dataset.remarks)
    assert "3 hidden files or folders with images:" in text
    for expected in ("/.trash (1 image)", "/__MACOSX (1 image)", "/a/.3.png", "2 dead links", "/a/dead.png", "/gone"):
        assert expected in text
    assert f"1 file skipped, since it is not a regular file:\n  {root}/a/pipe.png" in text


def test_a_class_folder_that_cannot_be_read_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree(tmp_path / "x", ["a/1.png", "a/2.png", "b/1.png", "b/2.png"])
    scandir = os.scandir

    def locked(folder: Path) -> Any:
        if Path(folder).name == "b":
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", locked)  # the tests may run as root, who may read everything
    assert f"1 fault in the layout:\n  {root}/b: cannot read this folder (Permission denied)" in message(root)


def test_a_link_to_a_folder_above_ends(tmp_path: Path) -> None:
    root = tree(tmp_path / "x", ["a/1.png", "a/2.png"])
    (root / "b").mkdir()
    (root / "b" / "again").symlink_to(root)
    assert "class folders may be two levels deep at most" in message(root)


def test_missing_and_empty_folder(tmp_path: Path) -> None:
    assert "cannot read this folder (No such file or directory); " in message(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert f"{tmp_path}/empty: no images in it; an image's name ends in .bmp .jpeg" in message(tmp_path / "empty")


def test_files_left_out_are_named(tmp_path: Path) -> None:
    root = tree(tmp_path / "flat", ["a.png"])
    (root / "readme.txt").write_text("hello")
    (root / ".hidden").write_text("hello")
    (remark,) = read(root, FolderSettings()).remarks
    assert remark == f"1 file skipped, since its name does not end like that of an image:\n  {root}/readme.txt"
