"""Content of the HDF5 file of a shard, whose layout `fgssl.data.shards` describes."""

import os
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from fgssl.data.source import Sample


def shard_content(name: str, samples: Sequence[Sample], groups: Sequence[int], attributes: Sequence[str]) -> bytes:
    """Return the content of an HDF5 file, made in memory: on a full disk HDF5 would crash the process."""
    offsets = np.cumsum([0, *(len(sample.image) for sample in samples)], dtype=np.int64)
    source_ids = [os.fsencode(sample.source_id) for sample in samples]
    labels = np.array([sample.labels for sample in samples], dtype=np.int64)
    with h5py.File(name, "w", driver="core", backing_store=False) as file:
        images = file.create_dataset("images", shape=(int(offsets[-1]),), dtype=np.uint8)
        images[:] = np.frombuffer(b"".join(sample.image for sample in samples), dtype=np.uint8)
        file["offsets"] = offsets
        file["labels"] = labels.reshape(len(samples), len(samples[0].labels))
        file["source_ids"] = np.array(source_ids, dtype=h5py.string_dtype("utf-8", max(map(len, source_ids))))
        file["groups"] = np.array(groups, dtype=np.int64)
        recorded = file.create_group("attributes")
        for attribute in attributes:
            recorded[attribute] = np.array([sample.attributes[attribute] for sample in samples], dtype=np.float64)
        masks = [sample.mask for sample in samples if sample.mask is not None]
        if masks:
            file["masks"] = np.frombuffer(b"".join(masks), dtype=np.uint8)
            file["mask_offsets"] = np.cumsum([0, *map(len, masks)], dtype=np.int64)
        file.flush()
        content: bytes = file.id.get_file_image()
        return content


def finest_labels(path: Path) -> NDArray[np.int64]:
    """Return the finest labels (n,) of the images of a shard."""
    with h5py.File(path, "r", locking=False) as file:
        labels: NDArray[np.int64] = file["labels"][:, 0]
        return labels


def labels_and_groups(path: Path) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the labels (n, L) and the groups (n,) of the images of a shard."""
    with h5py.File(path, "r", locking=False) as file:
        return file["labels"][:], file["groups"][:]


def source_id(path: Path, row: int) -> str:
    """Return the origin of one image of a shard."""
    with h5py.File(path, "r", locking=False) as file:
        return os.fsdecode(file["source_ids"][row])
