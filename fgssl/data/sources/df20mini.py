"""Source `df20mini`: Danish Fungi 2020 - Mini (Picek et al. 2022, arXiv:2103.10107).

The images are `DF20M/OBSERVATION-IMAGE.JPG`; two tables of metadata make up a split. The first split of 2020 has images
of one observation on both sides. The authors replaced it in 2024 by one that divides no observation.
"""

from pathlib import Path
from typing import Literal

from fgssl.data.source import Source, SourceDataset
from fgssl.data.sources.labeled_files import LabeledFile, Splits, levels, samples
from fgssl.data.sources.official import Official, image_names
from fgssl.data.sources.tables import read_csv
from fgssl.settings.declare import NonNegativeInt, settings

OFFICIAL = Official("DF20-Mini", {"train": 32_753, "test": 3_640}, {"species": 182, "genus": 6})
TABLES = {
    2020: {"train": "DF20M-train_metadata_PROD.csv", "test": "DF20M-public_test_metadata_PROD.csv"},
    2024: {"train": "DanishFungi2024-Mini-train.csv", "test": "DanishFungi2024-Mini-pubtest.csv"},
}
"""Tables of metadata by the year of the split."""
EMPTY = frozenset({"", "nan", "NaN"})
"""Texts of a cell without a value, as pandas writes it."""


@settings
class DF20MiniSettings:
    """Options of `fgssl pack df20mini`."""

    split: Literal[2020, 2024] = 2020
    """Year of the split: 2020 is that of the paper and of HCL, 2024 divides no observation. The dataset of the second
    is named df20mini-2024."""
    species_column: Literal["scientificName", "species"] = "scientificName"
    """Column that names the species. scientificName is complete. species is empty in some rows, which are left out and
    counted then, as some public loaders do."""
    accept_counts: bool = False
    """Whether other numbers of images and classes than those of 2020 are packed. None are expected of the split of
    2024."""
    seed: NonNegativeInt = 0
    """Seed of the order in the shards."""


def read(root: Path, options: DF20MiniSettings) -> SourceDataset:
    """Read the tables of a split below `root`; raise a `DataError` with all their faults."""
    images = OFFICIAL.folder(root, "DF20M", ["DF20M-images"]) / "DF20M"
    names = {name.casefold(): name for name in image_names(images)}
    faults: list[str] = []
    rows = {split: _rows(root, name, images, names, faults) for split, name in TABLES[options.split].items()}
    OFFICIAL.raise_faults(faults)
    dataset = _dataset({split: [file for file, _ in found] for split, found in rows.items()}, options)
    if options.split == 2020:
        dataset = OFFICIAL.checked(dataset, options.accept_counts)
    if options.species_column == "scientificName":
        return dataset
    named = {
        split: [
            LabeledFile(file.path, file.source_id, (species, file.classes[1]), file.group)
            for file, species in found
            if species not in EMPTY
        ]
        for split, found in rows.items()
    }
    dropped = sum(len(found) - len(named[split]) for split, found in rows.items())
    return _dataset(named, options, (*dataset.remarks, f"{dropped} images left out, whose species is empty"))


def _dataset(splits: Splits, options: DF20MiniSettings, remarks: tuple[str, ...] = ()) -> SourceDataset:
    classes = levels(["species", "genus"], splits)
    return SourceDataset(
        name="df20mini" if options.split == 2020 else f"df20mini-{options.split}",
        source="df20mini",
        arguments={"seed": options.seed, "split": options.split, "species_column": options.species_column},
        levels=classes,
        splits={split: samples(files, classes) for split, files in splits.items()},
        seed=options.seed,
        remarks=remarks,
    )


def _rows(
    root: Path, table: str, images: Path, names: dict[str, str], faults: list[str]
) -> list[tuple[LabeledFile, str]]:
    """Return the file of each row, labeled with scientific name and genus, and its text in column `species`."""
    places = [folder / table for folder in (root, root / "metadata", root / "DF20M-metadata", images, images.parent)]
    path = next((place for place in places if place.is_file()), places[0])
    found = []
    for row in read_csv(path, ["image_path", "scientificName", "genus", "species"], faults):
        image_path, scientific_name, genus, species = row.cells
        name = names.get(Path(image_path).name.casefold())  # the tables of 2024 have DF20/NAME
        if name is None:
            faults.append(f"{row.place}: {image_path} is missing in {images}")
        elif scientific_name in EMPTY or genus in EMPTY:
            faults.append(f"{row.place}: {image_path} has no scientificName or no genus")
        else:
            observation = name.split("-")[0]
            found.append((LabeledFile(images / name, f"DF20M/{name}", (scientific_name, genus), observation), species))
    return found


SOURCE = Source(
    name="df20mini",
    summary="Danish Fungi 2020 - Mini, 182 species of 6 genera",
    settings=DF20MiniSettings,
    levels=("species", "genus"),
    how_to_get="""\
The archives are linked from https://github.com/BohemianVRA/DanishFungiDataset, which allows use for non-commercial
research only; cite Picek et al. 2022 (arXiv:2103.10107). Unpack the images (12.5 GB) and the tables of the split:

    mkdir -p IMAGES && tar -xzf DF20M-images.tar.gz -C IMAGES
    unzip -j DF20M-metadata.zip -d IMAGES

The split of 2024 (split=2024) has the same images, and its tables in another archive:

    unzip -j DanishFungi2024-Mini.zip -d IMAGES""",
    read=read,
)
