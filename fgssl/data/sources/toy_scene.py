"""Scenes of the toy set: ground, light, pose, clutter, and the canvas on which everything is drawn."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from fgssl.data.sources.toy_content import Color, Nuisances

_SUPERSAMPLING = 4
_SMOOTH = Image.Resampling.BICUBIC

Points = NDArray[np.float64]
"""Points (P, 2), x to the right and y upwards, around a fungus of height 1 that stands on (0, 0)."""


_KINDS: tuple[tuple[Color, Color, Color], ...] = (  # sky, ground, blades
    ((170, 208, 226), (104, 150, 70), (70, 128, 48)),
    ((92, 122, 96), (72, 62, 44), (60, 106, 58)),
    ((226, 190, 140), (150, 92, 46), (136, 116, 48)),
    ((92, 84, 132), (48, 58, 78), (44, 84, 84)),
)
_MIDDLE = np.array([0.0, 0.5])
"""Middle of a fungus, about which it is rotated."""


class Scene:
    """Supersampled canvas, and the pose of the fungus on it."""

    def __init__(self, nuisances: Nuisances, image_size: int) -> None:
        self.nuisances, self.image_size = nuisances, image_size
        self.side = side = image_size * _SUPERSAMPLING
        self.image = Image.new("RGB", (side, side))
        self.pen = ImageDraw.Draw(self.image)
        self._object = Image.new("L", (side, side))
        self._object_pen = ImageDraw.Draw(self._object)
        self._unit = 0.74 * nuisances.scale * side  # pixels to the fungus' height
        angle = math.radians(nuisances.rotation_degrees)
        self._rotation = np.array([[math.cos(angle), math.sin(angle)], [math.sin(angle), -math.cos(angle)]])
        self._middle = np.array([0.5 + nuisances.x_shift, 0.5 + nuisances.y_shift]) * side

    def pixels(self, points: Points) -> list[float]:
        """Return the points on the canvas as x, y, x, y, ..., the form that the pen takes."""
        return list(((points - _MIDDLE) @ self._rotation.T * self._unit + self._middle).ravel().tolist())

    def mask(self, outline: Points) -> Image.Image:
        """Return a mask that is 255 inside the outline and 0 outside."""
        mask = Image.new("L", (self.side, self.side))
        ImageDraw.Draw(mask).polygon(self.pixels(outline), fill=255)
        return mask

    def shaded(self, color: Color, center: tuple[float, float], half: tuple[float, float], mask: Image.Image) -> None:
        """Paint a body that bulges towards the viewer, lit from the upper left."""
        box = mask.getbbox()
        if box is None:  # it lies outside the picture
            return
        # First (h, 1) and (1, w) in pixels from the middle; then (h, w) in the fungus' coordinates, around the body.
        down = (np.arange(box[1], box[3], dtype=np.float32)[:, None] - np.float32(self._middle[1])) / self._unit
        right = (np.arange(box[0], box[2], dtype=np.float32)[None, :] - np.float32(self._middle[0])) / self._unit
        (across_x, up_x), (across_y, up_y) = self._rotation.astype(np.float32).tolist()
        u = (right * across_x + down * across_y - center[0]) / half[0]
        v = (right * up_x + down * up_y + 0.5 - center[1]) / half[1]
        light = 0.84 - 0.30 * u + 0.16 * v - 0.22 * u * u
        light += 0.30 / (1 + 5.0 * ((u + 0.38) ** 2 + (v - 0.42) ** 2)) ** 3  # highlight
        pixels = np.clip(light[..., None] * np.array(color, dtype=np.float32), 0, 255).astype(np.uint8)
        self.image.paste(Image.fromarray(pixels), box[:2], mask.crop(box))
        self._object.paste(255, mask=mask)

    def flat(self, color: Color, outline: Points) -> None:
        """Paint the inside of the outline in one color."""
        self.pen.polygon(self.pixels(outline), fill=_rgb(color))
        self._object_pen.polygon(self.pixels(outline), fill=255)

    def cover(self, outline: Sequence[float], color: Color) -> None:
        """Paint something that hides what it covers of the fungus; `outline` is in pixels, as the pen takes it."""
        self.pen.polygon(outline, fill=_rgb(color))
        self._object_pen.polygon(outline, fill=0)

    def shadow(self, half_width: float) -> None:
        """Paint a shadow on the ground below the foot; it stays level if the fungus leans."""
        x, y = self.pixels(np.zeros((1, 2)))
        color = toned(_KINDS[int(self.nuisances.background_kind)][1], 0.55)
        half, flat = half_width * self._unit, 0.05 * self._unit
        self.pen.ellipse((x - 0.7 * half, y - flat, x + 1.3 * half, y + flat), fill=_rgb(color))

    def line(self, color: Color, points: Points, width: float) -> None:
        """Paint a line through the points; `width` is in heights of the fungus."""
        pixels, width = self.pixels(points), max(1, round(width * self._unit))
        self.pen.line(pixels, fill=_rgb(color), width=width, joint="curve")
        self._object_pen.line(pixels, fill=255, width=width, joint="curve")

    def within(self, mask: Image.Image, color: Color, outlines: Sequence[Points], opacity: float = 1.0) -> None:
        """Paint the parts of outlines that lie inside `mask`."""
        marks = Image.new("L", mask.size)
        pen = ImageDraw.Draw(marks)
        for outline in outlines:
            pen.polygon(self.pixels(outline), fill=round(255 * opacity))
        clipped = Image.new("L", mask.size)
        clipped.paste(marks, mask=mask)
        self.image.paste(_rgb(color), mask=clipped)

    def object_mask(self) -> Image.Image:
        """Return the visible part of the fungus, downscaled, in one bit per pixel."""
        covered = np.asarray(self._object.reduce(_SUPERSAMPLING))
        return Image.fromarray(covered >= 128)

    def finished(self) -> Image.Image:
        """Return the picture, downscaled and in the light of the scene."""
        small = self.image.reduce(_SUPERSAMPLING)
        warmth = self.nuisances.warmth
        light = self.nuisances.brightness * np.array([1 + 0.16 * warmth, 1.0, 1 - 0.20 * warmth])
        return Image.fromarray(np.clip(np.asarray(small) * light, 0, 255).astype(np.uint8))


def _rgb(color: Color) -> tuple[int, int, int]:
    red, green, blue = (int(min(max(channel, 0), 255)) for channel in color)
    return red, green, blue


def toned(color: Color, factor: float, hue: float = 0.0) -> Color:
    """Return the color times `factor`, shifted towards warm (hue > 0) or cold (hue < 0)."""
    return color[0] * factor * (1 + 0.16 * hue), color[1] * factor, color[2] * factor * (1 - 0.20 * hue)


def background(scene: Scene, details: NDArray[np.float64]) -> None:
    """Paint sky, ground and fallen leaves; `details` are uniform numbers in [0, 1)."""
    nuisances, side = scene.nuisances, scene.side
    sky, ground, _ = (toned(color, 1.0, nuisances.background_hue) for color in _KINDS[int(nuisances.background_kind)])
    height = np.linspace(0, 1, 16)[:, None]
    blend = 1 / (1 + np.exp(-14 * (height - 0.62)))  # a soft horizon
    texture = Image.fromarray((76 * details[:64]).astype(np.uint8).reshape(8, 8)).resize((16, 16), _SMOOTH)
    light = 0.85 + np.asarray(texture, dtype=np.float64)[..., None] / 255
    pixels = (np.array(sky) * (1 - blend[..., None]) + np.array(ground) * blend[..., None]) * light
    small = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    scene.image.paste(small.resize((side, side), _SMOOTH))
    for number in range(int(nuisances.leaves)):
        x, y, angle, tone = details[64 + 4 * number : 68 + 4 * number]
        along = np.linspace(-1, 1, 12)
        width = 0.45 * (1 - along**2)
        outline = np.concatenate([np.stack([along, width], 1), np.stack([along, -width], 1)[::-1]])
        turn = 2 * math.pi * angle
        rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
        moved = (outline * (0.05 + 0.05 * tone)) @ rotation.T * [1, 0.7] + [x, 0.60 + 0.38 * y]
        color = toned((190 - 90 * tone, 120 + 20 * tone, 50), 0.9)
        scene.pen.polygon((moved * side).ravel().tolist(), fill=_rgb(color))


def grass(scene: Scene, blades: NDArray[np.float64]) -> None:
    """Paint one blade of grass per row of `blades` (B, 5), uniform numbers in [0, 1)."""
    nuisances, side = scene.nuisances, scene.side
    for x, height, lean, width, tone in blades:
        color = toned(_KINDS[int(nuisances.background_kind)][2], 0.75 + 0.6 * tone, nuisances.background_hue)
        tip = (x + 0.3 * (lean - 0.5), 0.94 - 0.34 * height)
        bend = (x + 0.06 * (lean - 0.5), 0.94 - 0.2 * height)
        half = 0.008 + 0.010 * width
        outline = [(x - half, 1.02), (bend[0] - half, bend[1]), tip, (bend[0] + half, bend[1]), (x + half, 1.02)]
        scene.cover([place * side for point in outline for place in point], color)
