"""Changes of the colors of one image on the CPU, in float32 by OpenCV."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from fgssl.settings.views import ViewRecipe
from fgssl.views.changes import GRAY, Changes

cv2.setNumThreads(0)  # the loader's threads work on one image each
Pixels = NDArray[np.float32]
"""Image (H, W, 3) in [0, 1]."""


def change(pixels: NDArray[np.uint8], changes: Changes, position: int, recipe: ViewRecipe) -> None:
    """Make the changes at `position` in the pixels (H, W, 3) of an image, which are rounded once at the end."""
    if changes.colored[position]:
        _color(pixels, changes, position, recipe)
    if changes.flipped[position]:
        flip(pixels)


def flip(pixels: NDArray[np.uint8]) -> None:
    """Mirror the pixels (H, W, 3) of an image left to right; numpy would take ten times as long."""
    cv2.flip(pixels, 1, dst=pixels)


def _color(pixels: NDArray[np.uint8], changes: Changes, position: int, recipe: ViewRecipe) -> None:
    blends, turn, sigma = changes.blends[position], float(changes.turns[position]), float(changes.sigma[position])
    gray, solarized = changes.gray[position], changes.solarized[position]
    image: Pixels = np.multiply(pixels, np.float32(1 / 255), dtype=np.float32)
    for blend in blends[0].tolist():
        image = _blended(image, *blend)
    if turn:
        image = _turned(image, turn)
    for blend in blends[1].tolist():
        image = _blended(image, *blend)
    if gray:
        image = cv2.transform(image, np.array([GRAY] * 3, dtype=np.float32))
    if sigma:
        image = _blurred(image, sigma, recipe.blur_sigma[1])
    if solarized:
        image = np.where(image >= recipe.solarize_threshold, 1 - image, image)
    cv2.convertScaleAbs(image, dst=pixels, alpha=255)


def _blended(image: Pixels, factor: float, of_mean: float, of_gray: float) -> Pixels:
    if factor == 1:
        return image
    matrix = np.zeros((3, 4), dtype=np.float32)
    matrix[:, :3] = (1 - factor) * of_gray * np.array(GRAY)
    matrix[range(3), range(3)] += factor
    if of_mean:
        matrix[:, 3] = (1 - factor) * of_mean * np.dot(GRAY, cv2.mean(image)[:3])
    blended: Pixels = cv2.transform(image, matrix)
    return blended.clip(0, 1, out=blended)


def _turned(image: Pixels, turn: float) -> Pixels:
    hsv: Pixels = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)  # hue in degrees
    hsv[..., 0] += 360 * (turn % 1)  # the way back takes angles beyond 360, but no negative ones
    turned: Pixels = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    return turned


def _blurred(image: Pixels, sigma: float, largest_sigma: float) -> Pixels:
    height, width = image.shape[:2]
    # Weights beyond six sigma are below 2e-8.
    radius = min(math.ceil(3 * largest_sigma), math.ceil(6 * sigma), height - 1, width - 1)
    kernel = (2 * radius + 1, 2 * radius + 1)
    blurred: Pixels = cv2.GaussianBlur(image, kernel, sigma, borderType=cv2.BORDER_REFLECT_101)
    return blurred
