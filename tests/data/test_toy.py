import dataclasses
import io
import multiprocessing
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fgssl.data.location import ensure_toy, shards_folder, toy_manifest
from fgssl.data.packing import DestinationExistsError, pack
from fgssl.data.shards import ShardedSplit
from fgssl.data.sources import SOURCES, source_named, toy
from fgssl.data.sources.toy_content import GENERA, SPECIES, Nuisances
from fgssl.data.sources.toy_fungus import draw, drawn_scene
from fgssl.errors import DataError
from fgssl.settings.data import DataSettings, ToySettings
from fgssl.store.manifest import Manifest, verify

SMALL = ToySettings(train_images_per_species=2, test_images_per_species=1)
DATA = DataSettings(toy=SMALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure_toy(DATA, tmp_path_factory.mktemp("data"))


def pixels(split: ShardedSplit, row: int) -> np.ndarray:
    image = Image.open(io.BytesIO(split.read(row)))
    assert image.mode == "RGB"
    return np.asarray(image)


def test_counts_labels_and_classes(folder: Path) -> None:
    train, test = ShardedSplit(folder, "train"), ShardedSplit(folder, "test")
    assert (len(train), len(test)) == (48, 24)
    assert [level.name for level in train.levels] == ["species", "genus"]
    assert [len(level.classes) for level in train.levels] == [24, 6]
    assert np.bincount(train.labels[:, 0]).tolist() == [2] * 24
    for species, genus in train.labels.tolist():
        assert train.levels[0].classes[species].split()[0] == train.levels[1].classes[genus]
    assert {pixels(train, row).shape for row in range(len(train))} == {(32, 32, 3)}


def test_the_manifest_is_known_before_the_drawing(folder: Path) -> None:
    drawn, planned = Manifest.read(folder), toy_manifest(SMALL)
    assert planned.attributes == drawn.attributes
    assert "brightness" in drawn.attributes
    assert planned.class_counts == drawn.class_counts
    assert planned.class_counts["train"] == ((2,) * 24, (8,) * 6)
    assert (planned.dataset, planned.levels) == (drawn.dataset, drawn.levels)
    for split in ("train", "test"):
        assert planned.count(split) == drawn.count(split)


def test_twice_is_the_same_and_another_seed_is_not(folder: Path, tmp_path: Path) -> None:
    again = pack(toy.read(SMALL), tmp_path / "again")
    assert again.version == ShardedSplit(folder, "train").version
    other = ToySettings(seed=1, train_images_per_species=2, test_images_per_species=1)
    assert pack(toy.read(other), tmp_path / "other").version != again.version


def test_more_images_leave_the_first_ones_alone(folder: Path, tmp_path: Path) -> None:
    pack(toy.read(ToySettings(train_images_per_species=3, test_images_per_species=1)), tmp_path / "more")
    few, more = ShardedSplit(folder, "train"), ShardedSplit(tmp_path / "more", "train")
    row_of = {source_id: row for row, source_id in enumerate(more.source_ids)}
    for row, source_id in enumerate(few.source_ids):
        assert few.read(row) == more.read(row_of[source_id])


def test_no_image_is_there_twice(folder: Path) -> None:
    train, test = ShardedSplit(folder, "train"), ShardedSplit(folder, "test")
    images = [split.read(row) for split in (train, test) for row in range(len(split))]
    assert len(set(images)) == len(images)


def test_every_nuisance_varies_and_none_tells_the_species() -> None:
    species = np.repeat(np.arange(24), 200)
    values = np.array([list(vars(Nuisances.at(0, "train", s, n)[0]).values()) for s in range(24) for n in range(200)])
    assert (values.std(axis=0) > 0).all()
    means = np.stack([values[species == s].mean(axis=0) for s in range(24)])
    # of 24 x 13 means of 200 each, the farthest lies about 3.2 standard errors out
    assert np.abs((means - values.mean(axis=0)) / (values.std(axis=0) / 200**0.5)).max() < 4.5


def test_attributes_are_what_was_drawn(folder: Path) -> None:
    train = ShardedSplit(folder, "train")
    for row in (0, 17, 47):
        split, name, number = str(train.source_ids[row]).split("/")
        species = SPECIES.index(name.replace("_", " "))
        nuisances, details = Nuisances.at(SMALL.seed, split, species, int(number))
        assert {key: values[row] for key, values in train.attributes.items()} == vars(nuisances)
        assert train.labels[row].tolist() == [species, species // 4]
        np.testing.assert_array_equal(pixels(train, row), np.asarray(draw(species, nuisances, details, 32)))


@pytest.mark.parametrize("genus", range(len(GENERA)))
def test_siblings_differ_in_small_marks_only(genus: int) -> None:
    nuisances, details = Nuisances.at(0, "train", 0, 3)
    drawn = [np.asarray(draw(4 * genus + s, nuisances, details, 64), dtype=float) for s in range(4)]
    other = np.asarray(draw((4 * genus + 4) % 24, nuisances, details, 64), dtype=float)
    for first in range(4):
        changed = np.abs(drawn[first] - other).max(axis=-1) > 24
        for second in range(first):
            marks = np.abs(drawn[first] - drawn[second]).max(axis=-1) > 24
            assert 0.002 < marks.mean() < 0.10  # share of the picture
            assert marks.sum() < changed.sum()


def test_nothing_but_the_fungus_tells_the_species() -> None:
    nuisances, details = Nuisances.at(0, "train", 0, 3)
    outside = dataclasses.replace(nuisances, x_shift=5.0, grass_blades=12.0, leaves=4.0)
    assert len({draw(species, outside, details, 32).tobytes() for species in range(24)}) == 1


def test_same_picture_at_every_size() -> None:
    nuisances, details = Nuisances.at(0, "train", 5, 0)
    small, large = (draw(5, nuisances, details, size) for size in (32, 128))
    assert large.size == (128, 128)
    difference = np.abs(np.asarray(small, dtype=float) - np.asarray(large.reduce(4), dtype=float))
    assert difference.mean() < 4  # of 255: lines have whole widths


def test_masks_change_nothing_but_add_themselves(folder: Path, tmp_path: Path) -> None:
    masked = dataclasses.replace(SMALL, draw_masks=True)
    data = DataSettings(toy=masked)
    assert shards_folder(data, tmp_path) != shards_folder(DATA, tmp_path)
    manifest = Manifest.read(ensure_toy(data, tmp_path))
    assert (manifest.masks, toy_manifest(masked).masks, Manifest.read(folder).masks) == (True, True, False)
    assert "draw_masks" not in Manifest.read(folder).arguments
    plain, found = (ShardedSplit(path, "train") for path in (folder, shards_folder(data, tmp_path)))
    assert [found.read(row) for row in range(48)] == [plain.read(row) for row in range(48)]
    shares = [found.mask(row).mean() for row in range(48)]
    assert found.mask(0).shape == (32, 32)
    assert 0.05 < min(shares) < max(shares) < 0.6


@pytest.mark.parametrize("genus", range(len(GENERA)))
def test_a_mask_is_the_visible_fungus(genus: int) -> None:
    """Another species differs inside the masks alone, but for the shadow on the ground; no fungus has no mask."""
    nuisances, details = Nuisances.at(0, "train", 0, 3)
    bare = dataclasses.replace(nuisances, grass_blades=0.0)
    one, other = (drawn_scene(4 * genus + species, bare, details, 64) for species in (0, 3))
    masks = np.asarray(one.object_mask()), np.asarray(other.object_mask())
    around = np.lib.stride_tricks.sliding_window_view(np.pad(masks[0] | masks[1], 1), (3, 3))
    near = around.reshape(64, 64, 9).any(axis=2)
    changed = (np.asarray(one.finished()) != np.asarray(other.finished())).any(axis=-1)
    assert changed.any()
    assert not (changed & ~near).any()
    grassy = np.asarray(drawn_scene(4 * genus, dataclasses.replace(bare, grass_blades=12.0), details, 64).object_mask())
    assert (grassy <= masks[0]).all()
    assert grassy.sum() < masks[0].sum()
    outside = drawn_scene(4 * genus, dataclasses.replace(bare, x_shift=5.0), details, 64)
    assert not np.asarray(outside.object_mask()).any()


def test_two_processes_pack_the_same_folder_at_once(tmp_path: Path) -> None:
    processes = [
        multiprocessing.get_context("spawn").Process(target=ensure_toy, args=(DATA, tmp_path)) for _ in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    folder = shards_folder(DATA, tmp_path)
    assert list(tmp_path.iterdir()) == [folder]
    verify(folder)


def test_ensure_toy_packs_once_and_takes_nothing_for_its_own(folder: Path, tmp_path: Path) -> None:
    before = (folder / "manifest.json").stat().st_mtime_ns
    assert ensure_toy(DATA, folder.parent) == folder
    assert (folder / "manifest.json").stat().st_mtime_ns == before
    strange = shards_folder(DATA, tmp_path)
    strange.mkdir()
    (strange / "mine.txt").write_text("mine")
    with pytest.raises(DestinationExistsError, match="exists already and is never overwritten"):
        ensure_toy(DATA, tmp_path)


def test_folder_follows_the_settings(tmp_path: Path) -> None:
    folders = {
        shards_folder(DataSettings(toy=toy_settings), tmp_path)
        for toy_settings in (ToySettings(), ToySettings(seed=1), ToySettings(image_size=64), ToySettings())
    }
    assert len(folders) == 3
    assert {folder.parent for folder in folders} == {tmp_path}


def test_folders_that_cannot_be_used_say_what_to_do(folder: Path, tmp_path: Path) -> None:
    given = str(folder)
    assert shards_folder(DataSettings(folder=given), tmp_path) == folder
    for data, message in (
        (DataSettings(dataset="gtsrb"), r"set data\.folder to its packed shards; .*`fgssl pack gtsrb IMAGES FOLDER"),
        (
            DataSettings(dataset="lichens"),
            r"set data\.folder to its packed shards; `fgssl pack` has no source named 'lichens' yet.*"
            r"`fgssl pack folder IMAGES FOLDER name=lichens`$",
        ),
        (
            DataSettings(dataset="cub", folder=str(tmp_path / "cub")),
            r"cub does not exist: .* holds .*`fgssl pack` has no source named 'cub' yet.*IMAGES/train/CLASS/\*\.jpg.*"
            r"`fgssl pack folder IMAGES .*/cub name=cub`$",
        ),
        (DataSettings(dataset="cub", folder=given), "holds dataset 'toy', but data.dataset is 'cub'"),
    ):
        with pytest.raises(DataError, match=message):
            shards_folder(data, tmp_path)


def test_a_folder_that_may_not_be_entered(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exists(path: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "exists", exists)
    with pytest.raises(DataError, match=r"data\.folder: .*: cannot be read \(Permission denied\): ask the owner"):
        shards_folder(DataSettings(folder=str(folder)), tmp_path)


def test_a_mistyped_folder_names_its_nearest_neighbor(folder: Path, tmp_path: Path) -> None:
    typed = DataSettings(folder=f"{folder}s")
    with pytest.raises(DataError) as caught:
        shards_folder(typed, tmp_path)
    assert str(caught.value) == f"data.folder: {folder}s does not exist: did you mean {folder}?"
    with pytest.raises(DataError, match=rf"give one of its folders: .*{folder.name}"):
        shards_folder(DataSettings(folder=str(folder.parent)), tmp_path)
    with pytest.raises(DataError, match=r"`fgssl pack folder IMAGES 'my birds' name=birds`"):
        shards_folder(DataSettings(dataset="birds", folder="my birds"), tmp_path)


HEAVY = "{'numpy', 'h5py', 'PIL', 'torch'} & set(sys.modules)"


def test_planning_imports_nothing_heavy() -> None:
    code = f"import fgssl.data.location, sys; print({HEAVY})"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_declarations_of_sources_import_nothing_heavy() -> None:
    code = f"import sys; from fgssl.data.sources import SOURCES, source_named as s; [*map(s, SOURCES)]; print({HEAVY})"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_a_dry_run_on_the_embedded_set_imports_nothing_heavy(tmp_path: Path) -> None:
    """Neither to look at its inputs nor to say what they lack; the number of seeds alone needs numpy."""
    sweep = Path(__file__).parents[2] / "sweeps" / "smoke.yaml"
    code = (
        "import sys; from fgssl.__main__ import main; "
        f"code = main(['sweep', {str(sweep)!r}, '--dry-run', '--out', {str(tmp_path)!r}]); "
        f"print(code, {HEAVY} - {{'numpy'}})"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).splitlines()[-1] == "0 set()"


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_is_registered_under_its_own_name_and_says_how_to_get_it(name: str) -> None:
    source = source_named(name)
    assert source.name == name
    assert source.how_to_get.strip()
    assert max(map(len, source.how_to_get.splitlines())) <= 120


def test_the_declared_levels_are_those_that_are_packed(folder: Path) -> None:
    assert tuple(level.name for level in Manifest.read(folder).levels) == source_named("toy").levels
