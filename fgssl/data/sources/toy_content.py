"""Content of the toy set's images: genera, species and nuisances. The genera are real, the species are invented.

The module imports neither numpy nor Pillow, which planning a sweep does not need.
"""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fgssl.store.manifest import Level

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DETAILS = 160
"""Number of uniform numbers per image that place blades, leaves and texture."""

Color = tuple[float, float, float]
"""Red, green and blue, 0 to 255."""


@dataclass(frozen=True)
class Genus:
    """Shape and colors of a genus; a fungus is about 1 high."""

    name: str
    species: tuple[str, str, str, str]
    """Names of the species without marks, with the first mark, with the second, and with both."""
    cap: Color
    stem: Color
    gills: Color
    half_width: float
    """Half the width of the cap."""
    cap_height: float
    rim_height: float
    """Height of the cap's lower edge over the ground."""
    roundness: float
    """Exponent of the dome's outline below 1; above 1 the cap is a cone."""
    gill_depth: float
    """Half height of the underside, which is seen slightly from below."""
    stem_top: float
    """Half width of the stem at its top."""
    stem_foot: float
    """Half width of the stem at its foot."""


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
    """Properties that vary from image to image, independently of the species."""

    rotation_degrees: float
    x_shift: float
    """Shift to the right, as a share of the image's side."""
    y_shift: float
    """Shift downwards, as a share of the image's side."""
    scale: float
    brightness: float
    warmth: float
    """Tint of the light, from -1 (cold) to 1 (warm)."""
    background_kind: float
    """Kind of background: 0 meadow, 1 woodland, 2 autumn leaves, 3 dusk."""
    background_hue: float
    """Shift of the background's colors, from -1 to 1."""
    grass_blades: float
    leaves: float
    cap_width: float
    """Width of the cap, relative to the genus."""
    stem_length: float
    """Length of the stem, relative to the genus."""
    cap_tone: float
    """Shift of the cap's color, from -1 to 1."""

    @classmethod
    def at(cls, seed: int, split: str, species: int, number: int) -> tuple["Nuisances", "NDArray[np.float64]"]:
        """Return the nuisances of one image, and its (DETAILS,) uniform numbers for blades, leaves and texture.

        They do not depend on the number of images in the set.
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
