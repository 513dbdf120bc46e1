"""Cache of decoded images in the shared memory of a node, which all processes of a user there fill and read.

    bytes of image i, from i * 2^30 on
    0        1 once all the others are written
    8 - 15   height and width, uint32 each
    16 -     pixels (H, W, 3), uint8

The file has holes: only the pages that were written take memory. Every process writes the same bytes into the place of
an image, so writers need no lock. A reader reads the first byte before the others, and a writer writes it after them;
each takes a system call of its own, which keeps that order on every processor.
"""

import contextlib
import fcntl
import os
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fgssl.data.free_memory import free_memory
from fgssl.store.files import warn_once
from fgssl.store.provenance import code_version

_SHARED_MEMORY = Path("/dev/shm")
_STRIDE = 2**30
"""Bytes of address space for each image: more than the largest image needs that Pillow decodes (178,956,970 pixels)."""
_PIXELS_AT = 16
_PAGE = 4096
_SAMPLE = 64
"""Number of images that are decoded to estimate the size of all."""
_MARGIN = 0.25
"""Share of the free memory that the cache leaves to everything else."""


class DecodedCache:
    """Decoded images of one split, in a file that the last process to use it deletes."""

    def __init__(self, path: Path, rows: int) -> None:
        self.path = path
        self._descriptor = _attached(path)
        weakref.finalize(self, _release, self._descriptor, path, os.getpid())
        self._shapes = np.zeros((rows, 2), dtype=np.uint32)
        """Heights and widths (n, 2) of the images that this process has found in the file; 0 for all others."""
        self._full = False

    @property
    def used_bytes(self) -> int:
        """Memory that the images take so far."""
        return os.fstat(self._descriptor).st_blocks * 512

    def get(self, row: int) -> NDArray[np.uint8] | None:
        """Return the pixels (H, W, 3) of one image, or None if no process has stored them."""
        start = row * _STRIDE
        if not self._shapes[row].any():
            if os.pread(self._descriptor, 1, start) != b"\1":
                return None
            self._shapes[row] = np.frombuffer(os.pread(self._descriptor, 8, start + 8), dtype=np.uint32)
        pixels = np.empty((*self._shapes[row].tolist(), 3), dtype=np.uint8)
        read = os.preadv(self._descriptor, [pixels.data], start + _PIXELS_AT)
        return pixels if read == pixels.nbytes else None

    def put(self, row: int, pixels: NDArray[np.uint8]) -> None:
        """Store the pixels (H, W, 3) of one image; after a warning store nothing more if the memory is full."""
        start, size = row * _STRIDE, pixels.nbytes
        if self._full:
            return
        if _PIXELS_AT + size > _STRIDE:
            height, width = pixels.shape[:2]
            warn_once(f"data.cache: images as large as {width} x {height} px are decoded each time they are read")
            return
        shape = np.array(pixels.shape[:2], dtype=np.uint32)
        try:
            written = os.pwritev(self._descriptor, [shape.data, np.ascontiguousarray(pixels).data], start + 8)
            if written == 8 + size:
                os.pwrite(self._descriptor, b"\1", start)
        except OSError as error:
            self._full = True
            warn_once(
                f"data.cache: {self.path}: {error.strerror}: all other images are decoded each time they are read"
            )


def shared_cache(name: str, rows: int, decoded: Callable[[int], NDArray[np.uint8]]) -> DecodedCache | None:
    """Return the cache of the split `name`, or None after a warning if the images would not fit into free memory.

    `decoded` returns the pixels of one row; from a sample of rows their size is estimated. Files of killed processes
    are deleted.
    """
    for unused in _SHARED_MEMORY.glob(f"{_prefix()}*"):
        _delete_if_unused(unused)
    # Other code might decode to other pixels.
    path = _SHARED_MEMORY / f"{_prefix()}{name}-{code_version()}"
    try:
        cache = DecodedCache(path, rows)
    except OSError as error:
        warn_once(f"data.cache: {path}: {error.strerror}: images are decoded each time they are read")
        return None
    needed = _estimated_bytes(rows, decoded) - cache.used_bytes
    usable = int(free_memory(_SHARED_MEMORY) * (1 - _MARGIN))
    if needed > usable:
        warn_once(
            f"data.cache: {rows} decoded images need about {needed / 2**30:.1f} GiB more, but the cache may take "
            f"{usable / 2**30:.1f} GiB of the memory that is free: images are decoded each time they are read; request "
            "more memory, or set data.cache=none"
        )
        return None
    return cache


def _estimated_bytes(rows: int, decoded: Callable[[int], NDArray[np.uint8]]) -> int:
    """Return the size of all images from the mean of a sample, with the kernel's own records of the pages."""
    sizes = []
    for row in np.unique(np.linspace(0, rows - 1, _SAMPLE, dtype=np.int64)).tolist():
        with contextlib.suppress(OSError, ValueError):  # a damaged image is reported when it is used
            sizes.append(_PIXELS_AT + decoded(row).nbytes + _PAGE)
    return rows * sum(sizes) // max(1, len(sizes))


def _prefix() -> str:
    return f"fgssl-{os.getuid()}-"


def _attached(path: Path) -> int:
    """Return a descriptor of the file, which is locked as one in use; it is created if it is missing."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        if os.fstat(descriptor).st_uid != os.getuid():
            os.close(descriptor)
            raise PermissionError(None, "the file belongs to another user")
        if _is_at(descriptor, path):
            return descriptor
        os.close(descriptor)  # another process has just deleted it, as its last user


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _release(descriptor: int, path: Path, owner: int) -> None:
    """Close the file, and delete it if no other process uses it; a fork of the `owner` only closes its copy."""
    with contextlib.suppress(OSError):
        if os.getpid() == owner:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(descriptor, path):
                path.unlink()
    os.close(descriptor)


def _delete_if_unused(path: Path) -> None:
    with contextlib.suppress(OSError):
        _release(os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC), path, os.getpid())
