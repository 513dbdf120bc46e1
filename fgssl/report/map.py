"""Two-dimensional maps of features by t-SNE (van der Maaten and Hinton 2008), kept in the run folder.

Features are scaled to unit length, as the measures of cosines see them, and reduced to 50 principal components. A map
is computed once: the file's name is a hash of the features, the start and the parameters. Distances and neighbors are
those of the features, never of the map.
"""

import hashlib
import importlib.util
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from fgssl.errors import UserError
from fgssl.report.centroids import unit_rows
from fgssl.report.figures.records import NotDrawnError
from fgssl.store.files import write_atomically

COMPONENTS, PERPLEXITY, SEED = 50, 30, 0
FEWEST = 10
"""Fewest images of which a map is drawn."""
LIBRARIES = {"openTSNE": "openTSNE", "scikit-learn": "sklearn"}
"""Module of each library that computes maps, in the order in which they are tried. Their maps differ."""
VERSION = 1
"""Version of this computation; raised when it gives other maps."""


def feature_map(folder: Path, features: NDArray[Any], start: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """Return the map (N, 2) of features (N, D) from the run folder, where it is written if it is missing.

    A map that begins at `start`, the map of the same images by another encoder, can be compared with it: what both
    encoders see alike lies in the same place. A folder that cannot be written to gets a warning.

    Raises:
        NotDrawnError: There are fewer than `FEWEST` images.
        UserError: No library that computes maps is installed.
    """
    if len(features) < FEWEST:
        raise NotDrawnError(f"a map needs {FEWEST} test images or more")
    files = {library: folder / f"map-{_key(library, features, start)}.npy" for library in LIBRARIES}
    for file in files.values():
        if file.is_file() and (found := _read(file, len(features))) is not None:
            return found
    library = next((name for name, module in LIBRARIES.items() if importlib.util.find_spec(module)), None)
    if library is None:
        raise UserError("maps of features need openTSNE or scikit-learn: pip install 'fgssl[report]'")
    computed = _computed(library, principal_components(features), start)
    content = io.BytesIO()
    np.save(content, computed)
    try:
        write_atomically(files[library], content.getvalue())
    except UserError as error:
        print(f"WARNING: the map is computed anew each time: {error}", file=sys.stderr)
    return computed


def principal_components(features: NDArray[Any]) -> NDArray[np.float64]:
    """Return the first principal components (N, K) of the unit rows, K at most 50, with signs that do not vary."""
    rows = unit_rows(features)
    rows -= rows.mean(axis=0)
    kept = min(COMPONENTS, *rows.shape)
    width = rows.shape[1]
    _, axes = eigh(rows.T @ rows, subset_by_index=(width - kept, width - 1))
    axes = axes[:, ::-1]
    largest = axes[np.abs(axes).argmax(axis=0), np.arange(kept)]
    return rows @ (axes * np.sign(largest))


def _key(library: str, features: NDArray[Any], start: NDArray[np.float32] | None) -> str:
    given = [np.ascontiguousarray(part) for part in (features, start) if part is not None]
    hashes = [hashlib.sha256(f"{part.dtype.str}{part.shape}".encode() + part.tobytes()).hexdigest() for part in given]
    content = [VERSION, library, COMPONENTS, PERPLEXITY, SEED, hashes]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]


def _read(file: Path, images: int) -> NDArray[np.float32] | None:
    """Return a kept map, or None, with a warning, if the file is damaged."""
    try:
        found: NDArray[np.float32] = np.load(file, allow_pickle=False)
    except Exception as error:  # numpy parses the header as Python, which raises many types
        print(f"WARNING: {file}: the map is computed anew, since it cannot be read ({error})", file=sys.stderr)
        return None
    return found if found.shape == (images, 2) else None


def _computed(library: str, points: NDArray[np.float64], start: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """Return the map of points (N, K) by a library, on one thread, so that it is the same each time."""
    first = np.zeros((len(points), 2))
    first[:, : points.shape[1]] = points[:, :2]
    first = first if start is None else start.astype(np.float64)
    # Both libraries want a small start; a map of its usual size would never be rearranged.
    first = first / max(float(np.std(first[:, 0])), 1e-12) * 1e-4
    perplexity = min(PERPLEXITY, (len(points) - 1) / 3)
    found: Any
    if library == "openTSNE":
        from openTSNE import TSNE

        tsne = TSNE(
            perplexity=perplexity,
            initialization=first,
            neighbors="exact",
            metric="euclidean",
            n_jobs=1,
            random_state=SEED,
        )
        found = tsne.fit(points)
    else:
        from sklearn.manifold import TSNE as SklearnTSNE

        rate = max(len(points) / 48, 10.0)  # as "auto", whose 50 throws maps of few points far from their start
        found = SklearnTSNE(
            perplexity=perplexity, init=first, n_jobs=1, random_state=SEED, learning_rate=rate
        ).fit_transform(points)
    return np.asarray(found, dtype=np.float32)
