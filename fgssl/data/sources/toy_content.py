"""Content of the toy set's images: genera, species, and all that varies besides. How it is drawn lies beside this.

The genera are real, the species are invented. Light to import: planning a sweep needs neither numpy nor Pillow.
"""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fgssl.store.manifest import Level

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DETAILS = 160
"""Uniform numbers of one image for the places of blades, leaves and texture."""

Color = tuple[float, float, float]


@dataclass(frozen=True)
class Genus:
    name: str
    species: tuple[str, str, str, str]
    """Species without marks, with the first mark, with the second, with both."""
    cap: Color
    stem: Color
    gills: Color
    half_width: float
    """Half the width of the cap."""
    cap_height: float
    rim_height: float
    """Height of the cap's lower edge over the ground."""
    roundness: float
    """Exponent of the dome, under 1; over 1 means a cone."""
    gill_depth: float
    """Half height of the underside, which is seen slightly from below."""
    stem_top: float
    stem_foot: float
    """Half widths of the stem at its top and its foot."""


GENERA = (
    Genus("Amanita", ("simplex", "annulata", "punctata", "regalis"), (205, 42, 36), (243, 236, 220), (236, 226, 205),
          0.42, 0.36, 0.58, 0.85, 0.075, 0.055, 0.095),
    Genus("Boletus", ("mitis", "limbatus", "rubripes", "superbus"), (126, 76, 38), (222, 190, 132), (212, 186, 84),
          0.43, 0.34, 0.52, 0.55, 0.085, 0.120, 0.190),
    Genus("Cantharellus", ("aureus", "limbatus", "striatus", "ornatus"), (244, 172, 44), (238, 158, 36), (206, 122, 22),
          0.42, 0.14, 0.84, 1.00, 0.120, 0.110, 0.070),
    Genus("Coprinus", ("nudus", "fuscatus", "squamosus", "comatus"), (224, 218, 204), (240, 236, 226), (120, 104, 98),
          0.25, 0.64, 0.34, 0.55, 0.045, 0.045, 0.060),
    Genus("Mycena", ("clara", "oculata", "sulcata", "elegans"), (136, 106, 188), (196, 180, 214), (222, 208, 232),
          0.33, 0.42, 0.55, 1.70, 0.060, 0.028, 0.036),
    Genus("Russula", ("viridis", "oculata", "tincta", "versicolor"), (112, 158, 82), (244, 240, 226), (238, 230, 196),
          0.47, 0.24, 0.64, 0.62, 0.080, 0.085, 0.100),
)  # fmt: skip
SPECIES = tuple(f"{genus.name} {species}" for genus in GENERA for species in genus.species)
LEVELS = (Level("species", SPECIES), Level("genus", tuple(genus.name for genus in GENERA)))


@dataclass(frozen=True)
class Nuisances:
    """Properties that vary from image to image and say nothing about the species."""

    rotation_degrees: float
    x_shift: float
    y_shift: float
    """Shares of the image's side."""
    scale: float
    brightness: float
    warmth: float
    """-1 cold ... 1 warm light."""
    background_kind: float
    """0 meadow, 1 woodland, 2 autumn leaves, 3 dusk."""
    background_hue: float
    """-1 ... 1, around the kind's own colors."""
    grass_blades: float
    leaves: float
    cap_width: float
    stem_length: float
    """Relative to the genus."""
    cap_tone: float
    """-1 ... 1, around the genus' own color."""

    @classmethod
    def at(cls, seed: int, split: str, species: int, number: int) -> tuple["Nuisances", "NDArray[np.float64]"]:
        """Return those of one image, and its (DETAILS,) numbers for the small things.

        More images leave the earlier ones alone.
        """
        import numpy as np

        from fgssl.randomness import uniform

        stream, row = f"toy/{split}", np.array([number], dtype=np.int64)
        u = uniform(seed, stream, species, rows=row, columns=len(dataclasses.fields(cls)) + DETAILS)[0]
        nuisances = cls(
            rotation_degrees=float(50 * u[0] - 25),
            x_shift=float(0.24 * u[1] - 0.12),
            y_shift=float(0.16 * u[2] - 0.08),
            scale=float(0.74 + 0.42 * u[3]),
            brightness=float(0.68 + 0.54 * u[4]),
            warmth=float(2 * u[5] - 1),
            background_kind=float(int(4 * u[6])),
            background_hue=float(2 * u[7] - 1),
            grass_blades=float(int(13 * u[8])),
            leaves=float(int(5 * u[9])),
            cap_width=float(0.88 + 0.24 * u[10]),
            stem_length=float(0.86 + 0.28 * u[11]),
            cap_tone=float(2 * u[12] - 1),
        )
        return nuisances, u[-DETAILS:]
