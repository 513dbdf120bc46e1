"""Sources of images: one module each, and one line each in the registry `SOURCES`."""

import shlex

from fgssl.data.source import Source
from fgssl.registries import Registry

SOURCES = Registry(
    f"{__file__}: SOURCES",
    {
        "toy": "fgssl.data.sources.toy:SOURCE",
        "folder": "fgssl.data.sources.folder:SOURCE",
        "csv": "fgssl.data.sources.table:SOURCE",
        "parquet": "fgssl.data.sources.parquet:SOURCE",
        "cifar10": "fgssl.data.sources.cifar:CIFAR10",
        "cifar100": "fgssl.data.sources.cifar:CIFAR100",
        "imagenet100": "fgssl.data.sources.imagenet100:SOURCE",
        "df20mini": "fgssl.data.sources.df20mini:SOURCE",
        "nabirds": "fgssl.data.sources.nabirds:SOURCE",
        "inat2021mini": "fgssl.data.sources.inat2021mini:SOURCE",
        "pets": "fgssl.data.sources.pets:SOURCE",
        "flowers102": "fgssl.data.sources.flowers102:SOURCE",
        "food101": "fgssl.data.sources.food101:SOURCE",
        "gtsrb": "fgssl.data.sources.gtsrb:SOURCE",
        "cub200": "fgssl.data.sources.cub200:SOURCE",
        "cars": "fgssl.data.sources.cars:SOURCE",
        "aircraft": "fgssl.data.sources.aircraft:SOURCE",
        "isic2017": "fgssl.data.sources.isic2017:SOURCE",
    },
)
"""Dotted paths of the sources by the name that `fgssl pack` takes."""


def source_named(name: str) -> Source:
    """Return a source of `SOURCES`, and import its module."""
    source: Source = SOURCES.load(name)
    return source


def how_to_pack(dataset: str, folder: str) -> str:
    """Return advice on packing the images of `dataset` into `folder`."""
    if dataset in SOURCES:
        usage = source_named(dataset).usage(folder)
        return f"pack it with `{usage}` (`fgssl pack {dataset} --help` describes how to get the images)"
    return (
        f"`fgssl pack` has no source named {dataset!r} yet: arrange the images as IMAGES/train/CLASS/*.jpg and "
        "IMAGES/test/CLASS/*.jpg (for two levels of labels IMAGES/train/GENUS/SPECIES/*.jpg, likewise in test), then "
        f"pack them with `fgssl pack folder IMAGES {shlex.quote(folder)} name={shlex.quote(dataset)}`"
    )
