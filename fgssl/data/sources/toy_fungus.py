"""Drawings of the toy set's genera and species."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fgssl.data.sources.toy_content import GENERA, Color, Genus, Nuisances
from fgssl.data.sources.toy_scene import Points, Scene, background, grass, toned


def draw(species: int, nuisances: Nuisances, details: NDArray[np.float64], image_size: int) -> Image.Image:
    """Draw one RGB image with a side of `image_size` pixels; the picture is the same at every size.

    `Nuisances.at(seed, split, species, number)` returns the nuisances and details of an image of the dataset.
    """
    return drawn_scene(species, nuisances, details, image_size).finished()


def drawn_scene(species: int, nuisances: Nuisances, details: NDArray[np.float64], image_size: int) -> Scene:
    """Return the scene of an image, in which everything is drawn."""
    scene = Scene(nuisances, image_size)
    background(scene, details[:80])
    blades = details[80:].reshape(-1, 5)
    behind = int(nuisances.grass_blades) // 2
    grass(scene, blades[:behind])
    draw_fungus(scene, GENERA[species // 4], first_mark=bool(species & 1), second_mark=bool(species & 2))
    grass(scene, blades[behind : int(nuisances.grass_blades)])
    return scene


def _ellipse(x: float, y: float, half_width: float, half_height: float, start: float = 0.0, end: float = 2.0) -> Points:
    """Return the arc of an ellipse; `start` and `end` are in half turns."""
    return _arc(start, end) * (half_width, half_height) + (x, y)


@functools.cache
def _arc(start: float, end: float) -> Points:
    angle = np.linspace(start * math.pi, end * math.pi, 24)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _band(inner: Points, outer: Points) -> Points:
    return np.concatenate([inner, outer[::-1]])


@dataclass(frozen=True)
class _Body:
    """Drawn fungus on which its marks are painted."""

    scene: Scene
    genus: Genus
    color: Color
    width: float
    """Half width of the cap."""
    rim: float
    """Height of the cap's lower edge."""
    cap: Image.Image
    """Mask of the visible part of the cap."""
    stem: Image.Image
    """Mask of the visible part of the stem."""


def draw_fungus(scene: Scene, genus: Genus, *, first_mark: bool, second_mark: bool) -> None:
    """Draw the species of `genus` with these marks, in the pose and form of the scene's nuisances."""
    nuisances = scene.nuisances
    width = genus.half_width * nuisances.cap_width
    rim = genus.rim_height * nuisances.stem_length
    color = toned(genus.cap, 1 + 0.10 * nuisances.cap_tone, 0.8 * nuisances.cap_tone)
    scene.shadow(1.8 * genus.stem_foot + 0.10)
    if genus.name == "Cantharellus":
        _funnel(scene, genus, color, width, rim, dark_rim=first_mark, fine_ridges=second_mark)
    else:
        _MARKS[genus.name](_cap_on_stem(scene, genus, color, width, rim), first_mark, second_mark)


def _cap_on_stem(scene: Scene, genus: Genus, color: Color, width: float, rim: float) -> _Body:
    level = np.linspace(0, 1, 12)
    half = genus.stem_foot + (genus.stem_top - genus.stem_foot) * level**0.6
    sides = _band(np.stack([-half, rim * level], 1), np.stack([half, rim * level], 1))
    stem = scene.mask(np.concatenate([sides, _ellipse(0, 0, genus.stem_foot, 0.035, 2.0, 1.0)]))
    lower_edge = _ellipse(0, rim, width, genus.gill_depth, 1.0, 2.0)
    cap = scene.mask(np.concatenate([_dome(genus, width, rim, genus.cap_height), lower_edge]))
    underside = _ellipse(0, rim - 0.012, 0.93 * width, 0.86 * genus.gill_depth)

    scene.shaded(color, (0, rim), (width, genus.cap_height), cap)
    scene.flat(toned(genus.gills, 0.80), underside)
    gills = np.tile([0, rim], (24, 1))
    gills[::2] = _ellipse(0, rim - 0.012, 0.90 * width, 0.80 * genus.gill_depth)[::2]
    scene.line(toned(genus.gills, 0.62), gills, 0.008)
    scene.shaded(genus.stem, (0, rim / 2), (1.3 * genus.stem_foot, rim), stem)
    cap.paste(0, mask=scene.mask(underside))
    return _Body(scene, genus, color, width, rim, cap, stem)


def _dome(genus: Genus, width: float, rim: float, height: float) -> Points:
    """Return the upper outline of the cap from right to left."""
    across, up = _arc(0.0, 1.0).T
    up = 1 - np.abs(across) ** 1.15 if genus.roundness > 1 else np.abs(up) ** genus.roundness
    return np.stack([width * across, rim + height * up], axis=1)


def _amanita(body: _Body, ring: bool, small_warts: bool) -> None:
    """Draw warts, few large or many small ones, which cover about the same area."""
    places = _SMALL_WARTS if small_warts else _LARGE_WARTS
    size = (0.062 if small_warts else 0.110) * body.width
    warts = [_ellipse(x * body.width, body.rim + y * body.genus.cap_height, 1.15 * size, size) for x, y in places]
    body.scene.within(body.cap, (250, 244, 230), warts)
    if ring:
        half_width = 2.0 * body.genus.stem_top
        body.scene.flat(toned(body.genus.stem, 0.72), _ellipse(0, 0.60 * body.rim, half_width, 0.050))
        body.scene.flat(toned(body.genus.stem, 1.03), _ellipse(0, 0.62 * body.rim, half_width, 0.040))


