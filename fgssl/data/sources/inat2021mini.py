"""Source `inat2021mini`: iNaturalist 2021, the small training set (Van Horn et al. 2021, arXiv:2103.16483).

train_mini/NNNNN_KINGDOM_PHYLUM_CLASS_ORDER_FAMILY_GENUS_EPITHET/*.jpg, and val alike, which is the test split.
"""

from pathlib import Path

from fgssl.data.source import Source, SourceDataset
from fgssl.data.sources.class_folders import entries, is_hidden, is_image
from fgssl.data.sources.labeled_files import LabeledFile
from fgssl.data.sources.official import Official
from fgssl.settings.declare import NonNegativeInt, settings

OFFICIAL = Official("iNaturalist 2021 mini", {"train": 500_000, "test": 100_000}, {"species": 10_000})
RANKS = ("species", "genus", "family", "order", "class", "phylum", "kingdom")


@settings
class INat2021MiniSettings:
    """Options of `fgssl pack inat2021mini`."""

    accept_counts: bool = False
    """Whether other numbers of images and species than the official ones are packed."""
    seed: NonNegativeInt = 0
    """Seed of the order in the shards."""


def read(root: Path, options: INat2021MiniSettings) -> SourceDataset:
    """List the images of all species below `root`; raise a `DataError` with all faults."""
    base = OFFICIAL.folder(root, "train_mini")
    faults: list[str] = []
    splits = {split: _species(base / name, faults) for split, name in (("train", "train_mini"), ("test", "val"))}
    OFFICIAL.raise_faults(faults)
    return OFFICIAL.dataset("inat2021mini", splits, options.seed, accept=options.accept_counts, level_names=RANKS)


def _species(folder: Path, faults: list[str]) -> list[LabeledFile]:
    if not folder.is_dir():
        faults.append(f"{folder}: is missing; unpack its archive")
        return []
    files = []
    for entry in entries(folder):
        if is_hidden(entry.name) or not entry.is_dir():
            continue
        pieces = entry.name.split("_")
        if len(pieces) != 8:
            faults.append(f"{entry.path}: its name must be a number and seven ranks, joined by _")
            continue
        classes = _ranks(pieces[1:])
        names = [each.name for each in entries(Path(entry.path)) if is_image(each.name) and not is_hidden(each.name)]
        if not names:
            faults.append(f"{entry.path}: holds no images")
        files += [LabeledFile(Path(entry.path, name), f"{folder.name}/{entry.name}/{name}", classes) for name in names]
    return files


def _ranks(pieces: list[str]) -> tuple[str, ...]:
    """Return the ranks from species to kingdom; a genus has its family's name too, since kingdoms share some genera."""
    kingdom, phylum, of_class, order, family, genus, epithet = pieces
    return (f"{genus} {epithet} ({family})", f"{genus} ({family})", family, order, of_class, phylum, kingdom)


SOURCE = Source(
    name="inat2021mini",
    summary="iNaturalist 2021 with its small training set, 10,000 species",
    settings=INat2021MiniSettings,
    levels=RANKS,
    how_to_get="""\
The archives are linked from https://github.com/visipedia/inat_comp/tree/master/2021. Photographs have the licenses of
their authors, and the terms allow non-commercial research; cite Van Horn et al. 2021 (arXiv:2103.16483). Unpack the
small training set (42 GB) and the validation set (8.4 GB), which is the test split, since labels of the test images are
not published:

    mkdir -p IMAGES && tar -xzf train_mini.tar.gz -C IMAGES && tar -xzf val.tar.gz -C IMAGES""",
    read=read,
)