def _boletus(body: _Body, pale_rim: bool, red_foot: bool) -> None:
    if pale_rim:
        upper = _dome(body.genus, body.width, body.rim, 0.40 * body.genus.cap_height)
        lower = _ellipse(0, body.rim, body.width, body.genus.gill_depth, 2.0, 1.0)
        body.scene.within(body.cap, (232, 204, 156), [_band(upper, lower)], 0.85)
    if red_foot:
        foot = _ellipse(0, 0, 2 * body.genus.stem_foot, 0.42 * body.rim)
        body.scene.within(body.stem, (186, 52, 40), [foot], 0.62)


def _coprinus(body: _Body, smoky_edge: bool, scales: bool) -> None:
    if smoky_edge:
        upper = _ellipse(0, body.rim + 0.11, body.width, body.genus.gill_depth, 1.0, 2.0)
        lower = _ellipse(0, body.rim - 0.01, 1.1 * body.width, body.genus.gill_depth, 1.0, 2.0)
        body.scene.within(body.cap, (84, 66, 62), [_band(upper, lower)], 0.80)
    if scales:
        flecks = [
            _ellipse(x * body.width, body.rim + y * body.genus.cap_height, 0.085 * body.width, 0.030)
            for x, y in _SCALES
        ]
        body.scene.within(body.cap, (140, 98, 62), flecks)


def _mycena(body: _Body, dark_top: bool, furrows: bool) -> None:
    if dark_top:
        _dark_top(body, 0.34 * body.width)
    if furrows:
        top, bottom = body.rim + 0.62 * body.genus.cap_height, body.rim + 0.02
        ends = _ellipse(0, body.rim, 0.92 * body.width, body.genus.gill_depth, 1.08, 1.92)[::4, 0]
        wedges = [np.array([[0.25 * x, top], [x - 0.018, bottom], [x + 0.018, bottom]]) for x in ends]
        body.scene.within(body.cap, toned(body.color, 0.50), wedges, 0.9)


def _russula(body: _Body, dark_top: bool, rosy_stem: bool) -> None:
    if dark_top:
        _dark_top(body, 0.50 * body.width)
    if rosy_stem:
        blush = _ellipse(0, 0.24 * body.rim, 2 * body.genus.stem_foot, 0.34 * body.rim)
        body.scene.within(body.stem, (222, 110, 128), [blush], 0.62)


def _dark_top(body: _Body, half_width: float) -> None:
    height = body.genus.cap_height
    top = _ellipse(0, body.rim + height, half_width, 0.30 * height)
    body.scene.within(body.cap, toned(body.color, 0.42), [top], 0.85)


def _funnel(
    scene: Scene, genus: Genus, color: Color, width: float, rim: float, *, dark_rim: bool, fine_ridges: bool
) -> None:
    """Draw Cantharellus: a vase whose ridges run down the outside, seen slightly from above."""
    level = np.linspace(0, 1, 16)
    half = genus.stem_foot + (width - genus.stem_foot) * level**2.6
    sides = _band(np.stack([-half, rim * level], 1), np.stack([half, rim * level], 1))
    body = scene.mask(np.concatenate([sides, _ellipse(0, 0, genus.stem_foot, 0.03, 2.0, 1.0)]))
    scene.shaded(toned(color, 0.92), (0, rim / 2), (0.9 * width, rim), body)
    for place in np.linspace(-0.86, 0.86, 9 if fine_ridges else 4):
        ridge = np.stack([place * half, rim * level], 1)[5:]
        scene.line(toned(genus.gills, 0.82), ridge, 0.022 if fine_ridges else 0.016)
    mouth = _ellipse(0, rim, width, genus.gill_depth)
    scene.shaded(color, (0, rim), (width, 2 * genus.gill_depth), scene.mask(mouth))
    if dark_rim:
        scene.line((128, 66, 20), np.concatenate([mouth, mouth[:1]]), 0.034)
    scene.flat(toned(color, 0.60), _ellipse(0, rim - 0.010, 0.60 * width, 0.52 * genus.gill_depth))


# Places on the cap, in half widths from the middle and cap heights above the rim.
_LARGE_WARTS = ((-0.58, 0.36), (0.02, 0.30), (0.60, 0.38), (-0.26, 0.70), (0.30, 0.72))
_SMALL_WARTS = (
    (-0.68, 0.22), (-0.23, 0.22), (0.22, 0.22), (0.67, 0.22), (-0.48, 0.48), (-0.03, 0.48), (0.42, 0.48),
    (-0.38, 0.74), (0.02, 0.74), (0.42, 0.74), (0.02, 0.92),
)  # fmt: skip
_SCALES = (
    (-0.55, 0.30), (0.00, 0.34), (0.52, 0.28), (-0.30, 0.50), (0.28, 0.52), (-0.50, 0.68), (0.02, 0.70), (0.45, 0.70),
)  # fmt: skip

_MARKS: dict[str, Callable[[_Body, bool, bool], None]] = {
    "Amanita": _amanita,
    "Boletus": _boletus,
    "Coprinus": _coprinus,
    "Mycena": _mycena,
    "Russula": _russula,
}
